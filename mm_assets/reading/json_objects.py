"""JSON objects as rows: what JSON Lines and an array of objects have in common.

The header is every key of every object, in the order in which they first come up; an object
without a key has no value there. The text of a number is exact where it is the ID. Of a list or
an object inside there is no text: it is a reject in a column that is wanted, else no value.
"""

from __future__ import annotations

import contextlib
import json
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_assets.contract.sql import literal
from mm_assets.reading.header import folded, listed
from mm_assets.reading.in_memory import in_memory
from mm_assets.reading.table import MOST_COLUMNS, Block, Source, TableRefused, Wanted
from mm_assets.reading.typed import Fault, faults_of, id_place, without_faults

if TYPE_CHECKING:
    import pyarrow as pa

UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_NO_OBJECT = "this is no JSON object"
_TWICE = "a key stands in the object twice"
_KEYS = "CASE WHEN json_valid(text) THEN json_keys(text) END"
_FRACTION = r"^-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?$"


class Objects(Source):
    """A file of JSON objects. `_texts` hands out each one's text."""

    typed = True

    def __init__(self, path: Path, wanted: Wanted) -> None:
        self._path = path
        self.facts = {}
        self._duplicates = False
        self._only: str | None = None  # the one object, if the file holds no other
        self.header = self._keys()
        if self._only is not None:
            _refuse_columns(self._only, wanted)
        self._id_at, self._wanted = id_place(self.header, wanted)
        folded = Counter(name.lower() for name in self.header)
        # DuckDB's structs know no case: such names are asked for one by one.
        self._alone = [name for name in self.header if folded[name.lower()] > 1]
        self._together = [name for name in self.header if folded[name.lower()] == 1]

    @abstractmethod
    def _texts(self) -> Iterator[tuple[pa.Array, pa.Array]]:
        """The text of each row (string, without blanks before it) and its line (int64)."""

    def blocks(self) -> Iterator[Block]:
        with in_memory(threads=1) as connection:
            for texts, lines in self._texts():
                block = self._objects(connection, texts, lines)
                try:
                    values = self._values(connection, block.columns[0])
                except _invalid():
                    block = _valid(connection, block)
                    values = self._values(connection, block.columns[0])
                yield self._block(connection, block, values)

    # -- keys --

    def _keys(self) -> list[str]:
        keys: dict[str, None] = {}
        count = 0
        with in_memory(threads=1) as connection:
            for texts, lines in self._texts():
                self._only = texts[0].as_py() if count == 0 and len(texts) == 1 else None
                count += len(texts)
                for found in _key_lists(connection, texts, lines):
                    self._duplicates = self._duplicates or len(set(found)) < len(found)
                    keys.update(dict.fromkeys(found))
                if len(keys) > MOST_COLUMNS:
                    reason = f"more than {MOST_COLUMNS:,} different keys"
                    raise TableRefused("table_header", reason)
        if nul := [key for key in keys if "\0" in key]:
            raise TableRefused("table_header", f"a key holds a NUL character: {nul[0][:80]!a}")
        if not any(keys):
            reason = "no line or element is a JSON object" if count else "the file holds no row"
            raise TableRefused("table_json" if count else "table_header", reason)
        return [key for key in keys if key]

    # -- values --

    def _objects(self, connection: Any, texts: pa.Array, lines: pa.Array) -> Block:
        """The texts of what may be an object, in a block of one column."""
        import pyarrow.compute as pc

        other = pc.invert(pc.starts_with(texts, "{"))
        faults = [Fault(other, "row_json", _NO_OBJECT)]
        if self._duplicates:
            query = f"SELECT len({_KEYS}) > len(list_distinct({_KEYS})) FROM objects"
            twice = _array(_asked(connection, texts, query).column(0))
            faults.append(Fault(twice, "row_json", _TWICE))
        return without_faults(Block(lines, [texts]), faults, None)

    def _values(self, connection: Any, texts: pa.Array) -> list[pa.Array]:
        """The text of each value, [rows] for each key of the header. One parse for most keys."""
        import pyarrow as pa

        structure = json.dumps(dict.fromkeys(self._together, "VARCHAR"), ensure_ascii=False)
        parts = [f"from_json(text, {literal(structure)})"] if self._together else []
        parts += [f"json_extract_string(text, {_pointer(name)})" for name in self._alone]
        answer = _asked(connection, texts, f"SELECT {', '.join(parts)} FROM objects")
        arrays = [_array(column) for column in answer.columns]
        if self._together:
            arrays[:1] = arrays[0].flatten()
        found = dict(zip([*self._together, *self._alone], arrays, strict=True))
        return [found[name].cast(pa.string()) for name in self.header]

    def _block(self, connection: Any, block: Block, values: list[pa.Array]) -> Block:
        texts, columns = block.columns[0], []
        faults: list[Fault] = []
        for at, name in enumerate(self.header):
            columns.append(self._plain(connection, texts, values[at], at, faults))
            faults += faults_of(columns[at], name)
        return without_faults(Block(block.lines, columns, block.rejects), faults, self._id_at)

    def _plain(
        self, connection: Any, texts: pa.Array, values: pa.Array, at: int, faults: list[Fault]
    ) -> pa.Array:
        """One column without what only looks like text: lists, objects, NaN, rounded IDs."""
        import pyarrow as pa
        import pyarrow.compute as pc

        nested = pc.or_(pc.starts_with(values, "{"), pc.starts_with(values, "["))
        nan = pc.is_in(values, pa.array(["NaN", "-NaN"]))
        doubted = pc.or_(nested, nan)
        is_id = at == self._id_at
        if is_id:
            rounded = pc.match_substring_regex(values, _FRACTION)
            rounded = pc.and_(rounded, pc.match_substring_regex(values, "[.eE]"))
            doubted = pc.or_(doubted, rounded)
        if not pc.any(doubted).as_py():
            return values
        query = f"SELECT json_type(text, {_pointer(self.header[at])}) FROM objects"
        kinds = _array(_asked(connection, texts, query).column(0))
        number = pc.equal(kinds, "DOUBLE")
        inside = pc.and_(nested, pc.is_in(kinds, pa.array(["OBJECT", "ARRAY"])))
        if at in self._wanted:
            name = self.header[at]
            reason = f"column '{name}' holds a list or an object"
            faults.append(Fault(inside, "value_nested", reason))
        nothing = pc.or_(inside, pc.and_(nan, number))
        values = pc.if_else(nothing, pa.scalar(None, pa.string()), values)
        return self._exact(texts, values, pc.and_(rounded, number)) if is_id else values

    def _exact(self, texts: pa.Array, values: pa.Array, rows: pa.Array) -> pa.Array:
        """IDs at `rows` as they stand in the text; DuckDB rounds fractions."""
        import pyarrow as pa
        import pyarrow.compute as pc

        assert self._id_at is not None  # noqa: S101
        key = self.header[self._id_at]
        exact = values.to_pylist()
        for row in pc.indices_nonzero(rows).to_pylist():
            with contextlib.suppress(RecursionError, ValueError):
                exact[row] = json.loads(texts[row].as_py(), parse_float=str, parse_int=str)[key]
        return pa.array(exact, pa.string())


