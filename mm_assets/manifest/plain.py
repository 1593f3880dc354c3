"""Records whose values leave nothing to judge, typed without a database.

A service reads one record at a time, and asking DuckDB costs more than the model's answer. So what
is plain (numbers that are numbers, texts without strange characters, a safe ID) is read here, and
anything else by `rows.py`, which has the rules. Where both read a record they must agree: a
property test in tests/manifest/test_plain.py holds them together.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from mm_assets.contract.dataset import ColumnKind, DatasetSpec
from mm_assets.contract.ids import SPACE, fault_of, normalised
from mm_assets.manifest.numbers import MARKERS, looks_like_number
from mm_assets.reading.header import clean, folded
from mm_assets.reading.table import FILE_COLUMN, LINE_COLUMN
from mm_assets.uploads.receive import wanted_of

Value = float | str | None
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,15})?")
_STRANGE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_MARKERS = frozenset(MARKERS)
_WHOLE = 2**53  # up to here a float holds every whole number
_MOST_NAMES = 1_000
_MOST_TEXT = 100_000  # characters of a record; escaped in a file they are below its limits


class Plain(NamedTuple):
    """A record that was read. features: a value for each column of the dataset."""

    record_id: str
    features: dict[str, Value]


class PlainReader:
    """Reads the plain records of one dataset."""

    def __init__(self, spec: DatasetSpec) -> None:
        self._id = spec.id_column
        self._columns = [(name, c.kind, c.required) for name, c in spec.columns.items()]
        self._missing = frozenset(spec.missing_values)
        # A float that is equal to one of these may be written as it is, or otherwise.
        self._missing_numbers = frozenset(map(float, filter(looks_like_number, self._missing)))
        self._names = frozenset((spec.id_column, *spec.columns))
        # Another name that may be meant for one of these has to be judged.
        taken = (*wanted_of(spec).names, FILE_COLUMN, LINE_COLUMN)
        self._folded = frozenset(map(folded, taken))
        # Names that a file's header does not keep as they are leave nothing plain.
        self._usual = all(name and clean(name) == name for name in self._names)
        self._usual &= self._names.isdisjoint((FILE_COLUMN, LINE_COLUMN))

    def read(self, record: Mapping[str, Any]) -> Plain | None:
        """What the record says; None if it is not plain, and has to be judged.

        record: names to None, bool, int, float or str, as JSON has them.
        """
        record_id = self._id_of(record.get(self._id))
        if record_id is None or not self._header_fits(record) or not _is_short(record):
            return None
        features: dict[str, Value] = {}
        for name, kind, required in self._columns:
            value = record[name]
            found = self._number(value) if kind is ColumnKind.NUMBER else self._text(value, kind)
            if found is _DOUBTFUL or (found is None and required):
                return None
            features[name] = found
        return Plain(record_id, features)

    def _header_fits(self, record: Mapping[str, Any]) -> bool:
        others = record.keys() - self._names
        if not self._usual or len(record) - len(others) < len(self._names):
            return False
        return not any(
            folded(name) in self._folded
            or _STRANGE.search(name)
            or not self._is_harmless(record[name])
            for name in others
        )

    def _is_harmless(self, value: Any) -> bool:
        """Whether a value that nobody asks for is no fault of its row."""
        if isinstance(value, float):
            return math.isfinite(value)
        return self._text(value, ColumnKind.TEXT) is not _DOUBTFUL

    def _id_of(self, value: Any) -> str | None:
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value) if abs(value) < _WHOLE else None
        if not isinstance(value, str) or _STRANGE.search(value):
            return None
        found = normalised(value)
        return found if fault_of(found) is None else None

    def _number(self, value: Any) -> Any:
        if value is None:
            return None
        if isinstance(value, bool):
            return _DOUBTFUL
        if isinstance(value, int):
            if abs(value) >= _WHOLE:
                return _DOUBTFUL
            return None if str(value) in self._missing else float(value)
        if isinstance(value, float):
            certain = math.isfinite(value) and value not in self._missing_numbers
            return value if certain else _DOUBTFUL
        if not isinstance(value, str) or len(value) > 64:
            return _DOUBTFUL
        trimmed = value.strip(SPACE)
        if trimmed in self._missing or (trimmed.lower() in _MARKERS and trimmed.isascii()):
            return None
        return float(value) if _NUMBER.fullmatch(value) else _DOUBTFUL

    def _text(self, value: Any, kind: ColumnKind) -> Any:
        if isinstance(value, bool):
            value = "true" if value else "false"
        elif isinstance(value, int):
            if abs(value) >= _WHOLE:
                return _DOUBTFUL
            value = str(value)
        elif value is None:
            return None
        if not isinstance(value, str) or _STRANGE.search(value):
            return _DOUBTFUL
        trimmed = value.strip(SPACE)
        if trimmed in self._missing:
            return None
        return value if kind is ColumnKind.TEXT else trimmed


_DOUBTFUL = object()


def _is_short(record: Mapping[str, Any]) -> bool:
    texts = sum(len(value) for value in record.values() if isinstance(value, str))
    return len(record) <= _MOST_NAMES and texts + sum(map(len, record)) <= _MOST_TEXT
