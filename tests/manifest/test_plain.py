"""What a service reads of a plain record is what the batch reads of it."""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.manifest.numbers import MARKERS
from mm_assets.manifest.plain import Plain, PlainReader
from mm_assets.serving.reading import Read, Reader
from tests.make import dataset

NIGHTLY = os.environ.get("MM_NIGHTLY") == "1"
MIXED = {
    "age": {"kind": "number", "required": True},
    "weight": "number",
    "colour": "category",
    "kind": {"kind": "category", "required": True},
    "notes": "text",
}
SPECS = {
    "usual": dataset(),
    "required columns": dataset(columns=MIXED),
    "words that are missing": dataset(columns=MIXED, missing_values=["", "NA", "n/a", "unknown"]),
    "blank is a value": dataset(columns=MIXED, missing_values=["?"]),
    "nothing is missing": dataset(columns=MIXED, missing_values=[]),
    "numbers that are missing": dataset(
        columns=MIXED, missing_values=["", "-9999", "0", "1.5", "+7", "1e3"]
    ),
    "decimal comma": dataset(columns=MIXED, decimal=","),
    "another encoding": dataset(columns=MIXED, encoding="cp1252"),
    "case": dataset(id_column="ID", columns={"Age": "number", "age": "number", "AGE": "text"}),
    "signs in names": dataset(
        id_column="the id",
        columns={"Größe [cm]": "number", "a/b~c": "category", "it's \"x\"": "text", "$.a": "text",
                 "ǅ": "category", "No 1": "number"},
    ),
    "blanks around names": dataset(columns={" age ": "number", "the  colour": "category"}),
    "names that look alike": dataset(columns={"age": "number", "age ": "number"}),
    "a name that pandas gives": dataset(columns={"Unnamed: 0": "number", "...1": "text"}),
    "no columns": dataset(columns={}),
    "no columns, a group": dataset(columns={}, group_column="house"),
    "group and time": dataset(columns=MIXED, group_column="house", time_column="when"),
    "regression": dataset(
        problem_type="regression", classes=None, label_column="price", columns=MIXED
    ),
    "an ID of ours": dataset(id_column="_file", columns=MIXED),
}  # fmt: skip

blank = st.sampled_from(["", " ", "\t", "\r\n", "\u00a0", "\u200b", "\u2009", "\ufeff", "\x85"])
digits = st.integers(-(10**17), 10**17).map(str)
number_text = st.one_of(
    digits,
    st.floats(allow_nan=True, allow_infinity=True).map(repr),
    st.from_regex(r"[+−-]?[0-9]{0,3}[ ,.'_]?[0-9]{1,3}([.,][0-9]{0,4})?([eE][+-]?[0-9])?",
                  fullmatch=True),
    st.sampled_from(["1e999", "0x10", "１２", "1_000", "Infinity", "True", "-0", "00", "1.", ".5"]),
)  # fmt: skip
word = st.one_of(
    st.sampled_from([*MARKERS, *map(str.upper, MARKERS), "NA", "unknown", "-9999", "NaN", "-NaN"]),
    st.sampled_from(["{}", "[1]", '{"a": 1}', "true", "null", "red", "\ud800", "a\0b", "\x1f"]),
    st.text(max_size=8),
    st.text(st.characters(codec="utf-8"), max_size=8),
    number_text,
)
text = st.builds(lambda a, b, c: a + b + c, blank, word, blank)
bits = st.binary(min_size=8, max_size=8).map(lambda b: struct.unpack("<d", b)[0])
number = st.one_of(
    st.integers(-5, 5),
    st.integers(),
    st.sampled_from([2**53, 2**53 - 1, -(2**53), 2**63, 2**64, 10**22, 10**400]),
    st.floats(),
    bits,
    st.sampled_from([1e22, 1e21, 5e-324, -0.0, 0.0, 0.1 + 0.2, 1.7976931348623157e308, 1e-7]),
)
scalar = st.one_of(st.none(), st.booleans(), number, text, text)
nested = st.one_of(st.just([]), st.just({"a": [1]}), st.lists(scalar, max_size=2))
stray_name = st.one_of(
    st.sampled_from(["Age", " age", "AGE ", "Label", "label ", "price ", "House", "WHEN", "Id",
                     "id\u200b", "", " ", "_file", "_line ", "_FILE", "Unnamed: 0", "x", "X", "x ",
                     "Colour", "ǆ", "a\0", "\ud800", "$", "a/b~c ", "image", "Nº"]),
    st.text(max_size=4),
)  # fmt: skip
record_id = st.one_of(
    st.integers(0, 10**6),
    st.from_regex(r"[A-Za-z0-9 .éñ-]{1,6}", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9 .éñ-]{1,6}", fullmatch=True),
    scalar,
)
usual_number = st.one_of(
    st.integers(-999, 999),
    bits.filter(math.isfinite),
    st.sampled_from([-9999, -9999.0, "-9999", " -9999 ", 1.5, "1.5", "1.50", 0.0, -0.0, "-0", "0"]),
)
letters = st.characters(codec="utf-8", exclude_categories=["Cc"])
usual_text = st.text(letters, min_size=1, max_size=6) | st.sampled_from(["red", " NA"])


