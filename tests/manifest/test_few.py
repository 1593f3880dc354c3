"""A few rows that are typed without a database are what they would be with one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.manifest import few, rows
from mm_assets.manifest.join import build_manifest
from mm_assets.manifest.numbers import MARKERS
from mm_assets.tables.open import open_store
from tests.make import dataset, drop_zip, received, table
from tests.manifest.test_rows import Rows, Table, typed

COLUMNS = {
    "x": "number", "y": {"kind": "number", "required": True}, "kind": "category", "notes": "text",
}  # fmt: skip
SPECS = {
    "classes": dataset(columns=COLUMNS),
    "any class": dataset(columns=COLUMNS, classes=None, problem_type="multiclass"),
    "a number": dataset(columns=COLUMNS, classes=None, problem_type="regression"),
    "groups": dataset(columns=COLUMNS, group_column="house", time_column="when"),
    "what is missing": dataset(columns=COLUMNS, missing_values=["", "NA", "0", "-9", "red"]),
    "nothing is missing": dataset(columns=COLUMNS, missing_values=[]),
    "a point": dataset(columns=COLUMNS, decimal="."),
    "no columns": dataset(columns={}),
}
NEEDED = ["id", "label", *COLUMNS]
HEADER = [*NEEDED, "house", "when", "more"]
PLAIN = st.one_of(
    st.integers(-(10**20), 10**20).map(str), st.floats(-1e6, 1e6).map(repr),
    st.sampled_from(["1", "0", "-9", "2.50", ".5", "5.", "-0", "3e5", "1E-07", "007"]),
)  # fmt: skip
ODD = st.one_of(
    st.sampled_from([
        *MARKERS, "NA", "N/A", "", " ", " 7", "+7", "1,5", "1.234", "1e400", "inf", "nan", "0x1",
        "\u00a05", "1_000", "much", "\uff11", "Cat", " dog", "7.0", "a/b", ".", "..", "\x07",
        "\u00e9", "e\u0301",
    ]),
    st.text(max_size=4),
)  # fmt: skip
USUAL = {
    "id": st.sampled_from([f"P {n}~" for n in range(40)]),
    "label": st.sampled_from(["cat", "dog", ""]),
    "x": PLAIN, "y": PLAIN,
    "kind": st.sampled_from(["red", " red ", "blå", ""]),
    "notes": st.sampled_from(["", "  padded ", "a\tb", "ä\U0001f600", "NA", "x" * 200]),
    "house": st.sampled_from(["h1", " h2", "7", ""]),
    "when": st.sampled_from(["2026-01-02", ""]),
    "more": ODD,
}  # fmt: skip


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """A few rows, of which some columns hold odd values."""
    oddly = draw(st.sets(st.sampled_from(HEADER), max_size=2))
    usual = {**USUAL, **({"label": PLAIN} if draw(st.booleans()) else {})}
    header = [name for name in HEADER if name in NEEDED or draw(st.booleans())]
    cells = (
        st.one_of(usual[name], usual[name], ODD, st.none()) if name in oddly else usual[name]
        for name in header
    )  # fmt: skip
    return Table(header, draw(st.lists(st.tuples(*cells), max_size=6)))


def said(found: Rows) -> tuple[Any, ...]:
    return (
        found.records.schema, repr(found.records.to_pylist()), found.rejects.schema,
        found.rejects.to_pylist(), found.labels_joined, found.numbers,
    )  # fmt: skip


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return Lake(Settings(root=tmp_path_factory.mktemp("few"), lake="data/lake"))


@given(
    name=st.sampled_from(sorted(SPECS)), first=tables(), second=st.one_of(st.none(), tables()),
    some=st.sets(st.integers(0, 40)),
)  # fmt: skip
@examples(
    max_examples=60, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
def test_what_is_typed_without_a_database_is_what_the_rules_say(
    local: Lake, name: str, first: Table, second: Table | None, some: set[int]
) -> None:
    told = [first]
    if second is not None:
        second.name = "second.csv"
        told.append(second)
    only = [f"P {n}~" for n in sorted(some)] or None
    with pytest.MonkeyPatch.context() as patch:
        here = said(typed(local, SPECS[name], *told, only=only))
        patch.setattr(few, "MOST_ROWS", -1)
        assert said(typed(local, SPECS[name], *told, only=only)) == here


ROWS = [
    ["P1", "cat", "1.5", "-2", "red", " a ", "7", "2026", "?"],
    ["P2", "", "", "3e2", "", "", "", "", ""],
]


@pytest.fixture
def by_rules(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An entry for each time that a database judged."""
    asked: list[int] = []
    judge = rows.judge

    def counted(*given_: Any) -> Any:
        asked.append(1)
        return judge(*given_)

    monkeypatch.setattr(rows, "judge", counted)
    return asked


@pytest.mark.parametrize("name", ["classes", "groups", "what is missing"])
def test_usual_rows_ask_no_database(local: Lake, by_rules: list[int], name: str) -> None:
    assert typed(local, SPECS[name], Table(HEADER, ROWS)).records.num_rows == 2
    assert not by_rules


@pytest.mark.parametrize(
    ("column", "odd"),
    [("id", "P1"), ("id", "a/b"), ("label", "Cat"), ("x", "1,5"), ("y", ""), ("house", "7.0")],
)
def test_one_odd_value_and_the_rules_judge_all(
    local: Lake, by_rules: list[int], column: str, odd: str
) -> None:
    another = dict(zip(HEADER, ["P3", *ROWS[0][1:]], strict=True))
    another[column] = odd
    typed(local, SPECS["groups"], Table(HEADER, [*ROWS, list(another.values())]))
    assert by_rules


def test_the_manifest_is_the_same_to_the_byte(
    folder_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, spec = Lake(folder_settings), SPECS["groups"]
    lines = table(",".join(HEADER), *(",".join(one) for one in ROWS))
    drop_zip(lake, "u.zip", {"t.csv": lines})
    upload = received(lake, spec, "u.zip")["upload"]
    found = []
    for most in (few.MOST_ROWS, -1):
        monkeypatch.setattr(few, "MOST_ROWS", most)
        store = open_store(folder_settings)
        found.append(build_manifest(lake, store, spec, upload, run_id="run"))
        del found[-1]["published_at"]
    assert found[0] == found[1]
    assert found[0]["counts"]["records"] == 2
