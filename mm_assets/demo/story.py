"""What a demo is made of: a dataset's uploads, and what happens with them, in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

TAKEN_IN = "the sensor sees the upload and takes it in"
TRAINED = "a model is trained, evaluated and promoted"


@dataclass(frozen=True)
class Step:
    """words: what happens; uploads: what is sent; waits: until what; note: its row at the end.

    A step with uploads is over when all of them are through, one without when a training is.
    """

    words: str
    waits: str
    note: str
    uploads: tuple[str, ...] = ()


@dataclass(frozen=True)
class Story:
    """One dataset's demo; its module has the story beside the generator.

    dataset: its name, and that of the template with its YAML. making: what is done while `make`
    runs. make: writes the uploads that the steps send into a folder, the same bytes each time, and
    returns the truth of each record that has no label yet, by its ID.
    """

    dataset: str
    making: str
    make: Callable[[Path], dict[str, str]]
    steps: tuple[Step, ...]
