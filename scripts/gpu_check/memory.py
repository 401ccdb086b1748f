"""Memory: what a batch takes, and what a run says if there is not enough."""

from __future__ import annotations

import json
import re
import resource
import sys
import threading
import time
from collections.abc import Callable

from .context import Context
from .found import Found, PartFailed, require
from .models import model_files
from .pictures import colours, data_set
from .trainer import Run, bench_step, execute, setting_words, train_words

BATCHES = (32, 64, 128, 256)

# Parts of the messages of libtorch and of Rust that a user cannot act on.
INTERNALS = re.compile(r"frame #\d|Exception raised from|c10::|at::|libtorch|panicked|\.rs:\d|\.cpp:\d")


def out_of_memory(context: Context) -> Found:
    """A batch that does not fit ends the run with the documented error."""
    run = Run(context.path("runs", "out-of-memory"))
    batch, arguments, limit = impossible(context)
    settings = [f"train.batch_size={batch}", f"train.micro_batch_size={batch}", "data.prefetch=1", "train.max_steps=2"]
    words = train_words(context, run, *settings, arguments=arguments)
    ended = execute(context, [context.trainer, *words], code=1, preexec_fn=limit)
    said = ended.stderr
    status = json.loads((run.folder / "status.json").read_text())
    kind = "out of GPU memory" if context.on_gpu else "out of memory"
    internals = INTERNALS.search(said)
    found = {
        f"`{kind}`": kind in said,
        f"`train.micro_batch_size` (now {batch})": f"train.micro_batch_size (now {batch})" in said.replace("`", ""),
        "outcome `failed` in status.json": status["outcome"] == "failed",
        "no internals": internals is None,
    }
    missing = [name for name, there in found.items() if not there]
    if missing:
        said_instead = f" ({internals.group()})" if internals else ""
        raise PartFailed(f"a batch of {batch} images: expected {', '.join(missing)}{said_instead}", {"said": said[-2000:]})
    return Found(f"a batch of {batch} images ends with exit code 1 and the option to lower", {"said": said[-2000:]})


def impossible(context: Context) -> tuple[int, list[str], Callable[[], None] | None]:
    """A batch, the data and model for it, and the limit of memory for the process."""
    if not context.on_gpu:
        # The activations of the demo take about 3 MB an image. Few threads: their stacks count too.
        few = setting_words("train.threads=1", "data.workers=2")
        return 1500, few, lambda: resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30))
    # Those of ViT-L/14 take about 500 MB an image: a terabyte.
    files, images = model_files(context, "l14"), data_set(context, "colours", colours(64, 224), "ppm", 4096)
    return 2048, ["-d", str(images), "-m", str(files.preset), "--set", "head.init=random"], None


def by_batch(context: Context) -> Found:
    """The peak of a few steps, by batch."""
    model, side = ("b16", 224) if context.on_gpu else ("small", 64)
    files, images = model_files(context, model), data_set(context, f"colours-{side}", colours(64, side), "ppm", 1024)
    arguments = ["-d", str(images), "-m", str(files.preset)]
    peak = GpuPeak() if context.on_gpu else HostPeak(context)
    peaks = {}
    for batch in BATCHES:
        settings = [f"train.batch_size={batch}", f"train.micro_batch_size={batch}", "head.init=random"]
        settings += ["train.precision=bf16"] if context.on_gpu else []
        bench_step(context, 2, arguments, *settings, before=peak.before_command)
        peaks[batch] = peak.take()
    place = "GPU memory" if context.on_gpu else "host memory"
    summary = f"{place} by batch: " + ", ".join(f"{batch}: {bytes / 1e6:,.0f} MB" for batch, bytes in peaks.items())
    figures = {"model": model, "place": place, "peak_bytes": peaks}
    return require(peaks[BATCHES[0]] < peaks[BATCHES[-1]], Found(summary, figures))


class HostPeak:
    """The most memory of the process of a command."""

    def __init__(self, context: Context) -> None:
        self.file = context.path("peak.txt")
        self.before_command = [sys.executable, "-m", f"{__package__}.peak", str(self.file)]

    def take(self) -> int:
        return int(self.file.read_text())


class GpuPeak:
    """The most memory of the GPU that is in use, beyond what was in use before."""

    before_command: list[str] = []

    def __init__(self) -> None:
        import torch

        self.read = torch.cuda.mem_get_info
        self.read()
        self.before = self.used()
        self.peak = 0
        threading.Thread(target=self.watch, daemon=True).start()

    def used(self) -> int:
        free, total = self.read()
        return total - free

    def watch(self) -> None:
        # libtorch keeps what it has allocated until the process ends, so no peak falls between two looks.
        while True:
            self.peak = max(self.peak, self.used() - self.before)
            time.sleep(0.05)

    def take(self) -> int:
        peak, self.peak = self.peak, 0
        return peak
