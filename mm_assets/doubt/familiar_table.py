"""What a model saw of the columns of its table, and what of a record is unlike all of it.

| doubt | when |
|---|---|
| `unseen_category` | no record of training had the value, however it is spelt |
| `far_number` | it lies far outside of what training had (familiar_numbers.py) |
| `other_script` | a text is mostly in letters that almost no text of training had |
| `missing_value` | it is missing, and in training it never was |
| `empty_record` | so much is missing as in almost no record of training |

A column of names brings new values all the time. How often a column does so is the share of its
training records whose value occurs once, in one group (Good 1953). Columns are watched for unseen
values, the ones that bring few first, as long as all of them together mark about 1% of ordinary
records. The others are open.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mm_assets.contract.image_feature import ImageFeature
from mm_assets.contract.spellings import quoted
from mm_assets.doubt.familiar_numbers import Range, learn_ranges, ranges_of
from mm_assets.doubt.familiar_text import learn_scripts, script_of
from mm_assets.doubt.unlike import Code, Doubt
from mm_assets.engines.shared.spellings import Spellings

if TYPE_CHECKING:
    import pandas as pd

NEW_VALUES = 0.01  # of ordinary records, in all watched columns together, bring a new value
EMPTY = 0.003  # of the records of training may be as empty as one that is marked
MOST_NAMED = 5  # values that a doubt names
KINDS = ("number", "category", "text")
OF_IMAGE = frozenset(feature.column for feature in ImageFeature)  # never missing beside an image


@dataclass(frozen=True)
class FamiliarTable:
    """kinds: the columns of the table. watched: those whose unseen values are doubts, and open_:
    the other categories, with the share of records that bring a new value. scripts: of texts and
    open categories. always_there: columns that were never missing. empty: a record that lacks so
    many values is empty.
    """

    kinds: dict[str, str]
    spellings: Spellings
    watched: tuple[str, ...]
    open_: dict[str, float]
    ranges: dict[str, Range]
    scripts: dict[str, list[str]]
    always_there: tuple[str, ...]
    empty: int

    @classmethod
    def learn(
        cls,
        frame: pd.DataFrame,
        columns: Mapping[str, str],
        spellings: Spellings,
        groups: Sequence[str],
    ) -> FamiliarTable:
        """frame: every record that the model is made from, spelt as it knows them.

        groups: the name of each record's group; what one group alone has is new in a way.
        """
        kinds = {name: kind for name, kind in columns.items() if kind in KINDS}
        watched, open_ = _watched(frame, kinds, spellings, groups)
        named = {kind: [name for name in kinds if kinds[name] == kind] for kind in KINDS}
        written = [*named["text"], *open_]
        absent = {name: _absent(frame[name].to_numpy(), kind) for name, kind in kinds.items()}
        scripts = {name: learn_scripts(_texts(frame[name]).values()) for name in written}
        numbers = {name: frame[name].to_numpy(dtype=np.float64) for name in named["number"]}
        return cls(
            kinds, spellings, watched, open_,
            learn_ranges(numbers),
            {name: found for name, found in scripts.items() if found},
            tuple(name for name in kinds if len(frame) and not absent[name].any()),
            _empty(_missing(absent, _sent(kinds), len(frame)), len(_sent(kinds))),
        )  # fmt: skip

    def doubts(self, frame: pd.DataFrame) -> list[list[Doubt]]:
        """Of each record by itself; in the order of the columns."""
        found: list[list[Doubt]] = [[] for _ in range(len(frame))]
        columns = {name: frame[name].to_numpy() for name in self.kinds}
        absent = {name: _absent(columns[name], kind) for name, kind in self.kinds.items()}
        sent = _sent(self.kinds)
        missing = _missing(absent, sent, len(frame))
        is_empty = missing >= self.empty
        for place in np.flatnonzero(is_empty).tolist():
            words = f"{missing[place]} of {len(sent)} values are missing"
            found[place].append(Doubt("empty_record", "", words))
        for column, values in columns.items():
            of_column = {**self._far(column, values), **self._unknown(column, values)}
            if column in self.always_there:
                doubt = self._doubt("missing_value", column, "missing", "")
                gone = absent[column] & ~is_empty  # else it is said already
                of_column |= dict.fromkeys(np.flatnonzero(gone).tolist(), doubt)
            for place, doubt in of_column.items():
                found[place].append(doubt)
        return found

    def known(self, code: Code, column: str, at_most: int = MOST_NAMED) -> str:
        """What training had where a doubt is, in words."""
        if code == "unseen_category":
            return known_values(self.spellings, column, at_most)
        if code == "far_number":
            return self.ranges[column].words
        if code == "other_script":
            return ", ".join(self.scripts[column])
        return "it in every record" if code == "missing_value" else "none such"

    def _doubt(self, code: Code, column: str, said: str, value: str) -> Doubt:
        return Doubt(code, column, f"{said}; training has {self.known(code, column)}", value)

    def _far(self, column: str, values: np.ndarray) -> dict[int, Doubt]:
        if column not in self.ranges:
            return {}
        given = values.astype(np.float64, copy=False)
        places = np.flatnonzero(self.ranges[column].far(given)).tolist()
        numbers = {place: f"{given[place]:.6g}" for place in places}
        return {n: self._doubt("far_number", column, text, text) for n, text in numbers.items()}

    def _unknown(self, column: str, values: np.ndarray) -> dict[int, Doubt]:
        """Values of categories and texts; each different one is looked at once."""
        code: Code
        if column in self.watched:
            code, known = "unseen_category", self.spellings.columns[column]
            unseen = (one for one in _distinct(values) if not known.knows(one))
            said = {one: quoted([one]) for one in unseen}
        elif column in self.scripts:
            code, scripts = "other_script", self.scripts[column]
            said = {one: script_of(one) for one in _distinct(values)}
            said = {
                one: "" if script in ("", *scripts) else f"{script} letters"
                for one, script in said.items()
            }
        else:
            return {}
        told = {
            text: self._doubt(code, column, words, text if code == "unseen_category" else words)
            for text, words in said.items()
            if words
        }
        if not told:
            return {}
        return {n: told[text] for n, text in _texts(values).items() if text in told}

    # -- what a manifest keeps ----------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """But for the spellings, which a manifest has already."""
        return {
            "kinds": self.kinds,
            "watched": list(self.watched),
            "open": self.open_,
            "ranges": {name: one.to_json() for name, one in self.ranges.items()},
            "scripts": self.scripts,
            "always_there": list(self.always_there),
            "empty": self.empty,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any], spellings: Spellings) -> FamiliarTable:
        """Raises KeyError, TypeError or ValueError where it is none of `to_json`."""
        return cls(
            dict(document["kinds"]), spellings,
            tuple(name for name in document["watched"] if name in spellings.columns),
            dict(document["open"]),
            ranges_of(document["ranges"]), dict(document["scripts"]),
            tuple(document["always_there"]), int(document["empty"]),
        )  # fmt: skip


def known_values(spellings: Spellings, column: str, at_most: int) -> str:
    return quoted(spellings.columns[column].values, at_most) or "none"


def _watched(
    frame: pd.DataFrame, kinds: Mapping[str, str], spellings: Spellings, groups: Sequence[str]
) -> tuple[tuple[str, ...], dict[str, float]]:
    """The columns that are watched for unseen values, and the others with their share of them."""
    shares = {}
    for column in (name for name, kind in kinds.items() if kind == "category"):
        texts = _texts(frame[column])
        counts = Counter(text for text, _ in {(text, groups[n]) for n, text in texts.items()})
        once = sum(counts[text] == 1 for text in texts.values())
        shares[column] = once / max(1, len(frame))
    watched, open_, spent = [], {}, 0.0
    for column, share in sorted(shares.items(), key=lambda item: (item[1], item[0])):
        spent += share
        if spent <= NEW_VALUES and column in spellings.columns:
            watched.append(column)
        else:
            open_[column] = round(share, 4)
    return tuple(name for name in kinds if name in watched), open_


def _sent(kinds: Mapping[str, str]) -> list[str]:
    """The columns of the table that people send."""
    return [name for name in kinds if name not in OF_IMAGE]


def _empty(missing: np.ndarray, total: int) -> int:
    """How many missing values make a record empty: half of what training never saw missing."""
    if not total:
        return 1
    usual = int(np.quantile(missing, 1 - EMPTY, method="higher")) if len(missing) else 0
    return max(2 if total > 1 else 1, usual + (total - usual + 1) // 2, usual + 1)


def _absent(values: np.ndarray, kind: str) -> npt.NDArray[np.bool_]:
    """[records] where a value is missing; a text without anything in it is."""
    import pandas as pd

    gone: npt.NDArray[np.bool_] = pd.isna(values)
    if kind == "number":
        return gone
    blank = [isinstance(value, str) and not value.strip() for value in values]
    return gone | np.array(blank, dtype=bool)


def _missing(
    absent: Mapping[str, npt.NDArray[np.bool_]], columns: Sequence[str], records: int
) -> npt.NDArray[np.intp]:
    """[records] of how many of the columns the values are missing."""
    missing = np.zeros(records, dtype=np.intp)
    for name in columns:
        missing += absent[name]
    return missing


def _texts(values: Iterable[object]) -> dict[int, str]:
    """Each text that is there, by its place."""
    return {n: text for n, text in enumerate(values) if isinstance(text, str) and text.strip()}


def _distinct(values: Iterable[object]) -> Sequence[str]:
    return list(dict.fromkeys(_texts(values).values()))
