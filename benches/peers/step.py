"""The training step of `lift-trainer bench step --peer` in PyTorch: `step.py FOLDER eager|compiled fp32|bf16`.

FOLDER holds what the trainer shares: settings, trained tensors and one batch. After its first step the script answers with the
loss, and then answers every line of standard input, a number of steps, with their times. Answers are lines of JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from gpu_check import safetensors
from gpu_check.models import ModelShape
from gpu_check.pytorch_model import Lift, logit_adjusted


def main(folder: Path, mode: str, precision: str) -> None:
    settings = json.loads((folder / "settings.json").read_text())
    torch.set_num_threads(settings["threads"])
    device = torch.device(settings["device"])
    batch = safetensors.read(folder / "batch.safetensors")
    step = training_step(settings, folder, batch, device, mode, precision)
    say(loss=step(), batch=len(batch["labels"]))
    for line in sys.stdin:
        say(seconds=[timed(step, device) for _ in range(int(line))], peak_bytes=peak_bytes(device))


def training_step(
    settings: dict[str, Any], folder: Path, batch: dict[str, torch.Tensor], device: torch.device, mode: str, precision: str
) -> Callable[[], float]:
    """Bytes to the device, forward and backward pass, update, loss to the host."""
    weights = safetensors.read(Path(settings["weights"]))
    model = Lift(shape_of(weights, batch["images"].shape[-1]), weights, len(batch["log_prior"]))
    trained = {name: tensor.float() for name, tensor in safetensors.read(folder / "trained.safetensors").items()}
    model.load_trained(trained)
    model.to(device)
    del weights, trained
    labels, log_prior = batch["labels"].to(device), batch["log_prior"].to(device)
    sgd = torch.optim.SGD(model.trained(), lr=0.0, momentum=settings["momentum"], weight_decay=settings["weight_decay"])

    def loss_of(images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            logits = model(images)
        return logit_adjusted(logits, labels, log_prior)

    forward = torch.compile(loss_of) if mode == "compiled" else loss_of

    def step() -> float:
        loss = forward(batch["images"].to(device, non_blocking=True))
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        return loss.item()

    return step


def shape_of(weights: dict[str, torch.Tensor], side: int) -> ModelShape:
    width, _, patch, _ = weights["visual.conv1.weight"].shape
    blocks = {name.split(".")[3] for name in weights if name.startswith("visual.transformer.resblocks.")}
    return ModelShape(width=width, layers=len(blocks), patch=patch, joint=weights["visual.proj"].shape[1], side=side)


def timed(step: Callable[[], float], device: torch.device) -> float:
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def say(**answer: object) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
