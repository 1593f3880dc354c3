"""One case in a process of its own: prepares, waits to be told, does it once, says what it took.

python -m benchmarks.speed.worker LINE CASE DATA FOLDER
"""

from __future__ import annotations

import json
import resource
import sys
import time
import warnings
from pathlib import Path

from benchmarks.speed.lines import LINES

READY = "ready"
LEFT_OUT = "left out"


def main(line: str, case: str, data: str, folder: str) -> None:
    """Print READY, read a line, measure, print a line of JSON."""
    warnings.filterwarnings("ignore")
    found = LINES[line]
    try:
        work = found.cases[case](Path(data), Path(folder))
    except ModuleNotFoundError as error:
        print(json.dumps({LEFT_OUT: f"{error.name} is not installed"}), flush=True)
        return
    print(READY, flush=True)
    sys.stdin.readline()
    before, began = _processor(), time.perf_counter()
    done = work()
    took = {"wall": time.perf_counter() - began, "cpu": _processor() - before}
    if done != found.amount:
        raise SystemExit(f"{line} of {case}: {done} of {found.amount} {found.unit} were done")
    print(json.dumps(took), flush=True)


def _processor() -> float:
    """Seconds of the processor, of this process and those that it waited for."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in both)


if __name__ == "__main__":
    main(*sys.argv[1:])
