//! One pre-norm transformer block: hidden state in, hidden state out, a tuner module beside it.

use super::adaptformer::AdaptFormer;
use super::backbone_config::TowerConfig;
use super::layers::{Activation, LayerNorm, Linear};
use super::precision::Precision;
use tch::Tensor;

/// Which rows of the hidden state a block has to produce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// Every token.
    All,
    /// The first token only: all that is read of the last block of an image tower.
    First,
}

/// Which tokens a token may look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attention {
    /// All of them (images).
    Full,
    /// Itself and those before it (text).
    Causal,
}

/// What a weight file calls the tensors of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockNames {
    /// As in OpenAI's CLIP.
    OpenAi,
    /// As in timm's ViT.
    Timm,
}

impl BlockNames {
    /// Norm, attention, norm, MLP: weight and bias of each part.
    pub const fn fields(self) -> [&'static str; 12] {
        match self {
            Self::OpenAi => [
                "ln_1.weight",
                "ln_1.bias",
                "attn.in_proj_weight",
                "attn.in_proj_bias",
                "attn.out_proj.weight",
                "attn.out_proj.bias",
                "ln_2.weight",
                "ln_2.bias",
                "mlp.c_fc.weight",
                "mlp.c_fc.bias",
                "mlp.c_proj.weight",
                "mlp.c_proj.bias",
            ],
            Self::Timm => [
                "norm1.weight",
                "norm1.bias",
                "attn.qkv.weight",
                "attn.qkv.bias",
                "attn.proj.weight",
                "attn.proj.bias",
                "norm2.weight",
                "norm2.bias",
                "mlp.fc1.weight",
                "mlp.fc1.bias",
                "mlp.fc2.weight",
                "mlp.fc2.bias",
            ],
        }
    }
}

/// `x + attention(norm1(x))`, then `x + mlp(norm2(x))`.
#[derive(Debug)]
pub struct Block {
    /// Before attention.
    pub norm1: LayerNorm,
    /// Queries, keys and values in one product: `[3 width, width]`.
    pub qkv: Linear,
    /// After attention: `[width, width]`.
    pub proj: Linear,
    /// Before the MLP.
    pub norm2: LayerNorm,
    /// `[hidden, width]`.
    pub fc1: Linear,
    /// `[width, hidden]`.
    pub fc2: Linear,
    /// Between the two.
    pub activation: Activation,
    /// What may look at what.
    pub attention: Attention,
    /// Attention heads, which divide the width.
    pub heads: i64,
}

impl Block {
    /// `x`: `[images, tokens, width]`. `Rows::First` gives `[images, 1, width]`, at the cost of keys and
    /// values for all tokens and the rest for one.
    pub fn forward(&self, x: &Tensor, rows: Rows, adaptformer: Option<&AdaptFormer>) -> Tensor {
        let normed = self.norm1.forward(x);
        let (attended, x) = match rows {
            Rows::All => (self.attend_all(&normed), x.shallow_clone()),
            Rows::First => (self.attend_first(&normed), x.narrow(1, 0, 1)),
        };
        let x = x + self.proj.forward(&attended);
        let hidden = self.activation.forward(&self.fc1.forward(&self.norm2.forward(&x)));
        let out = &x + self.fc2.forward(&hidden);
        match adaptformer {
            // AdaptFormer sits beside the MLP and reads what the MLP's norm reads.
            Some(module) => out + module.forward(&x),
            None => out,
        }
    }

    /// A block of its twelve tensors, in the order of [`tensors`](Self::tensors).
    pub fn from_tensors(
        tensors: [Tensor; 12],
        config: TowerConfig,
        attention: Attention,
        precision: Precision,
    ) -> Self {
        let TowerConfig { activation, heads, norm_eps: eps } = config;
        let [w1, b1, qkv_w, qkv_b, proj_w, proj_b, w2, b2, fc1_w, fc1_b, fc2_w, fc2_b] = tensors;
        Self {
            norm1: LayerNorm::new(w1, b1, eps),
            qkv: Linear::new(qkv_w, qkv_b, precision),
            proj: Linear::new(proj_w, proj_b, precision),
            norm2: LayerNorm::new(w2, b2, eps),
            fc1: Linear::new(fc1_w, fc1_b, precision),
            fc2: Linear::new(fc2_w, fc2_b, precision),
            activation,
            attention,
            heads,
        }
    }

    /// Its twelve tensors, under the names of the layout.
    pub fn tensors(&self, names: BlockNames) -> [(&'static str, &Tensor); 12] {
        let tensors = [
            &self.norm1.weight,
            &self.norm1.bias,
            &self.qkv.weight,
            &self.qkv.bias,
            &self.proj.weight,
            &self.proj.bias,
            &self.norm2.weight,
            &self.norm2.bias,
            &self.fc1.weight,
            &self.fc1.bias,
            &self.fc2.weight,
            &self.fc2.bias,
        ];
        std::array::from_fn(|i| (names.fields()[i], tensors[i]))
    }

    /// The places of its twelve tensors, in the order of [`tensors`](Self::tensors).
    pub fn tensors_mut(&mut self, names: BlockNames) -> [(&'static str, &mut Tensor); 12] {
        let fields = names.fields();
        [
            (fields[0], &mut self.norm1.weight),
            (fields[1], &mut self.norm1.bias),
            (fields[2], &mut self.qkv.weight),
            (fields[3], &mut self.qkv.bias),
            (fields[4], &mut self.proj.weight),
            (fields[5], &mut self.proj.bias),
            (fields[6], &mut self.norm2.weight),
            (fields[7], &mut self.norm2.bias),
            (fields[8], &mut self.fc1.weight),
            (fields[9], &mut self.fc1.bias),
            (fields[10], &mut self.fc2.weight),
            (fields[11], &mut self.fc2.bias),
        ]
    }

    fn attend_all(&self, normed: &Tensor) -> Tensor {
        let (n, tokens, width) = dims(normed);
        let heads = self.heads;
        let qkv =
            self.qkv.forward(normed).view([n, tokens, 3, heads, width / heads]).permute([2, 0, 3, 1, 4]);
        let (q, k, v) = (qkv.select(0, 0), qkv.select(0, 1), qkv.select(0, 2));
        merge_heads(&self.scaled_dot_product(&q, &k, &v))
    }

    fn attend_first(&self, normed: &Tensor) -> Tensor {
        let (n, tokens, width) = dims(normed);
        let (heads, head_width) = (self.heads, width / self.heads);
        let first = normed.narrow(1, 0, 1);
        let q = self.qkv.forward_rows(&first, 0, width).view([n, 1, heads, head_width]).transpose(1, 2);
        let kv = self.qkv.forward_rows(normed, width, 3 * width);
        let kv = kv.view([n, tokens, 2, heads, head_width]).permute([2, 0, 3, 1, 4]);
        merge_heads(&self.scaled_dot_product(&q, &kv.select(0, 0), &kv.select(0, 1)))
    }

    /// `[images, heads, tokens, head width]`: four dimensions, which fused kernels ask for.
    fn scaled_dot_product(&self, q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
        let causal = self.attention == Attention::Causal;
        Tensor::scaled_dot_product_attention(q, k, v, None::<Tensor>, 0.0, causal, None, false)
    }
}

fn dims(x: &Tensor) -> (i64, i64, i64) {
    let size = x.size();
    (size[0], size[1], size[2])
}

fn merge_heads(x: &Tensor) -> Tensor {
    x.transpose(1, 2).flatten(2, 3)
}
