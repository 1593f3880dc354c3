"""A first look at the rows of a table: what leaves nothing to judge is typed here, once.

Arrow reads some rows at a time and settles what is plain: numbers as computers write them, texts,
harmless IDs. The values are kept beside, in a file that is not compressed, until it is known which
records are asked for. What remains is odd: `judging.py` asks DuckDB about it, which knows every
rule. What is settled here has to be what DuckDB would say of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_assets.contract.dataset import ColumnKind, DatasetSpec
from mm_assets.contract.ids import MAXIMUM_BYTES, SPACE
from mm_assets.manifest.numbers import Form
from mm_assets.manifest.texts import (
    ID_PROBLEMS,
    Told,
    judged_label_sql,
    missing_numbers,
    split_sql,
)
from mm_assets.reading.ahead import one_ahead

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import pyarrow as pa

BATCH_ROWS, BATCH_BYTES = 65_536, 64 << 20
NOTED_ROWS = 500_000
# Of the numbers that DuckDB takes for one, those that Arrow takes for the same one.
_PLAIN = r"^-?([0-9]{1,30}\.?[0-9]{0,30}|\.[0-9]{1,30})([eE][+-]?[0-9]{1,2})?$"
_CREATE = """
    CREATE OR REPLACE TEMP TABLE judged (
        n INTEGER, r BIGINT, _file VARCHAR, _line BIGINT, labels_only BOOLEAN, record_id VARCHAR,
        label VARCHAR, odd BOOLEAN, odd_label BOOLEAN, odd_number BOOLEAN)"""
ODD = "(odd OR odd_label OR odd_number)"  # whether something may be wrong with a row of `judged`


@dataclass
class Looked:
    """What was seen of one table.

    starts: the first row of each part of the file at `path`, and how many rows there are. odd_ids,
    odd_labels: whether any may be wrong. odd_numbers: the columns, by their place in the YAML, in
    which a number may be wrong or written otherwise. missing: those that lack a required value.
    gone_numbers: whether any number is missing.
    """

    table: Told
    path: Path
    starts: list[int] = field(default_factory=lambda: [0])
    odd_ids: bool = False
    odd_labels: bool = False
    odd_numbers: set[int] = field(default_factory=set)
    missing: set[int] = field(default_factory=set)
    gone_numbers: bool = False

    def parts(self, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray, pa.RecordBatch]]:
        """What was kept where any of these rows lie: the first row there, those asked for, all.

        rows: by their places in the table, which rise.
        """
        import numpy as np
        import pyarrow as pa

        if not len(rows):
            return
        places = np.searchsorted(rows, self.starts)
        with pa.OSFile(str(self.path)) as file, pa.ipc.open_file(file) as kept:
            for number, first in enumerate(self.starts[:-1]):
                own = rows[places[number] : places[number + 1]]
                if len(own):
                    yield first, own, kept.get_batch(number)

    @property
    def found_odd(self) -> bool:
        return bool(self.odd_ids or self.odd_labels or self.odd_numbers or self.missing)


def look(
    db: duckdb.DuckDBPyConnection,
    spec: DatasetSpec,
    tables: list[Told],
    forms: Mapping[int, Mapping[str, Form]],
    classes: dict[str, list[str]],
    folder: Path,
) -> list[Looked]:
    """Make the table `judged`, a row for each row; the values are kept in the folder.

    forms: what numbers are taken for; columns that are not taken for plain ones are left alone.
    """
    import pyarrow as pa

    db.execute(_CREATE)
    found = []
    for table in tables:
        looked = Looked(table, folder / f"kept-{table.number:04d}.arrow")
        looking = _Looking(db, spec, looked, forms[table.number], classes)
        writer = None
        with pa.OSFile(str(looked.path), "wb") as file:
            for part in one_ahead(map(looking.take, one_ahead(_parts(table)))):
                kept = looking.hashed(part)
                writer = writer or pa.ipc.new_file(file, kept.schema)
                writer.write_batch(kept)
            if writer is not None:
                writer.close()
        looking.close()
        found.append(looked)
    return found


def _parts(table: Told) -> Iterator[pa.RecordBatch]:
    """The texts of a table, so many rows at a time as fit into some memory."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(table.path) as file:
        groups = [file.metadata.row_group(at) for at in range(file.metadata.num_row_groups)]
        widest = max((one.total_byte_size / max(1, one.num_rows) for one in groups), default=1)
        rows = max(1, min(BATCH_ROWS, int(BATCH_BYTES / max(1, widest))))
        yield from file.iter_batches(rows, use_threads=False)


