//! A head from a file: `head.weight` (or `weight`) of a safetensors file, such as `final.safetensors` of a run, or of
//! an official checkpoint. Its rows are used unchanged, and so is `head.bias` (or `bias`) for a head that has one.

use super::{HeadInit, InitContext, InitFacts};
use crate::engine::failure::Failure;
use crate::weights::copy_bytes;
use crate::weights::trained::{FINGERPRINT_KEY, TrainedFile};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use tch::Tensor;

/// The initialisation.
pub struct FromFile {
    path: PathBuf,
    weight: Tensor,
    bias: Option<Tensor>,
    /// The backbone that the head was trained on, if the file records it.
    backbone: Option<String>,
}

impl FromFile {
    /// Reads the head.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let file = TrainedFile::read(path).map_err(Failure::input)?;
        let tensor = |names: [&str; 2]| {
            let found = names.into_iter().find_map(|name| file.get(name));
            found.transpose().map_err(Failure::input)
        };
        let weight = tensor(["head.weight", "weight"])?.ok_or_else(|| {
            Failure::input(format!(
                "{} has neither `head.weight` nor `weight`\nhint: use a safetensors file with the head's rows, final.safetensors \
                 of a run, or an official checkpoint",
                path.display()
            ))
        })?;
        let bias = tensor(["head.bias", "bias"])?;
        let backbone = file.says(FINGERPRINT_KEY).map(str::to_owned);
        Ok(Self { path: path.to_owned(), weight, bias, backbone })
    }

    fn refuse(&self, what: &str) -> Failure {
        Failure::input(format!("head.init: {} {what}", self.path.display()))
    }
}

impl HeadInit for FromFile {
    fn check(&self, facts: &InitFacts<'_>) -> Result<(), Failure> {
        let (found, classes) = (self.weight.size(), facts.class_names.len() as i64);
        let fits = match found[..] {
            [rows, columns] => rows == classes && facts.width.is_none_or(|width| columns == width),
            _ => false,
        };
        if !fits {
            let width = facts.width.map_or_else(|| "width of the features".to_owned(), |w| w.to_string());
            return Err(self.refuse(&format!(
                "has a head of shape {found:?}, expected [{classes}, {width}]: a row for each class\nhint: use the file of a run \
                 on these classes and this backbone, or another head.init"
            )));
        }
        let bias = self.bias.as_ref().map(Tensor::size);
        if bias.as_ref().is_some_and(|size| *size != [classes]) {
            return Err(self.refuse(&format!("has a bias of shape {bias:?}, expected [{classes}]")));
        }
        if bias.is_some() && !facts.has_bias {
            return Err(self.refuse(
                "has a head with a bias\nhint: use head.kind=linear, or a file without `head.bias`",
            ));
        }
        let tensors = [Some(&self.weight), self.bias.as_ref()];
        if tensors.into_iter().flatten().any(|tensor| tensor.isfinite().all().int64_value(&[]) == 0) {
            return Err(self.refuse("has values that are not finite\nhint: use another file"));
        }
        Ok(())
    }

    fn fingerprint(&self) -> Vec<u8> {
        let mut hash = Sha256::new();
        for tensor in [Some(&self.weight), self.bias.as_ref()].into_iter().flatten() {
            let mut bytes = Vec::new();
            copy_bytes(tensor, &mut bytes);
            hash.update(bytes);
        }
        hash.finalize().to_vec()
    }

    fn rows(&self, context: &InitContext<'_>) -> Result<Option<Tensor>, Failure> {
        if context.rank.leads()
            && let Some(theirs) = self.backbone.as_ref().filter(|theirs| *theirs != context.backbone)
        {
            tracing::warn!(
                "the head of `{}` was trained on a backbone with fingerprint {theirs}, and this one has {}; its rows may mean nothing here",
                self.path.display(),
                context.backbone
            );
        }
        Ok(Some(self.weight.shallow_clone()))
    }

    fn bias(&self) -> Option<Tensor> {
        self.bias.as_ref().map(Tensor::shallow_clone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    fn written(tensors: &[(&str, Tensor)]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("head.safetensors");
        Tensor::write_safetensors(tensors, &path).unwrap();
        (folder, path)
    }

    fn refusal(tensors: &[(&str, Tensor)], width: Option<i64>, has_bias: bool) -> String {
        let (_folder, path) = written(tensors);
        let class_names = ["red".to_owned(), "blue".to_owned()];
        let facts = InitFacts {
            class_names: &class_names,
            counts: &[1, 1],
            width,
            has_bias,
            has_text_tower: true,
            weights: None,
        };
        let checked = FromFile::open(&path).and_then(|init| init.check(&facts));
        checked.map_or_else(|failure| failure.message, |()| String::new())
    }

    #[test]
    fn a_head_that_does_not_fit_is_refused_with_what_was_expected() {
        let ones = |shape: &[i64]| Tensor::ones(shape, (Kind::Float, Device::Cpu));
        let fits = [("head.weight", ones(&[2, 8])), ("tuner.x", ones(&[3]))];
        assert_eq!(refusal(&fits, Some(8), false), "");
        assert_eq!(refusal(&[("weight", ones(&[2, 8]))], None, false), "");
        let says = |tensors: &[(&str, Tensor)], width, has_bias, expected: &str| {
            let found = refusal(tensors, width, has_bias);
            assert!(found.contains(expected), "{found}");
        };
        says(&[("weight", ones(&[3, 8]))], None, false, "shape [3, 8], expected [2, width of the features]");
        says(&[("weight", ones(&[2, 8]))], Some(9), false, "shape [2, 8], expected [2, 9]");
        says(&[("other", ones(&[2, 8]))], None, false, "has neither `head.weight` nor `weight`");
        let with_bias = [("head.weight", ones(&[2, 8])), ("head.bias", ones(&[2]))];
        says(&with_bias, Some(8), false, "use head.kind=linear");
        assert_eq!(refusal(&with_bias, Some(8), true), "");
        says(&[("weight", ones(&[2, 8]) / 0.0)], Some(8), false, "not finite");
    }
}
