"""Typed columns to text, and rows that cannot be used out of them: for all formats with types.

A number is its exact text (a float the shortest that reads back as the same number), `true` and
`false` stand for truth, dates and times are ISO 8601, a duration is its seconds, NaN is null.
A float stands for an ID only where it is whole and no digit can be lost. All of it by column.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mm_assets.reading.header import clean, match_header
from mm_assets.reading.images_inside import ImagesInside
from mm_assets.reading.table import (
    FIELD_LIMIT,
    MOST_COLUMNS,
    Block,
    Reject,
    TableRefused,
    Wanted,
)

if TYPE_CHECKING:
    import pyarrow as pa

_INDEX = "__index_level_"  # so pandas calls an index that has no name
_SHOWN = 20
LOST = "the ID is a number that has lost digits, or is not whole"
_EXACT_BITS = {16: 11, 32: 24, 64: 53}  # of a float: up to here all whole numbers are different


@dataclass(frozen=True)
class Fault:
    """Why some rows cannot be used. rows: bool, [rows]; null counts as false."""

    rows: pa.Array
    code: str
    reason: str


@dataclass
class Columns:
    """The columns of a block while they become text. id_at: which one is the ID, if known.

    inside: the column of images, whose names stand among `names`.
    """

    names: Sequence[str]
    id_at: int | None
    inside: ImagesInside | None = None
    images: pa.Array | None = None
    texts: list[pa.Array] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def add(self, array: pa.Array) -> None:
        """Take the next column. Raises TableRefused when it is not what its type says."""
        at = len(self.texts)
        _check(array, self.names[at])
        if self.inside is not None and self.names[at] == self.inside.name:
            self.images, texts = self.inside.read(array)
            self.texts += texts
            return
        self.texts.append(as_text(array, self.names[at], at == self.id_at, self.faults))

    def block(self, first_row: int) -> Block:
        """All rows, those with a fault among the rejects. first_row: the number of the first."""
        import numpy as np
        import pyarrow as pa

        lines = pa.array(np.arange(first_row, first_row + len(self.texts[0]), dtype=np.int64))
        for name, text in zip(self.names, self.texts, strict=True):
            self.faults += faults_of(text, name)
        block = Block(lines, self.texts, images=self.images)
        return without_faults(block, self.faults, self.id_at)


def id_place(header: Sequence[str], wanted: Wanted) -> tuple[int | None, set[int]]:
    """Where the ID stands, and the places of all columns that are wanted. Raises TableRefused."""
    matched = match_header(header, wanted)
    places = dict(zip(matched.names, matched.places, strict=True))
    return (
        None if wanted.id_column is None else places[wanted.id_column],
        {places[name] for name in wanted.names if name in places},
    )


def without_faults(block: Block, faults: Sequence[Fault], id_at: int | None) -> Block:
    """The block with each row that has a fault turned into a reject, by its first fault."""
    import pyarrow as pa
    import pyarrow.compute as pc

    first: dict[int, Fault] = {}
    for fault in faults:
        for row in pc.indices_nonzero(fault.rows).to_pylist():
            first.setdefault(row, fault)
    if not first:
        return block
    rejects = list(block.rejects)
    for row, fault in sorted(first.items()):
        record_id = None if id_at is None or fault.code.startswith("id_") else block.columns[id_at]
        said = record_id[row].as_py() if record_id is not None else None
        rejects.append(Reject(fault.code, fault.reason, block.lines[row].as_py(), said))
    kept = pa.array([row for row in range(len(block.lines)) if row not in first], pa.int64())
    images = None if block.images is None else block.images.take(kept)
    texts = [text.take(kept) for text in block.columns]
    return Block(block.lines.take(kept), texts, rejects, images)


def usable(
    schema: pa.Schema, wanted: Wanted, inside: ImagesInside | None = None
) -> tuple[list[int], list[str], dict[str, Any]]:
    """Which columns are read, the header they make, and what is to be told of them and the others.

    Raises TableRefused.
    """
    if len(schema.names) > MOST_COLUMNS:
        raise TableRefused("table_header", f"more than {MOST_COLUMNS:,} columns")
    asked_for = set(wanted.names)
    index = [n for n in schema.names if n.startswith(_INDEX) and clean(n) not in asked_for]
    named = [at for at, name in enumerate(schema.names) if name not in index]
    more = [] if inside is None else inside.names[1:]
    _, asked = id_place([*(schema.names[at] for at in named), *more], wanted)
    wanted_places = {named[at] for at in asked if at < len(named)}
    if inside is not None:
        wanted_places.add(inside.at)
    taken = [at for at in named if at in wanted_places or has_text(schema.types[at])]
    nested = [schema.names[at] for at in named if at not in taken]
    if not taken:
        raise TableRefused("table_header", "every column holds lists, objects or bytes")
    facts: dict[str, Any] = {} if inside is None else inside.facts
    if index:
        facts["index_left_out"] = index[:_SHOWN]
    if nested:
        facts["columns_nested"] = nested[:_SHOWN]
    header: list[str] = []
    for at in taken:
        own = inside is not None and at == inside.at
        header += inside.names if own and inside is not None else [schema.names[at]]
    return taken, header, facts


@contextlib.contextmanager
def refusing_damage(what: str) -> Iterator[None]:
    """What pyarrow cannot read is a refusal in words; its own words are no help to anyone."""
    import pyarrow as pa

    try:
        yield
    except MemoryError:
        raise  # told by who watches this process
    except (pa.ArrowException, OSError, ValueError, OverflowError):
        raise TableRefused("table_damaged", f"the {what} is damaged or cut short") from None


def has_text(kind: pa.DataType) -> bool:
    """Whether each value of this type is one plain value, not a list, an object or bytes."""
    import pyarrow.types as t

    kind = _plain(kind)
    number = t.is_integer(kind) or t.is_floating(kind) or t.is_decimal(kind)
    time = t.is_date(kind) or t.is_time(kind) or t.is_timestamp(kind) or t.is_duration(kind)
    return number or time or t.is_boolean(kind) or t.is_null(kind) or _is_string(kind)


def as_text(array: pa.Array, name: str, is_id: bool, faults: list[Fault]) -> pa.Array:
    """A column as strings. What cannot be one is null there and noted in `faults`."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as t

    array = _without_wrapping(array)
    kind = array.type
    if _is_string(kind) or t.is_null(kind):
        return array.cast(pa.string())
    if t.is_floating(kind):
        return _id_of_floats(array, faults) if is_id else _floats(array)
    if t.is_decimal(kind) and is_id:
        return _id_of_decimals(array)
    if t.is_timestamp(kind):
        return _timestamps(array)
    if t.is_time(kind):
        return _without_zeros(array.cast(pa.string()))
    if t.is_duration(kind):
        return _seconds(array)
    if t.is_binary(kind) or t.is_large_binary(kind):
        return _bytes(array, name, faults)
    if not has_text(kind):
        faults.append(Fault(pc.is_valid(array), "value_nested", f"column '{name}' holds {kind}"))
        return pa.nulls(len(array), pa.string())
    return array.cast(pa.string())


