"""A plain table is read at once as the batch reads it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_assets.serving.reading import Reader
from tests.make import dataset
from tests.manifest.test_plain import SPECS

NUMBERS = ["", "1", "0", "-0", "12", "1.5", "8.25", "1.000", "0.125", "12.3456", "007", "1e3", "+7",
           ".5", "5.", "1.234.567", "-9999", "NA", "nan", "inf", "50%", "$5", "(3)"]  # fmt: skip
WORDS = ["", "NaN", "n/a", "unknown", "?", "-", "red", "Red", "a b", " a", "true", "2024-01-31",
         "x=1", "#N/A", "null", "None", "id", "age", "..", "a/b", "1.0"]  # fmt: skip
number = st.one_of(
    st.integers(-(10**6), 10**6).map(str),
    st.decimals(-(10**6), 10**6, places=2).map(str),
    st.integers(-(10**17), 10**17).map(str),
    st.sampled_from(NUMBERS),
)
word = st.one_of(
    st.text("ab1 .-+:/", max_size=4).map(str.strip),
    st.sampled_from(WORDS),
    st.text("ab1 .-+:/\"';\t|é\0", max_size=4),
)


@settings(max_examples=150)
@given(st.sampled_from(sorted(SPECS)), st.booleans(), st.booleans(), st.data())
def test_both_ways_read_a_table_alike(name: str, with_id: bool, dos: bool, data: Any) -> None:
    spec = SPECS[name]
    reader = Reader(spec)
    header = [*([spec.id_column] if with_id else []), *spec.columns]
    if not header:
        return
    cells = [number if spec.kinds.get(name) == "number" else word for name in header]
    rows = [list(row) for row in data.draw(st.lists(st.tuples(*cells), min_size=1, max_size=3))]
    if with_id and data.draw(st.booleans()):
        rows = [[f"r{n}", *row[1:]] for n, row in enumerate(rows)]
    end = "\r\n" if dos else "\n"
    table = end.join(",".join(row) for row in [header, *rows]).encode()
    agrees(reader, table)


def agrees(reader: Reader, table: bytes) -> bool:
    """Whether the table was plain."""
    plain = reader._plain_table(table, number_rows=True)
    if plain is not None:
        whole = reader._table(table, "records")
        if getattr(whole, "code", "") == "table_no_id":
            whole = reader._table(table, "records", number_rows=True)
        assert plain == whole
    return plain is not None


USUAL = dataset(columns={"age": "number", "colour": "category", "note": "text"})


@pytest.mark.parametrize(
    "table",
    [
        "id,age,colour,note\na,1,red,x",
        "age,colour,note\n1,red,x\n2.5,blue,a note\n",
        "note,id,colour,age\r\nx,a,red,12\r\ny,b,,\r\n",
        "id,age,colour,note\nA,1.5,red,x y (z) = #1?\n007,0.1234,a.b,..\n",
    ],
)
def test_tables_as_programs_write_them_are_plain(table: str) -> None:
    assert agrees(Reader(USUAL), table.encode())


@pytest.mark.parametrize(
    "table",
    [
        "id,age,colour,note\na,1.000,red,x",  # a thousand?
        "id,age,colour,note\na,1,red,x\nA,2,red,y",
        "id,age,colour,note\na,1,red",
        "id,age,colour,note,label\na,1,red,x,cat",
        'id,age,colour,note\na,1,"red",x',
        "id;age;colour;note\na;1;red;x",
        "id,age,colour,note\na, 1,red,x",
        "id,age,colour,note\n\na,1,red,x",
        "id,age,colour,note\na,one,red,x",
        "id,age,colour,note\nä,1,red,x",
        "ID,age,colour,note\na,1,red,x",
        "age,colour,note\n1,id,x",  # the header may come later
        "id,age,colour,note\n",
        "",
    ],
)
def test_what_has_to_be_judged_is_left_to_the_way_of_uploads(table: str) -> None:
    assert Reader(USUAL)._plain_table(table.encode(), number_rows=True) is None
