//! Trained tensors as `checkpoint.pth.tar`, which the official code's `Trainer.load_model` takes.

use super::{Alias, FAMILIES, list_of};
use crate::weights::host_tensor::HostTensor;
use crate::weights::torch_archive::{WriteError, write_archive};
use crate::weights::trained::MASK_PREFIX;
use std::collections::BTreeMap;

/// Tensors that the official format cannot represent.
#[derive(Debug, thiserror::Error)]
pub enum UnofficialError {
    /// A tensor of another program, or of a tuner that the official code does not have.
    #[error("the official code has no tensor `{0}` and would ignore it silently")]
    Tensor(String),
    /// The head is missing.
    #[error("there is no `head.weight`, which the official loader requires: the head is not trained")]
    NoHead,
    /// The file cannot be made.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// The bytes of the file: the tables `tuner` and `head`, with every alias beside its tensor. Masks are left out; the
/// official code draws them again from `mask_seed`.
pub fn write_checkpoint(
    tensors: &BTreeMap<String, HostTensor>,
    aliases: &[Alias],
) -> Result<Vec<u8>, UnofficialError> {
    let own = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    let own = own.filter(|(name, _)| !name.starts_with(MASK_PREFIX));
    let further = aliases.iter().filter_map(|alias| Some((alias.alias.as_str(), tensors.get(&alias.name)?)));
    let (mut tuner, mut head) = (Vec::new(), Vec::new());
    for (name, tensor) in own.chain(further) {
        match (list_of(name), name.strip_prefix("head.")) {
            (Some((list, _)), _) if FAMILIES.iter().any(|family| family.list == list) => {
                tuner.push((&name["tuner.".len()..], tensor));
            }
            (_, Some(key @ ("weight" | "bias"))) => head.push((key, tensor)),
            _ => return Err(UnofficialError::Tensor(name.to_owned())),
        }
    }
    if !head.iter().any(|(key, _)| *key == "weight") {
        return Err(UnofficialError::NoHead);
    }
    tuner.sort_by_cached_key(|(key, _)| place(key));
    Ok(write_archive(&[("tuner", tuner), ("head", head)])?)
}

/// The sort key of a tensor: its list in the order of the official code, then its number.
fn place(key: &str) -> (Option<usize>, Option<usize>, String) {
    let (list, rest) = key.split_once('.').unwrap_or((key, ""));
    let (number, part) = rest.split_once('.').unwrap_or((rest, ""));
    (FAMILIES.iter().position(|family| family.list == list), number.parse().ok(), part.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::dtype::DType;
    use crate::weights::torch_archive::read_archive;
    use std::io::Cursor;

    fn tensors(names: &[&str]) -> BTreeMap<String, HostTensor> {
        let tensor = |(value, name): (usize, &&str)| {
            (
                (*name).to_owned(),
                HostTensor {
                    dtype: DType::F32,
                    shape: vec![1],
                    bytes: (value as f32).to_le_bytes().to_vec(),
                },
            )
        };
        names.iter().enumerate().map(tensor).collect()
    }

    #[test]
    fn aliases_are_written_and_masks_are_not() {
        let trained = tensors(&[
            "head.weight",
            "tuner.bias_tuned.2",
            "tuner.ln_tuned.0.weight",
            "mask.masked_linear_list.0.mlp_in.weight",
        ]);
        let alias =
            Alias { alias: "tuner.ln_tuned.0.bias".to_owned(), name: "tuner.bias_tuned.2".to_owned() };
        let bytes = write_checkpoint(&trained, &[alias]).unwrap();
        let found = read_archive(Cursor::new(bytes)).unwrap().tensors;
        let names: Vec<&str> = found.keys().map(String::as_str).collect();
        let expected =
            ["head.weight", "tuner.bias_tuned.2", "tuner.ln_tuned.0.bias", "tuner.ln_tuned.0.weight"];
        assert_eq!(names, expected);
        assert_eq!(found["tuner.ln_tuned.0.bias"], trained["tuner.bias_tuned.2"]);
    }

    #[test]
    fn what_the_official_loader_would_pass_over_is_refused() {
        for name in ["tuner.own_list.0.scale", "tuner.scale", "head.scale", "other"] {
            let error = write_checkpoint(&tensors(&["head.weight", name]), &[]).unwrap_err().to_string();
            assert!(error.contains(&format!("no tensor `{name}`")), "{error}");
        }
        let error = write_checkpoint(&tensors(&["tuner.bias_tuned.0"]), &[]).unwrap_err();
        assert!(matches!(error, UnofficialError::NoHead), "{error}");
    }

    #[test]
    fn blocks_are_in_the_order_of_their_numbers() {
        let mut keys =
            ["lora_list.10.q.lora_A", "vpt_list.0.prompt", "lora_list.2.q.lora_B", "bias_tuned.11"];
        keys.sort_by_cached_key(|key| place(key));
        assert_eq!(
            keys,
            ["bias_tuned.11", "vpt_list.0.prompt", "lora_list.2.q.lora_B", "lora_list.10.q.lora_A"]
        );
    }
}
