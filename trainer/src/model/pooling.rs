//! Pooling: from the tokens after the last block to the features of an image.

use super::block::OutputRows;
use super::layers::{Activation, LayerNorm, Linear};
use super::tower::TowerShape;
use tch::{Kind, Tensor};

/// The pooling of the image features. Tokens that tuners appended are never used.
#[derive(Debug)]
pub enum Pooling {
    /// The class token.
    ClassToken,
    /// The mean over the patches.
    Average,
    /// A learned query that attends to the patches.
    Attention(Box<AttentionPool>),
}

impl Pooling {
    /// The rows of the last block that are used.
    pub fn rows(&self) -> OutputRows {
        match self {
            Self::ClassToken => OutputRows::First,
            Self::Average | Self::Attention(_) => OutputRows::All,
        }
    }

    /// The hidden state `[images, tokens, width]` after the last block, normalised by `norm`, to `[images, width]`.
    pub fn forward(&self, x: &Tensor, shape: &TowerShape, norm: &LayerNorm) -> Tensor {
        let patches = || norm.forward(&x.narrow(1, shape.prefix(), shape.patches()));
        match self {
            Self::ClassToken => norm.forward(&x.select(1, 0)),
            Self::Average => patches().mean_dim([1i64].as_slice(), false, None::<Kind>),
            Self::Attention(pool) => pool.forward(&patches()),
        }
    }

    /// Its frozen tensors, by name.
    pub fn tensors(&self) -> Vec<(&'static str, &Tensor)> {
        match self {
            Self::ClassToken | Self::Average => Vec::new(),
            Self::Attention(pool) => pool.tensors(),
        }
    }
}

/// Pooling by attention (SigLIP; "map" in timm, "head" in Hugging Face): `y = proj(attention(q(latent), k(x), v(x)))`, then
/// `y + mlp(norm(y))`.
#[derive(Debug)]
pub struct AttentionPool {
    /// The learned query, `[1, 1, width]`.
    pub latent: Tensor,
    /// `[width, width]`.
    pub q: Linear,
    /// Keys and values in one product: `[2 width, width]`.
    pub kv: Linear,
    /// After attention: `[width, width]`.
    pub proj: Linear,
    /// Before the MLP.
    pub norm: LayerNorm,
    /// `[hidden, width]`.
    pub fc1: Linear,
    /// `[width, hidden]`.
    pub fc2: Linear,
    /// Between the two.
    pub activation: Activation,
    /// Attention heads, which divide the width.
    pub heads: i64,
}

impl AttentionPool {
    /// `[images, patches, width] -> [images, width]`.
    fn forward(&self, x: &Tensor) -> Tensor {
        let (images, patches, width) = (x.size()[0], x.size()[1], x.size()[2]);
        let (heads, head_width) = (self.heads, width / self.heads);
        let q = self.q.forward(&self.latent).view([1, heads, 1, head_width]);
        let q = q.expand([images, heads, 1, head_width], false);
        let kv = self.kv.forward(x).view([images, patches, 2, heads, head_width]).permute([2, 0, 3, 1, 4]);
        let (k, v) = (kv.select(0, 0), kv.select(0, 1));
        let attended =
            Tensor::scaled_dot_product_attention(&q, &k, &v, None::<Tensor>, 0.0, false, None, false);
        let y = self.proj.forward(&attended.reshape([images, width])).to_kind(self.norm.weight.kind());
        let hidden = self.activation.forward(&self.fc1.forward(&self.norm.forward(&y)));
        &y + self.fc2.forward(&hidden)
    }

    fn tensors(&self) -> Vec<(&'static str, &Tensor)> {
        vec![
            ("pool.latent", &self.latent),
            ("pool.q.weight", &self.q.weight),
            ("pool.q.bias", &self.q.bias),
            ("pool.kv.weight", &self.kv.weight),
            ("pool.kv.bias", &self.kv.bias),
            ("pool.proj.weight", &self.proj.weight),
            ("pool.proj.bias", &self.proj.bias),
            ("pool.norm.weight", &self.norm.weight),
            ("pool.norm.bias", &self.norm.bias),
            ("pool.fc1.weight", &self.fc1.weight),
            ("pool.fc1.bias", &self.fc1.bias),
            ("pool.fc2.weight", &self.fc2.weight),
            ("pool.fc2.bias", &self.fc2.bias),
        ]
    }
}
