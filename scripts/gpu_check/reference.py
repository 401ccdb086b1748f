"""PyTorch and the trainer compute the same losses from the same weights and images."""

from __future__ import annotations

import json
import sys

from .context import Context
from .found import Found, require
from .models import MODELS, model_files
from .pictures import CLASSES, colours, data_set, label
from .trainer import WITHOUT_TF32, Run, execute, setting_words, train, worst_difference

MODEL, STEPS, BATCH, ROWS, IMAGES = "small", 8, 32, 512, 61
LEARNING_RATE = 0.01
# Two implementations, whose sums have other orders, over a few steps.
TOLERANCE = 1e-5


def check(context: Context) -> Found:
    """The losses of some steps of training; images of one colour make augmentation a matter of no effect."""
    images = data_set(context, "reference", colours(IMAGES, MODELS[MODEL].side), "ppm", ROWS)
    arguments = ["-d", str(images), "-m", str(model_files(context, MODEL).preset)]
    settings = [f"train.batch_size={BATCH}", "train.schedule=constant", f"train.learning_rate={LEARNING_RATE}"]
    settings += ["head.init=random"]
    start = train(context, "reference-start", *settings, "train.epochs=0", arguments=arguments)
    run = train(
        context, "reference", *settings, f"train.max_steps={STEPS}", arguments=arguments, environment=WITHOUT_TF32
    )
    found = run.losses()
    expected = in_pytorch(context, start, samples(context, arguments + setting_words(*settings)))
    worst = worst_difference(found, expected)
    summary = f"{STEPS} steps, PyTorch and the trainer differ by {worst:.1e} at most; allowed {TOLERANCE:.0e}"
    figures = {"losses": found, "pytorch": expected, "worst_relative_difference": worst, "tolerance": TOLERANCE}
    return require(worst <= TOLERANCE, Found(summary, figures))


def samples(context: Context, arguments: list[str]) -> list[int]:
    """The rows of the list in the order in which the trainer visits them."""
    words = ["order", *arguments, "--count", str(STEPS * BATCH)]
    lines = execute(context, [context.trainer, *words]).stdout.splitlines()
    return [json.loads(line)["sample"] for line in lines]


def in_pytorch(context: Context, start: Run, rows: list[int]) -> list[float]:
    """In a process whose environment turns TF32 off."""
    request = {
        "weights": str(model_files(context, MODEL).weights),
        "trained": str(start.weights()),
        "device": context.device,
        "rows": rows,
    }
    file = context.path("reference.json")
    file.write_text(json.dumps(request))
    command = [sys.executable, "-m", f"{__package__}.reference", str(file)]
    return json.loads(execute(context, command, environment=WITHOUT_TF32).stdout)


def main(file: str) -> None:
    import torch

    from . import safetensors
    from .pytorch_model import Lift, logit_adjusted, optimiser

    with open(file) as text:
        request = json.load(text)
    device, shape = request["device"], MODELS[MODEL]
    model = Lift(shape, safetensors.read(request["weights"]), CLASSES)
    model.load_trained(safetensors.read(request["trained"]))
    model.to(device)
    pixels = [torch.frombuffer(bytearray(image[-3:]), dtype=torch.uint8) for image in colours(IMAGES, shape.side)]
    labels = torch.tensor([label(row, ROWS) for row in range(ROWS)])
    log_prior = (torch.bincount(labels, minlength=CLASSES) / ROWS).log().to(device)
    sgd, losses = optimiser(model, LEARNING_RATE), []
    for step in range(0, len(request["rows"]), BATCH):
        rows = request["rows"][step : step + BATCH]
        batch = torch.stack([pixels[row % IMAGES] for row in rows]).view(-1, 3, 1, 1)
        batch = batch.expand(-1, -1, shape.side, shape.side).to(device)
        loss = logit_adjusted(model(batch), labels[rows].to(device), log_prior)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        losses.append(loss.item())
    print(json.dumps(losses))


if __name__ == "__main__":
    main(sys.argv[1])
