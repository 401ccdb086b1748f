//! Trained tensors from a file: compared with the configuration before any slow work, and copied into the model once it
//! is built.

use crate::config::Config;
use crate::engine::failure::{Failure, agreed};
use crate::engine::rank::Rank;
use crate::engine::setup::session::Session;
use crate::model::heads::{linear, zero_shot};
use crate::model::tuners::{bottleneck, vpt};
use crate::weights::official::{HeadTensors, OfficialOptions};
use crate::weights::trained::{BACKBONE_CONFIG_KEY, DATA_FINGERPRINT_KEY, TrainedFile};
use std::path::{Path, PathBuf};

/// A file of trained tensors whose names match the configuration.
pub struct TrainedWeights {
    path: PathBuf,
    file: TrainedFile,
}

impl TrainedWeights {
    /// Reads the file. Collective. Refuses a file of other tuners or of another kind of head.
    pub fn open(path: &Path, config: &Config, rank: &Rank) -> Result<Self, Failure> {
        agreed(&rank.control, || {
            let file = TrainedFile::read(path).map_err(Failure::input)?;
            file.check_options(options(config)).map_err(Failure::input)?;
            Ok(Self { path: path.to_owned(), file })
        })
    }

    /// Copies the tensors into the model, and reports other inputs than those of the training. Collective. Every name and
    /// shape must match.
    pub fn load_into(&self, session: &Session, rank: &Rank) -> Result<(), Failure> {
        self.copy_into(session, rank)?;
        if rank.leads() {
            self.compare_data(session);
        }
        Ok(())
    }

    /// The same, without a data set to compare.
    pub fn copy_into(&self, session: &Session, rank: &Rank) -> Result<(), Failure> {
        let backbone = Some(session.weights_fingerprint.as_str());
        agreed(&rank.control, || {
            let masks = session.model.tuners().constants();
            session.model.trainables().load(&self.file, &masks, backbone).map_err(Failure::input)
        })?;
        if rank.leads() {
            self.compare_backbone(session);
        }
        Ok(())
    }

    /// Reports whether the tensors are used with another backbone than they were trained with.
    fn compare_backbone(&self, session: &Session) {
        let (path, ours) = (self.path.display(), &session.backbone_config);
        if let Some(theirs) = self.file.says(BACKBONE_CONFIG_KEY).filter(|theirs| theirs != ours) {
            tracing::warn!(
                "the backbone is computed differently than when `{path}` was trained: now {ours}; then {theirs}; the result is that of the current backbone"
            );
        }
    }

    /// Reports whether the tensors are evaluated with other data than they were trained with.
    fn compare_data(&self, session: &Session) {
        let path = self.path.display();
        let ours = &session.data_fingerprint;
        match self.file.says(DATA_FINGERPRINT_KEY) {
            Some(theirs) if theirs == ours => {
                tracing::info!("the data are those that `{path}` was trained with");
            }
            Some(theirs) => tracing::warn!(
                "the data are not those that `{path}` was trained with: classes, lists or images differ (fingerprint {ours}, trained with {theirs}); the result is that of the current data"
            ),
            None if self.file.is_of_a_run() => tracing::warn!(
                "`{path}` does not say with which data it was trained, so the data cannot be compared"
            ),
            None => {}
        }
    }
}

/// The part of a configuration that determines the trained tensors.
fn options(config: &Config) -> OfficialOptions {
    let kinds = config.tuner.kinds.iter().map(|method| method.word.to_owned()).collect();
    let head = match config.head.kind {
        kind if kind.is(&zero_shot::METHOD) => HeadTensors::None,
        kind if kind.is(&linear::METHOD) => HeadTensors::WeightAndBias,
        _ => HeadTensors::Weight,
    };
    // A width of 0 stands for a rule that needs the model.
    let adapter_dim = config.options::<bottleneck::BottleneckOptions>().adapter_dim as usize;
    let vpt_len = config.options::<vpt::VptOptions>().vpt_len as usize;
    let widths = [("tuner.adapter_dim", adapter_dim), ("tuner.vpt_len", vpt_len)];
    let widths = widths.into_iter().filter(|(_, width)| *width > 0).collect();
    OfficialOptions { kinds, head_kind: config.head.kind.to_string(), head, widths }
}
