"""Measures training steps in PyTorch: `python -m gpu_check.pytorch_step REQUEST`, with JSON in and out."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from . import safetensors
from .models import MODELS
from .pictures import CLASSES
from .pytorch_model import Lift, logit_adjusted, optimiser

WARM_UP = 5
PROFILED = 3
KERNELS_SHOWN = 12


def main(request: dict[str, Any]) -> None:
    device, steps = torch.device(request["device"]), request["steps"]
    step = training_step(request, device)
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    first = timed(step, wait)
    for _ in range(WARM_UP):
        step()
    if request["mode"] == "profile":
        print(json.dumps(profile(step, device)))
        return
    seconds = statistics.median(timed(step, wait) for _ in range(steps))
    figures = {"step_seconds": seconds, "images_per_second": request["batch"] / seconds, "first_step_seconds": first}
    if device.type == "cuda":
        figures["peak_bytes"] = torch.cuda.max_memory_allocated()
    print(json.dumps(figures))


def timed(step: Callable[[], object], wait: Callable[[], None]) -> float:
    start = time.perf_counter()
    step()
    wait()
    return time.perf_counter() - start


def training_step(request: dict[str, Any], device: torch.device) -> Callable[[], float]:
    """A step like the trainer's: bytes to the device, forward and backward pass, update, loss to the host."""
    shape, batch = MODELS[request["model"]], request["batch"]
    model = Lift(shape, safetensors.read(request["weights"]), CLASSES).to(device)
    images = torch.randint(0, 256, (batch, 3, shape.side, shape.side), dtype=torch.uint8)
    images = images.pin_memory() if device.type == "cuda" else images
    labels = torch.randint(0, CLASSES, (batch,)).to(device)
    log_prior = torch.full((CLASSES,), 1 / CLASSES, device=device).log()
    sgd = optimiser(model, 0.0)
    in_bf16 = request["precision"] == "bf16"

    def loss_of(images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=in_bf16):
            logits = model(images)
        return logit_adjusted(logits, labels, log_prior)

    forward = torch.compile(loss_of) if request["mode"] == "compiled" else loss_of

    def step() -> float:
        loss = forward(images.to(device, non_blocking=True))
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        return loss.item()

    return step


def profile(step: Callable[[], float], device: torch.device) -> dict[str, Any]:
    """Kernels of a step, and the time that they take on the GPU."""
    from torch.profiler import ProfilerActivity

    with torch.profiler.profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        for _ in range(PROFILED):
            step()
        torch.cuda.synchronize(device)
    events = profiler.key_averages()
    on_gpu = [event for event in events if event.device_type == torch.autograd.DeviceType.CUDA and is_kernel(event.key)]
    on_gpu.sort(key=lambda event: -event.self_device_time_total)
    launches = [event.count for event in events if "LaunchKernel" in event.key]
    return {
        "kernels": sum(event.count for event in on_gpu) / PROFILED,
        "launches": sum(launches) / PROFILED,
        "gpu_seconds": sum(event.self_device_time_total for event in on_gpu) / PROFILED / 1e6,
        "longest": [
            {"name": event.key[:100], "seconds": event.self_device_time_total / PROFILED / 1e6, "count": event.count / PROFILED}
            for event in on_gpu[:KERNELS_SHOWN]
        ],
    }


def is_kernel(name: str) -> bool:
    return not name.startswith(("Memcpy", "Memset"))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
