"""What long work says while it runs: in a terminal, in a notebook, or nowhere."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mm_assets.contract.ends import End, Ended
from mm_assets.display.console import (
    bad,
    byte_progress,
    err,
    good,
    line,
    say,
    straight_to_the_terminal,
    warn,
)
from mm_assets.engines.shared.progress import Step, read_told

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from mm_assets.orchestration.run import Outcome
    from mm_assets.uploads.check import Report

Line = Callable[[str], None]
SHOWN_CODES = 10
BAR = 12  # letters
SOMETIMES = 10.0  # seconds between two lines of a log


@dataclass(frozen=True)
class Told:
    """say: a line that stays. live: what is going on at the moment; the next one replaces it."""

    say: Line
    live: Line


@contextmanager
def telling(words: str, *, quiet: bool = False, lines: bool = False) -> Iterator[Told]:
    """Progress of one piece of work; `words` stand there until something else is said.

    lines: where there is no terminal, what is going on becomes lines that stay, for a log; and
    where there is one, what libraries and processes of Dagster write is not shown.
    """
    if quiet:
        with _without_widgets():
            yield Told(_nothing, _nothing)
    elif _in_notebook():
        with _without_widgets(), _notebook_line(words) as live:
            yield Told(say, live)
    else:
        with straight_to_the_terminal(alone=lines), err().status(line(words)) as status:
            if lines and not err().is_terminal:
                yield Told(say, _log_lines())
            else:
                moment = Moment()
                yield Told(say, lambda text: status.update(moment.shown(text)))


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
    for table in report.tables:
        if missed := (table.get("read_as") or {}).get("images_not_found"):
            warn(
                f"{table['file']}: images that rows name and are not in the upload: {missed}; they "
                "are found if another upload brings them"
            )
        if copy := table.get("copy_of"):
            warn(
                f"{table['file']} looks like a copy of {copy['file']} ({copy['same_rows']:,} rows "
                "are the same); where both have an ID, the row there counts"
            )
    for words in (*report.first_of_several, *report.nearly):
        warn(words)


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


def say_outcome(outcome: Outcome) -> None:
    """Say of a run that did not fail what it warns of, and how much of it was used."""
    what = outcome.upload or outcome.job
    for words in outcome.warnings:
        warn(f"{what}: {words}")
    if outcome.ended.words:
        say_end(outcome.ended, f"{what}: ")


class Moment:
    """What is going on, in one line; while members learn, with a bar and a clock before it."""

    def __init__(self) -> None:
        self._learning: Learning | None = None

    def shown(self, text: str) -> RenderableType:
        """How a text is shown that takes the place of the one before."""
        if step := read_told(text):
            self._learning = Learning(step)
        elif self._learning is not None:
            before = self._learning.step.before
            if before and text.startswith(before):  # the member itself says how it goes
                self._learning.words = text.removeprefix(before)
            else:
                self._learning = None
        return self._learning or line(text)


class Learning:
    """Which member learns: a bar, the seconds that are left this moment, and the words."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.words = step.words
        self._since = time.monotonic()

    def __rich__(self) -> Table:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        step = self.step
        shown = Table.grid(padding=(0, 1), expand=True)
        shown.add_column(width=BAR)
        shown.add_column(no_wrap=True)
        done = ProgressBar(total=step.of, completed=step.number - 1, width=BAR)
        cells: list[RenderableType] = [done, f"{step.number} of {step.of}"]
        if step.left is not None:
            left = max(step.left - (time.monotonic() - self._since), 0)
            shown.add_column(no_wrap=True)
            cells.append(f"{left:.0f} s left")
        shown.add_column(overflow="fold", ratio=1)
        shown.add_row(*cells, line(step.before + self.words))
        return shown


def _log_lines() -> Line:
    """Each member is a line; of what is said more often, one in a while."""
    last, at = "", -SOMETIMES

    def told(text: str) -> None:
        nonlocal last, at
        now = time.monotonic()
        if text != last and (read_told(text) or now - at >= SOMETIMES):
            last, at = text, now
            say(text)

    return told


def _nothing(_text: str) -> None:
    pass


def _in_notebook() -> bool:
    """Whether this is a Jupyter kernel; IPython is not imported to find out."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


@contextmanager
def _without_widgets() -> Iterator[None]:
    """Without the warning that tqdm, which a library imports, misses the widgets of notebooks."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "IProgress not found")
        yield


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
