"""Tables: text comes out as it stands in the file, or the row or the file is refused."""

from __future__ import annotations

import csv
import gzip
import io
import random
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mm_assets.contract.errors import REFUSALS
from mm_assets.contract.ids import SPACE
from mm_assets.reading import delimited, tables
from mm_assets.reading.formats import looks_like_text
from mm_assets.reading.table import (
    BLOCK_ROWS,
    FIELD_LIMIT,
    ROW_LIMIT,
    TableRefused,
    Wanted,
)
from mm_assets.reading.tables import Table, open_table

quick = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def opened(tmp_path: Path, data: bytes | str, encoding: str = "utf-8") -> Table:
    path = tmp_path / "t.csv"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return open_table(
        path, file="in/t.csv", wanted=Wanted("id", encoding=encoding), scratch=tmp_path
    )


def rows_of(table: Table) -> list[dict[str, Any]]:
    return [row for batch in table.batches() for row in batch.to_pylist()]


def values(table: Table) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in table.header) for row in rows_of(table)]


def lines(table: Table) -> list[int]:
    return [row["_line"] for row in rows_of(table)]


def refused(tmp_path: Path, data: bytes | str, code: str, encoding: str = "utf-8") -> TableRefused:
    with pytest.raises(TableRefused) as caught:
        rows_of(opened(tmp_path, data, encoding))
    assert caught.value.code == code
    assert code in REFUSALS
    return caught.value


# -- text as it stands ----------------------------------------------------------------------------


def test_values_are_handed_out_as_text_untouched(tmp_path: Path) -> None:
    data = "id,a,b\n007,1E5, x \nNA,,null\n99999999999999999999,True,1.10\n"
    table = opened(tmp_path, data)
    assert values(table) == [
        ("007", "1E5", " x "),
        ("NA", "", "null"),
        ("99999999999999999999", "True", "1.10"),
    ]
    assert table.n_rows == 3
    assert table.rejects == []


def test_a_batch_has_file_line_and_the_header_as_text_columns(tmp_path: Path) -> None:
    (batch,) = opened(tmp_path, "id,x\n1,2\n").batches()
    text = pa.string()
    assert batch.schema == pa.schema(
        [("_file", text), ("_line", pa.int64()), ("id", text), ("x", text)]
    )
    assert batch.to_pylist() == [{"_file": "in/t.csv", "_line": 2, "id": "1", "x": "2"}]


def test_rows_come_in_blocks_of_whole_rows(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 9)
    table = opened(tmp_path, "id\n" + "".join(f"{i:03}\n" for i in range(25)))
    assert [batch.num_rows for batch in table.batches()][:4] == [3, 3, 2, 2]
    assert values(table) == [(f"{i:03}",) for i in range(25)]
    assert lines(table) == list(range(2, 27))
    assert table.n_rows == 25


def test_a_second_pass_reads_the_same(tmp_path: Path) -> None:
    table = opened(tmp_path, "id,x\n1,2\n3\n")
    assert rows_of(table) == rows_of(table)
    assert (table.n_rows, len(table.rejects)) == (2, 1)


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_the_delimiter_is_the_one_under_which_the_id_column_is_found(
    tmp_path: Path, delimiter: str
) -> None:
    table = opened(tmp_path, f"a b{delimiter} id {delimiter}c.d\n1{delimiter}2{delimiter}3\n")
    assert table.facts["delimiter"] == delimiter
    assert table.header == ["a b", "id", "c.d"]
    assert values(table) == [("1", "2", "3")]


