"""Images a second that the loader reads, decodes and crops."""

from __future__ import annotations

from .context import Context
from .found import Found
from .models import model_files
from .pictures import data_set, photographs
from .trainer import bench_step


def check(context: Context) -> Found:
    """JPEG files of 500 x 375 pixels, on all cores and on the cores that a run takes by default."""
    count, rows, batch, steps = (48, 20000, 256, 40) if context.on_gpu else (8, 800, 32, 6)
    images, files = data_set(context, "photographs", photographs(count), "jpg", rows), model_files(context, "idle")
    arguments = ["-d", str(images), "-m", str(files.preset)]
    settings = [f"train.batch_size={batch}", f"train.micro_batch_size={batch}", "head.init=random", "train.threads=1"]
    workers = {"all cores": context.cores, "default": 0}
    figures = {
        name: bench_step(context, steps, arguments, *settings, f"data.workers={count}") for name, count in workers.items()
    }
    rates = {name: found["images_per_second"] for name, found in figures.items()}
    # The loader is measured only where the step waits for it.
    waits = {name: found["data_wait_seconds"] / found["step_seconds"] for name, found in figures.items()}
    summary = f"{rates['all cores']:,.0f} images/s on {context.cores} cores, {rates['default']:,.0f} with the default"
    summary += f"; steps wait for images {waits['all cores']:.0%} of their time"
    return Found(summary, {"cores": context.cores, "images_per_second": rates, "share_of_waiting": waits})
