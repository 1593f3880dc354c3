"""What the last training set holds of a record: its row and images are read out of uploads once.

An upload never changes, so what was read of one, by the same wording of the YAML and the same
version of this package, is read again from the training set. One that was lost, damaged or made by
others is as none: everything is gathered anew, and the end is the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.errors import LakeError
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import TRAINING_SET, of_dataset
from mm_assets.manifest.image_sets import all_of
from mm_assets.manifest.join import all_rows, with_image_features
from mm_assets.uploads.likenesses import read_likenesses
from mm_assets.uploads.received import read_parquet

if TYPE_CHECKING:
    import pyarrow as pa

LIKENESSES = "likenesses"  # the training set's column: of each of a record's images, or null


def gathered_by(spec: DatasetSpec) -> str:
    """By whom: another one may read the same upload otherwise."""
    return f"{metadata.version('mm-assets')} {spec.fingerprint}"


def kept_for_the_next(spec: DatasetSpec) -> list[str]:
    """Columns of the training set that only the next one asks for."""
    return [
        *(f"split_{what}" for what in spec.split_columns),
        *([LIKENESSES] if spec.has_images else []),
    ]


@dataclass(frozen=True)
class Gathered:
    """table: the last training set, or None where nothing of it can be used."""

    table: pa.Table | None

    @classmethod
    def last(cls, lake: Lake, spec: DatasetSpec) -> Gathered:
        try:
            document = lake.read_json(of_dataset(spec.dataset, TRAINING_SET))
            if document is None or document.get("gathered_by") != gathered_by(spec):
                return cls(None)
            return cls(read_parquet(lake, document, f"{TRAINING_SET}.parquet"))
        except LakeError as error:
            if error.code not in ("lake_not_found", "lake_damaged"):
                raise
            return cls(None)

    def rows(self, lake: Lake, spec: DatasetSpec, known: pa.Table) -> pa.Table:
        """`features`, what the split asks for, and the columns of `known`, by record_id.

        known: with row_upload (join.with_row_upload). Read in uploads is only what is new.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        names = [*(f"split_{what}" for what in spec.split_columns), "features"]
        known = known.filter(pc.is_valid(known["row_upload"]))
        places = self._places(known, "row_upload")
        new = all_rows(lake, spec, known.filter(pc.is_null(places)))
        new = new.select([*known.column_names, *names])
        if self.table is None:
            return new
        old = known.filter(pc.is_valid(places))
        there = self.table.select(names).take(places.drop_null())
        for name in names:
            old = old.append_column(name, there[name])
        return pa.concat_tables([new, old.cast(new.schema)]).sort_by("record_id")

    def with_image_features(self, lake: Lake, spec: DatasetSpec, rows: pa.Table) -> pa.Table:
        """As join.with_image_features; images that were in the last training set are not read."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if self.table is None or not spec.image_features or spec.all_images:
            return with_image_features(lake, spec, rows)
        places = self._places(rows, "image_sha256")
        new = with_image_features(lake, spec, rows.filter(pc.is_null(places)))
        old = rows.filter(pc.is_valid(places))
        features = self.table["image_features"].take(places.drop_null())
        old = old.append_column("image_features", features)
        return pa.concat_tables([new, old.cast(new.schema)]).sort_by("record_id")

    def likenesses(self, lake: Lake, spec: DatasetSpec, rows: pa.Table) -> list[list[bytes | None]]:
        """The likeness of each image of each record; None where an image has none."""
        import pyarrow.compute as pc

        known = self._likenesses()
        for upload in pc.unique(rows["image_upload"].drop_null()).to_pylist():
            own = rows.filter(pc.equal(rows["image_upload"].cast("string"), upload))
            wanted = set(all_of(own).to_pylist()).difference(known)
            if wanted:
                found = read_likenesses(lake, spec.dataset, upload).to_pydict()
                pairs = zip(found["sha256"], found["likeness"], strict=True)
                known |= {sha256: one for sha256, one in pairs if sha256 in wanted}
        return [[known.get(one) for one in own] for own in _images(rows)]

    def _likenesses(self) -> dict[str, bytes]:
        if self.table is None or LIKENESSES not in self.table.column_names:
            return {}
        told = zip(_images(self.table), self.table[LIKENESSES].to_pylist(), strict=True)
        return {
            sha256: likeness
            for images, own in told
            for sha256, likeness in zip(images, own, strict=True)
            if likeness is not None
        }

    def _places(self, rows: pa.Table, same: str) -> pa.Array:
        """Where each record stands in the last training set; null where `same` was another one."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if self.table is None:
            return pa.nulls(rows.num_rows, pa.int32())
        ids, was = (
            self.table[name].cast("string").combine_chunks() for name in ("record_id", same)
        )
        places = pc.index_in(rows["record_id"].cast("string").combine_chunks(), ids)
        alike = pc.equal(was.take(places), rows[same].cast("string").combine_chunks())
        return pc.if_else(alike, places, pa.scalar(None, pa.int32()))


def _images(rows: pa.Table) -> list[list[str]]:
    if "images" in rows.column_names:
        return [own or [] for own in rows["images"].to_pylist()]
    return [[one] if one is not None else [] for one in rows["image_sha256"].to_pylist()]
