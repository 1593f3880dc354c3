"""What a line of the budget is: some data, ours, what others run, and what is aimed at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

OURS = "ours"
# Prepares in a folder (the data, and one of its own) and returns what is measured. What that
# returns is a count of what was done; a case that did not do all of it fails.
Case = Callable[[Path, Path], Callable[[], int]]


@dataclass(frozen=True)
class Goal:
    """At most so much: seconds of the wall, of processor time, or bytes; or so many times another.

    against: a case; then `at_most` is the ratio ours / theirs.
    """

    figure: Literal["wall", "cpu", "peak"]
    at_most: float
    against: str = ""


@dataclass(frozen=True)
class Line:
    """words: what is done. amount: how many of `unit` each case does in one go.

    make: writes the data that all cases share into an empty folder. cases: ours first; a rival
    whose package is not installed is left out, and named.
    """

    name: str
    words: str
    amount: int
    unit: str
    make: Callable[[Path], None]
    cases: Mapping[str, Case]
    goals: tuple[Goal, ...] = ()
    takes_long: bool = False  # only when asked for by name, or with --all
