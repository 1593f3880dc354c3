"""Categories that an upload brings and that its model never saw: counted, and said in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mm_assets.contract.spellings import counted, quoted
from mm_assets.engines.shared.spellings import Spellings

if TYPE_CHECKING:
    import pandas as pd

MOST_FREQUENT = 3  # unseen values of a column that are named
MOST_KNOWN = 10  # known ones that are named beside them
Unseen = dict[str, Any]


class UnseenCounter:
    """Counts over the batches of one upload."""

    def __init__(self, spellings: Spellings) -> None:
        self._spellings = spellings
        self._counts: dict[str, Counter[str]] = {}

    def add(self, frame: pd.DataFrame) -> None:
        for column, counts in self._spellings.unseen(frame).items():
            self._counts.setdefault(column, Counter()).update(counts)

    def to_json(self) -> dict[str, Unseen]:
        """What the predictions' document keeps: of each column with such values, how many records
        have one (`records`), the most frequent with their counts (`values`), some that are known.
        """
        found = {}
        for column, counts in self._counts.items():
            ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
            known = self._spellings.columns[column].values
            found[column] = {
                "records": counts.total(),
                "values": ranked[:MOST_FREQUENT],
                "more_values": max(0, len(ranked) - MOST_FREQUENT),
                "known": list(known[:MOST_KNOWN]),
                "more_known": max(0, len(known) - MOST_KNOWN),
            }
        return found


def in_words(documents: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line for each column of these predictions (the documents of one upload) with such values.

    Documents that were published before there was a count say nothing.
    """
    return [
        _line(column, found, document["counts"]["records"])
        for document in documents
        for column, found in sorted(document.get("unseen", {}).items())
    ]


def _line(column: str, found: Unseen, n_records: int) -> str:
    values = dict(found["values"])
    more = f" and {found['more_values']:,} more" if found["more_values"] else ""
    known = quoted(found["known"]) or "none"
    if found["more_known"]:
        known += f" and {found['more_known']:,} more"
    return (
        f"column {column}: {found['records']:,} of {n_records:,} records have values that the "
        f"model never saw: {counted(values, values)}{more}; it knows {known}"
    )
