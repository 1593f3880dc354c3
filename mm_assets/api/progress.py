"""What long work says while it runs: in a terminal, in a notebook, or nowhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mm_assets.display.console import byte_progress, err, line, say, warn

if TYPE_CHECKING:
    from mm_assets.uploads.check import Report

Line = Callable[[str], None]


@dataclass(frozen=True)
class Told:
    """say: a line that stays. live: what is going on at the moment; the next one replaces it."""

    say: Line
    live: Line


@contextmanager
def telling(words: str, *, quiet: bool = False) -> Iterator[Told]:
    """Progress of one piece of work; `words` stand there until something else is said."""
    if quiet:
        yield Told(_nothing, _nothing)
    elif _in_notebook():
        with _notebook_line(words) as live:
            yield Told(say, live)
    else:
        with err.status(line(words)) as status:
            yield Told(say, lambda text: status.update(line(text)))


@contextmanager
def telling_bytes(words: str, *, quiet: bool = False) -> Iterator[Callable[[int, int, str], None]]:
    """Progress in bytes; yields `update(done, total, file)`."""
    if quiet:
        yield lambda _done, _total, _file: None
    elif _in_notebook():
        with _notebook_line(words) as live:
            yield lambda done, total, file: live(
                f"{words}: {done / 1e6:,.1f} of {total / 1e6:,.1f} MB {file[-40:]}"
            )
    else:
        with byte_progress(words) as update:
            yield update


def say_problems(report: Report) -> None:
    """Say what would be refused: the first of it line by line, the rest by number."""
    for problem in report.problems[:20]:
        place = f" line {problem.line}" if problem.line else ""
        warn(f"{problem.file}{place}: [{problem.code}] {problem.reason}. {problem.todo}")
    if len(report.problems) > 20:
        warn(f"… and {len(report.problems) - 20} more: {report.problems_by_code}")


def _nothing(_text: str) -> None:
    pass


def _in_notebook() -> bool:
    """Whether this is a Jupyter kernel; IPython is not imported to find out."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


@contextmanager
def _notebook_line(words: str) -> Iterator[Line]:
    """One line below the cell that changes in place, and is gone in the end."""
    from IPython.display import HTML, display

    from mm_assets.display.html import escaped

    def shown(text: str) -> Any:
        return HTML(f"<i>{escaped(text)}</i>" if text else "")

    handle = display(shown(words), display_id=True)
    try:
        yield lambda text: handle.update(shown(text))
    finally:
        handle.update(shown(""))
