"""All images of each record, where the YAML asks for all of them (`images: all`).

The index knows of each record the upload of its newest image, and which image is the first there.
The rest is read where it lies, in that upload's `images.parquet`. So a record's images are those of
the newest upload that brought any, in whatever order uploads were handled, and images of two
uploads are never mixed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.errors import LakeError
from mm_assets.lake.lake import Lake
from mm_assets.reading.in_memory import in_memory
from mm_assets.tables.named import FILE
from mm_assets.uploads.received import images_lost, read_images, read_receipt

if TYPE_CHECKING:
    import pyarrow as pa

# In a set each image counts once, however many files hold it.
SETS = """
    SELECT record_id, list(sha256 ORDER BY number, file) AS images,
        list(file ORDER BY number, file) AS files FROM (
        SELECT record_id, number, file, sha256, row_number() OVER (
            PARTITION BY record_id, sha256 ORDER BY number, file) AS copy FROM listed)
    WHERE copy = 1 GROUP BY record_id"""


@dataclass(frozen=True)
class ImageSets:
    """sets: record_id, and `images`, the sha256 of each in order; None: one image a record."""

    sets: pa.Table | None

    @classmethod
    def read(cls, lake: Lake, spec: DatasetSpec, known: pa.Table) -> ImageSets:
        """known: record_id, image_upload, image_sha256 and named_files, as the index answers.

        Raises LakeError (image_lost) where an upload no longer holds what the index knows.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        if not spec.all_images:
            return cls(None)
        asked = known.select(["record_id", "image_upload", "image_sha256"])
        asked = asked.cast(pa.schema([(name, pa.string()) for name in asked.column_names]))
        asked = asked.append_column("named_files", known["named_files"])
        found = [pa.schema([("record_id", pa.string()), ("images", pa.list_(pa.string()))])
                 .empty_table()]  # fmt: skip
        for upload in sorted(pc.unique(asked["image_upload"].drop_null()).to_pylist()):
            own = asked.filter(pc.equal(asked["image_upload"], upload))
            found.append(_sets_in(lake, spec.dataset, upload, own))
        return cls(pa.concat_tables(found))

    def add_to(self, rows: pa.Table) -> pa.Table:
        """The rows with `images`, null where a record has none; without sets as they are."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if self.sets is None:
            return rows
        ids = self.sets["record_id"].combine_chunks()
        places = pc.index_in(rows["record_id"].cast(pa.string()), ids)
        return rows.append_column("images", self.sets["images"].combine_chunks().take(places))


def _sets_in(
    lake: Lake, dataset: str, upload: str, own: pa.Table, *, lost_too: bool = False
) -> pa.Table:
    """lost_too: of a record whose image is lost, what is left, instead of an error."""
    import pyarrow as pa
    import pyarrow.compute as pc

    listed = _listed(lake, dataset, upload)
    named = _named(listed, own) if "named_files" in own.column_names else None
    listed = listed.filter(pc.is_in(listed["record_id"], own["record_id"].combine_chunks()))
    if named is not None:  # a set is of what came with the row, or of what is named, not of both
        others = pc.invert(pc.is_in(listed["record_id"], pc.unique(named["record_id"])))
        listed = pa.concat_tables([listed.filter(others), named])
        own = own.drop_columns(["named_files"])
    with in_memory() as db:
        db.register("listed", listed)
        db.register("own", own)
        lost = db.sql(
            "SELECT own.record_id FROM own ANTI JOIN listed ON own.record_id = listed.record_id "
            "AND own.image_sha256 = listed.sha256"
        ).to_arrow_table()
        if lost.num_rows and not lost_too:
            raise images_lost(lost.num_rows, dataset, upload)
        sets = db.sql(SETS).to_arrow_table()
    return sets.select(["record_id", "images"]).cast(
        pa.schema([("record_id", pa.string()), ("images", pa.list_(pa.string()))])
    )


def _named(listed: pa.Table, own: pa.Table) -> pa.Table:
    """The images that rows of other uploads name, as if they had come with these rows."""
    import pyarrow as pa
    import pyarrow.compute as pc

    named = own.filter(pc.is_valid(own["named_files"])).select(["record_id", "named_files"])
    rows = named.to_pylist()
    hashes: dict[str, str] = {}
    if rows:
        waiting = listed.filter(pc.starts_with(listed["record_id"], FILE))
        columns = (waiting[name].to_pylist() for name in ("file", "sha256"))
        hashes = dict(zip(*columns, strict=True))
    found = [
        {"record_id": row["record_id"], "number": n, "file": file, "sha256": hashes[file]}
        for row in rows
        for n, file in enumerate(row["named_files"])
        if file in hashes
    ]
    return pa.Table.from_pylist(found, schema=listed.schema)


def _listed(lake: Lake, dataset: str, upload: str) -> pa.Table:
    import pyarrow.parquet as pq

    with lake.open_published(read_receipt(lake, dataset, upload), "images.parquet") as file:
        return pq.read_table(file, columns=["record_id", "number", "file", "sha256"])


def files_of(lake: Lake, dataset: str, found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The file and the sha256 of each image of a record, in order. found: of `look_up`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    upload, record_id = found["image_upload"], found["record_id"]
    listed = _listed(lake, dataset, upload)
    if found["named_files"]:
        files = {"record_id": [record_id], "named_files": [found["named_files"]]}
        listed = _named(listed, pa.table(files))
    with in_memory() as db:
        db.register("listed", listed.filter(pc.equal(listed["record_id"], record_id)))
        sets = db.sql(SETS).to_arrow_table().to_pylist()
    return [pair for row in sets for pair in zip(row["files"], row["images"], strict=True)]


def images_of(
    lake: Lake, spec: DatasetSpec, places: Mapping[str, tuple[str, str]]
) -> dict[str, list[bytes]]:
    """The images that models see of some records, normalised, by record ID.

    places: of each record the upload of its image, and its sha256. Records whose images are lost
    are left out.
    """
    found: dict[str, list[bytes]] = {}
    by_upload: dict[str, dict[str, str]] = {}
    for record_id, (upload, sha256) in places.items():
        by_upload.setdefault(upload, {})[record_id] = sha256
    for upload, firsts in sorted(by_upload.items()):
        images: dict[str, bytes] = {}
        sets: Mapping[str, Sequence[str]] = {name: [one] for name, one in firsts.items()}
        try:
            sets = _names(lake, spec, upload, firsts)
            wanted = {one for own in sets.values() for one in own}
            for some in read_images(lake, spec.dataset, upload, wanted):
                images |= some
        except LakeError as error:
            if error.code not in ("image_lost", "not_materialised"):
                raise
        there = {name: [images[one] for one in own if one in images] for name, own in sets.items()}
        found |= {name: own for name, own in there.items() if own}
    return found


def _names(
    lake: Lake, spec: DatasetSpec, upload: str, firsts: Mapping[str, str]
) -> Mapping[str, Sequence[str]]:
    """The sha256 of each record's images."""
    import pyarrow as pa

    if not spec.all_images:
        return {record_id: [sha256] for record_id, sha256 in firsts.items()}
    own = pa.table({"record_id": list(firsts), "image_sha256": list(firsts.values())})
    sets = _sets_in(lake, spec.dataset, upload, own, lost_too=True)
    known = dict(zip(sets["record_id"].to_pylist(), sets["images"].to_pylist(), strict=True))
    return {record_id: [sha256] for record_id, sha256 in firsts.items()} | known


def all_of(rows: pa.Table) -> pa.Array:
    """The sha256 of every image of these rows, each once; of the first alone without `images`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if "images" in rows.column_names:
        named = pc.list_flatten(rows["images"].combine_chunks())
    else:
        named = rows["image_sha256"].cast(pa.string()).drop_null()
    return pc.unique(named)


def by_image(rows: pa.Table) -> pa.Table:
    """`image_sha256` and `image_upload`, a row for each image of each record."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if "images" not in rows.column_names:
        return rows.select(["image_sha256", "image_upload"])
    images = rows["images"].combine_chunks()
    uploads = rows["image_upload"].take(pc.list_parent_indices(images))
    return pa.table({"image_sha256": pc.list_flatten(images), "image_upload": uploads})