def test_a_quoted_name_in_the_header_does_not_mislead_the_delimiter(tmp_path: Path) -> None:
    table = opened(tmp_path, '"size, mm";"id"\n1,5;x\n')
    assert table.header == ["size, mm", "id"]
    assert values(table) == [("1,5", "x")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_ending_is_read_and_counted(tmp_path: Path, end: str) -> None:
    data = end.join(["", "id,x", "1,a", "", "", '2,"b' + end + 'c"', "3,d", ""])
    table = opened(tmp_path, data)
    assert values(table) == [("1", "a"), ("2", f"b{end}c"), ("3", "d")]
    assert lines(table) == [3, 6, 8]
    assert table.n_rows == 3


def test_only_line_endings_end_a_line(tmp_path: Path) -> None:
    table = opened(tmp_path, "id,x\n1,a\u2028b\x0bc\x85d\x1ce\n2,f\n")
    assert values(table) == [("1", "a\u2028b\x0bc\x85d\x1ce"), ("2", "f")]
    assert lines(table) == [2, 3]


def test_a_header_without_rows_is_an_empty_table(tmp_path: Path) -> None:
    table = opened(tmp_path, "id,x")
    assert rows_of(table) == []
    assert (table.n_rows, table.rejects) == (0, [])


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    assert opened(tmp_path, b"\xef\xbb\xbfid,x\n1,2\n").header == ["id", "x"]
    assert values(opened(tmp_path, b'\xef\xbb\xbf"id",x\n1,2\n')) == [("1", "2")]


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_is_read_in_both_byte_orders(tmp_path: Path, codec: str) -> None:
    mark = "" if codec == "utf-16" else "\ufeff"
    table = opened(tmp_path, (mark + "id\tx\r\n1\tgrün\r\n").encode(codec), "utf-16")
    assert values(table) == [("1", "grün")]


def test_latin1_is_read_when_the_dataset_says_so(tmp_path: Path) -> None:
    assert values(opened(tmp_path, "id,x\n1,grün\n".encode("latin-1"), "latin-1")) == [
        ("1", "grün")
    ]


def test_a_quote_inside_an_unquoted_field_is_text(tmp_path: Path) -> None:
    assert values(opened(tmp_path, 'id,x\n1,5" pipe\n2,"a ""b"""\n')) == [
        ("1", '5" pipe'),
        ("2", 'a "b"'),
    ]


def test_two_apostrophes_alone_are_text(tmp_path: Path) -> None:
    assert values(opened(tmp_path, "id\n''\n")) == [("''",)]
    assert values(opened(tmp_path, "id,x\n1,''\n2,''\n")) == [("1", "''"), ("2", "''")]
    assert values(opened(tmp_path, "id,x\n1,'a, b'\n2,''\n")) == [("1", "a, b"), ("2", "")]


text_field = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
tricky_field = st.text("a,;\t|\"'\r\n \ufeff\u2028é\x1c\x85", max_size=8)
field = text_field | tricky_field


@quick
@given(
    st.integers(1, 4).flatmap(
        lambda n: st.lists(st.lists(field, min_size=n, max_size=n), min_size=0, max_size=8).map(
            lambda rows: (n, rows)
        )
    ),
    st.sampled_from([",", "\t", ";", "|"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from(["utf-8", "utf-16"]),
    st.integers(1, 40),
)
def test_what_a_csv_writer_wrote_is_read_back_exactly_with_its_lines(
    tmp_path: Path,
    table: tuple[int, list[list[str]]],
    delimiter: str,
    end: str,
    quoting: Any,
    encoding: str,
    size: int,
) -> None:
    width, rows = table
    # Where apostrophes stand around a whole column, they are taken for quotes.
    columns = [[cell.strip(SPACE) for cell in column] for column in zip(*rows, strict=True)]
    filled = [[cell for cell in column if cell] for column in columns]
    assume(not any(c and all(len(v) > 2 and v[0] == v[-1] == "'" for v in c) for c in filled))
    if width == 1:
        delimiter = ","  # a header of one name does not tell
    if any("\r" in value or "\n" in value for row in rows for value in row):
        quoting = csv.QUOTE_ALL  # Python 3.11's writer quotes only its own line ending
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=quoting)
    expected = []
    for row in [["id", "x", "y", "z"][:width], *rows]:
        written = text.getvalue()
        expected.append(len(written.replace("\r\n", "\n").replace("\r", "\n").split("\n")))
        writer.writerow(row)
        if text.getvalue()[len(written) :].startswith("\ufeff"):  # as where files are joined
            row[0] = row[0].removeprefix("\ufeff")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "BLOCK_BYTES", size)
        read = opened(tmp_path, text.getvalue().encode(encoding), encoding)
        got = rows_of(read)
    there = [at for at, row in enumerate(rows) if any(cell.strip(SPACE) for cell in row)]
    assert [[row[name] for name in read.header] for row in got] == [rows[at] for at in there]
    assert [row["_line"] for row in got] == [expected[1:][at] for at in there]
    assert (read.n_rows, read.rejects) == (len(there), [])


@quick
@given(st.binary(max_size=200) | st.text('id,\t"\n\r\0x', max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused_with_a_known_code(tmp_path: Path, data: bytes) -> None:
    for start in (b"", b"id,x\n"):
        try:
            table = opened(tmp_path, start + data)
            n = len(rows_of(table))
        except TableRefused as error:
            code = error.code
            assert code in REFUSALS
        else:
            assert n + len(table.rejects) == table.n_rows


@pytest.mark.parametrize("header", ["id,x", "id, x", "'id','x'"])
@quick
@given(st.text(",\"\n\r ax'", max_size=60), st.integers(1, 40))
def test_arrow_and_the_csv_module_read_the_same(
    tmp_path: Path, header: str, text: str, size: int
) -> None:
    def outcome() -> Any:
        table = opened(tmp_path, f"{header}\n{text}")
        try:
            rows = sorted(rows_of(table), key=lambda row: row["_line"])
        except TableRefused as error:
            return error.code, error.line
        return rows, sorted((r.line, r.code, r.reason, r.record_id) for r in table.rejects)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "BLOCK_BYTES", size)
        by_arrow = outcome()
        patch.setattr(delimited._Buffer, "regular_end", lambda *_: None)
        assert by_arrow == outcome()


# -- rejects --------------------------------------------------------------------------------------


def test_rows_of_another_width_are_rejects_with_line_and_id(tmp_path: Path) -> None:
    table = opened(tmp_path, 'x,id\n1,a\n2\n3,b,c\n4,"d\nd"\n5,\n,,\n6,e,,\n')
    assert sorted(values(table)) == [("1", "a"), ("4", "d\nd"), ("5", ""), ("6", "e")]
    assert table.n_rows == 6
    assert [(r.code, r.line, r.record_id) for r in table.rejects] == [
        ("row_width", 3, None),
        ("row_width", 4, "b"),
    ]
    assert table.rejects[1].reason == "3 fields under a header of 2"
    assert table.rejects[1].file == "in/t.csv"


def test_a_field_that_is_too_long_rejects_its_row_only(tmp_path: Path) -> None:
    longest = "x" * FIELD_LIMIT
    table = opened(
        tmp_path, f'id,x,y\n1,{longest},{longest}\n2,{longest}x,\n3,"a\n{longest}",\n4,a,b\n'
    )
    assert [row[0] for row in values(table)] == ["1", "4"]
    assert [(r.code, r.line, r.record_id) for r in table.rejects] == [
        ("field_too_long", 3, "2"),
        ("field_too_long", 4, "3"),
    ]
    assert "'x'" in table.rejects[0].reason
    assert table.n_rows == 4


def test_an_id_that_is_too_long_is_left_out_of_a_reject(tmp_path: Path) -> None:
    table = opened(tmp_path, f"id,x\n{'a' * 1024},1,2\n{'b' * 1025},1,2\n1,a\n")
    assert len(rows_of(table)) == 1
    assert [r.record_id for r in table.rejects] == ["a" * 1024, None]


def test_a_limit_that_another_library_set_does_not_matter(tmp_path: Path) -> None:
    before = csv.field_size_limit(10)
    try:
        assert values(opened(tmp_path, f"id\n{'x' * 100}\n")) == [("x" * 100,)]
    finally:
        csv.field_size_limit(before)


def test_a_table_in_which_no_row_fits_is_refused(tmp_path: Path) -> None:
    error = refused(tmp_path, "id,x\n1\n2,3,4\n", "table_width")
    assert "1 fields under a header of 2" in error.reason


# -- headers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("", "empty"),
        ("\n\n\r\n", "no header row"),
        ("id,id\n", "more than one column is named 'id'"),
        ("id,_line\n", "'_line' is reserved"),
    ],
)
def test_a_header_that_does_not_name_each_column_once_is_refused(
    tmp_path: Path, data: str, reason: str
) -> None:
    assert reason in refused(tmp_path, data, "table_header").reason


