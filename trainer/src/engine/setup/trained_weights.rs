//! Trained tensors from a file: compared with the configuration before anything that takes long is read, and put into
//! the model once there is one.

use crate::config::Config;
use crate::engine::failure::{Failure, agreed};
use crate::engine::rank::Rank;
use crate::engine::setup::session::Session;
use crate::model::heads::{linear, zero_shot};
use crate::model::tuners::{bottleneck, vpt};
use crate::weights::official::{HeadTensors, OfficialOptions};
use crate::weights::trained::{BACKBONE_CONFIG_KEY, DATA_FINGERPRINT_KEY, TrainedFile};
use std::path::{Path, PathBuf};

/// A file of trained tensors whose names go with the configuration.
pub struct TrainedWeights {
    path: PathBuf,
    file: TrainedFile,
}

impl TrainedWeights {
    /// Reads the file; all ranks together. One of other tuners or of another kind of head is refused.
    pub fn open(path: &Path, config: &Config, rank: &Rank) -> Result<Self, Failure> {
        agreed(&rank.control, || {
            let file = TrainedFile::read(path).map_err(Failure::input)?;
            file.check_options(options(config)).map_err(Failure::input)?;
            Ok(Self { path: path.to_owned(), file })
        })
    }

    /// Puts the tensors into the model; all ranks together. Every name and shape has to match.
    pub fn load_into(&self, session: &Session, rank: &Rank) -> Result<(), Failure> {
        let backbone = Some(session.weights_fingerprint.as_str());
        agreed(&rank.control, || {
            let masks = session.model.tuners().constants();
            session.model.trainables().load(&self.file, &masks, backbone).map_err(Failure::input)
        })?;
        if rank.leads() {
            self.compare_inputs(session);
        }
        Ok(())
    }

    /// Says whether tensors are evaluated with another backbone or other data than they were trained with.
    fn compare_inputs(&self, session: &Session) {
        let (path, ours) = (self.path.display(), &session.backbone_config);
        if let Some(theirs) = self.file.says(BACKBONE_CONFIG_KEY).filter(|theirs| theirs != ours) {
            tracing::warn!(
                "the backbone is not computed as when `{path}` was trained: now {ours}; then {theirs}; the result is that of the backbone as it is now"
            );
        }
        let ours = &session.data_fingerprint;
        match self.file.says(DATA_FINGERPRINT_KEY) {
            Some(theirs) if theirs == ours => {
                tracing::info!("the data are those that `{path}` was trained with");
            }
            Some(theirs) => tracing::warn!(
                "the data are not those that `{path}` was trained with: classes, lists or images differ (fingerprint {ours}, trained with {theirs}); the result is that of the data as they are now"
            ),
            None if self.file.is_of_a_run() => tracing::warn!(
                "`{path}` does not say with which data it was trained, so that these could not be compared"
            ),
            None => {}
        }
    }
}

/// The part of a configuration that decides which tensors are trained.
fn options(config: &Config) -> OfficialOptions {
    let kinds = config.tuner.kinds.iter().map(|method| method.word.to_owned()).collect();
    let head = match config.head.kind {
        kind if kind.is(&zero_shot::METHOD) => HeadTensors::None,
        kind if kind.is(&linear::METHOD) => HeadTensors::WeightAndBias,
        _ => HeadTensors::Weight,
    };
    // A width of 0 is found by a rule that needs the model.
    let adapter_dim = config.options::<bottleneck::BottleneckOptions>().adapter_dim as usize;
    let vpt_len = config.options::<vpt::VptOptions>().vpt_len as usize;
    let widths = [("tuner.adapter_dim", adapter_dim), ("tuner.vpt_len", vpt_len)];
    let widths = widths.into_iter().filter(|(_, width)| *width > 0).collect();
    OfficialOptions { kinds, head_kind: config.head.kind.to_string(), head, widths }
}
