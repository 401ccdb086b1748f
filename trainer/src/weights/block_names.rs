//! The tensors of a block, and their names in weight files.

/// A tensor of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is the weight or bias of a layer")]
pub enum Field {
    Norm1Weight,
    Norm1Bias,
    QkvWeight,
    QkvBias,
    ProjWeight,
    ProjBias,
    /// Factor per channel on the output of attention (layer scale).
    Scale1,
    Norm2Weight,
    Norm2Bias,
    Fc1Weight,
    Fc1Bias,
    Fc2Weight,
    Fc2Bias,
    /// Factor per channel on the output of the MLP (layer scale).
    Scale2,
}

impl Field {
    /// All fields, in the order of computation; a block without layer scales lacks those two.
    pub const ALL: [Self; 14] = [
        Self::Norm1Weight,
        Self::Norm1Bias,
        Self::QkvWeight,
        Self::QkvBias,
        Self::ProjWeight,
        Self::ProjBias,
        Self::Scale1,
        Self::Norm2Weight,
        Self::Norm2Bias,
        Self::Fc1Weight,
        Self::Fc1Bias,
        Self::Fc2Weight,
        Self::Fc2Bias,
        Self::Scale2,
    ];

    /// Whether it belongs to a norm or a layer scale, which are stored in the element type of parameters.
    pub fn is_elementwise(self) -> bool {
        matches!(
            self,
            Self::Norm1Weight
                | Self::Norm1Bias
                | Self::Norm2Weight
                | Self::Norm2Bias
                | Self::Scale1
                | Self::Scale2
        )
    }
}

/// The names of the tensors of a block in a weight file, and the order in which its modules are registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockNames {
    /// As in OpenAI's CLIP.
    OpenAi,
    /// As in timm's ViT.
    Timm,
}

impl BlockNames {
    /// The name of a tensor within its block.
    pub const fn of(self, field: Field) -> &'static str {
        let (open_ai, timm) = match field {
            Field::Norm1Weight => ("ln_1.weight", "norm1.weight"),
            Field::Norm1Bias => ("ln_1.bias", "norm1.bias"),
            Field::QkvWeight => ("attn.in_proj_weight", "attn.qkv.weight"),
            Field::QkvBias => ("attn.in_proj_bias", "attn.qkv.bias"),
            Field::ProjWeight => ("attn.out_proj.weight", "attn.proj.weight"),
            Field::ProjBias => ("attn.out_proj.bias", "attn.proj.bias"),
            Field::Scale1 => ("ls_1.gamma", "ls1.gamma"),
            Field::Norm2Weight => ("ln_2.weight", "norm2.weight"),
            Field::Norm2Bias => ("ln_2.bias", "norm2.bias"),
            Field::Fc1Weight => ("mlp.c_fc.weight", "mlp.fc1.weight"),
            Field::Fc1Bias => ("mlp.c_fc.bias", "mlp.fc1.bias"),
            Field::Fc2Weight => ("mlp.c_proj.weight", "mlp.fc2.weight"),
            Field::Fc2Bias => ("mlp.c_proj.bias", "mlp.fc2.bias"),
            Field::Scale2 => ("ls_2.gamma", "ls2.gamma"),
        };
        match self {
            Self::OpenAi => open_ai,
            Self::Timm => timm,
        }
    }

    /// The biases of a block, in the order in which PyTorch lists its parameters.
    pub const fn biases(self) -> [Field; 6] {
        match self {
            Self::OpenAi => [
                Field::QkvBias,
                Field::ProjBias,
                Field::Norm1Bias,
                Field::Fc1Bias,
                Field::Fc2Bias,
                Field::Norm2Bias,
            ],
            Self::Timm => [
                Field::Norm1Bias,
                Field::QkvBias,
                Field::ProjBias,
                Field::Norm2Bias,
                Field::Fc1Bias,
                Field::Fc2Bias,
            ],
        }
    }
}
