"""How `mm` speaks: data on stdout, everything else on stderr; errors without tracebacks."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_assets.display.cells import block, is_formula, shown, visible, visible_json

if TYPE_CHECKING:
    from rich.console import Console


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    CSV = "csv"


@cache
def out() -> Console:
    """Where data goes: stdout."""
    return _console(stderr=False)


@cache
def err() -> Console:
    """Where everything else goes: stderr."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console  # takes longer than all else that a short command does

    # No emoji: `:key:` in a value is no picture of a key.
    return Console(stderr=stderr, highlight=False, soft_wrap=True, emoji=False)


def say(text: str) -> None:
    """A line for people, on stderr."""
    err().print(_told(text))


def good(text: str) -> None:
    err().print(f"[green]✓[/green] {_told(text)}")


def warn(text: str) -> None:
    err().print(f"[yellow]![/yellow] {_told(text)}")


def bad(text: str) -> None:
    err().print(f"[red]✗[/red] {_told(text)}")


def line(text: str) -> str:
    """One line for rich: no markup, and nothing that acts."""
    from rich.markup import escape

    return escape(visible(text))


def _told(text: str) -> str:
    from rich.markup import escape

    return escape(block(text))


def print_json(data: Any) -> None:
    print(visible_json(json.dumps(data, indent=2, ensure_ascii=False, default=str)))


def print_rows(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], form: Format, title: str = ""
) -> None:
    """Rows as a table for people, as JSON or as CSV, on stdout.

    CSV that goes into a file or a pipe holds the values as they are; on a terminal nothing acts.
    """
    if form is Format.JSON:
        print_json(list(rows))
    elif form is Format.CSV:
        plain = csv.writer(sys.stdout, lineterminator="\n")
        # Python 3.11 leaves a lone CR unquoted; what follows it would begin a new row.
        quoted = csv.writer(sys.stdout, lineterminator="\n", quoting=csv.QUOTE_ALL)
        seen = visible if sys.stdout.isatty() else str
        plain.writerow(map(seen, columns))
        for row in rows:
            cells = [seen(_cell(row.get(name))) for name in columns]
            (quoted if any("\r" in cell for cell in cells) else plain).writerow(cells)
    else:
        from rich.markup import escape
        from rich.table import Table

        table = Table(title=line(title) or None, title_justify="left", header_style="bold")
        for name in columns:
            table.add_column(line(name), overflow="fold")
        for row in rows:
            table.add_row(*(escape(shown(row.get(name))) for name in columns))
        out().print(table)


def _cell(value: Any) -> str:
    """A CSV cell that no spreadsheet takes for a formula."""
    if value is None:
        return ""
    if isinstance(value, dict | list):
        value = json.dumps(value, ensure_ascii=False)
    return f"'{value}" if is_formula(value) else str(value)


@contextmanager
def straight_to_the_terminal(*, alone: bool) -> Iterator[None]:
    """Inside, what is said reaches the terminal at once, also while Dagster keeps what steps print.

    It does so by turning the process's stderr into a file, which is no terminal. alone: nothing
    else that is written to stderr meanwhile is shown; what steps print stands in Dagster's UI.
    """
    if not err().is_terminal:
        yield
        return
    number = sys.stderr.fileno()
    with (
        os.fdopen(os.dup(number), "w", 1, sys.stderr.encoding, sys.stderr.errors) as stream,
        Path(os.devnull).open("w") as nowhere,
    ):
        err().file = stream
        try:
            if alone:
                os.dup2(nowhere.fileno(), number)
            yield
        finally:
            os.dup2(stream.fileno(), number)
            err().file = None  # type: ignore[assignment]  # whatever sys.stderr is then


@contextmanager
def byte_progress(words: str) -> Iterator[Any]:
    """A progress bar for bytes; yields `update(done, total, file)`."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[file]}"), console=err(),
    )  # fmt: skip
    with bar:
        task = bar.add_task(line(words), total=None, file="")

        def update(done: int, total: int, file: str) -> None:
            bar.update(task, completed=done, total=total, file=line(file[-40:]))

        yield update
