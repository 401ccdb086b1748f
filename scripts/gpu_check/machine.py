"""What the figures were measured on, and whether trainer and Python use the same device."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

from .context import Context
from .found import Found, PartFailed
from .trainer import execute, setting_words


def check(context: Context) -> Found:
    """Versions, and one all-reduce of the trainer on the device."""
    import torch

    version = execute(context, [context.trainer, "--version"]).stdout.strip()
    words = ["bench", "collectives", "--json", "--max-bytes", "4", "--rounds", "1", "--milliseconds", "1"]
    execute(context, [context.trainer, *words, *setting_words(f"train.device={context.device}")])
    figures = {
        "lift": version,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": context.cores,
        "load": os.getloadavg()[0],
        "processor": processor(),
    }
    if not context.on_gpu:
        figures["why_no_gpu"] = why_no_gpu()
        summary = f"CPU only ({figures['why_no_gpu']}): {context.cores} cores; {version}, torch {torch.__version__}"
        return Found(summary, figures)
    device = torch.cuda.get_device_properties(0)
    figures |= {
        "gpu": device.name,
        "gpu_memory_bytes": device.total_memory,
        "multiprocessors": device.multi_processor_count,
        "capability": list(torch.cuda.get_device_capability(0)),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "nccl": list(torch.cuda.nccl.version()),
        "driver": driver(),
    }
    memory = f"{device.total_memory / 1e9:.0f} GB"
    return Found(f"{device.name}, {memory}, {context.cores} cores; {version}, torch {torch.__version__}", figures)


def device() -> str:
    """The device that Python's torch can use, found in a process of its own so that this one holds no GPU memory."""
    probe = "import torch; print('cuda' if torch.cuda.is_available() else 'cpu')"
    found = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    if found.returncode:
        raise PartFailed(f"Python cannot load torch: {(found.stderr.strip().splitlines() or ['it said nothing'])[-1]}")
    return found.stdout.strip()


def why_no_gpu() -> str:
    import torch

    if torch.cuda.is_available():
        return "as asked"
    if torch.version.cuda is None:
        return "torch is built for CPUs"
    return "no GPU" if os.path.exists("/proc/driver/nvidia/version") else "no driver"


def driver() -> str | None:
    try:
        with open("/proc/driver/nvidia/version") as file:
            return file.readline().strip()
    except OSError:
        return None


def processor() -> str | None:
    try:
        with open("/proc/cpuinfo") as file:
            return next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), None)
    except OSError:
        return None
