//! Evaluation over ranks, in which every image counts once.

pub mod bad_images;
pub mod dataset_pass;
pub mod evaluate;
pub mod kept_logits;
pub mod scores;
pub mod thumbnails;
pub mod views;
