//! LIFT training: long-tail image recognition by light fine-tuning of foundation models.
//!
//! One process is one rank. `docs/architecture.md` describes the modules and their dependencies: [`cli`] reads the
//! command line, [`config`] resolves the configuration, [`engine`] runs it with [`model`], [`data`] and the process
//! groups of `collectives`, and [`run`] writes the run folder.
//!
//! ```
//! use trainer::config::{Config, Selection};
//!
//! // `lift-trainer train -d demo -m demo --method lift --set train.epochs=2`
//! let selection = Selection {
//!     data: "demo".into(),
//!     model: "demo".into(),
//!     method: "lift".into(),
//!     set: vec!["train.epochs=2".into()],
//! };
//! let resolved = Config::resolve(&selection)?;
//! assert_eq!(resolved.config.train.epochs, 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod aten;
pub mod bench;
pub mod cli;
pub mod config;
pub mod cuda;
pub mod data;
pub mod demo;
pub mod engine;
pub mod model;
pub mod options;
pub mod pickle;
pub mod run;
pub mod weights;
