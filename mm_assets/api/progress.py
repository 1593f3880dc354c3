"""What long work says while it runs: in a terminal, in a notebook, or nowhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mm_assets.contract.ends import End, Ended
from mm_assets.display.console import bad, byte_progress, err, good, line, say, warn

if TYPE_CHECKING:
    from mm_assets.uploads.check import Report

Line = Callable[[str], None]
SHOWN_CODES = 10


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
    """Say what would be left out: a line for each code, with the first places and what to do."""
    if report.ended.words:
        say_end(report.ended, "before sending: ")


def say_end(ended: Ended, before: str = "") -> None:
    """Say how something ended: ✓ used, ! used in part, ✗ nothing used; and what to do."""
    if not ended.words:
        good(f"{before}{ended.end}")
        return
    told = {End.USED: good, End.IN_PART: warn}.get(ended.end, bad)
    told(f"{before}{ended.words}")
    remedies = list(dict.fromkeys(one.remedy for one in ended.left_out))
    for remedy in remedies[:SHOWN_CODES]:
        say(f"  {remedy}")
    if len(remedies) > SHOWN_CODES:
        say(f"  … and {len(remedies) - SHOWN_CODES} more")
    if not ended.left_out and ended.todo:
        say(f"  What to do: {ended.todo}")


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
