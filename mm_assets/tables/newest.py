"""Of what several uploads say of records, the newest.

DuckDB finds who says what; which of it is the newest is counted here, by places and not by names:
for a million records that takes a quarter of what grouping them by their IDs takes. What the one
who asks has just published itself is known here; DuckDB is asked about the others.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from mm_assets.tables.store import Published

_SAID = (("labels_only", "label"), ("image_sha256", "image_file"))  # of rows, of images
_COLUMNS = (
    "unlabelled_upload", "labelled_upload", "label", "label_upload", "image_upload",
    "image_sha256", "image_file",
)  # fmt: skip


class Asked:
    """The records of one `Store.look_up`, each with a place, and what is known of them already.

    ids: [records], sorted. upload: whose part is known, or ''.
    """

    def __init__(self, record_ids: pa.Array, own: Published | None) -> None:
        import pyarrow as pa

        self.upload = own.upload if own is not None else ""
        tables = [] if own is None else [own.rows, own.images]
        named = [_one(table["record_id"]) for table in tables]
        self.ids, places = _placed(pa.concat_arrays([record_ids.cast(pa.string()), *named]))
        self._tables, end = [], len(record_ids)
        for table in tables:
            end += len(table)
            place = pa.array(places[end - len(table) : end])
            self._tables.append(table.append_column("place", place))

    def wanted(self) -> pa.Table:
        """record_id and place of each record."""
        import pyarrow as pa

        return pa.table({"record_id": self.ids, "place": pa.arange(0, len(self.ids))})

    def forget(self, void: pa.Array, *, withdrawn: bool) -> None:
        """Leave out what the known upload says, and counts no more. void: records whose row was
        refused by it or a newer one; labels without features stay."""
        import pyarrow.compute as pc

        if withdrawn:
            self._tables = [table.slice(0, 0) for table in self._tables]
        elif self._tables and len(void):
            rows, images = self._tables
            gone = pc.is_in(rows["record_id"], value_set=void)
            self._tables = [rows.filter(pc.or_(rows["labels_only"], pc.invert(gone))), images]

    def answer(
        self, uploads: pa.Array, told: pa.Table | None = None, seen: pa.Table | None = None
    ) -> pa.Table:
        """What `Store.look_up` says, as far as names have no part in it.

        uploads: keys of the others, sorted. told: what their rows say: place, rank (the place in
        uploads), labels_only, label. seen: the same of images: place, rank, image_sha256,
        image_file. One upload says one thing of a record, at most.
        """
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        keys = uploads.to_pylist()
        rank = bisect_left(keys, self.upload)
        if self._tables:
            keys.insert(rank, self.upload)
        rows, images = (
            self._with_own(number, others, rank) for number, others in enumerate((told, seen))
        )
        labelled = np.asarray(pc.is_valid(rows["label"]))
        with_features = ~np.asarray(rows["labels_only"])
        found = pa.table({"record_id": self.ids})
        for name, table, kept, taken in (
            ("unlabelled_upload", rows, ~labelled & with_features, ()),
            ("labelled_upload", rows, labelled & with_features, ()),
            ("label_upload", rows, labelled, ("label",)),
            ("image_upload", images, np.ones(len(images), bool), ("image_sha256", "image_file")),
        ):
            one = _Newest(table, kept, len(self.ids))
            for other in taken:
                found = found.append_column(other, one.take(table[other]))
            found = found.append_column(name, one.of(pa.array(keys, pa.string())))
        return found.select(["record_id", *_COLUMNS])

    def _with_own(self, number: int, others: pa.Table | None, rank: int) -> pa.Table:
        """What the others say and what is known, in one; rank: the place of the known upload."""
        import numpy as np
        import pyarrow as pa

        parts = []
        if others is not None:
            ranks = np.asarray(others["rank"])
            if self._tables:
                ranks = ranks + (ranks >= rank)
            columns = {"rank": ranks, "place": others["place"]}
            parts.append(_in_columns(others, number, columns))
        if self._tables:
            own = self._tables[number]
            columns = {"rank": np.full(len(own), rank), "place": own["place"]}
            parts.append(_in_columns(own, number, columns))
        return pa.concat_tables([_in_columns(None, number, {}), *parts])


def _in_columns(table: pa.Table | None, number: int, more: dict[str, Any]) -> pa.Table:
    import pyarrow as pa

    names = _SAID[number]
    types = {"labels_only": pa.bool_()}
    schema = pa.schema(
        [("rank", pa.int32()), ("place", pa.int32()),
         *((name, types.get(name, pa.string())) for name in names)]
    )  # fmt: skip
    if table is None:
        return schema.empty_table()
    return pa.table({**more, **{name: table[name] for name in names}}).cast(schema)


class _Newest:
    """Of each record the row of a table that is of the newest upload; kept: [rows] which count."""

    def __init__(self, table: pa.Table, kept: np.ndarray, records: int) -> None:
        import numpy as np

        rows = np.flatnonzero(kept).astype(np.int32)
        ranks = np.asarray(table["rank"])[rows]
        if len(ranks) and ranks.min() < ranks.max():
            rows = rows[np.argsort(ranks, kind="stable")]  # what is assigned last stays
        self._ranks, self._row = table["rank"], np.full(records, -1, np.int32)
        self._row[np.asarray(table["place"])[rows]] = rows
        self._found = self._row >= 0

    def of(self, uploads: pa.Array) -> pa.DictionaryArray:
        """The upload of each record's row, null where it has none."""
        import pyarrow as pa

        return pa.DictionaryArray.from_arrays(self.take(self._ranks), uploads)

    def take(self, column: pa.ChunkedArray) -> pa.Array:
        """What the column holds in each record's row, null where it has none."""
        import pyarrow as pa

        return _one(column).take(pa.array(self._row, mask=~self._found))


def _placed(ids: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """The different IDs, sorted, and the place of each given one among them."""
    import numpy as np
    import pyarrow.compute as pc

    order = pc.sort_indices(ids)
    ids = ids.take(order)
    new = np.ones(len(ids), bool)
    new[1:] = pc.fill_null(pc.not_equal(ids[1:], ids[:-1]), True)
    places = np.empty(len(ids), np.int32)
    places[np.asarray(order)] = np.cumsum(new, dtype=np.int32) - 1
    return ids if new.all() else ids.filter(new), places


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