def _refuse_columns(text: str, wanted: Wanted) -> None:
    """Raises TableRefused when the only object of a file holds the table, and is no row of it."""
    with contextlib.suppress(RecursionError, ValueError):
        found = json.loads(text)
        found = found if isinstance(found, dict) else {}
        inside = [key for key, value in found.items() if isinstance(value, dict | list)]
        plain = {folded(key) for key in found if key not in inside}
        if inside and (wanted.id_column is None or folded(wanted.id_column) not in plain):
            reason = (
                f"the file is one object with {listed(inside)} inside, and not an object for each "
                "row (pandas writes these with orient='records')"
            )
            raise TableRefused("table_json", reason, 1)


# -- DuckDB ---------------------------------------------------------------------------------------


def _invalid() -> tuple[type[Exception], ...]:
    """What DuckDB raises for a text that is no JSON; its words about it may end in half a sign."""
    import duckdb

    return duckdb.InvalidInputException, UnicodeDecodeError


def _asked(connection: Any, texts: pa.Array, query: str) -> pa.Table:
    import pyarrow as pa

    connection.register("objects", pa.table({"text": texts}))
    return connection.sql(query).to_arrow_table()


def _array(column: pa.ChunkedArray) -> pa.Array:
    import pyarrow as pa

    whole = column.combine_chunks()
    return pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole


def _valid(connection: Any, block: Block) -> Block:
    """The block without the texts that are no JSON."""
    import pyarrow.compute as pc

    query = "SELECT json_valid(text) FROM objects"
    valid = _array(_asked(connection, block.columns[0], query).column(0))
    return without_faults(block, [Fault(pc.invert(valid), "row_json", _NO_OBJECT)], None)


def _key_lists(connection: Any, texts: pa.Array, lines: pa.Array) -> list[list[str]]:
    """The different lists of keys, in the order in which they come up."""
    import pyarrow as pa

    connection.register("objects", pa.table({"text": texts, "line": lines}))
    try:
        answer = connection.sql("SELECT DISTINCT json_keys(text) FROM objects").fetchall()
    except _invalid():
        answer = []
    if len(answer) != 1:
        query = f"SELECT {_KEYS} AS keys, min(line) FROM objects GROUP BY keys ORDER BY 2"
        answer = connection.sql(query).fetchall()
    return [found[0] or [] for found in answer]


def _pointer(key: str) -> str:
    return literal("/" + key.replace("~", "~0").replace("/", "~1"))


# -- bytes ----------------------------------------------------------------------------------------


def refuse_utf16(head: bytes) -> None:
    """Raises TableRefused when the file begins as UTF-16 does; JSON is UTF-8."""
    if head.startswith(_UTF16_MARKS) or b"\0" in head[:4]:
        raise TableRefused("table_encoding", "JSON is read as UTF-8; this is UTF-16 or 32", 1)


def refuse_other_encodings(data: bytes, line: int) -> None:
    """Raises TableRefused when `data`, which begins on `line`, is not UTF-8."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        at = line + data.count(b"\n", 0, error.start)
        reason = f"a byte (0x{data[error.start]:02x}) is not utf-8"
        raise TableRefused("table_encoding", reason, at) from None