def test_columns_of_one_name_are_left_out_and_told_unless_that_name_is_wanted(
    tmp_path: Path,
) -> None:
    table = opened(tmp_path, "id,x,y, x\n1,2,3,4\n")
    assert (values(table), table.facts["columns_named_twice"]) == ([("1", "3")], ["x"])
    path = tmp_path / "t.csv"
    for wanted in (Wanted("id", ("x",)), Wanted()):
        with pytest.raises(TableRefused, match="more than one column is named 'x'"):
            open_table(path, file="t.csv", wanted=wanted, scratch=tmp_path)


def test_a_missing_id_column_is_answered_with_what_was_found(tmp_path: Path) -> None:
    error = refused(tmp_path, "idd;name;age\n1;2;3\n", "table_no_id")
    assert error.reason == (
        "no column is named 'id'; found: 'idd', 'name', 'age'; did you mean 'idd'?"
    )


def test_a_header_of_many_columns_is_not_listed_whole(tmp_path: Path) -> None:
    data = ",".join(f"c{i}" for i in range(5000)) + "\n"
    error = refused(tmp_path, data, "table_no_id")
    assert "and 4980 more" in error.reason
    assert len(error.reason) < 400


# -- whole tables that cannot be read with certainty ----------------------------------------------


@pytest.mark.parametrize(
    ("data", "line", "reason"),
    [
        ('id,x\n1,a\n2,"b\n3,c\n', 3, "never closed"),
        ('id,x\n1,"a"b\n', 2, "text follows a closing quote"),
        ('id,x\n1,"a\n2,"b"\n', 2, "text follows a closing quote"),
        ('id,"x\n1,2\n', 1, "never closed"),
    ],
)
def test_a_quote_out_of_place_refuses_the_table_with_its_line(
    tmp_path: Path, data: str, line: int, reason: str
) -> None:
    error = refused(tmp_path, data, "table_quotes")
    assert (error.line, reason in error.reason) == (line, True)


