"""Where measurements are kept: a file for each in data/; and one, for the page, beside this."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
CELLS = ROOT / "data" / "quality"
VECTORS = CELLS / "vectors"
RESULTS = Path(__file__).with_name("results.json")


class Cell(NamedTuple):
    """Which measurement: the set, the rival, and the number of the split."""

    set: str
    rival: str
    split: int


def _file(folder: Path, cell: Cell) -> Path:
    return folder / f"{cell.set}-{cell.rival}-{cell.split}.json"


def known(folder: Path, cell: Cell, data: str) -> dict[str, Any] | None:
    """What was measured before, if it was of the same data."""
    path = _file(folder, cell)
    if not path.is_file():
        return None
    measured: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return measured if measured["data"] == data else None


def keep(folder: Path, cell: Cell, measured: dict[str, Any]) -> None:
    """Store it whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = _file(folder, cell)
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(measured, indent=1), encoding="utf-8")
    beside.replace(path)


def all_known(folder: Path) -> list[dict[str, Any]]:
    """Every measurement in the folder."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*-*-*.json")]


def write_results(
    about: dict[str, str], sets: dict[str, str], cells: Iterable[dict[str, Any]],
    path: Path = RESULTS,
) -> None:  # fmt: skip
    """The file that the page is made of, a line for each measurement.

    sets: the words for each, in order.
    """
    order = {name: place for place, name in enumerate(sets)}
    kept = [cell for cell in cells if cell["set"] in order]
    kept.sort(key=lambda cell: (order[cell["set"]], cell["rival"], cell["split"]))
    lines = ",\n".join("  " + json.dumps(cell) for cell in kept)
    head = json.dumps({"about": about, "sets": sets}, indent=1)[:-2]
    path.write_text(f'{head},\n "cells": [\n{lines}\n ]\n}}\n', encoding="utf-8")


def read_results(path: Path = RESULTS) -> dict[str, Any]:
    """`about`, `sets` and `cells`, as they were written."""
    read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return read
