"""Rows of text become typed records, or rejects with a code; nothing is guessed, nothing lost."""

from __future__ import annotations

import tempfile
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.errors import REFUSALS
from mm_assets.contract.ids import fault_of, normalised
from mm_assets.contract.settings import Settings
from mm_assets.contract.spellings import label_meant
from mm_assets.lake.lake import Lake
from mm_assets.manifest.rows import RECORD_COLUMNS, type_rows, typed_rows
from tests.make import csv_table, dataset, drop_zip, received, table

NUMBERS = dataset(columns={"x": "number"}, classes=None)


@pytest.fixture
def local(folder_settings: Settings) -> Lake:
    return Lake(folder_settings)


@dataclass(frozen=True)
class Rows:
    """What `type_rows` gives, in one."""

    records: pa.Table
    rejects: pa.Table
    labels_joined: int
    numbers: dict[str, Any]


def typed_from(
    lake: Lake, spec: DatasetSpec, receipt: dict[str, Any], only: pa.Array | None = None
) -> Rows:
    records, rows = type_rows(lake, spec, receipt)
    assert rows.index.num_rows == records.num_rows
    if only is not None:
        with typed_rows(lake, spec, receipt) as some:
            wanted = pa.table({"record_id": only, "more": only})
            parts = list(some.batches(wanted))
        records = pa.concat_tables([*parts, records.slice(0, 0)], promote_options="default")
    return Rows(records, rows.rejects, rows.labels_joined, rows.numbers)


class Table:
    """One table as it lies in a receipt: its header and its rows."""

    def __init__(
        self,
        header: Sequence[str],
        rows: Iterable[Sequence[str]],
        name: str = "t.csv",
        *,
        types: bool = False,
    ) -> None:
        self.types = types
        self.header, self.rows, self.name = list(header), [list(row) for row in rows], name


def typed(lake: Lake, spec: DatasetSpec, *tables: Table, only: list[str] | None = None) -> Rows:
    """Type tables without the reading before it: their rows are written as `receive` does."""
    entries, files = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for number, table_ in enumerate(tables):
            name = f"rows-{number:04d}.parquet"
            columns: dict[str, Any] = {
                "_file": [table_.name] * len(table_.rows),
                "_line": list(range(2, len(table_.rows) + 2)),
            }
            for i in range(len(table_.header)):
                columns[f"c{i}"] = pa.array([row[i] for row in table_.rows], pa.string())
            path = Path(folder, name)
            pq.write_table(pa.table(columns), path)
            missing = [column for column in spec.columns if column not in table_.header]
            labels_only = bool(missing) and len(missing) == len(spec.columns)
            entries.append(
                {
                    "file": table_.name,
                    "rows_file": name,
                    "columns": table_.header,
                    "labels_only": labels_only,
                    "rows": len(table_.rows),
                    "typed": table_.types,
                }
            )
            files[name] = path
        document = lake.publish("x/doc.json", files, {"tables": entries})
    return typed_from(lake, spec, document, None if only is None else pa.array(only, pa.string()))


def records(rows: Rows) -> dict[str, dict[str, Any]]:
    return {row["record_id"]: row for row in rows.records.to_pylist()}


def codes(rows: Rows) -> dict[str, str]:
    return {row["record_id"]: row["code"] for row in rows.rejects.to_pylist()}


# -- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5.0), (" 5 ", 5.0), ("\t5\r\n", 5.0), ("\u00a05", 5.0), (".5", 0.5),
        ("5.", 5.0), ("+3", 3.0),
        ("-0", -0.0), ("007", 7.0), ("1E5", 1e5), ("-1.5e-3", -0.0015), ("+.5e+3", 500.0),
        ("0.1", 0.1), ("12345678901234567890", 12345678901234567890.0), ("1e-400", 0.0),
        ("1.7976931348623157e308", 1.7976931348623157e308), ("0.30000000000000004", 0.1 + 0.2),
    ],
)  # fmt: skip
def test_a_number_is_read_as_python_reads_it(local: Lake, text: str, value: float) -> None:
    rows = typed(local, NUMBERS, Table(["id", "x"], [["a", text]]))
    assert rows.rejects.num_rows == 0
    (row,) = rows.records.to_pylist()
    assert repr(row["features"]["x"]) == repr(value) == repr(float(text))


