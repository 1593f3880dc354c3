"""One row of the table of cases: a file as people have it, and how it has to end."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.make import dataset

SPEC = dataset(columns={"age": "number", "colour": "category", "notes": "text"}, image_name="{id}")
HEADER = ["id", "age", "colour", "notes"]
Values = tuple[float | None, str | None, str | None]
# What most of these tables say.
PEOPLE: dict[str, Values] = {
    "K1": (41.5, "red", "fine"),
    "K2": (7.25, "blue", "tired, with cough"),
    "K3": (63.0, "red", 'said "no" twice'),
}


@dataclass(frozen=True)
class Case:
    """A table and its end.

    kind: the folder of `shared/cases` that it is like. records: ID to age, colour and notes.
    rejects: line to code, and what the reasons together say. refused: the code of the whole table
    and words of its reason. read_as: what the receipt says of it, among other things; None stands
    for something that it does not say. numbers: what the manifest says of the column `age`.
    """

    kind: str
    what: str
    data: bytes
    file: str = "t.csv"
    records: Mapping[str, Values] = field(default_factory=lambda: PEOPLE)
    rejects: Mapping[int, str] = field(default_factory=dict)
    words: Sequence[str] = ()
    refused: str = ""
    read_as: Mapping[str, Any] = field(default_factory=dict)
    blank_rows: int = 0
    numbers: str = ""
    spec: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.kind}: {self.what}"


def lines(*rows: str, end: str = "\n", codec: str = "utf-8") -> bytes:
    return "".join(row + end for row in rows).encode(codec)


def text(
    delimiter: str = ",",
    *,
    comma: bool = False,
    header: Sequence[str] = HEADER,
    above: Sequence[str] = (),
    end: str = "\n",
    codec: str = "utf-8",
    quoting: Any = csv.QUOTE_MINIMAL,
    people: Mapping[str, Values] = PEOPLE,
) -> bytes:
    """The people as a delimited text; `comma` for the decimal sign."""
    out = io.StringIO(newline="")
    out.write("".join(line + end for line in above))
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerow(header)
    for record, (age, *more) in people.items():
        number = "" if age is None else str(age)
        writer.writerow([record, number.replace(".", ",") if comma else number, *more])
    return out.getvalue().encode(codec)


def rows(people: Mapping[str, Values] = PEOPLE) -> list[dict[str, Any]]:
    """The people as objects."""
    return [dict(zip(HEADER, (record, *values), strict=True)) for record, values in people.items()]
