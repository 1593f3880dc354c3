"""The categories that a model knows, and frames brought to their spelling before it sees them.

The rule itself, when two spellings are the same, stands in contract/spellings.py. It is applied
here for every engine alike, so that no engine has to know of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mm_assets.contract.spellings import MOST_VALUES, Known, counted
from mm_assets.engines.protocol import Predictor

if TYPE_CHECKING:
    import pandas as pd

MOST_WARNINGS = 3  # of one column


@dataclass(frozen=True)
class Spellings:
    """What training saw of each column of kind category."""

    columns: dict[str, Known]

    @classmethod
    def learn(
        cls, frames: Iterable[pd.DataFrame], columns: Mapping[str, str]
    ) -> tuple[Spellings, list[str]]:
        """Learn from training records; also returns warnings of values that are nearly the same.

        columns: each column and its kind. The order of the records makes no difference.
        """
        listed, known, warnings = list(frames), {}, []
        for column in (name for name, kind in columns.items() if kind == "category"):
            counts: Counter[str] = Counter()
            for frame in listed:
                counts.update(_counts(frame[column]))
            if len(counts) > MOST_VALUES:
                continue
            known[column] = Known.learn(counts)
            warnings += _warnings(column, known[column], counts)
        return cls(known), warnings

    def applied(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The frame with each category as the model knows it; the given one is not changed."""
        changed = {}
        for column, known in self.columns.items():
            if column not in frame.columns:  # the engine says what is missing
                continue
            values = frame[column].to_numpy(dtype=object)
            texts = {value for value in values if isinstance(value, str)}
            meant = {text: known.meant(text) for text in texts}
            other = {text: value for text, value in meant.items() if text != value}
            if other:
                changed[column] = _replaced(frame[column], other)
        return frame.assign(**changed) if changed else frame

    def unseen(self, frame: pd.DataFrame) -> dict[str, Counter[str]]:
        """Values that training never saw and how often, for each column that has some."""
        found = {}
        for column, known in self.columns.items():
            counts = _counts(frame[column])
            unknown = Counter({v: n for v, n in counts.items() if not known.knows(v)})
            if unknown:
                found[column] = unknown
        return found

    def to_json(self) -> dict[str, list[str]]:
        """What a model's manifest keeps of it."""
        return {column: list(known.values) for column, known in self.columns.items()}

    @classmethod
    def from_json(cls, document: Mapping[str, list[str]] | None) -> Spellings:
        """From a manifest; of a model that was trained before there were spellings: none."""
        return cls({name: Known(tuple(values)) for name, values in (document or {}).items()})


class Spelled:
    """A loaded model that is asked with categories as it knows them, however they are written."""

    def __init__(self, predictor: Predictor, spellings: Spellings) -> None:
        self._predictor = predictor
        self._spellings = spellings
        if hasattr(predictor, "reasons"):
            self.reasons = self._reasons
        if hasattr(predictor, "said_by_members"):
            self.said_by_members = self._said_by_members
        if hasattr(predictor, "reasons_for"):
            self.reasons_for = self._reasons_for

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """As `Predictor.predict`."""
        return self._predictor.predict(self._spellings.applied(frame))

    def _reasons(self, frame: pd.DataFrame) -> list[str]:
        said: list[str] = self._predictor.reasons(self._spellings.applied(frame))  # type: ignore[attr-defined]
        return said

    def _said_by_members(self, frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
        said: dict[str, pd.DataFrame] = self._predictor.said_by_members(  # type: ignore[attr-defined]
            self._spellings.applied(frame)
        )
        return said

    def _reasons_for(self, frame: pd.DataFrame, classes: list[str]) -> list[str]:
        spelt = self._spellings.applied(frame)
        said: list[str] = self._predictor.reasons_for(spelt, classes)  # type: ignore[attr-defined]
        return said

    def __getattr__(self, name: str) -> Any:
        """What else the model has, such as `classes`."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._predictor, name)


def spelled(predictor: Predictor, spellings: Spellings) -> Predictor:
    """The predictor behind the rule; itself, where it knows no categories."""
    return Spelled(predictor, spellings) if spellings.columns else predictor


def _counts(values: pd.Series) -> dict[str, int]:
    """How often each value occurs; a missing one is none."""
    counts = values.value_counts(sort=False)
    return {value: int(n) for value, n in counts.items() if isinstance(value, str)}


def _replaced(values: pd.Series, other: Mapping[str, str]) -> pd.Series:
    import pandas as pd

    said = [other.get(v, v) if isinstance(v, str) else v for v in values]
    return pd.Series(said, index=values.index, dtype=object)


def _warnings(column: str, known: Known, counts: Counter[str]) -> list[str]:
    of: Counter[str] = Counter()
    for value, number in counts.items():
        of[known.meant(value)] += number
    groups = known.alike()
    said = [
        f"column {column}: {counted(of, group)} differ only in case, blanks or zeros in front, "
        "and count as different categories; write them alike if they are the same"
        for group in groups[:MOST_WARNINGS]
    ]
    if more := len(groups) - MOST_WARNINGS:
        said += [f"column {column}: {more} more groups of such values"] if more > 0 else []
    return said
