"""What a part reports: a sentence for the table, and figures for the JSON file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Figures = dict[str, Any]


@dataclass(frozen=True)
class Found:
    """The part has passed."""

    summary: str
    figures: Figures = field(default_factory=dict)


class PartFailed(Exception):
    """The part has found something wrong."""

    def __init__(self, summary: str, figures: Figures | None = None) -> None:
        super().__init__(summary)
        self.figures = figures or {}


class PartSkipped(Exception):
    """The part cannot be run here."""


def require(holds: bool, found: Found) -> Found:
    """The part passes if the condition holds; in both cases it reports the same figures."""
    if not holds:
        raise PartFailed(found.summary, found.figures)
    return found
