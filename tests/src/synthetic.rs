//! Inputs with realistic sizes and meaningless content: towers with pseudo-random values, lists of many classes.

use safetensors::tensor::{Dtype, TensorView};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// A vision transformer in timm's layout.
#[derive(Clone, Copy, Debug)]
pub struct SyntheticTower {
    /// Width of the tokens.
    pub width: usize,
    /// Patch size in pixels.
    pub patch: usize,
    /// Number of patches per image side.
    pub side: usize,
    /// Number of blocks.
    pub blocks: usize,
}

impl SyntheticTower {
    /// ViT-B/16 for images of 224 pixels.
    pub const VIT_B16: Self = Self { width: 768, patch: 16, side: 14, blocks: 12 };

    /// Writes the weights, with fixed values in [-0.025, 0.025).
    pub fn write(&self, path: &Path) -> Result<(), safetensors::SafeTensorError> {
        let tensors = self.tensors();
        let largest = tensors.iter().map(|(_, shape)| elements(shape)).max().unwrap_or_default();
        let numbers: Vec<u8> = (0..largest as u32).flat_map(|i| number(i).to_le_bytes()).collect();
        let views = tensors.iter().map(|(name, shape)| {
            let bytes = &numbers[..4 * elements(shape)];
            TensorView::new(Dtype::F32, shape.clone(), bytes).map(|view| (name.as_str(), view))
        });
        safetensors::serialize_to_file(views.collect::<Result<Vec<_>, _>>()?, None, path)
    }

    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let Self { width, patch, side, blocks } = *self;
        let mut tensors: Vec<(String, Vec<usize>)> = vec![
            ("patch_embed.proj.weight".into(), vec![width, 3, patch, patch]),
            ("patch_embed.proj.bias".into(), vec![width]),
            ("cls_token".into(), vec![1, 1, width]),
            ("pos_embed".into(), vec![1, side * side + 1, width]),
            ("norm.weight".into(), vec![width]),
            ("norm.bias".into(), vec![width]),
        ];
        for block in 0..blocks {
            let mut add = |name: &str, shape: &[usize]| {
                tensors.push((format!("blocks.{block}.{name}"), shape.to_vec()));
            };
            for norm in ["norm1", "norm2"] {
                add(&format!("{norm}.weight"), &[width]);
                add(&format!("{norm}.bias"), &[width]);
            }
            for (name, out, input) in [
                ("attn.qkv", 3 * width, width),
                ("attn.proj", width, width),
                ("mlp.fc1", 4 * width, width),
                ("mlp.fc2", width, 4 * width),
            ] {
                add(&format!("{name}.weight"), &[out, input]);
                add(&format!("{name}.bias"), &[out]);
            }
        }
        tensors
    }
}

fn elements(shape: &[usize]) -> usize {
    shape.iter().product()
}

fn number(index: u32) -> f32 {
    let hashed = index.wrapping_mul(2_654_435_761) >> 8;
    ((f64::from(hashed) / f64::from(1 << 24) - 0.5) * 0.05) as f32
}

/// Writes a data set of one image with these labels; the largest label determines the number of classes. Returns the
/// file for `--data`.
pub fn data_set(root: &Path, labels: impl IntoIterator<Item = usize>) -> io::Result<PathBuf> {
    let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/images/odd/pngsuite_basi0g01.png");
    fs::copy(&picture, root.join("a.png"))?;
    let lines: Vec<String> = labels.into_iter().map(|label| format!("a.png {label}\n")).collect();
    fs::write(root.join("train.txt"), lines.concat())?;
    let last = lines.last().cloned().unwrap_or_default();
    fs::write(root.join("test.txt"), format!("{}{last}", lines.first().cloned().unwrap_or_default()))?;
    let own = root.join("own.toml");
    let text =
        "[data]\nlayout = \"lists\"\nroot = \".\"\ntrain_list = \"train.txt\"\ntest_list = \"test.txt\"\n";
    fs::write(&own, text)?;
    Ok(own)
}
