"""What a process takes until it can begin."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.speed.line import OURS, Case, Goal, Line

DEFS = "import dagster_project.definitions as d; d.defs()"
DATASETS = 7


def _command(*arguments: str) -> Case:
    def prepare(_: Path, __: Path) -> Callable[[], int]:
        def run() -> int:
            subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
            return 1

        return run

    return prepare


def _python(code: str) -> Case:
    return _command(sys.executable, "-W", "ignore", "-c", code)


def _nothing(_: Path) -> None:
    pass


LINES = (
    Line(
        name="code-location",
        words=f"A process loads the code location: {DATASETS} datasets",
        amount=1,
        unit="process",
        make=_nothing,
        cases={OURS: _python(DEFS), "import dagster": _python("import dagster")},
        goals=(Goal("cpu", 1.5, "import dagster"),),
    ),
    Line(
        name="help",
        words="`mm --help`",
        amount=1,
        unit="process",
        make=_nothing,
        cases={
            OURS: _python("import sys; sys.argv = ['mm', '--help']; "
                          "from mm_assets.cli.main import main; main()"),
            "Python alone": _python("pass"),
            "import typer": _python("import typer"),
        },
        goals=(Goal("wall", 0.3),),
    ),
)  # fmt: skip