class _Looking:
    """The first look at one table."""

    def __init__(
        self,
        db: duckdb.DuckDBPyConnection,
        spec: DatasetSpec,
        looked: Looked,
        forms: Mapping[str, Form],
        classes: dict[str, list[str]],
    ) -> None:
        import pyarrow as pa

        self._db, self._spec, self._looked, self._classes = db, spec, looked, classes
        self._hashing = db.cursor()  # rows are hashed while the next ones are judged
        self._table = looked.table
        self._labels_only = bool(self._table.entry["labels_only"])
        self._places = {name: f"c{at}" for at, name in enumerate(self._table.entry["columns"])}
        self._missing = pa.array(list(spec.missing_values), pa.string())
        self._missing_numbers = missing_numbers(spec)
        self._plain = {name for name, form in forms.items() if form.plain}
        self._noted: list[pa.Table] = []
        self._judge_label = self._label_query(forms.get(spec.label_column, Form()))

    def _label_query(self, form: Form) -> str:
        label, wrong = judged_label_sql(self._spec, form)
        told = f"SELECT label_text, {self._labels_only} AS labels_only FROM told"
        return f"{label}, {wrong} FROM ({told})"

    def take(self, part: pa.RecordBatch) -> pa.RecordBatch:
        """Judge some rows; returns what is kept of them, with all their texts in one."""
        import numpy as np
        import pyarrow as pa

        spec, looked, count = self._spec, self._looked, part.num_rows
        record_ids, odd = self._ids(part[self._places[spec.id_column]])
        looked.odd_ids |= bool(odd.any())
        label, odd_label = self._asked(
            self._text(part, spec.label_column), "label_text", self._judge_label, self._classes
        )
        odd_label = np.asarray(odd_label)
        looked.odd_labels |= bool(odd_label.any())
        odd_number = np.zeros(count, bool)
        texts, values = [], []
        for k, (name, column) in enumerate(spec.columns.items()):
            text = self._text(part, name)
            if column.kind is not ColumnKind.NUMBER:
                value, gone = self._trimmed(text, column.kind)
            elif name in self._plain or name not in self._places:
                value, gone, unsettled = self._number(text)
                looked.gone_numbers |= bool(gone.any())
                if unsettled.any():
                    looked.odd_numbers.add(k)
                    odd_number |= unsettled
            else:
                value, gone = pa.nulls(count, pa.float64()), None
            if column.required and not self._labels_only and gone is not None and gone.any():
                looked.missing.add(k)
                odd |= gone
            texts.append(text)
            values.append(value)
        first = looked.starts[-1]
        looked.starts.append(first + count)
        self._noted.append(
            pa.table({"r": pa.array(np.arange(first, first + count)), "_file": part["_file"],
                      "_line": part["_line"], "record_id": record_ids, "label": label,
                      "odd": odd, "odd_label": odd_label, "odd_number": odd_number})
        )  # fmt: skip
        if sum(one.num_rows for one in self._noted) >= NOTED_ROWS:
            self.note()
        kept = {
            "row_file": part["_file"],
            "row_line": part["_line"],
            "row_hash": self._joined(texts, count),
        }
        for what, name in spec.split_columns.items():
            query = f"{split_sql(spec, what)} FROM told"
            (kept[f"split_{what}"],) = self._asked(self._text(part, name), f"{what}_text", query)
        kept |= {f"v{k}": value for k, value in enumerate(values)}
        return pa.RecordBatch.from_arrays(list(kept.values()), names=list(kept))

    def _text(self, part: pa.RecordBatch, name: str) -> pa.Array:
        import pyarrow as pa

        there = self._places.get(name)
        return pa.nulls(part.num_rows, pa.string()) if there is None else part[there]

    def close(self) -> None:
        self.note()
        self._hashing.close()

    def note(self) -> None:
        """Put into `judged` what was said of the rows so far; many at once cost a third."""
        import pyarrow as pa

        if self._noted:
            self._db.register("looked", pa.concat_tables(self._noted))
            self._db.execute(
                f"INSERT INTO judged SELECT {self._table.number}, r, _file, _line, "
                f"{self._labels_only}, record_id, label, odd, odd_label, odd_number FROM looked"
            )
            self._db.unregister("looked")
            self._noted = []

    def _asked(
        self, text: pa.Array, name: str, query: str, given: dict[str, Any] | None = None
    ) -> list[pa.Array]:
        """The same, where each different text is asked about once."""
        coded = text.dictionary_encode(null_encoding="encode")
        said = _said(self._db, coded.dictionary, name, query, given)
        return [one.take(coded.indices) for one in said]

    def _ids(self, text: pa.Array) -> tuple[pa.Array, np.ndarray]:
        """The IDs, and of which something may be wrong; '' is refused."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        text = pc.fill_null(text, "")
        if not _is_harmless(text):
            wrong = " OR ".join(when for when, _, _ in ID_PROBLEMS)
            query = (
                f"record_id, coalesce({wrong}, true) "
                "FROM (SELECT coalesce(nfc_normalize(text), '') AS record_id FROM told)"
            )
            record_ids, odd = self._asked(text, "text", query)
            return record_ids, np.array(odd)
        odd = pc.or_(
            pc.equal(pc.utf8_trim(text, SPACE), ""),
            pc.is_in(text, value_set=pa.array([".", ".."], pa.string())),
        )
        return text, np.array(pc.or_(odd, pc.greater(pc.binary_length(text), MAXIMUM_BYTES)))

    def _trimmed(self, text: pa.Array, kind: ColumnKind) -> tuple[pa.Array, np.ndarray]:
        """Texts, null where one is missing, and where that is."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        trimmed = pc.utf8_trim(text, SPACE)
        gone = pc.or_(pc.is_null(text), pc.is_in(trimmed, value_set=self._missing))
        kept = text if kind is ColumnKind.TEXT else trimmed
        if pc.any(gone).as_py():
            kept = pc.if_else(gone, pa.scalar(None, pa.string()), kept)
        return kept, np.asarray(gone)

    def _number(self, text: pa.Array) -> tuple[pa.Array, np.ndarray, np.ndarray]:
        """Numbers, null where there is none; where one is missing; and where it is not settled."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        nothing = np.zeros(len(text), bool)
        try:
            numbers = text.cast(pa.float64())
        except pa.ArrowInvalid:
            plain = pc.match_substring_regex(text, _PLAIN)
            numbers = pc.if_else(plain, text, pa.scalar(None, pa.string())).cast(pa.float64())
        if not self._missing_numbers and not numbers.null_count and _all_finite(numbers):
            return numbers, nothing, nothing
        settled = np.asarray(pc.fill_null(pc.is_finite(numbers), False))
        is_gone = pc.is_in(pc.utf8_trim(text, SPACE), value_set=self._missing)
        gone = np.asarray(pc.or_(pc.is_null(text), is_gone))
        numbers = pc.if_else(pa.array(settled & ~gone), numbers, pa.scalar(None, pa.float64()))
        return numbers, gone, ~(settled | gone)

    def _joined(self, texts: list[pa.Array], count: int) -> pa.Array:
        """Of each row its texts as they stand in the file."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if not texts:
            return pa.repeat(pa.scalar("", pa.string()), count)
        return pc.binary_join_element_wise(
            *texts, pa.scalar("\x1f"), null_handling="replace", null_replacement=""
        )

    def hashed(self, part: pa.RecordBatch) -> pa.RecordBatch:
        """What is kept of some rows, with the hash of their texts in the place of these."""
        (row_hash,) = _said(self._hashing, part["row_hash"], "text", "md5(text) FROM told")
        return part.set_column(part.schema.get_field_index("row_hash"), "row_hash", row_hash)


def _said(
    db: duckdb.DuckDBPyConnection,
    text: pa.Array,
    name: str,
    query: str,
    given: dict[str, Any] | None = None,
) -> list[pa.Array]:
    """What SQL says of a column of `told`."""
    import pyarrow as pa

    db.register("told", pa.table({name: text}))
    found = db.sql(f"SELECT {query}", params=given or {}).to_arrow_table()
    db.unregister("told")
    return [one.combine_chunks() for one in found.columns]


def _is_harmless(text: pa.Array) -> bool:
    """Whether there are only bytes that an ID may have, and that mean themselves alone."""
    import numpy as np

    offsets = np.frombuffer(text.buffers()[1], np.int32)[text.offset : text.offset + len(text) + 1]
    data = text.buffers()[2]
    if data is None or not len(text):
        return True
    bytes_of = np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]]
    harmless = np.zeros(256, bool)
    harmless[0x20:0x7F] = True
    harmless[[ord("/"), ord("\\"), ord("+")]] = False
    return bool(harmless[bytes_of].all())


def _all_finite(numbers: pa.Array) -> bool:
    import numpy as np

    return bool(np.isfinite(np.asarray(numbers)).all())
