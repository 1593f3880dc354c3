"""A few rows that leave nothing to judge, typed without a database.

An upload of five rows is most of what comes, and asking DuckDB a dozen things costs ten times what
the rows do. So where every value is what it seems (numbers as computers write them, harmless IDs,
each once, labels that are classes) it is read here, and anything else by `rows.py`, which has the
rules: one odd value, and all of the upload's rows go there. Both give the same, to the byte; a
property test in tests/manifest/test_few.py holds them together.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mm_assets.contract.dataset import ColumnKind, DatasetSpec
from mm_assets.contract.ids import MAXIMUM_BYTES, SPACE
from mm_assets.manifest.numbers import MARKERS

if TYPE_CHECKING:
    import pyarrow as pa

MOST_ROWS, MOST_CELLS = 1_000, 10_000  # beyond that Arrow and DuckDB are faster
# Of the numbers that DuckDB takes for one, those that Python takes for the same one.
_PLAIN = re.compile(r"-?([0-9]{1,30}\.?[0-9]{0,30}|\.[0-9]{1,30})([eE][+-]?[0-9]{1,2})?")
_HARMLESS = re.compile(r"[\x20-\x2a\x2c-\x2e\x30-\x5b\x5d-\x7e]+")  # printable ASCII but / \ +
_MARKERS = frozenset(MARKERS)
Text = str | None


class Odd(Exception):  # noqa: N818  no error: it says who judges
    """Something has to be judged."""


def are_few(entries: Sequence[dict[str, Any]], spec: DatasetSpec) -> bool:
    """Whether tables, by their entries in a receipt, may be small and plain."""
    rows = sum(entry["rows"] for entry in entries)
    return (
        rows <= MOST_ROWS
        and rows * (len(spec.columns) + 2) <= MOST_CELLS
        and spec.decimal is None
        and not any(entry["labels_only"] for entry in entries)
    )


class FewRows:
    """The rows of an upload; making it raises Odd where something has to be judged.

    index: record_id, labels_only and label, as `TypedRows` has them.
    """

    def __init__(
        self,
        spec: DatasetSpec,
        entries: Sequence[dict[str, Any]],
        tables: Sequence[pa.Table],
        schema: pa.Schema,
    ) -> None:
        """tables: of each entry the texts as they were received; schema: of the records."""
        self._spec, self._schema = spec, schema
        self._missing = frozenset(spec.missing_values)
        self._classes = None if spec.classes is None else frozenset(spec.classes)
        self._tables = [self._typed(*one) for one in zip(entries, tables, strict=True)]
        ids = [one for table in self._tables for one in table["record_id"]]
        if len(set(ids)) < len(ids):
            raise Odd
        labels = [one for table in self._tables for one in table["label"]]
        import pyarrow as pa

        self.index = pa.table(
            {"record_id": pa.array(ids, pa.string()),
             "labels_only": pa.array([False] * len(ids), pa.bool_()),
             "label": pa.array(labels, pa.string())}
        )  # fmt: skip

    def batches(self, beside: pa.Table) -> Iterator[pa.Table]:
        """As `TypedRows.batches`."""
        import pyarrow as pa

        asked: dict[str, list[int]] = {}
        for place, record_id in enumerate(beside["record_id"].to_pylist()):
            asked.setdefault(record_id, []).append(place)
        others = [name for name in beside.column_names if name != "record_id"]
        for table in self._tables:
            own, near = [], []
            for place, record_id in enumerate(table["record_id"]):
                for found in asked.get(record_id, ()):
                    own.append(place)
                    near.append(found)
            if not own:
                continue
            kinds = dict(zip(self._schema.names, self._schema.types, strict=True))
            columns = [
                _array([table[name][place] for place in own], kinds[name])
                for name in self._schema.names
            ]
            records = pa.table(columns, schema=self._schema)
            taken = beside.select(others).take(pa.array(near, pa.int64()))
            for name in others:
                records = records.append_column(name, taken[name])
            yield records

    def _typed(self, entry: dict[str, Any], told: pa.Table) -> dict[str, list[Any]]:
        """The columns of the records of one table, all of its rows."""
        spec, count = self._spec, told.num_rows
        names, nothing = entry["columns"], [None] * count
        texts = {name: told[f"c{at}"].to_pylist() for at, name in enumerate(names)}
        values: list[list[Any]] = []
        for name, column in spec.columns.items():
            text = texts.get(name, nothing)
            if column.kind is ColumnKind.NUMBER:
                found = [self._number(one) for one in text]
            elif column.kind is ColumnKind.TEXT:
                found = [None if self._is_missing(one) else one for one in text]
            else:
                found = [None if self._is_missing(one) else one.strip(SPACE) for one in text]
            if column.required and None in found:
                raise Odd
            values.append(found)
        columns = {
            "record_id": [_id_of(one) for one in texts[spec.id_column]],
            "row_file": told["_file"].to_pylist(),
            "row_line": told["_line"].to_pylist(),
            "labels_only": [False] * count,
            "label": [self._label(one) for one in texts.get(spec.label_column, nothing)],
            "row_hash": _hashes([texts.get(name, nothing) for name in spec.columns], count),
        }
        for what, name in spec.split_columns.items():
            columns[f"split_{what}"] = [self._split(one) for one in texts.get(name, nothing)]
        features = [*zip(*values, strict=True)] if values else nothing
        return {**columns, "features": features}

    def _is_missing(self, text: Text) -> bool:
        return text is None or text.strip(SPACE) in self._missing

    def _number(self, text: Text) -> float | None:
        if self._is_missing(text):
            return None
        if text is None or not _PLAIN.fullmatch(text) or not math.isfinite(number := float(text)):
            raise Odd
        return number

    def _label(self, text: Text) -> Text:
        """The label; what is left to judge is how it is spelled, and whether it is one."""
        if self._is_missing(text):
            return None
        assert text is not None  # noqa: S101  it is not missing
        label = text.strip(SPACE)
        if self._spec.is_regression:
            self._number(text)
        elif self._classes is not None:
            if label not in self._classes:
                raise Odd
        elif "." in label:
            raise Odd
        return label

    def _split(self, text: Text) -> Text:
        if self._is_missing(text):
            return None
        assert text is not None  # noqa: S101  it is not missing
        value = text.strip(SPACE)
        if not value.isascii() or "." in value or value.lower() in _MARKERS:
            raise Odd
        return value


def _id_of(text: Text) -> str:
    if text is None or not _HARMLESS.fullmatch(text) or len(text) > MAXIMUM_BYTES:
        raise Odd
    if text in (".", "..") or not text.strip(SPACE):
        raise Odd
    return text


def _hashes(texts: list[list[Text]], count: int) -> list[str]:
    """Of each row the hash of its texts as they stand in the file, as `looking.py` has it."""
    joined = ("\x1f".join(column[row] or "" for column in texts) for row in range(count))
    return [hashlib.md5(one.encode(), usedforsecurity=False).hexdigest() for one in joined]


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Features come as tuples, a value for each column."""
    import pyarrow as pa

    if not pa.types.is_struct(kind):
        return pa.array(values, kind)
    columns = zip(*values, strict=True)
    each = [pa.array(column, field.type) for column, field in zip(columns, kind, strict=True)]
    return pa.StructArray.from_arrays(each, fields=list(kind))