def test_a_quote_never_closed_is_noticed_without_reading_everything(tmp_path: Path) -> None:
    data = 'id,x\n1,a\n2,"b\n' + "3,some text in a row\n" * 400_000
    assert refused(tmp_path, data, "table_quotes").line == 3


def test_a_file_without_line_endings_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, "id,x\n1," + "x" * ROW_LIMIT, "table_row_too_long")
    refused(tmp_path, "id," * (ROW_LIMIT // 2), "table_row_too_long")


def test_many_short_quoted_lines_in_one_row_do_not_fill_the_memory(tmp_path: Path) -> None:
    data = 'id,x\n1,"' + '","\n'.join(["a"] * 1_500_000)
    refused(tmp_path, data, "table_quotes")


@pytest.mark.parametrize(
    ("data", "line"), [(b"id,\0x\n", 1), (b"id,x\n1,a\n2,b\0\n", 3), (b'id,x\n1,"a\n\0"\n', 3)]
)
def test_a_nul_refuses_the_table_with_its_line(tmp_path: Path, data: bytes, line: int) -> None:
    assert refused(tmp_path, data, "table_nul").line == line


def test_what_cannot_be_decoded_is_answered_with_byte_and_line(tmp_path: Path) -> None:
    rows = "".join(f"{i},ä\r\n" for i in range(200_000)).encode()
    data = b"id,x\r\n" + rows + "z,grün".encode("latin-1")
    error = refused(tmp_path, data, "table_encoding")
    assert error.line == 200_002
    assert error.reason == f"byte {len(data) - 2} (0xfc) is not utf-8"


def test_an_encoding_that_the_yaml_names_is_taken_strictly(tmp_path: Path) -> None:
    error = refused(tmp_path, "id,x\n1,grün\n".encode("latin-1"), "table_encoding")
    assert (error.line, error.reason) == (2, "byte 9 (0xfc) is not utf-8")
    assert values(opened(tmp_path, "id,x\n1,grün\n".encode("latin-1"), "auto")) == [("1", "grün")]


def test_a_character_cut_off_at_the_end_is_noticed(tmp_path: Path) -> None:
    error = refused(tmp_path, "id,x\n1,ä".encode()[:-1], "table_encoding")
    assert (error.line, "byte 7 " in error.reason) == (2, True)


def test_a_file_in_windows_characters_is_not_said_to_be_latin1(tmp_path: Path) -> None:
    data = "id,x\n1,“a”\n".encode("cp1252")
    assert "latin-1" not in refused(tmp_path, data, "table_encoding").reason


@pytest.mark.parametrize(
    ("text", "codec", "said", "reason"),
    [
        ("id,x\n", "utf-16", "utf-8", "is UTF-16"),
        ("id,x\n", "utf-16", "latin-1", "is UTF-16"),
        ("id,x\n", "utf-8-sig", "latin-1", "is UTF-8"),
        ("id,x\n", "utf-8", "utf-16", "no UTF-16 byte order mark"),
    ],
)
def test_a_mark_that_belies_the_encoding_is_named(
    tmp_path: Path, text: str, codec: str, said: str, reason: str
) -> None:
    assert reason in refused(tmp_path, text.encode(codec), "table_encoding", said).reason


def test_utf16_that_breaks_off_is_noticed(tmp_path: Path) -> None:
    data = "id,x\n1,a\n2,b".encode("utf-16")[:-1]
    assert refused(tmp_path, data, "table_encoding", "utf-16").line == 3


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_utf16_without_its_mark_is_recognised(tmp_path: Path, codec: str, encoding: str) -> None:
    error = refused(tmp_path, "id,x\n1,a\n".encode(codec), "table_encoding", encoding)
    assert error.reason == "the file looks like UTF-16 without a byte order mark"


# -- table or not ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [b"id,x\n1,2\n", b"\xef\xbb\xbfid\n", "id\tx\n".encode("utf-16"), "id,grün".encode("latin-1"),
     b"BMI,age\n", b"BM,x\n1,2\n", b"P1,P2\n", b"id\n\x1b[0m\x01" + b"x" * 200, b"<html>"],
)  # fmt: skip
def test_text_looks_like_text(head: bytes) -> None:
    assert looks_like_text(head)


