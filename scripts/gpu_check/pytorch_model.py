"""What the trainer computes, written in plain PyTorch: CLIP's image tower with AdaptFormer and a cosine head.

The tower follows OpenAI's CLIP, AdaptFormer, head and loss the official code of LIFT. Every block computes all tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .models import MEAN, STD, ModelShape

Tensors = dict[str, Tensor]
HEAD_SCALE = 25.0


class Block(nn.Module):
    """Frozen attention and MLP, and the trained bottleneck beside the MLP."""

    def __init__(self, shape: ModelShape, frozen: Tensors, bottleneck: int) -> None:
        super().__init__()
        width, self.heads = shape.width, shape.heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.c_fc, self.c_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        places = {
            "ln_1": self.ln_1, "ln_2": self.ln_2, "attn.out_proj": self.out, "mlp.c_fc": self.c_fc, "mlp.c_proj": self.c_proj,
        }
        for name, layer in places.items():
            layer.load_state_dict({key: frozen[f"{name}.{key}"] for key in ("weight", "bias")})
        self.qkv.load_state_dict({key: frozen[f"attn.in_proj_{key}"] for key in ("weight", "bias")})
        self.requires_grad_(False)
        self.adapter = AdaptFormer(width, bottleneck)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.out(self.attention(self.ln_1(x)))
        hidden = self.c_fc(self.ln_2(x))
        return x + self.c_proj(hidden * torch.sigmoid(1.702 * hidden)) + self.adapter(x)

    def attention(self, x: Tensor) -> Tensor:
        images, tokens, width = x.shape
        qkv = self.qkv(x).reshape(images, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*qkv.unbind(0))
        return mixed.transpose(1, 2).reshape(images, tokens, width)


class AdaptFormer(nn.Module):
    """`scale * up(relu(down(ln(x))))`, with the names of the official code."""

    def __init__(self, width: int, bottleneck: int) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(width)
        self.down_proj, self.up_proj = nn.Linear(width, bottleneck), nn.Linear(bottleneck, width)
        self.scale = nn.Parameter(torch.ones(1))
        nn.init.zeros_(self.up_proj.weight)
        nn.init.zeros_(self.up_proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.up_proj(F.relu(self.down_proj(self.ln(x)))) * self.scale


class Lift(nn.Module):
    """From pixels to logits."""

    def __init__(self, shape: ModelShape, frozen: Tensors, classes: int) -> None:
        super().__init__()
        frozen = {name.removeprefix("visual."): tensor.float() for name, tensor in frozen.items()}
        self.patch = shape.patch
        for name in ("conv1.weight", "class_embedding", "positional_embedding"):
            self.register_buffer(name.replace(".", "_"), frozen[name])
        self.ln_pre, self.ln_post = nn.LayerNorm(shape.width), nn.LayerNorm(shape.width)
        for name in ("ln_pre", "ln_post"):
            norm = getattr(self, name)
            norm.load_state_dict({key: frozen[f"{name}.{key}"] for key in ("weight", "bias")})
            norm.requires_grad_(False)
        bottleneck = bottleneck_width(classes, shape.layers)
        self.blocks = nn.ModuleList(
            Block(shape, inside(frozen, f"transformer.resblocks.{layer}."), bottleneck) for layer in range(shape.layers)
        )
        self.head = nn.Parameter(F.normalize(torch.rand(classes, shape.width) * 2 - 1))
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """`[images, 3, side, side]` of bytes to `[images, classes]`."""
        x = (images.float() / 255 - self.mean) / self.std
        x = F.conv2d(x, self.conv1_weight, stride=self.patch).flatten(2).transpose(1, 2)
        token = self.class_embedding.expand(len(x), 1, -1)
        x = self.ln_pre(torch.cat([token, x.to(token.dtype)], 1) + self.positional_embedding)
        for block in self.blocks:
            x = block(x)
        features = self.ln_post(x[:, 0])
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(F.normalize(features.float()), F.normalize(self.head)) * HEAD_SCALE

    def trained(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def load_trained(self, tensors: Tensors) -> None:
        """From a file of the trainer: the official names."""
        with torch.no_grad():
            for layer, block in enumerate(self.blocks):
                block.adapter.load_state_dict(inside(tensors, f"tuner.adaptformer_list.{layer}."))
            self.head.copy_(tensors["head.weight"])


def inside(tensors: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def bottleneck_width(classes: int, layers: int) -> int:
    """LIFT's rule: 2^max(0, floor(log2(classes / (2 layers))))"""
    return 1 << max(0, (classes // (2 * layers)).bit_length() - 1)


def logit_adjusted(logits: Tensor, labels: Tensor, log_prior: Tensor) -> Tensor:
    """The mean loss of LIFT."""
    return F.cross_entropy(logits + log_prior, labels)


def optimiser(model: Lift, learning_rate: float) -> torch.optim.Optimizer:
    """With LIFT's hyper-parameters."""
    return torch.optim.SGD(model.trained(), lr=learning_rate, momentum=0.9, weight_decay=5e-4)
