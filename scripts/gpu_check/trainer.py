"""Runs the trainer and reads what it leaves."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .context import Context
from .found import PartFailed

# Without it, cuDNN rounds the inputs of convolutions in fp32 to ten bits.
WITHOUT_TF32 = {"NVIDIA_TF32_OVERRIDE": "0"}


@dataclass(frozen=True)
class Run:
    """A run folder."""

    folder: Path

    def losses(self) -> list[float]:
        lines = [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]
        return [line["loss"] for line in lines if line["kind"] == "step"]

    def weights(self) -> Path:
        """The trained tensors at the end."""
        return self.folder / "final.safetensors"

    def fingerprint(self) -> str:
        """SHA-256 of the file of the trained tensors, which is bitwise the same for the same tensors."""
        return hashlib.sha256(self.weights().read_bytes()).hexdigest()

    def result(self) -> dict[str, Any]:
        return json.loads((self.folder / "result.json").read_text())


def train(
    context: Context,
    name: str,
    *settings: str,
    device: str | None = None,
    ranks: int = 1,
    arguments: Sequence[str] = (),
    environment: dict[str, str] | None = None,
) -> Run:
    """A whole run, on the embedded demo if the arguments name no other data. A run that another part has made serves too."""
    run = Run(context.path("runs", name))
    if (run.folder / "result.json").exists():
        return run
    shutil.rmtree(run.folder, ignore_errors=True)
    words = train_words(context, run, *settings, device=device, arguments=arguments)
    launcher = [context.lift, "run", "-n", str(ranks), "--"] if ranks > 1 else [context.trainer]
    execute(context, launcher + words, environment=environment)
    return run


def train_words(
    context: Context, run: Run, *settings: str, device: str | None = None, arguments: Sequence[str] = ()
) -> list[str]:
    """The trainer's arguments for a run."""
    words = ["train", "--quiet", "--output", str(run.folder), *arguments]
    return words + setting_words(f"train.device={device or context.device}", *settings)


def setting_words(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def bench_step(
    context: Context, steps: int, arguments: Sequence[str], *settings: str, before: Sequence[str] = ()
) -> dict[str, float]:
    """The figures of `lift-trainer bench step`, started by the command `before` if there is one."""
    words = ["bench", "step", "--json", "--compare", "none", "--rounds", "1", "--snapshots", "0", "--steps", str(steps)]
    words += [*arguments, *setting_words(f"train.device={context.device}", *settings)]
    report = json.loads(execute(context, [*before, context.trainer, *words]).stdout)
    return report["selected"]["figures"]


def execute(
    context: Context,
    command: Sequence[str],
    *,
    environment: dict[str, str] | None = None,
    code: int = 0,
    **more: Any,
) -> subprocess.CompletedProcess[str]:
    """Runs a command that has to end with the given exit code."""
    start = time.monotonic()
    try:
        ended = subprocess.run(
            command,
            env={**os.environ, "NO_COLOR": "1", **(environment or {})},
            cwd=context.work,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=context.left(),
            **more,
        )
    except subprocess.TimeoutExpired as error:
        over = f"the time of the part was over after {error.timeout:.0f} s of `{short(command)}`"
        raise PartFailed(over) from error
    log(command, ended, time.monotonic() - start)
    if ended.returncode != code:
        expected = f", expected {code}" if code else ""
        raise PartFailed(f"`{short(command)}` ended with code {ended.returncode}{expected}: {last_words(ended.stderr)}")
    return ended


def short(command: Sequence[str]) -> str:
    """Program and first word, for messages; the log has the whole command."""
    return " ".join([Path(command[0]).name, *command[1:2]])


def log(command: Sequence[str], ended: subprocess.CompletedProcess[str], seconds: float) -> None:
    """The output of a part is its log."""
    print(f"$ {' '.join(command)}\n[code {ended.returncode}, {seconds:.1f} s]", flush=True)
    print(ended.stdout[-4000:] + ended.stderr[-8000:], flush=True)


def last_words(text: str) -> str:
    """The error of the trainer, or its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error:" in line]
    return (errors or lines or ["it said nothing"])[-1]


def worst_difference(losses: Sequence[float], expected: Sequence[float]) -> float:
    """The largest relative difference between the losses of the same steps."""
    if len(losses) != len(expected) or not expected:
        raise PartFailed(f"the runs have {len(losses)} and {len(expected)} steps")
    return max(abs(a - b) / abs(b) for a, b in zip(losses, expected))
