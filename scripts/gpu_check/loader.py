"""Images a second that the loader reads, decodes and crops."""

from __future__ import annotations

from .context import Context
from .found import Found
from .models import model_files
from .pictures import data_set, photographs
from .trainer import bench_step


def check(context: Context) -> Found:
    """JPEG files of 500 x 375 pixels, on all cores and on the cores that a run takes by default."""
    count, rows, batch, steps = (48, 20000, 256, 40) if context.on_gpu else (8, 800, 32, 10)
    images, files = data_set(context, "photographs", photographs(count), "jpg", rows), model_files(context, "idle")
    arguments = ["-d", str(images), "-m", str(files.preset)]
    settings = [f"train.batch_size={batch}", f"train.micro_batch_size={batch}", "head.init=random"]
    figures = {}
    for name, workers in {"all cores": context.cores, "default": 0}.items():
        figures[name] = with_share(bench_step(context, steps, arguments, *settings, f"data.workers={workers}"))
    on_all, default = in_words(figures["all cores"]), in_words(figures["default"])
    summary = f"{on_all} on {context.cores} cores, {default} with the default number of threads"
    return Found(summary, {"cores": context.cores, **figures})


def with_share(figures: dict[str, float]) -> dict[str, float]:
    waiting = figures["data_wait_seconds"] / figures["step_seconds"]
    return {"images_per_second": figures["images_per_second"], "share_of_step_waiting": waiting}


def in_words(figures: dict[str, float]) -> str:
    """A step that seldom waits for images shows only that the loader is no slower."""
    least = "" if figures["share_of_step_waiting"] > 0.5 else "at least "
    return f"{least}{figures['images_per_second']:,.0f} images/s"