@pytest.mark.parametrize(
    "text",
    ["inf", "-Infinity", "1e999", "-1e999", "0x10", "1_000", "1 0000", "5 kg",
     "٣", "½", "1e", "e5", "+", "--5", "+-5", "1.2.3", "$5", "5%", "True", "N", "nulll",
     "1''000", "1\x005", "1,2,3", "1.234.56", "12,345,6", ",", "1,234.5.6"],
)  # fmt: skip
def test_what_is_no_finite_number_is_refused_with_its_text(local: Lake, text: str) -> None:
    rows = typed(local, NUMBERS, Table(["id", "x"], [["a", text], ["b", "1"]]))
    (reject,) = rows.rejects.to_pylist()
    assert (reject["code"], reject["record_id"], reject["line"]) == ("number_invalid", "a", 2)
    assert f"column 'x': '{text}'" in reject["reason"]
    assert reject["todo"] == REFUSALS["number_invalid"]
    assert list(records(rows)) == ["b"]


@pytest.mark.parametrize("text", ["NA", "n/a", "#N/A", "NaN", "null", "None", "-", "–", " ? ", ""])
def test_what_no_number_can_be_stands_for_a_missing_one(local: Lake, text: str) -> None:
    spec = dataset(columns={"x": "number", "c": "category"}, classes=None)
    rows = typed(local, spec, Table(["id", "x", "c"], [["a", text, text], ["b", "1", "1"]]))
    assert rows.rejects.num_rows == 0
    value = records(rows)["a"]["features"]
    assert value["x"] is None
    assert value["c"] == (text.strip() or None)  # a category may well be called NA


@pytest.mark.parametrize(
    ("texts", "values", "decimal"),
    [
        (["12,5", "1,234"], [12.5, 1.234], ","),
        (["1.234,5", "2.345", "7"], [1234.5, 2345.0, 7.0], ","),
        (["1,234.5", "2,345", "7"], [1234.5, 2345.0, 7.0], "."),
        (["1,234,567", "2,345"], [1234567.0, 2345.0], "."),
        (["1.234.567", "2.345"], [1234567.0, 2345.0], ","),
        (["1 234,5", "12\u00a0345"], [1234.5, 12345.0], ","),
        (["1\u202f234.5", "−7"], [1234.5, -7.0], "."),
        (["1'234.50", "12’345"], [1234.5, 12345.0], "."),
        (["0,123", "1,5e3"], [0.123, 1500.0], ","),
        (["-1,5", "NA"], [-1.5, None], ","),
    ],
)
def test_a_column_says_which_sign_is_its_decimal_sign(
    local: Lake, texts: list[str], values: list[float | None], decimal: str
) -> None:
    rows = typed(local, NUMBERS, Table(["id", "x"], [[f"{i}", t] for i, t in enumerate(texts)]))
    assert rows.rejects["reason"].to_pylist() == []
    assert [row["features"]["x"] for row in records(rows).values()] == values
    assert rows.numbers["t.csv"]["x"]["decimal"] == decimal


