"""`python -m benchmarks.quality`: measure what is not measured yet, and show what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.quality import page, stored
from benchmarks.quality.measure import about, measure
from benchmarks.quality.rivals import every_rival
from benchmarks.quality.sets import DataSet, every_set
from benchmarks.quality.stored import Cell

out, err = Console(), Console(stderr=True)


def run(
    sets: Annotated[str, typer.Option(help="Some of them, with commas.")] = "",
    rivals: Annotated[str, typer.Option(help="Some of them, with commas.")] = "",
    splits: Annotated[int, typer.Option(min=1, help="How many of each set.")] = 5,
    minutes: Annotated[float, typer.Option(min=0.05, help="For one training of ours.")] = 2.0,
    again: Annotated[bool, typer.Option(help="Measure also what is stored.")] = False,
    write: Annotated[bool, typer.Option(help="Make results.json and docs/results.md.")] = False,
    folder: Annotated[Path, typer.Option(help="Where measurements are kept.")] = stored.CELLS,
) -> None:
    """Measure every rival on every split of every set; what is stored is not measured again.

    A rival that fails on a set is named at the end, and exit code is 1.
    """
    chosen = _chosen("sets", sets, list(every_set()))
    wanted = _chosen("rivals", rivals, list(every_rival()))
    made = {name: one for name in chosen if (one := _made(name)) is not None}
    cells = [
        Cell(name, rival, split) for rival in wanted for name in made for split in range(splits)
    ]
    failed = _measure_all(made, cells, folder, minutes, again)
    order = list(every_set())
    known = sorted(stored.all_known(folder), key=lambda cell: order.index(cell["set"]))
    shown = known if write else [c for c in known if c["set"] in made and c["rival"] in wanted]
    if shown:
        named = {cell["set"]: None for cell in shown}
        words = {name: (made.get(name) or every_set()[name]()).words for name in named}
        results = {"about": about(), "sets": words, "cells": shown}
        out.print(Markdown(page.section(results)))
        if write:
            stored.write_results(about(), words, shown)
            page.put(stored.read_results())
    for line in failed:
        err.print(f"[bold red]failed[/] {line}")
    raise typer.Exit(1 if failed else 0)


def _chosen(what: str, said: str, there: list[str]) -> list[str]:
    names = [name.strip() for name in said.split(",") if name.strip()] or there
    if unknown := [name for name in names if name not in there]:
        raise typer.BadParameter(f"{what} are {', '.join(there)}; not {', '.join(unknown)}")
    return names


def _made(name: str) -> DataSet | None:
    one: DataSet | None = every_set()[name]()
    if one is None:
        err.print(f"{name} does not lie beside the checkout: left out")
    return one


def _measure_all(
    made: dict[str, DataSet], cells: list[Cell], folder: Path, minutes: float, again: bool
) -> list[str]:
    """Store every measurement that is not; what failed, in words."""
    prints, failed = {name: one.fingerprint() for name, one in made.items()}, []
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=err,
    )  # fmt: skip
    with bar:
        task = bar.add_task("", total=len(cells))
        for cell in cells:
            bar.update(task, description=f"{cell.rival} on {cell.set}, split {cell.split}")
            if again or stored.known(folder, cell, prints[cell.set]) is None:
                try:
                    stored.keep(folder, cell, measure(made[cell.set], cell, minutes))
                except Exception as error:  # noqa: BLE001  one rival's fault is not the others'
                    failed.append(f"{' '.join(map(str, cell))}: {error!r}")
            bar.advance(task)
    return failed


app = typer.Typer(add_completion=False)
app.command()(run)

if __name__ == "__main__":
    app()
