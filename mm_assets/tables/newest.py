"""Of what several uploads say of records, the newest.

DuckDB finds who says what; which of it is the newest is counted here, by places and not by names:
for a million records that takes a quarter of what grouping them by their IDs takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


def newest(ids: pa.Table, uploads: pa.Array, told: pa.Table, seen: pa.Table) -> pa.Table:
    """What `Store.look_up` says, as far as names have no part in it.

    ids: record_id, a row each. uploads: their keys, sorted. told: what rows say: place (the row in
    ids), rank (the place in uploads), labels_only, label. seen: the same of images: place, rank,
    image_sha256, image_file. One upload says one thing of a record, at most.
    """
    import numpy as np
    import pyarrow.compute as pc

    labelled = np.asarray(pc.is_valid(told["label"]))
    with_features = ~np.asarray(told["labels_only"])
    every = np.ones(seen.num_rows, bool)
    of_label = _Newest(told, labelled, ids.num_rows)
    of_image = _Newest(seen, every, ids.num_rows)
    columns = {
        "unlabelled_upload": _Newest(told, ~labelled & with_features, ids.num_rows).of(uploads),
        "labelled_upload": _Newest(told, labelled & with_features, ids.num_rows).of(uploads),
        "label": of_label.take(told["label"]),
        "label_upload": of_label.of(uploads),
        "image_upload": of_image.of(uploads),
        "image_sha256": of_image.take(seen["image_sha256"]),
        "image_file": of_image.take(seen["image_file"]),
    }
    for name, column in columns.items():
        ids = ids.append_column(name, column)
    return ids


class _Newest:
    """Of each record the row of a table that is of the newest upload; kept: [rows] which count."""

    def __init__(self, table: pa.Table, kept: np.ndarray, records: int) -> None:
        import numpy as np

        places, ranks = (np.asarray(table[name])[kept] for name in ("place", "rank"))
        self._rank = np.full(records, -1, np.int64)
        np.maximum.at(self._rank, places, ranks)
        best = ranks == self._rank[places]
        self._row = np.full(records, -1, np.int64)
        self._row[places[best]] = np.flatnonzero(kept)[best]

    def of(self, uploads: pa.Array) -> pa.Array:
        """The upload of each record's row, null where it has none."""
        import pyarrow as pa

        return uploads.take(pa.array(self._rank, mask=self._rank < 0))

    def take(self, column: pa.ChunkedArray) -> pa.Array:
        """What the column holds in each record's row, null where it has none."""
        import pyarrow as pa

        return column.combine_chunks().take(pa.array(self._row, mask=self._row < 0))
