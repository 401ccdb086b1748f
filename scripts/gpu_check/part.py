"""The process of one part: `python -m gpu_check.part NAME CONTEXT RESULT`. Its output is the log of the part."""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path
from typing import Any

from .context import Context
from .found import PartFailed, PartSkipped
from .parts import named


def main(name: str, context: Path, result: Path) -> None:
    result.write_text(json.dumps(run(name, Context.read(context))))


def run(name: str, context: Context) -> dict[str, Any]:
    try:
        found = named(name).check(context)
    except PartFailed as failure:
        return {"result": "failed", "summary": str(failure), "figures": failure.figures}
    except PartSkipped as reason:
        return {"result": "skipped", "summary": str(reason), "figures": {}}
    except Exception as error:
        traceback.print_exc()
        return {"result": "failed", "summary": f"{type(error).__name__}: {error}", "figures": {}}
    return {"result": "passed", "summary": found.summary, "figures": found.figures}


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
