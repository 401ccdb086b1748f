"""One rank over NCCL: the library loads, makes a communicator, and reduces."""

from __future__ import annotations

from . import losses
from .context import Context
from .found import Found
from .losses import FP32_TOLERANCE, compared
from .trainer import WITHOUT_TF32, train


def check(context: Context) -> Found:
    """The losses of a run whose tensors go through NCCL."""
    settings = [*losses.settings(context, "fp32"), "distributed.backend=nccl"]
    over_nccl = train(context, "nccl", *settings, environment=WITHOUT_TF32).losses()
    without = losses.run(context, "cuda", "fp32").losses()
    return compared("with and without NCCL", over_nccl, without, FP32_TOLERANCE)
