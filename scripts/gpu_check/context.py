"""What every part knows: the programs, the device, the folder for its files, and the time that is left."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Context:
    """Passed to the process of a part as a JSON file."""

    lift: str
    trainer: str
    device: str
    """`cuda` or `cpu`. On a CPU all sizes are small."""
    work: str
    """Folder for weights, images and runs; removed at the end."""
    cores: int
    deadline: float
    """When the part has to be done, on the monotonic clock, which all processes share."""

    @property
    def on_gpu(self) -> bool:
        return self.device == "cuda"

    def left(self) -> float:
        """Seconds until the deadline, and at least one."""
        return max(1.0, self.deadline - time.monotonic())

    def path(self, *names: str) -> Path:
        """A path in the work folder, whose parent exists."""
        path = Path(self.work, *names)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @staticmethod
    def read(path: Path) -> Context:
        return Context(**json.loads(path.read_text()))
