"""Images inside a table, on the same way as files: verified, normalised, or refused with a code.

Each is called after its place (`train.parquet, row 17, column image`) and is the record's that its
row is. They wait in a file of their own until the whole table has been read: the images of a table
that is refused in the middle are nobody's.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mm_assets.contract.dataset import DatasetSpec, NamedImage
from mm_assets.contract.ids import fault_of, normalised
from mm_assets.reading.images import ImageRefused, NormalisedImage
from mm_assets.reading.table import IMAGE_COLUMN, LINE_COLUMN, TableRefused
from mm_assets.reading.tables import Table
from mm_assets.uploads.delivered import IN_MEMORY, Delivered
from mm_assets.uploads.image_file import ImageFile
from mm_assets.uploads.normalising import normalising

if TYPE_CHECKING:
    import pyarrow as pa

NOT_NAMED = "image_not_named"  # whole, but nobody's
PLACES = 1 << 20  # of images in the list of one row, so that those of later rows come after
TRIED = 300  # images of a table of which only the first rows are read


class ImagesInside:
    """The images of one table, verified side by side while its rows go by; to be used in a `with`.

    file: those that are whole, by the record of their row; None if the table holds none. notes: a
    row of files.parquet for each.
    """

    def __init__(self, spec: DatasetSpec, table: Table, path: Path) -> None:
        self._spec = spec
        self._table = table
        self._column: str | None = table.facts.get("images_in")
        self._work = normalising(spec)
        self.notes: list[dict[str, Any]] = []
        self.file = None if self._column is None else ImageFile(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        with self._work:
            if kind is None:
                for done in self._work.rest():
                    self._add(*done)
        if self.file is not None:
            self.file.close()

    @property
    def enough(self) -> bool:
        """Whether there are as many as are tried of a table that is not read to its end."""
        return len(self.notes) >= TRIED

    def take(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch without its images, which are on their way."""
        if self._column is None:
            return batch
        ids = batch.column(self._table.id_column).to_pylist()
        lines = batch.column(LINE_COLUMN).to_pylist()
        images = batch.column(IMAGE_COLUMN)
        for given, line, image in zip(ids, lines, images, strict=True):
            if not image.is_valid:
                continue
            if isinstance(held := image.as_py(), bytes):
                self._submit(given, line, held)
                continue
            for n, data in enumerate(held, 1):
                if data is not None:
                    self._submit(given, line * PLACES + n, data, f"{line}, image {n}")
        return batch.drop_columns([IMAGE_COLUMN])

    def _submit(self, given: str | None, number: int, data: bytes, at: str | None = None) -> None:
        """number: the image's among those of its record. at: its place, if not row `number`."""
        name = f"{self._table.file}, row {at or number}, column {self._column}"
        file = Delivered(name, len(data), hashlib.sha256(data).hexdigest(), b"")
        record_id = normalised(given or "")
        if not data:
            self._note(file, code="image_empty", reason="the cell holds no byte")
        elif len(data) > IN_MEMORY:
            reason = f"{len(data):,} bytes are more than {IN_MEMORY:,}"
            self._note(file, code="image_too_large", reason=reason)
        elif fault := fault_of(record_id):
            self._note(file, code=NOT_NAMED, reason=f"its row has no ID of use: {fault[1]}")
        else:
            named = NamedImage(record_id, number, None)  # of two rows with an ID the first counts
            for done in self._work.put((file, named), data):
                self._add(*done)

    def _add(
        self, tag: tuple[Delivered, NamedImage], image: NormalisedImage | ImageRefused
    ) -> None:
        file, named = tag
        if isinstance(image, ImageRefused):
            more = {"code": image.code, "reason": image.reason, "record_id": named.record_id}
            self._note(file, **more)
            return
        assert self.file is not None  # noqa: S101  there is an image
        self.file.add(file, named, image)
        size = {"width": image.width, "height": image.height, "frames": image.frames}
        self._note(file, record_id=named.record_id, **size)

    def _note(self, file: Delivered, **more: Any) -> None:
        note = {"file": file.name, "kind": "image", "bytes": file.size, "sha256": file.sha256}
        self.notes.append({**note, **more})


def check_chosen(table: Table, image_column: str | None) -> None:
    """Raises TableRefused where several columns hold images and nobody chose one."""
    columns = table.facts.get("image_columns", ())
    if columns and image_column not in columns:
        listed = ", ".join(f"'{name}'" for name in columns)
        raise TableRefused("table_images", f"several columns hold images: {listed}", 1)