@pytest.mark.parametrize(
    ("texts", "refused"),
    [
        (["1,234", "7"], {"0": "number_ambiguous"}),
        (["1,234", "0.5", "1,5"], {"0": "number_ambiguous", "2": "number_invalid"}),
        (["12,5", "12.5"], {"0": "number_invalid"}),
        (["12,34.5", "1.5"], {"0": "number_invalid"}),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(
    local: Lake, texts: list[str], refused: dict[str, str]
) -> None:
    table_ = Table(["id", "x"], [[f"{i}", text] for i, text in enumerate(texts)])
    assert codes(typed(local, NUMBERS, table_)) == refused


def test_the_tables_other_columns_tell_too_and_the_yaml_decides(local: Lake) -> None:
    two = dataset(columns={"x": "number", "y": "number"}, classes=None)
    header = ["id", "x", "y"]
    english = typed(local, two, Table(header, [["a", "1,234", "1.5"]]))
    assert records(english)["a"]["features"] == {"x": 1234.0, "y": 1.5}
    german = typed(local, two, Table(header, [["a", "1,234", "1,5"], ["b", "1,234", "2"]]))
    assert records(german)["a"]["features"] == {"x": 1.234, "y": 1.5}
    doubt = typed(local, two, Table(header, [["a", "1.234", "1,5"]]))
    assert codes(doubt) == {"a": "number_ambiguous"}
    assert "may be 1234 or 1.234" in doubt.rejects["reason"][0].as_py()
    for decimal, value in ((",", 1234.0), (".", 1.234)):
        said = dataset(columns={"x": "number"}, classes=None, decimal=decimal)
        rows = typed(local, said, Table(["id", "x"], [["a", "1.234"]]))
        assert records(rows)["a"]["features"] == {"x": value}


def test_what_stands_far_below_tells_too(local: Lake) -> None:
    """How numbers are written is asked of the first rows first."""
    many = [[f"{n}", "7"] for n in range(1_100)]
    for last, refused in (("1.5", {}), ("7", {"x": "number_ambiguous"})):
        rows = typed(local, NUMBERS, Table(["id", "x"], [["x", "1,234"], *many, ["y", last]]))
        assert codes(rows) == refused


def test_a_comma_below_changes_what_was_a_number_above(local: Lake) -> None:
    spec = dataset(problem_type="regression", classes=None, columns={"x": "number"})
    rows = [["a", "1.234", "2.345"], ["b", "1,5", "2,5"]]
    found = records(typed(local, spec, Table(["id", "x", "label"], rows)))
    assert [(row["features"]["x"], row["label"]) for row in found.values()] == [
        (1234.0, "2345"), (1.5, "2.5"),
    ]  # fmt: skip


def test_numbers_of_a_file_with_types_are_read_as_they_stand(local: Lake) -> None:
    spec = dataset(columns={"x": "number"}, classes=None, decimal=",")
    rows = typed(local, spec, Table(["id", "x"], [["a", "1.234"], ["b", "1,5"]], types=True))
    assert records(rows)["a"]["features"] == {"x": 1.234}
    assert codes(rows) == {"b": "number_invalid"}
    texts = Table(["id", "x"], [["a", "1,5"], ["b", "1 234,5"], ["c", "7"]], types=True)
    of_texts = records(typed(local, dataset(columns={"x": "number"}, classes=None), texts))
    assert [row["features"]["x"] for row in of_texts.values()] == [1.5, 1234.5, 7.0]
    doubt = Table(["id", "x"], [["a", "1,234"], ["b", "1.5"]], types=True)
    assert codes(typed(local, NUMBERS, doubt)) == {"a": "number_ambiguous"}


def test_missing_values_are_those_of_the_yaml_and_no_others(local: Lake) -> None:
    spec = dataset(
        columns={"x": "number", "c": "category", "s": "text"},
        classes=None,
        missing_values=["", "NA", "-1"],
    )
    values = ["", "  ", "NA", " NA\t", "-1", "na", "N/A", "1"]
    header = ["id", "x", "c", "s", "label"]
    cells = [[f"{i}", v if v in ("-1", "1") else "", v, v, v] for i, v in enumerate(values)]
    rows = records(typed(local, spec, Table(header, cells)))
    for number, value in enumerate(values):
        row = rows[str(number)]
        expected = None if number < 5 else value
        assert row["features"]["c"] == row["features"]["s"] == row["label"] == expected
        assert row["features"]["x"] == (1.0 if value == "1" else None)


def test_with_no_missing_values_at_all_a_blank_is_a_value_and_no_number(local: Lake) -> None:
    spec = dataset(columns={"x": "number", "c": "category"}, missing_values=[], classes=None)
    header = ["id", "x", "c", "label"]
    rows = typed(local, spec, Table(header, [["a", "1", "", "cat"], ["b", "", "z", "cat"]]))
    assert records(rows)["a"]["features"]["c"] == ""
    assert codes(rows) == {"b": "number_invalid"}


def test_categories_are_trimmed_and_texts_are_left_alone(local: Lake) -> None:
    spec = dataset(columns={"c": "category", "s": "text"}, classes=None)
    rows = typed(local, spec, Table(["id", "c", "s"], [["a", " red\t", "  two\n lines "]]))
    assert records(rows)["a"]["features"] == {"c": "red", "s": "  two\n lines "}


def test_a_required_value_that_is_missing_makes_its_row_a_reject(local: Lake) -> None:
    spec = dataset(columns={"x": {"kind": "number", "required": True}, "c": "category"})
    header = ["id", "x", "c"]
    rows = typed(local, spec, Table(header, [["a", "", "z"], ["b", "1", ""], ["c", " ", ""]]))
    assert codes(rows) == {"a": "value_missing", "c": "value_missing"}
    assert "column 'x'" in rows.rejects["reason"][0].as_py()


# -- IDs ------------------------------------------------------------------------------------------


def test_ids_stay_the_text_that_they_are(local: Lake) -> None:
    ids = [
        *(
            "007",
            "7",
            "1E5",
            "NA",
            "null",
            "None",
            "12345678901234567890",
            "a",
            "A",
            "ä",
        ),
        *("1.0", "1", " 1", "TRUE", "ID with spaces", "'quoted'", '"', "日本", "🐈", "a:b", "-1"),
        *("...", ".hidden", "x" * 300),
    ]
    rows = typed(local, NUMBERS, Table(["id", "x"], [[i, "1"] for i in ids]))
    assert sorted(records(rows)) == sorted(ids)
    assert rows.rejects.num_rows == 0


@pytest.mark.parametrize(
    ("record_id", "code"),
    [("", "id_blank"), ("   ", "id_blank"), ("\t", "id_blank"), (".", "id_unsafe"),
     ("..", "id_unsafe"), ("a/b", "id_unsafe"), ("a\\b", "id_unsafe"), ("a\nb", "id_unsafe"),
     ("a\x7f", "id_unsafe"), ("../../etc/passwd", "id_unsafe"), ("a\x9fb", "id_unsafe"),
     ("a\u2028b", "id_unsafe"), ("x" * 1025, "id_too_long"), ("ä" * 513, "id_too_long")],
)  # fmt: skip
def test_an_id_that_is_blank_or_unsafe_is_refused(local: Lake, record_id: str, code: str) -> None:
    rows = typed(local, NUMBERS, Table(["id", "x"], [[record_id, "1"], [record_id, "2"]]))
    assert [r["code"] for r in rows.rejects.to_pylist()] == [code, code]
    assert rows.records.num_rows == 0


def test_an_id_may_have_1024_bytes_and_a_longer_one_is_told_by_its_beginning(local: Lake) -> None:
    good = ["x" * 1024, "ä" * 512]
    bad = ["y" * 1025, "\u0958" * 200]  # the last one has 1,200 bytes when it is normalised
    rows = typed(local, NUMBERS, Table(["id", "x"], [[i, "1"] for i in good + bad]))
    assert sorted(records(rows)) == good
    for line, reject in zip((4, 5), rows.rejects.to_pylist(), strict=True):
        assert (reject["code"], reject["line"], reject["record_id"]) == ("id_too_long", line, None)
        assert reject["todo"] == REFUSALS["id_too_long"]
        assert "1,024 bytes" in reject["reason"]
        assert len(reject["reason"]) < 200
    assert "yyy" in rows.rejects["reason"][0].as_py()


def test_ids_that_differ_in_unicode_form_only_are_the_same_id(local: Lake) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    assert composed != decomposed
    cells = [[decomposed, "1"], [composed, "1"], [composed, "2"]]
    rows = typed(local, NUMBERS, Table(["id", "x"], cells))
    assert records(rows).keys() == {composed}
    told = [(r["line"], r["code"], r["record_id"]) for r in rows.rejects.to_pylist()]
    assert told == [(3, "duplicate_row", composed), (4, "duplicate_id", composed)]


def judged(lake: Lake, ids: list[str]) -> list[tuple[str, str]]:
    """What the SQL makes of each ID: its normal form, and the code by which it is refused or ''."""
    rows = typed(lake, NUMBERS, Table(["id", "x"], [[i, "1"] for i in ids]))
    told = {row["row_line"]: (row["record_id"], "") for row in rows.records.to_pylist()}
    for row in rows.rejects.to_pylist():
        code = "" if row["code"].startswith("duplicate") else row["code"]
        told[row["line"]] = (row["record_id"], code)
    return [told[line] for line in range(2, len(ids) + 2)]


def python_says(text: str) -> tuple[str | None, str]:
    code, _ = fault_of(normalised(text)) or ("", "")
    return None if code == "id_too_long" else normalised(text), code


def test_rows_and_file_names_have_their_ids_normalised_in_the_same_way(local: Lake) -> None:
    every = [chr(code) for code in range(1, 0x110000) if not 0xD800 <= code < 0xE000]
    composed = [c for c in every if unicodedata.decomposition(c)[:1].isalnum()]
    marks = [c for c in every if unicodedata.combining(c)]
    ids = [unicodedata.normalize("NFD", c) for c in composed]
    ids += [f"{i}a{one}{other}" for i, one in enumerate(marks) for other in marks[::90]]
    assert len(composed) > 2000
    assert judged(local, ids) == [python_says(i) for i in ids]


any_id = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")) | st.text(
    "./\\ \t\n\x7f\x85\x9f\xa0\u2028\u0301ae", max_size=4
)


@examples(
    max_examples=20, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(st.lists(any_id, min_size=1))
def test_rows_and_file_names_are_judged_by_the_same_rule(local: Lake, ids: list[str]) -> None:
    assert judged(local, ids) == [python_says(i) for i in ids]


# -- labels ---------------------------------------------------------------------------------------


def test_a_label_must_be_one_of_the_classes_if_they_are_fixed(local: Lake) -> None:
    header = ["id", "age", "colour", "label"]
    labels = ["cat", " dog ", "", "Cat", "cow"]  # the rule: contract/spellings.py
    cells = [[f"{i}", "1", "", label] for i, label in enumerate(labels)]
    rows = typed(local, dataset(), Table(header, cells))
    assert {i: row["label"] for i, row in records(rows).items()} == {
        "0": "cat", "1": "dog", "2": None, "3": "cat",
    }  # fmt: skip
    assert codes(rows) == {"4": "label_invalid"}
    assert "'cow', not one of the classes" in rows.rejects["reason"].to_pylist()[0]
    free = typed(local, dataset(classes=None), Table(header, [["a", "1", "", "cow"]]))
    assert records(free)["a"]["label"] == "cow"


@pytest.mark.parametrize(
    ("classes", "told", "meant"),
    [
        (["0", "1"], ["1.0", "+1", "01", "True", "2", "1,0"], ["1", "1", "1", "1", None, None]),
        (["1.0", "1"], ["1.0", "1", "+1"], ["1.0", "1", None]),
        (["Yes", "No"], ["YES", "no\u00a0", "Y", "1"], ["Yes", "No", None, None]),
        (["True", "False"], ["1", "0.0", "true"], ["True", "False", "True"]),
        (None, ["1.0", "-2.00", "01.0", "1.000", "1.5", "v1.0", "Yes"],
         ["1", "-2", "01", "1.000", "1.5", "v1.0", "Yes"]),
    ],
)  # fmt: skip
def test_a_label_in_another_spelling_is_the_class_that_it_means(
    local: Lake, classes: list[str] | None, told: list[str], meant: list[str | None]
) -> None:
    spec = dataset(classes=classes)
    cells = [[f"{i}", "1", "", label] for i, label in enumerate(told)]
    rows = typed(local, spec, Table(["id", "age", "colour", "label"], cells))
    found = records(rows)
    assert [found[f"{i}"]["label"] if f"{i}" in found else None for i in range(len(told))] == meant
    assert set(codes(rows).values()) <= {"label_invalid"}
    assert meant == [
        (one if classes is None or one in classes else None)
        for one in (label_meant(label, spec.classes) for label in told)
    ]


def test_two_spellings_of_one_label_are_no_conflict(local: Lake) -> None:
    rows = typed(
        local,
        dataset(classes=None),
        Table(["id", "age", "colour", "label"], [["a", "1", "", "1"]]),
        Table(["id", "label"], [["a", "1.0"], ["a", "1"]], "labels.csv"),
    )
    assert codes(rows) == {"a": "duplicate_row"}
    assert records(rows)["a"]["label"] == "1"


def test_a_label_of_a_regression_must_be_a_finite_number(local: Lake) -> None:
    spec = dataset(problem_type="regression", classes=None, missing_values=["", "NA"])
    header = ["id", "age", "colour", "label"]
    labels = ["1.5", " 2 ", "NA", "1,5", "inf", "1e999", "x"]
    cells = [[f"{i}", "1", "", label] for i, label in enumerate(labels)]
    rows = typed(local, spec, Table(header, cells))
    assert {i: row["label"] for i, row in records(rows).items()} == {
        "0": "1.5", "1": "2", "2": None,
    }  # fmt: skip
    assert set(codes(rows)) == {"3", "4", "5", "6"}
    assert set(codes(rows).values()) == {"label_invalid"}


# -- duplicates and several tables ----------------------------------------------------------------


def test_of_rows_with_one_id_the_first_is_used_and_the_others_say_so(local: Lake) -> None:
    header = ["id", "age", "colour", "label"]
    rows = typed(
        local,
        dataset(),
        Table(header, [["1", "2", "red", ""], ["1", "2.0", " red ", ""], ["1", "3", "red", ""],
                       ["1", "2", "red", "cat"], ["2", "", "", ""]], "a.csv"),
        Table(header, [["1", "2", "red", ""], ["2", "", "x", ""]], "b.csv"),
    )  # fmt: skip
    told = [(r["file"], r["line"], r["code"]) for r in rows.rejects.to_pylist()]
    assert told == [
        ("a.csv", 3, "duplicate_row"), ("a.csv", 4, "duplicate_id"), ("a.csv", 5, "duplicate_id"),
        ("b.csv", 2, "duplicate_row"), ("b.csv", 3, "duplicate_id"),
    ]  # fmt: skip
    assert set(rows.rejects["reason"].to_pylist()) == {
        "the ID stands first in line 2 of a.csv", "the ID stands first in line 6 of a.csv",
    }  # fmt: skip
    assert records(rows)["1"]["features"] == {"age": 2.0, "colour": "red"}


def test_a_row_that_is_refused_does_not_take_the_place_of_a_good_one(local: Lake) -> None:
    rows = typed(local, NUMBERS, Table(["id", "x"], [["1", "bad"], ["1", "5"], ["1", "6"]]))
    assert records(rows)["1"]["features"] == {"x": 5.0}
    assert rows.rejects["code"].to_pylist() == ["number_invalid", "duplicate_id"]


@pytest.mark.parametrize(
    ("one", "other"),
    [(["a\x1fb", "c"], ["a", "b\x1fc"]), (["\x1e", "z"], ["", "z"]), (["-", "1:x"], ["", "1:x"]),
     (["ab", "c"], ["a", "bc"])],
)  # fmt: skip
def test_other_values_never_count_as_the_same_row(
    local: Lake, one: list[str], other: list[str]
) -> None:
    spec = dataset(columns={"s": "text", "t": "text"}, classes=None)
    rows = typed(local, spec, Table(["id", "s", "t"], [["1", *one], ["1", *other]]))
    assert rows.rejects["code"].to_pylist() == ["duplicate_id"]


def test_a_labels_only_table_brings_labels_to_the_rows_of_another(local: Lake) -> None:
    rows = typed(
        local,
        dataset(),
        Table(["id", "age", "colour"], [["1", "2", "red"], ["2", "3", "blue"]], "rows.csv"),
        Table(["id", "label"], [["1", "cat"], ["3", "dog"], ["4", ""], ["1", "cat"], ["1", "dog"],
                                ["5", "cow"]], "labels.csv"),
    )  # fmt: skip
    told = {i: (row["label"], row["labels_only"]) for i, row in records(rows).items()}
    assert told == {"1": ("cat", False), "2": (None, False), "3": ("dog", True)}
    assert records(rows)["3"]["features"] == {"age": None, "colour": None}
    assert rows.labels_joined == 1
    assert [(r["line"], r["code"]) for r in rows.rejects.to_pylist()] == [
        (4, "value_missing"), (5, "duplicate_row"), (6, "duplicate_id"), (7, "label_invalid"),
    ]  # fmt: skip


def test_a_label_that_differs_from_the_one_beside_the_features_is_a_reject(local: Lake) -> None:
    rows = typed(
        local,
        dataset(),
        Table(["id", "label"], [["1", "cat"], ["2", "cat"], ["3", "cat"]], "a.csv"),
        Table(
            ["id", "age", "colour", "label"],
            [["1", "2", "red", "dog"], ["2", "2", "red", "cat"], ["3", "2", "red", ""]],
            "b.csv",
        ),
    )
    assert {i: row["label"] for i, row in records(rows).items()} == {
        "1": "dog", "2": "cat", "3": "cat",
    }  # fmt: skip
    assert rows.labels_joined == 2
    (reject,) = rows.rejects.to_pylist()
    assert (reject["code"], reject["file"], reject["line"]) == ("label_conflict", "a.csv", 2)
    assert reject["record_id"] == "1"
    assert reject["reason"] == "the label is 'cat' here and 'dog' in line 2 of b.csv"
    assert reject["todo"] == REFUSALS["label_conflict"]


def test_the_same_number_written_otherwise_is_the_same_label(local: Lake) -> None:
    spec = dataset(problem_type="regression", classes=None, columns={"x": "number"})
    rows = typed(
        local,
        spec,
        Table(["id", "label"], [["1", "1.50"], ["2", "1.51"]], "a.csv"),
        Table(["id", "x", "label"], [["1", "2", "1.5"], ["2", "2", "1.5"]], "b.csv"),
    )
    assert rows.labels_joined == 1
    assert codes(rows) == {"2": "label_conflict"}


# -- names ----------------------------------------------------------------------------------------

WEIRD = [
    "record_id", "label", "features", "row_hash", "labels_only", "Age", "age", "AGE", "a b",
    "it's", '"quoted"', "a,b", "ä", "日本", "select", "x;--", "$missing", "$1", "c0", "v0", "t0",
    "{id}", "a.b", "line\nbreak", "in  side", "%s", "place", "code",
]  # fmt: skip


def test_any_name_may_be_a_columns_name(local: Lake) -> None:
    kinds = ["number", "category", "text"]
    columns = {name: kinds[i % 3] for i, name in enumerate(WEIRD)}
    spec = dataset(id_column="the id", label_column="the label", classes=None, columns=columns)
    header = ["the label", *reversed(WEIRD), "the id"]
    values = {name: str(number) for number, name in enumerate(WEIRD)}
    content = csv_table(header, [["cat", *(values[n] for n in reversed(WEIRD)), "1"]])
    drop_zip(local, "a.zip", {'it\'s a "table".csv': content})
    rows = typed_from(local, spec, received(local, spec, "a.zip"))
    (row,) = rows.records.to_pylist()
    assert row["record_id"] == "1"
    assert row["label"] == "cat"
    assert {
        name: str(value).removesuffix(".0") for name, value in row["features"].items()
    } == values
    assert rows.records.column_names == [*RECORD_COLUMNS, "features"]


def test_a_faulty_value_in_a_column_of_any_name_is_named(local: Lake) -> None:
    spec = dataset(columns=dict.fromkeys(WEIRD, "number"), classes=None, label_column="y")
    cells = [
        [f"{i}", *("x" if j == i else "1" for j in range(len(WEIRD)))] for i in range(len(WEIRD))
    ]
    rows = typed(local, spec, Table(["id", *WEIRD], cells))
    assert rows.rejects["reason"].to_pylist() == [
        f"column '{name}': 'x' is no finite number" for name in WEIRD
    ]


def test_id_and_label_may_have_any_name_too(local: Lake) -> None:
    for name in ("record_id", "it's", '"', "_file", "label", "features"):
        spec = dataset(id_column=name, label_column="Label of it's", columns={"x": "number"})
        rows = typed(local, spec, Table([name, "x", "Label of it's"], [["1", "2", "cow"]]))
        assert rows.rejects["reason"].to_pylist() == [
            "Label of it's is 'cow', not one of the classes: 'cat', 'dog'"
        ]


def test_a_dataset_may_have_no_columns_at_all(local: Lake) -> None:
    spec = dataset(columns={})
    rows = typed(local, spec, Table(["id", "label"], [["1", "cat"], ["2", ""], ["1", "cat"]]))
    assert sorted(records(rows)) == ["1", "2"]
    assert rows.rejects["code"].to_pylist() == ["duplicate_row"]


def test_only_the_wanted_records_are_handed_out(local: Lake) -> None:
    cells = [[f"{i}", "1"] for i in range(20)]
    rows = typed(local, NUMBERS, Table(["id", "x"], cells), only=["3", "7", "none"])
    assert sorted(records(rows)) == ["3", "7"]
    assert typed(local, NUMBERS, Table(["id", "x"], cells), only=[]).records.num_rows == 0


def test_an_upload_without_tables_has_no_records(local: Lake) -> None:
    rows = typed(local, dataset())
    assert rows.records.num_rows == 0
    assert rows.records.column_names == [*RECORD_COLUMNS, "features"]


def test_a_value_of_megabytes_is_shortened_in_its_reason(local: Lake) -> None:
    rows = typed(local, NUMBERS, Table(["id", "x"], [["1", "x" * 100_000]]))
    assert len(rows.rejects["reason"][0].as_py()) < 200


# -- law 1 ----------------------------------------------------------------------------------------

cell = st.sampled_from(["", "1", "2", "x", "NA", "1e999"]) | st.text(max_size=3)
identity = st.sampled_from(["a", "b", "c", "", "..", "A"])
label = st.sampled_from(["", "cat", "dog", "cow"])
features = st.lists(st.tuples(identity, cell, cell, label), max_size=8)
labels = st.lists(st.tuples(identity, label), max_size=6)
SPEC = dataset(columns={"n": {"kind": "number", "required": True}, "c": "category"})


@examples(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(features, features, labels)
def test_rows_in_are_records_plus_joined_labels_plus_rejects(
    local: Lake, one: list[Any], two: list[Any], three: list[Any]
) -> None:
    rows = typed(
        local,
        SPEC,
        Table(["id", "n", "c", "label"], one, "1.csv"),
        Table(["label", "c", "n", "id"], [row[::-1] for row in two], "2.csv"),
        Table(["id", "label"], three, "3.csv"),
    )
    n_in = len(one) + len(two) + len(three)
    assert n_in == rows.records.num_rows + rows.labels_joined + rows.rejects.num_rows
    ids = rows.records["record_id"].to_pylist()
    assert len(set(ids)) == len(ids)
    assert rows.rejects["code"].null_count == rows.rejects["reason"].null_count == 0
    assert set(rows.rejects["code"].to_pylist()) <= REFUSALS.keys()
    places = [(r["row_file"], r["row_line"]) for r in rows.records.to_pylist()]
    places += [(r["file"], r["line"]) for r in rows.rejects.to_pylist()]
    assert len(set(places)) == len(places)


def test_the_whole_way_from_file_to_records_keeps_count(lake: Lake) -> None:
    drop_zip(
        lake,
        "a.zip",
        {
            "a.csv": table("id,age,colour", "1,2,red", "too,short", "2,x,red", "1,2,red", ",1,"),
            "b.csv": table("id,label", "1,cat", "9,dog"),
        },
    )
    receipt = received(lake, dataset(), "a.zip")
    rows = typed_from(lake, dataset(), receipt)
    assert receipt["counts"]["rows"] == 7
    assert receipt["counts"]["rejected"] == 1
    assert rows.records.num_rows + rows.labels_joined + rows.rejects.num_rows == 6
