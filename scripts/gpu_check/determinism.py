"""Equal results where they are promised: `train.determinism`."""

from __future__ import annotations

from . import losses
from .context import Context
from .found import Found, require
from .trainer import WITHOUT_TF32, Run, train, worst_difference

# Law 1: another order of sums in fp32.
TOLERANCE = 1e-5


def same_world(context: Context) -> Found:
    """The same run twice, in fp32 and in bf16."""
    equal = {}
    for precision in ("fp32", "bf16"):
        settings = [*losses.settings(context, precision), "train.determinism=same_world"]
        twice = [train(context, f"same-world-{precision}-{number}", *settings) for number in (1, 2)]
        equal[precision] = is_equal(*twice)
    return require(all(equal.values()), Found(f"two runs: {in_words(equal)}", {"equal": equal}))


def any_world(context: Context) -> Found:
    """One rank twice and two ranks bitwise; other micro-batches and other virtual shards within the tolerance."""
    first = any_world_run(context, "first")
    others = {
        "one rank again": any_world_run(context, "again"),
        "two ranks": any_world_run(context, "two-ranks", "distributed.backend=mpi", ranks=2),
        "other loader": any_world_run(context, "loader", "data.workers=1", "data.prefetch=1"),
    }
    equal = {name: is_equal(first, run) for name, run in others.items()}
    near = {
        "micro-batches": any_world_run(context, "micro-batches", "train.micro_batch_size=3"),
        "virtual shards": any_world_run(context, "virtual-shards", "train.virtual_shards=4"),
    }
    differences = {name: worst_difference(run.losses(), first.losses()) for name, run in near.items()}
    worst = max(differences.values())
    summary = f"{in_words(equal)}; other micro-batches and virtual shards differ by {worst:.1e}; allowed {TOLERANCE:.0e}"
    figures = {"equal": equal, "worst_relative_difference": differences, "tolerance": TOLERANCE}
    return require(all(equal.values()) and worst <= TOLERANCE, Found(summary, figures))


def any_world_run(context: Context, name: str, *more: str, ranks: int = 1) -> Run:
    settings = [*losses.settings(context, "fp32"), "train.determinism=any_world", *more]
    return train(context, f"any-world-{name}", *settings, ranks=ranks, environment=WITHOUT_TF32)


def is_equal(a: Run, b: Run) -> bool:
    """Losses in full precision, and every bit of the trained tensors."""
    return a.losses() == b.losses() and a.fingerprint() == b.fingerprint()


def in_words(equal: dict[str, bool]) -> str:
    return ", ".join(f"{name} {'bitwise equal' if same else 'DIFFERS'}" for name, same in equal.items())
