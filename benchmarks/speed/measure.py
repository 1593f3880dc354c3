"""Running a line: its cases in turn, each in a new process, as often as asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.speed.line import Line
from benchmarks.speed.worker import LEFT_OUT, READY

LOOK_SECONDS = 0.02
ROOT = Path(__file__).parents[2]


class LeftOutError(Exception):
    """A case that cannot be run here."""


def measure(line: Line, runs: int, told: Callable[[str], None]) -> dict[str, list[dict[str, Any]]]:
    """`wall`, `cpu` (seconds) and `peak` (bytes of all its processes) of each run of each case.

    The cases take turns, so that what else the machine does meets all of them, and a first round
    that warms the machine's caches is not counted.
    """
    found: dict[str, list[dict[str, Any]]] = {case: [] for case in line.cases}
    with tempfile.TemporaryDirectory(prefix="speed-") as folder:
        data = Path(folder) / "data"
        data.mkdir()
        line.make(data)
        for number in range(runs + 1):
            for case in list(found):
                told(f"{line.name}: {case}, {number} of {runs}")
                try:
                    took = _once(line, case, data)
                except LeftOutError as error:
                    told(f"{line.name}: {case} is left out: {error}")
                    del found[case]
                    continue
                if number:
                    found[case].append(took)
    return found


def _once(line: Line, case: str, data: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="speed-") as folder:
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.speed.worker"]
        process = subprocess.Popen(
            [*command, line.name, case, str(data), folder], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "MM_DATA": folder, "DAGSTER_HOME": folder},
        )  # fmt: skip
        with process, _watched(process.pid) as peak:
            assert process.stdout  # noqa: S101  it is a pipe
            first = process.stdout.readline()
            peak[0] = 0
            out, err = process.communicate("go\n" if first.strip() == READY else None)
    if first.startswith("{"):
        raise LeftOutError(json.loads(first)[LEFT_OUT])
    if process.returncode:
        raise RuntimeError(f"{line.name} of {case} failed:\n{err[-3000:]}")
    return {**json.loads(out.splitlines()[-1]), "peak": peak[0]}


@contextmanager
def _watched(pid: int) -> Iterator[list[int]]:
    """The most memory that a process and its children held together, looked at again and again."""
    import psutil

    peak, over = [0], threading.Event()

    def look() -> None:
        top = psutil.Process(pid)
        while not over.wait(LOOK_SECONDS):
            held = 0
            try:
                for one in [top, *top.children(recursive=True)]:
                    held += one.memory_info().rss
            except psutil.Error:
                continue
            peak[0] = max(peak[0], held)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        over.set()
        watcher.join()