def _is_string(kind: pa.DataType) -> bool:
    import pyarrow.types as t

    return t.is_string(kind) or t.is_large_string(kind) or t.is_string_view(kind) or _is_uuid(kind)


def _is_uuid(kind: pa.DataType) -> bool:
    return getattr(kind, "extension_name", "") == "arrow.uuid"


def _plain(kind: Any) -> pa.DataType:
    """The type of the values below dictionaries, runs and extensions."""
    while hasattr(kind, "value_type") and hasattr(kind, "index_type"):
        kind = kind.value_type
    if hasattr(kind, "storage_type") and not _is_uuid(kind):
        return _plain(kind.storage_type)
    return _plain(kind.value_type) if hasattr(kind, "run_end_type") else kind


def _without_wrapping(array: Any) -> pa.Array:
    import pyarrow.compute as pc
    import pyarrow.types as t

    while True:
        if _is_uuid(array.type):
            return _uuids(array.storage)
        if hasattr(array.type, "storage_type"):
            array = array.storage
        elif t.is_dictionary(array.type):
            array = array.dictionary_decode()
        elif t.is_run_end_encoded(array.type):
            array = pc.run_end_decode(array)
        else:
            return array


def _check(array: pa.Array, name: str) -> None:
    import pyarrow as pa

    try:
        array.validate(full=True)
    except pa.ArrowInvalid as error:
        if "UTF8" in str(error):
            reason = f"column '{name}' holds a text that is no UTF-8"
            raise TableRefused("table_encoding", reason) from None
        reason = f"column '{name}' holds values that its type cannot have"
        raise TableRefused("table_damaged", reason) from None


def faults_of(text: pa.Array, name: str) -> list[Fault]:
    """What no field may hold, in whatever format: a NUL, or too much."""
    import pyarrow.compute as pc

    faults = []
    if (pc.max(pc.binary_length(text)).as_py() or 0) > FIELD_LIMIT:
        long = pc.greater(pc.utf8_length(text), FIELD_LIMIT)
        faults.append(Fault(long, "field_too_long", f"the field in column '{name}' is too long"))
    nul = pc.match_substring(text, "\0")
    if pc.any(nul).as_py():
        reason = f"the field in column '{name}' holds a NUL character"
        faults.append(Fault(nul, "value_nul", reason))
    return faults


