"""The results as a table for people and as one JSON file."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

from .found import Figures
from .models import CASES, SMALL_CASE
from .runner import PartResult

FORMAT = 1
JSON_NAME, TABLE_NAME = "gpu-check.json", "table.txt"
WIDTH = 120


def as_json(device: str, seconds: float, results: list[PartResult], *, finished: bool) -> Figures:
    """A check that has not reached its end has not passed, and neither has one that has only skipped parts."""
    kinds = {result.result for result in results}
    return {
        "format": FORMAT,
        "device": device,
        "finished": finished,
        "passed": finished and "failed" not in kinds and "passed" in kinds,
        "seconds": round(seconds, 1),
        "parts": [result.as_json() for result in results],
    }


def table(report: Figures) -> str:
    """The device, one row a part, the speeds side by side, the verdict."""
    parts = report["parts"]
    name_width = max((len(part["name"]) for part in parts), default=0)
    lines = [f"device: {report['device']}{'' if report['device'] == 'cuda' else ', small sizes'}"]
    for part in parts:
        start = f"{part['name']:<{name_width}}  {shown(part['result']):<7}  {part['seconds']:6.1f} s  "
        indent = " " * len(start)
        summary = " ".join(part["summary"].split())
        lines += textwrap.wrap(summary, WIDTH, initial_indent=start, subsequent_indent=indent) or [start.rstrip()]
    return "\n".join([*lines, *speed_lines(parts), "", verdict(report), ""])


def shown(result: str) -> str:
    return result.upper() if result == "failed" else result


def verdict(report: Figures) -> str:
    names = {kind: [part["name"] for part in report["parts"] if part["result"] == kind] for kind in ("passed", "failed", "skipped")}
    counts = ", ".join(f"{len(found)} {kind}" for kind, found in names.items())
    failed = f": {', '.join(names['failed'])}" if names["failed"] else ""
    place = "a GPU" if report["device"] == "cuda" else "a CPU, at small sizes; no GPU was checked"
    ended = "" if report["finished"] else "; the check has not reached its end"
    return f"{counts}{failed}. {report['seconds']:.0f} s on {place}{ended}"


def speed_lines(parts: list[Figures]) -> list[str]:
    """Images a second of the trainer, PyTorch eager and PyTorch compiled, for the cases that were measured."""
    figures = {part["name"]: part["figures"] for part in parts if part["result"] == "passed"}
    rows = []
    for case in [*CASES, SMALL_CASE]:
        ours, compiled = figures.get(f"speed-{case.name}", {}), figures.get(f"compiled-{case.name}", {})
        rates = [
            ours.get("trainer", {}).get("images_per_second_without_waiting"),
            ours.get("eager", {}).get("images_per_second"),
            compiled.get("compiled", {}).get("images_per_second"),
        ]
        if any(rates):
            rows.append([case.name, *(f"{rate:,.0f}" if rate else "-" for rate in rates)])
    if not rows:
        return []
    rows.insert(0, ["images/s", "trainer", "PyTorch eager", "PyTorch compiled"])
    return ["", *(f"{name:<10}  {trainer:>9}  {eager:>13}  {compiled:>16}" for name, trainer, eager, compiled in rows)]


def write(folder: Path, report: Figures) -> None:
    """Both files, each replaced only by a complete one: a check that is killed leaves what it has found."""
    for name, text in {JSON_NAME: json.dumps(report, indent=2) + "\n", TABLE_NAME: table(report)}.items():
        part = folder / f"{name}.part"
        part.write_text(text)
        part.replace(folder / name)
