"""Models of random numbers in the layout of OpenAI's CLIP, as files that the trainer and PyTorch read alike."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .context import Context
from .trainer import execute

if TYPE_CHECKING:
    import torch

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class ModelShape:
    """Sizes of an image tower. The width of a head is 64, as in every CLIP."""

    width: int
    layers: int
    patch: int
    joint: int
    side: int

    @property
    def heads(self) -> int:
        return self.width // 64

    @property
    def tokens(self) -> int:
        return 1 + (self.side // self.patch) ** 2


MODELS = {
    "b16": ModelShape(width=768, layers=12, patch=16, joint=512, side=224),
    "l14": ModelShape(width=1024, layers=24, patch=14, joint=768, side=224),
    "small": ModelShape(width=128, layers=2, patch=16, joint=64, side=64),
    # One block over five tokens: a step costs less than the images that it waits for.
    "idle": ModelShape(width=64, layers=1, patch=112, joint=64, side=224),
}


@dataclass(frozen=True)
class Case:
    """One measurement of speed."""

    model: str
    batch: int

    @property
    def name(self) -> str:
        return f"{self.model}-{self.batch}"


CASES = [Case("b16", 128), Case("l14", 128), Case("b16", 256), Case("l14", 256)]
SMALL_CASE = Case("small", 16)


@dataclass(frozen=True)
class ModelFiles:
    """A preset for `-m`, and the weights that it names."""

    preset: Path
    weights: Path


def model_files(context: Context, name: str) -> ModelFiles:
    """The files of a model; written by the first part that needs them."""
    files = ModelFiles(context.path("models", f"{name}.toml"), context.path("models", f"{name}.safetensors"))
    if not files.preset.exists():
        # In a process of its own: the peak memory of a process begins with that of the process that starts it.
        execute(context, [sys.executable, "-m", __name__, name, str(files.weights)])
        files.preset.write_text(preset(MODELS[name], files.weights))
    return files


def preset(shape: ModelShape, weights: Path) -> str:
    return "\n".join([
        "[model]",
        'kind = "clip"',
        f'weights = "{weights}"',
        'activation = "quick_gelu"',
        f"width = {shape.width}",
        f"layers = {shape.layers}",
        f"patch = {shape.patch}",
        f"resolution = {shape.side}",
        f"mean = {list(MEAN)}",
        f"std = {list(STD)}",
        "",
    ])


def random_tower(shape: ModelShape) -> dict[str, torch.Tensor]:
    """An image tower with CLIP's standard deviations, in half precision as CLIP's own files. Always the same."""
    import torch

    numbers = torch.Generator().manual_seed(0)
    width, layers = shape.width, shape.layers

    def normal(*size: int, std: float) -> torch.Tensor:
        return torch.randn(size, generator=numbers) * std

    def norm(name: str) -> dict[str, torch.Tensor]:
        return {f"{name}.weight": torch.ones(width), f"{name}.bias": torch.zeros(width)}

    inverse_root = width**-0.5
    tensors = {
        "visual.conv1.weight": normal(width, 3, shape.patch, shape.patch, std=(3 * shape.patch**2) ** -0.5),
        "visual.class_embedding": normal(width, std=inverse_root),
        "visual.positional_embedding": normal(shape.tokens, width, std=inverse_root),
        "visual.proj": normal(width, shape.joint, std=inverse_root),
        **norm("visual.ln_pre"),
        **norm("visual.ln_post"),
    }
    into_residual, into_hidden = inverse_root * (2 * layers) ** -0.5, (2 * width) ** -0.5
    for layer in range(layers):
        block = f"visual.transformer.resblocks.{layer}"
        tensors |= {
            **norm(f"{block}.ln_1"),
            f"{block}.attn.in_proj_weight": normal(3 * width, width, std=inverse_root),
            f"{block}.attn.in_proj_bias": torch.zeros(3 * width),
            f"{block}.attn.out_proj.weight": normal(width, width, std=into_residual),
            f"{block}.attn.out_proj.bias": torch.zeros(width),
            **norm(f"{block}.ln_2"),
            f"{block}.mlp.c_fc.weight": normal(4 * width, width, std=into_hidden),
            f"{block}.mlp.c_fc.bias": torch.zeros(4 * width),
            f"{block}.mlp.c_proj.weight": normal(width, 4 * width, std=into_residual),
            f"{block}.mlp.c_proj.bias": torch.zeros(width),
        }
    return {name: tensor.half() for name, tensor in tensors.items()}


if __name__ == "__main__":
    from . import safetensors

    safetensors.write(Path(sys.argv[2]), random_tower(MODELS[sys.argv[1]]))