# -- numbers --------------------------------------------------------------------------------------


def _without_nan(array: pa.Array) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    missing = pc.is_nan(array)
    return pc.if_else(missing, pa.scalar(None, array.type), array)


def _floats(array: pa.Array) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    if array.type == pa.float16():
        array = array.cast(pa.float32())
    text = _without_nan(array).cast(pa.string())
    whole = pc.match_substring_regex(text, "^-?[0-9]+$")
    if not pc.any(whole).as_py():
        return text
    return pc.if_else(whole, pc.binary_join_element_wise(text, "", ".0"), text)


def _id_of_floats(array: pa.Array, faults: list[Fault]) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    limit = float(2 ** _EXACT_BITS[array.type.bit_width])
    array = _without_nan(array.cast(pa.float64()))
    exact = pc.and_(pc.equal(pc.floor(array), array), pc.less(pc.abs(array), limit))
    faults.append(Fault(pc.invert(exact), "id_number_lost", LOST))
    whole = pc.if_else(exact, array, pa.scalar(None, pa.float64()))
    return whole.cast(pa.int64()).cast(pa.string())


def _id_of_decimals(array: pa.Array) -> pa.Array:
    """Databases have IDs as decimals: 7.000 is 7. Others are exact as they stand."""
    import pyarrow.compute as pc

    return pc.replace_substring_regex(array.cast("string"), r"\.0+$", "")


# -- times ----------------------------------------------------------------------------------------


def _without_zeros(text: pa.Array) -> pa.Array:
    """Fractions of a second without the zeros at their end."""
    import pyarrow.compute as pc

    text = pc.replace_substring_regex(text, r"\.0+([^0-9]|$)", r"\1")
    return pc.replace_substring_regex(text, r"(\.[0-9]*[1-9])0+([^0-9]|$)", r"\1\2")


def _timestamps(array: pa.Array) -> pa.Array:
    """With the offset of their zone, where they have one; in UTC where nobody knows that zone."""
    import pyarrow as pa
    import pyarrow.compute as pc

    zone = array.type.tz
    if zone:
        try:
            text = array.cast(pa.string())
        except (pa.ArrowInvalid, pa.ArrowKeyError):
            text = array.cast(pa.timestamp(array.type.unit)).cast(pa.string())
            zone, text = "UTC", pc.binary_join_element_wise(text, "", "Z")
        text = pc.replace_substring_regex(text, "Z$", "+0000")
        text = pc.replace_substring_regex(text, "([+-][0-9]{2})([0-9]{2})$", r"\1:\2")
    else:
        text = array.cast(pa.string())
    return pc.replace_substring(_without_zeros(text), " ", "T", max_replacements=1)


def _seconds(array: pa.Array) -> pa.Array:
    import pyarrow as pa

    scale = {"s": 0, "ms": 3, "us": 6, "ns": 9}[array.type.unit]
    whole = array.cast(pa.int64()).cast(pa.decimal128(19, 0))
    exact = pa.Array.from_buffers(
        pa.decimal128(28, scale), len(whole), whole.buffers(), offset=whole.offset
    )
    return _without_zeros(exact.cast(pa.string()))


def _bytes(array: pa.Array, name: str, faults: list[Fault]) -> pa.Array:
    """Bytes that are UTF-8: so some writers leave their strings."""
    import pyarrow as pa
    import pyarrow.compute as pc

    with contextlib.suppress(pa.ArrowInvalid):
        return array.cast(pa.string())
    texts = [None if value is None else _decoded(value) for value in array.to_pylist()]
    text = pa.array(texts, pa.string())
    wrong = pc.and_(pc.is_valid(array), pc.is_null(text))
    faults.append(Fault(wrong, "value_nested", f"column '{name}' holds bytes that are no text"))
    return text


def _decoded(value: bytes) -> str | None:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _uuids(array: pa.Array) -> pa.Array:
    """The usual 36 characters. array: [rows] of 16 bytes each."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    data = array.buffers()[1]
    digits = b"" if data is None else data.to_pybytes().hex().encode()
    count = array.offset + len(array)
    ends = pa.py_buffer(np.arange(0, 32 * (count + 1), 32, dtype=np.int32))
    text = pa.StringArray.from_buffers(count, ends, pa.py_buffer(digits)).slice(array.offset)
    parts = "^(.{8})(.{4})(.{4})(.{4})(.{12})$"
    text = pc.replace_substring_regex(text, parts, r"\1-\2-\3-\4-\5")
    return pc.if_else(pc.is_valid(array), text, pa.scalar(None, pa.string()))
