"""`make bench`: measure lines of the speed budget and write them into docs/performance.md."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown

from benchmarks.speed import page
from benchmarks.speed.lines import LINES
from benchmarks.speed.measure import measure

out, err = Console(), Console(stderr=True)


def run(
    only: Annotated[str, typer.Option(help="Lines whose names begin so, with commas.")] = "",
    runs: Annotated[int, typer.Option(min=1, help="Of each case; the medians count.")] = 5,
    everything: Annotated[
        bool, typer.Option("--all", help="Also the lines that take long.")
    ] = False,
    write: Annotated[bool, typer.Option(help="Keep it, and draw the page anew.")] = False,
) -> None:
    """Each case runs in a process of its own; the cases of a line take turns."""
    asked = tuple(name.strip() for name in only.split(",") if name.strip())
    chosen = [
        line
        for line in LINES.values()
        if (line.name.startswith(asked) if asked else everything or not line.takes_long)
    ]
    if not chosen:
        raise typer.BadParameter(f"no line begins so; there are: {', '.join(LINES)}")
    with err.status("") as status:
        for line in chosen:
            measured = page.Measured.of(line, measure(line, runs, status.update))
            out.print(Markdown(page.table([measured])))
            if write:
                page.put(measured)


typer.run(run)
