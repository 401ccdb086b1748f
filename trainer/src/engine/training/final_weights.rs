//! `final.safetensors`: the trained tensors, under their official names.

use crate::config::SelectedNames;
use crate::engine::failure::{Failure, agreed};
use crate::engine::rank::Rank;
use crate::engine::setup::session::Session;
use crate::engine::training::gather_shards::whole_tensors;
use crate::run::RunFolder;
use crate::weights::trained::{self, BACKBONE_CONFIG_KEY, DATA_FINGERPRINT_KEY, FINGERPRINT_KEY};
use std::collections::BTreeMap;
use tch::Kind;

/// Writes the trained tensors into the run folder, which only rank 0 has; all ranks call this.
pub fn write(
    session: &Session,
    names: &SelectedNames,
    folder: Option<&RunFolder>,
    rank: &Rank,
) -> Result<(), Failure> {
    let trainables = session.model.trainables();
    let mut tensors = whole_tensors(trainables, &trainables.flat(), rank.group.as_ref())?;
    tensors.extend(session.model.tuners().constants());
    agreed(&rank.control, || {
        let Some(folder) = folder else { return Ok(()) };
        let metadata = [
            ("data", &names.data),
            ("model", &names.model),
            ("method", &names.method),
            (FINGERPRINT_KEY, &session.weights_fingerprint),
            (BACKBONE_CONFIG_KEY, &session.backbone_config),
            (DATA_FINGERPRINT_KEY, &session.data_fingerprint),
        ];
        let metadata: BTreeMap<String, String> =
            metadata.into_iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
        let kind = session.model.precision().parameters;
        let kind = if kind == Kind::Double { Kind::Double } else { Kind::Float };
        folder.check().map_err(Failure::run)?;
        trained::write(&folder.final_weights(), &tensors, kind, metadata).map_err(Failure::run)
    })
}
