"""The parts, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from . import determinism, evaluation, loader, losses, machine, memory, nccl, reference, speed, stopping
from .context import Context
from .found import Found
from .models import CASES, SMALL_CASE

CPU, GPU = "cpu", "cuda"


@dataclass(frozen=True)
class Part:
    """One check."""

    name: str
    seconds: float
    """Its time limit."""
    check: Callable[[Context], Found]
    only_on: str | None = None
    """The device without which the part is skipped; none if it runs on both."""


PARTS = [
    Part("machine", 60, machine.check),
    Part("losses-fp32", 90, losses.fp32, GPU),
    Part("losses-bf16", 90, losses.bf16),
    Part("reference", 90, reference.check),
    Part("same-world", 90, determinism.same_world),
    Part("any-world", 120, determinism.any_world),
    Part("evaluation", 90, evaluation.check),
    Part("nccl", 60, nccl.check, GPU),
    Part("stop-and-resume", 120, stopping.check),
    Part("out-of-memory", 90, memory.out_of_memory),
    Part("memory", 120, memory.by_batch),
    *(Part(f"speed-{case.name}", 90, partial(speed.beside_eager, case), GPU) for case in CASES),
    Part(f"speed-{SMALL_CASE.name}", 60, partial(speed.beside_eager, SMALL_CASE), CPU),
    Part("loader", 60, loader.check),
    Part("kernels", 60, speed.kernels, GPU),
    Part("options", 120, speed.options, GPU),
    *(Part(f"compiled-{case.name}", 120, partial(speed.compiled, case), GPU) for case in CASES),
    Part(f"compiled-{SMALL_CASE.name}", 120, partial(speed.compiled, SMALL_CASE), CPU),
]


def named(name: str) -> Part:
    """The part of that name."""
    return next(part for part in PARTS if part.name == name)


def chosen(names: list[str]) -> list[Part]:
    """The parts whose name is given, or begins with a given word and a dash; all of them without a name."""
    return [part for part in PARTS if not names or any(is_chosen(part.name, name) for name in names)]


def is_chosen(part: str, name: str) -> bool:
    return part == name or part.startswith(f"{name}-")
