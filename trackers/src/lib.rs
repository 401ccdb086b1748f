//! The metrics of a run for trackers of experiments.
//!
//! ```
//! use trackers::{EventWriter, Scalars};
//!
//! let line = serde_json::json!({"kind": "step", "epoch": 0, "step": 3, "loss": 1.5, "finite": true});
//! let scalars = Scalars::of(&line).unwrap();
//! assert_eq!((scalars.step, scalars.values.as_slice()), (3, &[("train/loss".to_owned(), 1.5)][..]));
//!
//! let mut file = Vec::new();
//! let mut events = EventWriter::new(&mut file, 1.7e9)?;
//! events.scalars(1.7e9, scalars.step, &scalars.values)?;
//! assert!(file.len() > 60);
//! # Ok::<(), std::io::Error>(())
//! ```

mod events;
mod scalars;

pub use events::{EventWriter, event_file_name};
pub use scalars::Scalars;
