"""JSON Lines and arrays of objects: every key is a column, and a number of an ID is exact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mm_assets.reading.json_array import open_json_array
from mm_assets.reading.json_lines import open_json_lines
from mm_assets.reading.table import BLOCK_BYTES, Wanted
from mm_assets.reading.tables import Table
from tests.reading.files import ID, refused, rejects_of, rows_of, table_of, written

forms = pytest.mark.parametrize("form", ["lines", "array", "wrapped"])


def json_table(tmp_path: Path, form: str, objects: list[str], wanted: Wanted = ID) -> Table:
    """A table of these texts, each of which is on a line of its own."""
    if form == "lines":
        path, open_it = written(tmp_path / "t.jsonl", "\n".join(objects)), open_json_lines
    else:
        text = "[" + ",\n".join(objects) + "]"
        text = '{"data": ' + text + "}" if form == "wrapped" else text
        path, open_it = written(tmp_path / "t.json", text), open_json_array
    return table_of(open_it, path, wanted)


def lines_table(tmp_path: Path, text: str | bytes, wanted: Wanted = ID) -> Table:
    return table_of(open_json_lines, written(tmp_path / "t.jsonl", text), wanted)


@forms
def test_values_come_out_as_text(tmp_path: Path, form: str) -> None:
    table = json_table(
        tmp_path,
        form,
        [
            '{"id": "a", "n": 1, "x": 1.5, "t": "r\\u00e9d \\"x\\"", "b": true, "z": null}',
            '{"id": 7, "n": -0.1, "x": "1,5", "t": "", "b": false}',
        ],
    )
    assert table.header == ["id", "n", "x", "t", "b", "z"]
    assert rows_of(table) == [
        (1, "a", "1", "1.5", 'réd "x"', "true", None), (2, "7", "-0.1", "1,5", "", "false", None)
    ]  # fmt: skip
    assert table.typed


@forms
def test_a_number_that_is_an_id_stays_as_it_stands(tmp_path: Path, form: str) -> None:
    ids = ["12345678901234567890123", "1.0", "1.10", "1e5", "9007199254740993", "-7", "1E400",
           "123456789012345678.5", '"1.10"', '"007"', '"NaN"']  # fmt: skip
    table = json_table(tmp_path, form, [f'{{"id": {one}, "v": {{"id": 3.50}}}}' for one in ids])
    assert [row[1] for row in rows_of(table)] == [one.strip('"') for one in ids]


@forms
def test_the_header_is_the_keys_of_all_objects_as_they_come_up(tmp_path: Path, form: str) -> None:
    table = json_table(
        tmp_path, form, ['{"b": 1}', "{}", '{"id": "x", "B": 2}', '{"a": 3, "b": 4}']
    )
    assert table.header == ["b", "id", "B", "a"]
    assert rows_of(table) == [
        (1, "1", None, None, None), (3, None, "x", "2", None), (4, "4", None, None, "3")
    ]  # fmt: skip
    assert table.n_blank == 1


def test_keys_may_hold_any_sign(tmp_path: Path) -> None:
    keys = ["id", "a/b", "a~b", "d'e", 'q"', "$.id", "0", "*", "é", "a b", "Id", "iD", "["]
    row = json.dumps(dict(zip(keys, range(len(keys)), strict=True)))
    table = lines_table(tmp_path, row)
    assert table.header == keys
    assert rows_of(table) == [(1, *(str(at) for at in range(len(keys))))]


@forms
def test_what_is_no_object_is_a_reject_with_its_line(tmp_path: Path, form: str) -> None:
    objects = ['{"id": 1}', "[1]", "5", '{"id": 2, "id": 3}', '{"id": 4, "v" 5}', '{"id": 6}',
               '{"id": "\\ud800"}']  # fmt: skip
    table = json_table(tmp_path, form, objects)
    assert [row[:2] for row in rows_of(table)] == [(1, "1"), (6, "6")]
    assert rejects_of(table) == [("row_json", line, None) for line in (2, 3, 4, 5, 7)]
    assert table.n_rows == len(objects)


@forms
def test_a_list_or_an_object_is_a_reject_only_where_it_is_wanted(tmp_path: Path, form: str) -> None:
    objects = ['{"id": 1, "v": [1], "w": {"a": 1}}', '{"id": 2, "v": "[1]", "w": "{}"}']
    table = json_table(tmp_path, form, objects, Wanted("id", ("v",)))
    assert rows_of(table) == [(2, "2", "[1]", "{}")]
    assert rejects_of(table) == [("value_nested", 1, "1")]
    assert rows_of(json_table(tmp_path, form, objects)) == [
        (1, "1", None, None), (2, "2", "[1]", "{}")
    ]  # fmt: skip


@pytest.mark.parametrize("sign", ["०", "é", "💐", "٠"])
@pytest.mark.parametrize("before", range(4))
def test_a_broken_line_costs_only_itself_whatever_sign_stands_where_it_breaks(
    tmp_path: Path, sign: str, before: int
) -> None:
    """DuckDB tells of it with the text up to there, which may end in the middle of a sign."""
    blanks = " " * before
    broken = f'{{"id": "a", {blanks}"v": -0.{sign}{sign}{sign}, "w": "{sign * 40}"}}\n'
    table = lines_table(tmp_path, broken + '{"id": "b", "v": 1, "w": "x"}\n')
    assert [row[1] for row in rows_of(table)] == ["b"]
    assert [reject.code for reject in table.rejects] == ["row_json"]


def test_a_number_that_is_an_id_is_exact_beside_one_with_thousands_of_digits(
    tmp_path: Path,
) -> None:
    table = lines_table(tmp_path, '{"id": 1.10, "v": ' + "9" * 5000 + "}\n")
    assert [row[1] for row in rows_of(table)] == ["1.10"]


def test_nan_is_missing_and_the_text_nan_is_not(tmp_path: Path) -> None:
    table = lines_table(tmp_path, '{"id": "a", "v": NaN}\n{"id": "b", "v": "NaN"}\n')
    assert rows_of(table) == [(1, "a", None), (2, "b", "NaN")]


def test_empty_lines_marks_and_line_endings_do_not_matter(tmp_path: Path) -> None:
    text = '\ufeff\r\n\n {"id": 1} \r\n\t\n{"id": 2}'
    assert rows_of(lines_table(tmp_path, text)) == [(3, "1"), (5, "2")]
    array = written(tmp_path / "t.json", '\ufeff\n [\n{"id": 1},\n\n {"id":\n2}, ]\n')
    assert rows_of(table_of(open_json_array, array)) == [(3, "1"), (5, "2")]


def test_signs_inside_of_strings_do_not_cut_an_array(tmp_path: Path) -> None:
    texts = ["],[", '}\\",{', "\\", '\\"', '"', "a\nb", "a,b", "\\\\"]
    objects = [json.dumps({"id": text, "v": {"x": [text]}}) for text in texts]
    table = json_table(tmp_path, "array", objects)
    assert [row[1] for row in rows_of(table)] == texts


@forms
def test_rows_and_lines_go_on_from_block_to_block(tmp_path: Path, form: str) -> None:
    count = 2 * BLOCK_BYTES // 1_000
    text = 'x,"]}\\' * 120
    objects = [json.dumps({"id": at, "v": text, "w": [text]}) for at in range(1, count + 1)]
    rows = rows_of(json_table(tmp_path, form, objects))
    assert [row[:2] for row in rows] == [(at, str(at)) for at in range(1, count + 1)]
    assert {row[2] for row in rows} == {text}


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ('[{"id": 1}', "table_json", 1),
        ('[{"id": 1}]\n]', "table_json", 1),
        ('[{"id": "1},\n{"id": 2}]', "table_json", 1),
        ('{"a": [{"id": 1}], "b": 2}', "table_json", 1),
        ('{"a": [{"id": 1}]', "table_json", 1),
        ('{\n "id": 1\n}', "table_json", 1),
        ("[" * 100_000, "table_json", 1),
        ("[]", "table_header", None),
        ('["a", "b"]', "table_json", None),
        ('{"id": {"0": 1}, "x": {"0": "a"}}', "table_json", 1),
        (b'[{"id": 1},\n{"id": "\xff"}]', "table_encoding", 2),
        ('[{"id": "' + "x" * (5 << 20) + '"}]', "table_row_too_long", 1),
    ],
)
def test_arrays_that_cannot_be_read_are_refused(
    tmp_path: Path, text: str | bytes, code: str, line: int | None
) -> None:
    assert refused(open_json_array, written(tmp_path / "t.json", text), code).line == line


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ('\n{"id": 1}\n{"id": "' + "x" * (5 << 20), "table_row_too_long", 3),
        (b'{"id": 1}\n{"id": "\xe9"}\n', "table_encoding", 2),
        ('{"id": 1}'.encode("utf-16"), "table_encoding", 1),
        ('{"id": 1}'.encode("utf-16-le"), "table_encoding", 1),
        ("[" * 100_000, "table_json", None),
        ('{"id": ' * 100_000, "table_json", None),
        ('{"data": [1], "id": {"0": 1}}', "table_json", 1),
        ('{"i": 1}', "table_no_id", 1),
        ('{"id": 1, "\\u0000": 2}', "table_header", None),
        (json.dumps({str(at): at for at in range(10_001)}), "table_header", None),
        ("", "table_header", None),
    ],
)
def test_lines_that_cannot_be_read_are_refused(
    tmp_path: Path, text: str | bytes, code: str, line: int | None
) -> None:
    assert refused(open_json_lines, written(tmp_path / "t.jsonl", text), code).line == line


@forms
def test_deep_nesting_is_a_value_like_others(tmp_path: Path, form: str) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    objects = [f'{{"id": 1, "v": {deep}}}', f'{{"id": 2.50, "v": {deep}}}', '{"id": 3, "v": "x"}']
    rows: list[Any] = rows_of(json_table(tmp_path, form, objects))
    assert [(row[0], row[2]) for row in rows] == [(1, None), (2, None), (3, "x")]


@forms
def test_a_nul_or_too_much_in_a_field_is_a_reject(tmp_path: Path, form: str) -> None:
    long = "x" * 131_073
    objects = ['{"id": "a\\u0000"}', f'{{"id": "b", "v": "{long}"}}', '{"id": "c"}']
    table = json_table(tmp_path, form, objects)
    assert [row[1] for row in rows_of(table)] == ["c"]
    assert [code for code, *_ in rejects_of(table)] == ["value_nul", "field_too_long"]
