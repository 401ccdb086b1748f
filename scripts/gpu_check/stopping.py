"""A run that is stopped and resumed continues as if it had not been stopped."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time

from .context import Context
from .determinism import is_equal
from .found import Found, PartFailed, require
from .trainer import Run, execute, log, train, train_words

RESUMABLE = 75


def check(context: Context) -> Found:
    """`lift run` receives TERM in the middle of a run, ends with code 75, and resumes."""
    settings = long_settings(context)
    whole = train(context, "undisturbed", *settings)
    run = Run(context.path("runs", "stopped"))
    shutil.rmtree(run.folder, ignore_errors=True)
    launch = [context.lift, "run", "-n", "1", "--", *train_words(context, run, *settings)]
    seconds = stop(context, launch, run)
    stopped_after, steps = len(run.losses()), len(whole.losses())
    if stopped_after == steps:
        raise PartFailed(f"all {steps} steps were done before the run stopped")
    execute(context, [*launch, "--resume", "auto"])
    equal = is_equal(run, whole)
    verdict = "bitwise equal" if equal else "DIFFERS"
    summary = f"TERM stopped it after step {stopped_after} of {steps} in {seconds:.1f} s; resumed: {verdict}"
    figures = {"stopped_after": stopped_after, "steps": steps, "seconds_to_stop": seconds, "equal": equal}
    return require(equal, Found(summary, figures))


def long_settings(context: Context) -> list[str]:
    """Steps enough for a signal in the middle. A checkpoint puts the lines of the steps before it on disk."""
    steps, batch, every = (200, 64, 10) if context.on_gpu else (30, 16, 3)
    settings = [f"train.max_steps={steps}", f"train.batch_size={batch}", "train.determinism=same_world"]
    return [*settings, f"checkpoint.every_steps={every}"]


def stop(context: Context, launch: list[str], run: Run) -> float:
    """Starts the run, asks it to stop once it has done a step, and returns the seconds until it has stopped."""
    with context.path("stopped.txt").open("w+") as output:
        process = subprocess.Popen(launch, stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd=context.work)
        try:
            wait_for_a_step(context, process, run)
            os.kill(process.pid, signal.SIGTERM)
            start = time.monotonic()
            code = process.wait(context.left())
            seconds = time.monotonic() - start
        finally:
            process.kill()
        output.seek(0)
        log(launch, subprocess.CompletedProcess(launch, code, output.read(), ""), seconds)
    if code != RESUMABLE:
        raise PartFailed(f"`lift run` ended with code {code} after TERM, expected {RESUMABLE}")
    return seconds


def wait_for_a_step(context: Context, process: subprocess.Popen[bytes], run: Run) -> None:
    metrics = run.folder / "metrics.jsonl"
    while not (metrics.exists() and metrics.stat().st_size > 0):
        if process.poll() is not None:
            raise PartFailed(f"the run ended with code {process.returncode} before its first step was recorded")
        if context.left() <= 1:
            raise PartFailed("no step was recorded")
        time.sleep(0.02)
