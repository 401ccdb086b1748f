//! The tensors of the official code's checkpoints (`checkpoint.pth.tar`): their names, the training options that
//! follow from the names, and the file that the official loader reads.
//!
//! The names are those of the attributes of LIFT's `ViT_Tuner`: `tuner.LIST.BLOCK.PART`, where the list identifies the tuner.

mod checkpoint;
mod contents;
mod shared;

pub use checkpoint::{UnofficialError, write_checkpoint};
pub use contents::{Contents, HeadTensors, OfficialOptions};
pub use shared::{Alias, UnequalError, aliases, merge_aliases};

/// A list of the official tuner, and the tuner that fills it.
pub(crate) struct TunerFamily {
    /// Its attribute.
    pub(crate) list: &'static str,
    /// Our word for the tuner in `tuner.kinds`.
    pub(crate) kind: &'static str,
    /// The option whose value is the size of one of its tensors.
    pub(crate) width: Option<StatedWidth>,
}

/// An option that a dimension of a tensor states.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StatedWidth {
    /// The option.
    pub(crate) key: &'static str,
    /// End of the tensor's name.
    pub(crate) tensor: &'static str,
    /// Which dimension.
    pub(crate) dimension: usize,
}

const DOWN: Option<StatedWidth> =
    Some(StatedWidth { key: "tuner.adapter_dim", tensor: ".down_proj.weight", dimension: 0 });
const LORA: Option<StatedWidth> =
    Some(StatedWidth { key: "tuner.adapter_dim", tensor: ".lora_A", dimension: 1 });
const PROMPT: Option<StatedWidth> =
    Some(StatedWidth { key: "tuner.vpt_len", tensor: ".prompt", dimension: 0 });

/// Every list, in the order of the official code. Shallow prompts are those of the first block alone.
pub(crate) const FAMILIES: [TunerFamily; 13] = [
    TunerFamily { list: "block_tuned", kind: "full", width: None },
    TunerFamily { list: "bias_tuned", kind: "bias", width: None },
    TunerFamily { list: "ln_tuned", kind: "layer_norm", width: None },
    TunerFamily { list: "vpt_list", kind: "vpt_shallow", width: PROMPT },
    TunerFamily { list: "vpt_list", kind: "vpt_deep", width: PROMPT },
    TunerFamily { list: "adapter_list", kind: "adapter", width: DOWN },
    TunerFamily { list: "adaptformer_list", kind: "adaptformer", width: DOWN },
    TunerFamily { list: "lora_list", kind: "lora", width: LORA },
    TunerFamily { list: "lora_mlp_list", kind: "lora_mlp", width: LORA },
    TunerFamily { list: "ssf_attn_list", kind: "ssf_attn", width: None },
    TunerFamily { list: "ssf_mlp_list", kind: "ssf_mlp", width: None },
    TunerFamily { list: "ssf_ln_list", kind: "ssf_ln", width: None },
    TunerFamily { list: "masked_linear_list", kind: "masked", width: None },
];

/// The list of a tuner's tensor, and the rest of its name: `lora_list`, `0.q.lora_A`.
pub(crate) fn list_of(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix("tuner.")?.split_once('.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tuners::Tuners;
    use crate::options::Registry;

    #[test]
    fn every_tuner_that_the_official_code_has_fills_a_list() {
        let official = Tuners::METHODS.iter().filter(|method| !method.official.is_empty());
        assert!(official.map(|method| method.word).eq(FAMILIES.iter().map(|family| family.kind)));
    }
}
