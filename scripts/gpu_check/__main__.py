"""The command: chooses the device and the parts, runs them, and prints the results."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from . import machine, report
from .context import Context
from .found import Figures, PartFailed
from .parts import CPU, GPU, PARTS, Part, chosen, is_chosen
from .runner import PartResult, run_part

PASSED, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130


def main() -> int:
    arguments = read_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(INTERRUPTED))
    output = Path(arguments.output).resolve()
    work, logs = output / "work", output / "logs"
    start = time.monotonic()
    try:
        for folder in (work, logs):
            folder.mkdir(parents=True, exist_ok=True)
        context = Context(
            lift=arguments.lift,
            trainer=arguments.trainer,
            device=machine.device() if arguments.device == "auto" else arguments.device,
            work=str(work),
            cores=len(os.sched_getaffinity(0)),
            deadline=start + 60 * arguments.minutes,
        )
        found = run_parts(chosen(arguments.only), context, output, start)
    except (OSError, PartFailed) as error:
        say(f"error: {error}")
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(json.dumps(found, indent=2) if arguments.json else report.table(found), end="\n" if arguments.json else "")
    say(f"results: {output / report.JSON_NAME}")
    return PASSED if found["passed"] else FAILED


def run_parts(parts: list[Part], context: Context, output: Path, start: float) -> Figures:
    """All of them, whatever fails. Returns the report, which is on disk too."""
    results: list[PartResult] = []
    for part in parts:
        result = run_part(part, context, output / "logs")
        results.append(result)
        found = report.as_json(context.device, time.monotonic() - start, results, finished=part is parts[-1])
        report.write(output, found)
        if result.result != "skipped":
            say(f"{part.name}: {result.result} ({result.seconds:.1f} s)")
    return found


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="lift gpu-check", description=__doc__)
    parser.add_argument("--lift", required=True, help="path of `lift`")
    parser.add_argument("--trainer", required=True, help="path of `lift-trainer`")
    parser.add_argument("--output", required=True, help="folder for results and logs")
    parser.add_argument("--only", nargs="+", default=[], metavar="PART", help="parts to run; a first word names all that begin with it")
    parser.add_argument("--minutes", type=float, default=8.0, help="time for all parts")
    parser.add_argument("--device", choices=["auto", GPU, CPU], default="auto", help="where to compute")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    arguments = parser.parse_args()
    names = [part.name for part in PARTS]
    for wanted in arguments.only:
        if not any(is_chosen(name, wanted) for name in names):
            say(f"error: no part is named `{wanted}`; expected {', '.join(names)}")
            sys.exit(WRONG_INPUT)
    return arguments


def say(sentence: str) -> None:
    """A message that nobody reads any more is no failure."""
    try:
        print(sentence, file=sys.stderr, flush=True)
    except OSError:
        pass


if __name__ == "__main__":
    sys.exit(main())
