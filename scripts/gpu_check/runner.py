"""Runs each part as a process of its own, within its limit and the time of the whole check."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from .context import Context
from .found import Figures
from .parts import Part

# A part with less time than this would only fail.
LEAST_SECONDS = 5.0
# What a part may take to report that its time is over.
GRACE_SECONDS = 3.0


@dataclass(frozen=True)
class PartResult:
    """One row of the table."""

    name: str
    result: str
    """`passed`, `failed` or `skipped`."""
    summary: str
    seconds: float = 0.0
    figures: Figures = field(default_factory=dict)

    def as_json(self) -> Figures:
        return asdict(self)


def run_part(part: Part, context: Context, logs: Path) -> PartResult:
    """Never raises for a failure of the part. `context.deadline` is that of the whole check."""
    if part.only_on is not None and part.only_on != context.device:
        return PartResult(part.name, "skipped", "no GPU" if part.only_on == "cuda" else "for machines without a GPU")
    left = context.deadline - time.monotonic()
    if left < LEAST_SECONDS:
        return PartResult(part.name, "skipped", "no time left; raise --minutes or choose parts with --only")
    limit, start = min(part.seconds, left), time.monotonic()
    answer = answer_of(part, replace(context, deadline=start + limit), logs, limit)
    return replace(answer, seconds=round(time.monotonic() - start, 2))


def answer_of(part: Part, context: Context, logs: Path, limit: float) -> PartResult:
    request, answer = context.path("parts", f"{part.name}.json"), context.path("parts", f"{part.name}.result.json")
    context.write(request)
    log = logs / f"{part.name}.log"
    command = [sys.executable, "-m", f"{__package__}.part", part.name, str(request), str(answer)]
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True
        )
        try:
            code = process.wait(limit + GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            return PartResult(part.name, "failed", f"not done after {limit:.0f} s; see {log}")
        finally:
            # Also what the part has left behind.
            end_session(process)
    if code or not answer.exists():
        return PartResult(part.name, "failed", f"the process of the part ended with code {code}; see {log}")
    return PartResult(name=part.name, **json.loads(answer.read_text()))


def end_session(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
