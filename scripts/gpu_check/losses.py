"""The losses of a GPU are those of a CPU."""

from __future__ import annotations

from .context import Context
from .found import Found, require
from .trainer import WITHOUT_TF32, Run, train, worst_difference

# Rounding differs between devices, and its effect grows with the steps.
FP32_TOLERANCE = 1e-4
# The mantissa of bf16 has eight bits: 2^-8 is 0.4 %.
BF16_TOLERANCE = 3e-2


def settings(context: Context, precision: str) -> list[str]:
    """Short runs on the demo."""
    steps = 20 if context.on_gpu else 6
    return [f"train.precision={precision}", f"train.max_steps={steps}", f"train.batch_size={batch_size(context)}"]


def batch_size(context: Context) -> int:
    return 128 if context.on_gpu else 32


def run(context: Context, device: str, precision: str) -> Run:
    """The run that several parts compare with."""
    predictions = context.path("predictions", f"{device}-{precision}.txt")
    arguments = ["--predictions", str(predictions)]
    name = f"{device}-{precision}"
    return train(
        context, name, *settings(context, precision), device=device, arguments=arguments, environment=WITHOUT_TF32
    )


def fp32(context: Context) -> Found:
    """The GPU without TF32."""
    expected, found = run(context, "cpu", "fp32").losses(), run(context, "cuda", "fp32").losses()
    return compared("GPU and CPU", found, expected, FP32_TOLERANCE)


def bf16(context: Context) -> Found:
    """The GPU and the CPU in bf16; on a CPU alone, its bf16 and its fp32."""
    on_cpu = run(context, "cpu", "bf16").losses()
    if context.on_gpu:
        return compared("GPU and CPU", run(context, "cuda", "bf16").losses(), on_cpu, BF16_TOLERANCE)
    return compared("bf16 and fp32 on the CPU", on_cpu, run(context, "cpu", "fp32").losses(), BF16_TOLERANCE)


def compared(sides: str, found: list[float], expected: list[float], tolerance: float) -> Found:
    worst = worst_difference(found, expected)
    summary = f"{len(found)} steps, {sides} differ by {worst:.1e} at most; allowed {tolerance:.0e}"
    figures = {"losses": found, "expected": expected, "worst_relative_difference": worst, "tolerance": tolerance}
    return require(worst <= tolerance, Found(summary, figures))