def test_what_calls_itself_a_table_is_read_unless_it_surely_is_something_else() -> None:
    for head in (b"id\0x", bytes(range(1, 256)), "id,x".encode("utf-16-le")):
        assert looks_like_text(head, named_table=True)
    for head in (zip_bytes(), b"%PDF-1.7", b"GIF89a"):
        assert not looks_like_text(head, named_table=True)


def zip_bytes() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", "b")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "head",
    [b"id\0x", b"\xff\xd8\xff\xe0JFIF", b"GIF89a", b"%PDF-1.7", b"PAR1abc", zip_bytes(),
     gzip.compress(b"id", mtime=0), bytes(range(1, 256)), b"<svg xmlns='a'>"],
)  # fmt: skip
def test_binary_files_do_not_look_like_text(head: bytes) -> None:
    assert not looks_like_text(head)


# -- speed and memory -----------------------------------------------------------------------------


def test_memory_stays_flat_and_a_row_costs_microseconds(tmp_path: Path) -> None:
    path = tmp_path / "big.csv"
    chance = random.Random(0)
    with path.open("w") as file:
        file.write("id,a,b,c,d,e,f,g\n")
        for i in range(200_000):
            file.write(f'rec-{i},{chance.random()},town {i % 97},"text, quoted",x,y,z,0\n')
    table = open_table(path, file="big.csv", wanted=Wanted("id"), scratch=tmp_path)
    begin = time.process_time()
    assert sum(batch.num_rows for batch in table.batches()) == 200_000
    assert time.process_time() - begin < 10  # about 0.4 s of processor time
    tracemalloc.start()
    for _ in table.batches():
        pass
    assert tracemalloc.get_traced_memory()[1] < 40 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("end", ["\n", "\r"])
def test_rows_of_few_bytes_do_not_make_large_batches(tmp_path: Path, end: str) -> None:
    table = opened(tmp_path, f"id,x{end}" + f"a,{end}" * 200_000)
    tracemalloc.start()
    assert max(batch.num_rows for batch in table.batches()) < 2 * BLOCK_ROWS
    assert tracemalloc.get_traced_memory()[1] < 60 << 20
    tracemalloc.stop()
    assert table.n_rows == 200_000


def test_more_rejects_than_can_be_kept_refuse_the_table_with_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "MOST_REJECTS", 10)
    error = refused(tmp_path, "id,x\n1,2\n" + "1\n" * 11, "table_width")
    assert error.line == 3
    assert "more than 10 rows cannot be used" in error.reason
    long = "x" * (FIELD_LIMIT + 1)
    assert "too long" in refused(tmp_path, "id,x\n" + f"1,{long}\n" * 11, "table_too_large").reason
    opened(tmp_path, "id,x\n1,2\n" + "1\n" * 10)  # so many are fine
