"""What an upload brings that its model never saw: counted, and said in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mm_assets.contract.spellings import counted
from mm_assets.doubt.familiar import Familiar
from mm_assets.doubt.familiar_table import known_values
from mm_assets.doubt.unlike import CODES, Code, Doubt
from mm_assets.engines.shared.spellings import Spellings

if TYPE_CHECKING:
    import pandas as pd

MOST_FREQUENT = 3  # values of a column that are named
MOST_KNOWN = 10  # known ones that are named beside them
Unlike = dict[str, Any]
_SAID: dict[Code, str] = {
    "unseen_category": "have values that the model never saw",
    "far_number": "have numbers far outside of what the model learnt from",
    "other_script": "have texts in letters that the model never saw",
    "foreign_image": "have images unlike all that the model learnt from",
    "missing_value": "lack a value that was never missing in training",
    "empty_record": "are empty, or nearly",
}


@dataclass
class Counted:
    """Over some batches: how many records have a doubt, and of each kind and column its values."""

    records: int = 0
    values: dict[tuple[Code, str], Counter[str]] = field(default_factory=dict)

    def of(self, code: Code, column: str) -> Counter[str]:
        return self.values.setdefault((code, column), Counter())

    def add(self, other: Counted) -> None:
        self.records += other.records
        for (code, column), counts in other.values.items():
            self.of(code, column).update(counts)


class UnlikeCounter:
    """Counts what a model never saw.

    Of a model that learnt nothing of what is familiar, unseen categories are counted nevertheless;
    they are no doubts.
    """

    def __init__(self, spellings: Spellings, familiar: Familiar | None) -> None:
        self._spellings = spellings
        self._familiar = familiar

    def counted(self, frame: pd.DataFrame, doubts: Sequence[Sequence[Doubt]]) -> Counted:
        """doubts: of each record of the frame."""
        counted = Counted()
        if self._familiar is None:
            for column, counts in self._spellings.unseen(frame).items():
                counted.of("unseen_category", column).update(counts)
        for own in doubts:
            counted.records += bool(own)
            for doubt in own:
                counted.of(doubt.code, doubt.column)[doubt.value] += 1
        return counted

    def to_json(self, counted: Counted) -> Unlike:
        """What the predictions' document keeps: how many records have a doubt (`records`), and
        `found`: of each kind and column how many have it, the most frequent values with their
        counts, and what training had, in words.
        """
        return {
            "records": counted.records,
            "found": [
                self._found(*at, counted.values[at])
                for at in sorted(counted.values, key=lambda at: (CODES.index(at[0]), at[1]))
            ],
        }

    def _found(self, code: Code, column: str, counts: Counter[str]) -> dict[str, Any]:
        ranked = sorted(
            ((value, count) for value, count in counts.items() if value),
            key=lambda item: (-item[1], item[0]),
        )
        if self._familiar is not None:
            known = self._familiar.known(code, column, MOST_KNOWN)
        else:
            known = known_values(self._spellings, column, MOST_KNOWN)
        return {
            "code": code,
            "column": column,
            "records": counts.total(),
            "values": ranked[:MOST_FREQUENT],
            "more_values": max(0, len(ranked) - MOST_FREQUENT),
            "known": known,
        }


def in_words(documents: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line for each column of these predictions (the documents of one upload) and kind of doubt.

    Documents that were published before there was a count say nothing.
    """
    return [
        _line(found, document["counts"]["records"])
        for document in documents
        for found in document.get("unlike", {}).get("found", [])
    ]


def share_of(documents: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
    """How many records have a doubt, and how many were asked for."""
    listed = list(documents)
    records = sum(document["counts"]["records"] for document in listed)
    return sum(document.get("unlike", {}).get("records", 0) for document in listed), records


def _line(found: Mapping[str, Any], n_records: int) -> str:
    column = f"column {found['column']}: " if found["column"] else ""
    line = f"{column}{found['records']:,} of {n_records:,} records {_SAID[found['code']]}"
    if not found["values"]:
        return line
    values = dict(found["values"])
    more = f" and {found['more_values']:,} more" if found["more_values"] else ""
    return f"{line}: {counted(values, values)}{more}; it knows {found['known']}"
