"""The evaluation of the same trained tensors gives the CPU's predictions."""

from __future__ import annotations

from . import losses
from .context import Context
from .found import Found, require
from .trainer import WITHOUT_TF32, execute, setting_words

# Two logits of an image can be so close that rounding decides.
MOST_DIFFERENT = 0.001


def check(context: Context) -> Found:
    """The run's own evaluation on the device, and one on the CPU in other batches."""
    run = losses.run(context, context.device, "fp32")
    own = context.path("predictions", f"{context.device}-fp32.txt").read_text().split()
    file = context.path("predictions", "again.txt")
    words = ["eval", "--quiet", "--run", str(run.folder), "--predictions", str(file)]
    words += setting_words("train.device=cpu", "eval.batch_size=50")
    execute(context, [context.trainer, *words], environment=WITHOUT_TF32)
    again = file.read_text().split()
    images, different = len(own), sum(a != b for a, b in zip(own, again))
    summary = f"{images - different} of {images} predictions equal those on the CPU in other batches"
    figures = {"images": images, "different_predictions": different, "accuracy": run.result().get("accuracy")}
    holds = images > 0 and len(again) == images and different <= MOST_DIFFERENT * images
    return require(holds, Found(summary, figures))
