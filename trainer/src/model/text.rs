//! The text tower of CLIP.

use super::block::{Block, OutputRows};
use super::layers::LayerNorm;
use tch::{Kind, Tensor};

/// Token ids to text features.
#[derive(Debug)]
pub struct TextTower {
    /// `[vocabulary, width]`, in the element type of the file: only the rows of a text are converted.
    pub tokens: Tensor,
    /// `[context, width]`.
    pub positions: Tensor,
    /// The transformer, causal.
    pub blocks: Vec<Block>,
    /// On the end token.
    pub norm: LayerNorm,
    /// `[width, joint]`.
    pub projection: Tensor,
    /// Logarithm of the factor on cosines of image and text.
    pub logit_scale: Tensor,
}

impl TextTower {
    /// Longest text, in tokens.
    pub fn context(&self) -> i64 {
        self.positions.size()[0]
    }

    /// Number of tokens.
    pub fn vocabulary(&self) -> i64 {
        self.tokens.size()[0]
    }

    /// Token ids `[n, context]` to features `[n, joint]`, not normalised. The end token of a text is its
    /// greatest id; tokens after the last end token are cut off, because attention is causal.
    pub fn features(&self, ids: &Tensor) -> Tensor {
        let end = ids.argmax(1, true);
        let longest = end.max().int64_value(&[]) + 1;
        let ids = ids.narrow(1, 0, longest);
        let (n, width) = (ids.size()[0], self.positions.size()[1]);
        let rows = self.tokens.index_select(0, &ids.flatten(0, 1)).to_kind(self.positions.kind());
        let mut x = rows.view([n, longest, width]) + self.positions.narrow(0, 0, longest);
        for block in &self.blocks {
            x = block.forward(&x, OutputRows::All, &[], None);
        }
        let end = end.unsqueeze(2).expand([n, 1, width], false);
        let x = x.gather(1, &end, false).squeeze_dim(1);
        self.norm.forward(&x).matmul(&self.projection)
    }

    /// Factor on cosines of image and text.
    pub fn scale(&self) -> Tensor {
        self.logit_scale.exp()
    }
}

/// Rows of unit length: `x / max(|x|, 1e-12)`.
pub fn unit_rows(x: &Tensor) -> Tensor {
    debug_assert_ne!(x.kind(), Kind::Half, "the guard 1e-12 is zero in half precision");
    x / x.norm_scalaropt_dim(2, [-1i64].as_slice(), true).clamp_min(1e-12)
}
