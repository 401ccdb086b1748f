"""Images a second of training steps, beside PyTorch on the same machine."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from typing import Any

from .context import Context
from .found import Figures, Found, PartFailed, PartSkipped
from .models import MODELS, Case, model_files
from .pictures import colours, data_set
from .trainer import bench_step, execute, setting_words

PROFILED_CASE = Case("b16", 128)
PROFILED_STEPS = 4

# Ways to compute a step that are off by default until a GPU has shown what they bring.
OPTIONS = {
    "residual bf16": ["train.residual=bf16"],
    "compiled kernels": ["train.gpu_kernels=compiled"],
    "CUDA graphs": ["train.cuda_graphs=true"],
    "fp8": ["train.frozen_products=fp8"],
}
TOGETHER = "all but fp8"


def beside_eager(case: Case, context: Context) -> Found:
    """The trainer and PyTorch without compilation."""
    ours, eager = trainer_step(case, context), pytorch_step(case, context, "eager")
    rate, with_images = case.batch / computing(ours), ours["images_per_second"]
    ratio = rate / eager["images_per_second"]
    summary = f"{rate:,.0f} images/s, {with_images:,.0f} with its loader; PyTorch eager {eager['images_per_second']:,.0f}"
    figures = {"precision": precision(context), "batch": case.batch, "ratio_to_eager": ratio}
    figures |= {"trainer": {**ours, "images_per_second_without_waiting": rate}, "eager": eager}
    return Found(f"{summary} (ratio {ratio:.2f})", figures)


def options(context: Context) -> Found:
    """The trainer's step with each option for GPUs, and with several, beside the step without them."""
    plain = PROFILED_CASE.batch / computing(trainer_step(PROFILED_CASE, context))
    figures: Figures = {"case": PROFILED_CASE.name, "images_per_second": plain, "options": {}}
    together = [setting for name, settings in OPTIONS.items() if name != "fp8" for setting in settings]
    parts = []
    for name, settings in {**OPTIONS, TOGETHER: together}.items():
        try:
            rate = PROFILED_CASE.batch / computing(trainer_step(PROFILED_CASE, context, *settings))
        except PartFailed as failure:
            figures["options"][name] = {"settings": settings, "error": str(failure)}
            parts.append(f"{name} FAILED")
        else:
            figures["options"][name] = {"settings": settings, "images_per_second": rate, "ratio": rate / plain}
            parts.append(f"{name} {rate / plain:.2f}")
    return Found(f"{plain:,.0f} images/s; with {', '.join(parts)} times as many", figures)


def compiled(case: Case, context: Context) -> Found:
    """PyTorch with `torch.compile`, which needs a C compiler."""
    if not any(shutil.which(name) for name in ("cc", "gcc", "clang", "g++")):
        raise PartSkipped("torch.compile needs a C compiler, and none is on PATH")
    figures = pytorch_step(case, context, "compiled")
    rate, first = figures["images_per_second"], figures["first_step_seconds"]
    summary = f"PyTorch compiled {rate:,.0f} images/s; the first step took {first:.0f} s"
    return Found(summary, {"precision": precision(context), "batch": case.batch, "compiled": figures})


def kernels(context: Context) -> Found:
    """Kernels of a step of ViT-B/16: PyTorch's by its profiler, the trainer's by Nsight Systems if that is installed."""
    figures: Figures = {"case": PROFILED_CASE.name, "eager": pytorch_step(PROFILED_CASE, context, "profile")}
    eager = figures["eager"]
    summary = f"PyTorch eager: {eager['kernels']:.0f} kernels a step, {eager['gpu_seconds'] * 1e3:.1f} ms on the GPU"
    if shutil.which("nsys") is None:
        figures["trainer"] = None
        return Found(f"{summary}; the trainer's are not counted: no `nsys` on PATH", figures)
    try:
        figures["trainer"] = {"kernels": trainer_kernels(context)}
    except PartFailed as failure:
        figures["trainer"] = {"error": str(failure)}
        return Found(f"{summary}; the trainer's are not counted: {failure}", figures)
    return Found(f"{summary}; trainer: {figures['trainer']['kernels']:.0f} kernels a step", figures)


def precision(context: Context) -> str:
    return "bf16" if context.on_gpu else "fp32"


def computing(figures: dict[str, float]) -> float:
    """Seconds of a step without waiting for images: PyTorch's side has one batch in memory."""
    return figures["step_seconds"] - figures["data_wait_seconds"]


def trainer_step(case: Case, context: Context, *more: str) -> dict[str, float]:
    settings = [*bench_settings(case, context), *more]
    return bench_step(context, 20 if context.on_gpu else 4, bench_arguments(case, context), *settings)


def bench_arguments(case: Case, context: Context) -> list[str]:
    side = MODELS[case.model].side
    images = data_set(context, f"colours-{side}", colours(64, side), "ppm", 1024)
    return ["-d", str(images), "-m", str(model_files(context, case.model).preset)]


def bench_settings(case: Case, context: Context) -> list[str]:
    batch = [f"train.batch_size={case.batch}", f"train.micro_batch_size={case.batch}"]
    return [*batch, f"train.precision={precision(context)}", "head.init=random", f"data.workers={context.cores}"]


def pytorch_step(case: Case, context: Context, mode: str) -> dict[str, Any]:
    request = {
        "model": case.model,
        "batch": case.batch,
        "mode": mode,
        "precision": precision(context),
        "device": context.device,
        "weights": str(model_files(context, case.model).weights),
        "steps": 20 if context.on_gpu else 4,
    }
    command = [sys.executable, "-m", f"{__package__}.pytorch_step", json.dumps(request)]
    return json.loads(execute(context, command).stdout.splitlines()[-1])


def trainer_kernels(context: Context) -> float:
    """The difference between two numbers of steps, so that what comes before the first step does not count."""
    few, many = (launched(context, steps) for steps in (PROFILED_STEPS, 2 * PROFILED_STEPS))
    return (many - few) / PROFILED_STEPS


def launched(context: Context, steps: int) -> int:
    """Kernels of a whole process."""
    report = context.path("nsys", f"steps-{steps}")
    words = ["bench", "step", "--compare", "none", "--rounds", "1", "--snapshots", "0", "--steps", str(steps)]
    words += bench_arguments(PROFILED_CASE, context) + setting_words("train.device=cuda", *bench_settings(PROFILED_CASE, context))
    execute(context, ["nsys", "profile", "--trace=cuda", "-o", str(report), context.trainer, *words])
    statistics = ["nsys", "stats", "--report", "cuda_gpu_kern_sum", "--format", "csv", f"{report}.nsys-rep"]
    lines = execute(context, statistics).stdout.splitlines()
    start = next((number for number, line in enumerate(lines) if "Instances" in line), None)
    if start is None:
        raise PartFailed("`nsys stats` printed no table of kernels")
    return sum(int(row["Instances"]) for row in csv.DictReader(lines[start:]) if row.get("Instances"))