def records_of(spec: DatasetSpec) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Records as requests bring them, without what the service does not look at; few odd ones."""
    usual = {
        name: usual_number if kind == "number" else usual_text for name, kind in spec.kinds.items()
    }
    odd = {
        name: number | number_text if kind == "number" else text | scalar
        for name, kind in spec.kinds.items()
    }
    whole = st.fixed_dictionaries({spec.id_column: record_id, **usual})
    some = st.fixed_dictionaries({}, optional=odd)
    more = st.dictionaries(stray_name, st.one_of(scalar, nested), max_size=2)
    not_asked = {spec.label_column, *spec.split_columns.values(), "image"}

    def beside(
        own: dict[str, Any], changed: dict[str, Any], others: dict[str, Any]
    ) -> dict[str, Any]:
        record = {**others, **own, **changed}
        return {name: value for name, value in record.items() if name not in not_asked}

    nothing: st.SearchStrategy[dict[str, Any]] = st.just({})
    one = st.builds(beside, whole, nothing | nothing | some, nothing | nothing | more)
    return st.lists(one, min_size=1, max_size=25)


def is_same(plain: Plain, judged: Read) -> bool:
    if judged.fault is not None or judged.features is None:
        return False
    return plain.record_id == judged.record_id and exactly(plain.features) == exactly(
        judged.features
    )


def exactly(features: Mapping[str, Any]) -> dict[str, Any]:
    """Floats to the last bit, with the sign of a zero; 1 is not 1.0."""
    return {
        name: (type(value), value.hex() if isinstance(value, float) else value)
        for name, value in features.items()
    }


def judged_alone(reader: Reader, record: Mapping[str, Any]) -> Read:
    """The batch's reading of a record, by the way that a service takes with what is not plain."""
    found, read = reader._judged(record)
    return Read(found, None, fault=read) if not isinstance(read, Mapping) else Read(found, read)


def judged_together(reader: Reader, records: list[dict[str, Any]]) -> list[Read]:
    """The same of many, one table for all; none where that table is refused whole."""
    try:
        lines = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records)
    except ValueError:
        return []
    found = reader.table(lines.encode(), "record.jsonl")
    return found if isinstance(found, list) else []


def disagreements(spec: DatasetSpec, records: list[dict[str, Any]]) -> list[Any]:
    """Records that are read as plain, and otherwise by the batch."""
    plain_reader, reader = PlainReader(spec), Reader(spec)
    taken: dict[str, tuple[dict[str, Any], Plain]] = {}
    for record in records:
        if (plain := plain_reader.read(record)) is not None:
            taken.setdefault(plain.record_id, (record, plain))
    if not taken:
        return []
    together = judged_together(reader, [record for record, _ in taken.values()])
    if len(together) != len(taken):
        together = [Read("", None)] * len(taken)
    found = []
    for (record, plain), read in zip(taken.values(), together, strict=True):
        if not is_same(plain, read):  # neighbours in a table can matter, so the record alone
            alone = judged_alone(reader, record)
            if not is_same(plain, alone):
                found.append((record, plain, alone))
    return found


@pytest.mark.parametrize("kind", SPECS)
def test_a_plain_record_is_read_as_the_batch_reads_it(kind: str) -> None:
    spec = SPECS[kind]

    @settings(max_examples=200 if NIGHTLY else 12)
    @given(records_of(spec))
    def law(records: list[dict[str, Any]]) -> None:
        assert disagreements(spec, records) == []

    law()


@settings(max_examples=25)
@given(st.data())
def test_a_plain_record_is_read_so_without_neighbours(data: st.DataObject) -> None:
    spec = SPECS[data.draw(st.sampled_from(sorted(SPECS)))]
    plain_reader = PlainReader(spec)
    (record, *_) = data.draw(records_of(spec).filter(lambda some: plain_reader.read(some[0])))
    plain = plain_reader.read(record)
    assert plain is not None
    assert is_same(plain, judged_alone(Reader(spec), record))


@settings(max_examples=200 if NIGHTLY else 20)
@given(st.lists(bits.filter(math.isfinite), min_size=100, max_size=300))
@example([1e22, 5e-324, -0.0, 0.1 + 0.2, 1.7976931348623157e308, 2.2250738585072014e-308])
def test_every_float_is_read_to_the_last_bit(values: list[float]) -> None:
    spec = dataset()
    records = [{"id": n, "age": value, "colour": "x"} for n, value in enumerate(values)]
    assert all(PlainReader(spec).read(record) for record in records)
    assert disagreements(spec, records) == []


@pytest.mark.parametrize(
    "record",
    [
        {"id": "a", "age": 3, "colour": "red"},
        {"id": 7, "age": 3.5, "colour": None},
        {"id": "007", "age": "3.5", "colour": "  "},
        {"id": "é", "age": None, "colour": "größer", "other": 5},
        {"id": "a", "age": "N/A", "colour": True},
    ],
)
def test_usual_records_are_plain(record: dict[str, Any]) -> None:
    assert PlainReader(dataset()).read(record) is not None


def test_what_could_be_too_long_for_a_table_is_not_plain() -> None:
    spec = dataset(columns={f"c{n}": "text" for n in range(60)})
    record = {"id": 1, **{f"c{n}": "é" * 50_000 for n in range(60)}}
    assert disagreements(spec, [record]) == []
    assert disagreements(dataset(), [{"id": 1, "age": 1, "colour": "x", "y": "z" * 200_000}]) == []
