//! The sections, one a file: the keys of the configuration, each with all that is known of it. The options of single
//! methods stand in the methods' own files; `tables` joins both.

pub mod backbone;
pub mod checkpoint;
pub mod data;
pub mod distributed;
pub mod eval;
pub mod head;
pub mod loss;
pub mod model;
pub mod train;
pub mod tuner;

/// Images at once: above this the number cannot be meant, and sizes in bytes stay far from overflow.
const MAX_IMAGES: u64 = 1 << 20;
/// Epochs or steps of a run, so that their product with a batch stays far from overflow.
const MAX_COUNT: u64 = 1 << 40;
