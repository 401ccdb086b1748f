"""Runs a command and records its peak memory: `python -m gpu_check.peak FILE COMMAND...`.

In a small process of its own, because the kernel counts the peak of a process from that of the process that starts it, and
keeps only the largest peak of all processes that a process has started.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path


def main(file: Path, command: list[str]) -> int:
    code = subprocess.call(command)
    file.write_text(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024))
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
