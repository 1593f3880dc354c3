"""The first look at rows settles only what DuckDB says as well, which knows every rule."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.manifest import few, judging, looking, texts
from mm_assets.manifest.numbers import Form, missing_sql
from mm_assets.manifest.texts import ID_PROBLEMS
from mm_assets.reading.in_memory import in_memory
from tests.make import dataset
from tests.manifest.test_rows import Rows, Table, typed

COLUMNS = {
    "x": "number", "y": {"kind": "number", "required": True}, "z": "number",
    "kind": {"kind": "category", "required": True}, "notes": "text",
}  # fmt: skip
PLAIN = ["1", "2.5", "-3e5", ".5", "5.", "0", "12345678901234567890"]
ODD = [
    "+7", " 8 ", "007", "1e400", "NaN", "inf", "NA", "", " ", "n/a", "much", "1_000", "+-5", "0x1f",
    "1,234", "1.234", "−5", "\u00a05", "-", "1 234", "12,34,567", "99", "1e-400", "\uff11", "\f5",
]  # fmt: skip
EUROPEAN = ["1,5", "1.234,5", "7", "-2,25", "1.234", ""]
AMERICAN = ["1,234.5", "2,000", "7", "1.5"]
IDS = [
    "", "  ", "a/b", "..", ".", "x\x07", "e\u0301", "\u00e9", "x" * 300, "a\\b", "P1", "P1", "P 2",
    "\u2028",
]  # fmt: skip


@pytest.fixture
def local(folder_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Lake:
    monkeypatch.setattr(few, "MOST_ROWS", -1)  # few.py looks at none of them
    return Lake(folder_settings)


def ugly(seed: int, *, europe: bool) -> Table:
    """A table in which much is odd; of `z` the numbers are written as in one part of the world."""
    draw = random.Random(seed)

    def number(often: list[str], odd: float = 0.05) -> str:
        return draw.choice(ODD if draw.random() < odd else often)

    rows = [
        [
            draw.choice(IDS) if draw.random() < 0.05 else f"R{at:04d}",
            draw.choice(["cat", "dog", "", "Cat", " dog ", "horse", "NA"]),
            number(PLAIN), number(PLAIN), number(EUROPEAN if europe else AMERICAN, 0.01),
            draw.choice(["red", " red ", "NA", "", "blå"]),
            draw.choice(["", "  pad ", "a, b", "x"]),
        ]
        for at in range(400)
    ]  # fmt: skip
    return Table(["id", "label", *COLUMNS], rows)


def said(rows: Rows) -> tuple[list[str], list[str], Any, Any]:
    lines = [sorted(map(repr, one.to_pylist())) for one in (rows.records, rows.rejects)]
    return lines[0], lines[1], rows.labels_joined, rows.numbers


@pytest.mark.parametrize("europe", [True, False])
@pytest.mark.parametrize("more", [{}, {"missing_values": ["", "99", "NA", "5."]}, {"decimal": ","}])
def test_what_is_settled_at_once_is_what_duckdb_says(
    local: Lake, monkeypatch: pytest.MonkeyPatch, europe: bool, more: dict[str, Any]
) -> None:
    spec = dataset(columns=COLUMNS, classes=["cat", "dog"], **more)
    table = ugly(7, europe=europe)
    labels = Table(["id", "label"], [[f"R{at:04d}", "cat"] for at in range(0, 400, 9)], "l.csv")
    monkeypatch.setattr(looking, "BATCH_ROWS", 37)
    found = typed(local, spec, table, labels)
    assert found.records.num_rows > 50
    assert found.rejects.num_rows > 50

    def nothing_settled(self: Any, text: pa.Array) -> tuple[pa.Array, np.ndarray, np.ndarray]:
        every = np.ones(len(text), bool)
        return pa.nulls(len(text), pa.float64()), ~every, every

    monkeypatch.setattr(looking._Looking, "_number", nothing_settled)
    monkeypatch.setattr(looking, "_is_harmless", lambda text: False)
    monkeypatch.setattr(looking, "BATCH_ROWS", 65_536)
    assert said(typed(local, spec, table, labels)) == said(found)


numbers = st.one_of(
    st.sampled_from([*PLAIN, *ODD, *EUROPEAN, *AMERICAN]),
    st.text("0123456789.,eE+-_ \t\n\f'xaInf\u00a0٣", max_size=8),
    st.floats().map(repr),
)


@given(st.lists(st.one_of(st.none(), numbers), min_size=1, max_size=40))
@examples(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_number_that_is_settled_is_the_one_that_duckdb_reads(cells: list[str | None]) -> None:
    spec = dataset(columns={"x": "number"})
    text = pa.array(cells, pa.string())
    entry = {"columns": ["x"], "labels_only": False}
    looked = looking.Looked(texts.Told(0, entry, Path()), Path())
    with in_memory(threads=1) as db:
        look = looking._Looking(db, spec, looked, {"x": Form()}, {})
        values, gone, unsettled = look._number(text)
        db.register("cells", pa.table({"x": text}))
        missing = missing_sql("x", spec.missing_values, number=False)
        read = db.execute(f"SELECT {Form().value_sql('x')}, {missing} FROM cells").to_arrow_table()
    for at, (value, (number, is_missing)) in enumerate(
        zip(values.to_pylist(), zip(*(one.to_pylist() for one in read.columns), strict=True),
            strict=True)
    ):  # fmt: skip
        assert bool(gone[at]) == is_missing
        if value is not None:
            assert value == number
        elif not is_missing:
            assert unsettled[at]


@given(st.lists(st.text("ab ./\\\t\x07é\u2028", max_size=6), min_size=1, max_size=8))
@examples(max_examples=60, deadline=None)
def test_an_id_that_is_harmless_is_judged_as_duckdb_judges_it(cells: list[str]) -> None:
    looked = looking.Looked(texts.Told(0, {"columns": [], "labels_only": False}, Path()), Path())
    with in_memory(threads=1) as db:
        look = looking._Looking(db, dataset(), looked, {}, {})
        ids, odd = look._ids(pa.array(cells, pa.string()))
        db.register("cells", pa.table({"text": cells}))
        wrong = " OR ".join(when for when, _, _ in ID_PROBLEMS)
        read = db.execute(
            f"SELECT record_id, {wrong} FROM (SELECT nfc_normalize(text) AS record_id FROM cells)"
        ).fetchall()
    assert list(zip(ids.to_pylist(), odd.tolist(), strict=True)) == read


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The questions that DuckDB is asked about the texts of a table."""
    found: list[str] = []
    whole = texts.source_sql

    def counted(spec: Any, table: Any, only: str = "") -> str:
        found.append(only)
        return whole(spec, table, only)

    for module in (texts, judging):
        monkeypatch.setattr(module, "source_sql", counted)
    return found


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows were read, at a time."""
    found: list[int] = []
    parts = looking._parts

    def counted(table: Any) -> Iterator[Any]:
        for part in parts(table):
            found.append(part.num_rows)
            yield part

    monkeypatch.setattr(looking, "_parts", counted)
    return found


def good(rows: int) -> Table:
    told = [[f"P{at}", "cat", "1.5", "7", "", "red", "a"] for at in range(rows)]
    return Table(["id", "label", *COLUMNS], told)


def test_where_all_rows_are_good_each_is_read_once_and_duckdb_is_asked_for_the_classes_alone(
    local: Lake, asked: list[str], looked_at: list[int]
) -> None:
    found = typed(local, dataset(columns=COLUMNS, classes=["cat", "dog"]), good(500))
    assert found.records.num_rows == 500
    assert looked_at == [500]
    assert asked == [""]  # which spellings of the classes there are


def test_of_one_bad_number_duckdb_is_asked_only_about_its_row_and_its_column(
    local: Lake, asked: list[str], looked_at: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    columns: list[Any] = []
    values = judging.values_sql

    def noted(*given: Any, **more: Any) -> str:
        columns.append(more.get("columns"))
        return values(*given, **more)

    monkeypatch.setattr(judging, "values_sql", noted)
    table = good(500)
    table.rows[70][2] = "much"
    found = typed(local, dataset(columns=COLUMNS, classes=["cat", "dog"]), table)
    assert found.rejects["code"].to_pylist() == ["number_invalid"]
    assert looked_at == [500]
    assert columns == [[0]]
    whole = [only for only in asked if not only.startswith("WHERE r IN")]
    # The spellings; then whether a point elsewhere in the column says how it is written.
    assert whole == ["", "LIMIT 1000"]
