"""The Parquet file of an upload's normalised images, written a few megabytes at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mm_assets.contract.dataset import NamedImage
from mm_assets.reading.image_features import FEATURE_NAMES
from mm_assets.reading.images import NormalisedImage
from mm_assets.reading.likeness import BYTES
from mm_assets.uploads.delivered import Delivered

ROW_GROUP_BYTES = 8 << 20
MOST_ROWS = 65_536  # in a group; those without bytes of their own take little


class ImageFile:
    """images.parquet: record_id, number, file, sha256 (of the original), image, its features and
    its likeness. `image` is null where a row before has the bytes of the same file.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.path = path
        self.schema = pa.schema(
            [
                ("record_id", pa.string()),
                ("number", pa.int64()),
                ("file", pa.string()),
                ("sha256", pa.string()),
                ("image", pa.binary()),
                ("features", pa.struct([(name, pa.float64()) for name in FEATURE_NAMES])),
                ("likeness", pa.binary(BYTES)),
            ]
        )
        self.rows: list[tuple[Any, ...]] = []
        self.bytes = 0
        self._kept: set[str] = set()  # in `take`: the images whose bytes are in the file
        # Images are compressed already; only their names gain from it.
        self.writer = pq.ParquetWriter(
            path, self.schema, compression="none", use_dictionary=False, write_statistics=["sha256"]
        )

    def add(self, file: Delivered, named: NamedImage, image: NormalisedImage) -> None:
        # `{n}` may be any row of digits; beyond 64 bits the file's name decides the order.
        number = min(named.number, 2**63 - 1)
        self.rows.append(
            (named.record_id, number, file.name, file.sha256, image.data, image.features,
             image.likeness)
        )  # fmt: skip
        self.bytes += len(image.data)
        if self.bytes >= ROW_GROUP_BYTES:
            self._flush()

    def take(
        self, path: Path, owners: Mapping[str, Sequence[tuple[str, int]]] | None = None
    ) -> None:
        """Add the images of another such file, each once for every record that it belongs to.

        owners: of each file the records and its number among their images; None: as it says there.
        Of an image that is several records' its bytes are kept once. The other file is deleted.
        """
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as other:
            for group in range(other.num_row_groups):
                for row in other.read_row_group(group).to_pylist():
                    own = ((row["record_id"], row["number"]),)
                    self._take(row, own if owners is None else owners.get(row["file"], ()))
        path.unlink()

    def _take(self, row: dict[str, Any], owners: Sequence[tuple[str, int]]) -> None:
        rest = (row["file"], row["sha256"])
        known = (row["features"], row["likeness"])
        for record_id, number in owners:
            image = None if row["sha256"] in self._kept else row["image"]
            self._kept.add(row["sha256"])
            self.rows.append((record_id, number, *rest, image, *known))
            self.bytes += len(image or b"")
            if self.bytes >= ROW_GROUP_BYTES or len(self.rows) >= MOST_ROWS:
                self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self.rows:
            columns = zip(*self.rows, strict=True)
            arrays = [pa.array(c, f.type) for c, f in zip(columns, self.schema, strict=True)]
            self.writer.write_table(pa.Table.from_arrays(arrays, schema=self.schema))
        self.rows, self.bytes = [], 0

    def close(self) -> None:
        self._flush()
        self.writer.close()
