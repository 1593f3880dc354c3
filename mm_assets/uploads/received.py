"""Reading what `receive` stored: receipts, Parquet files, packed images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from typing import TYPE_CHECKING, Any

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.ends import PLACES, Ended, LeftOut, end_of_upload, place_of
from mm_assets.contract.errors import REFUSALS, LakeError, Refusal
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import of_upload

if TYPE_CHECKING:
    import pyarrow as pa

RAW = "raw_uploads"
MISSING_IMAGES = "missing_images.parquet"
MOST_IN_SETS = 2048  # images of records that have several, in memory
FEW_BYTES, MOST_PARSED = 16 << 10, 64
# Small files as they were parsed: the steps and checks of an upload ask for each some times.
_parsed: dict[bytes, pa.Table] = {}


def refusals_table(refusals: Iterable[Refusal]) -> pa.Table:
    """Refusals as a table: code, reason, file, line, record_id, todo."""
    import pyarrow as pa

    text = pa.string()
    schema = pa.schema(
        [("code", text), ("reason", text), ("file", text), ("line", pa.int64()),
         ("record_id", text), ("todo", text)]
    )  # fmt: skip
    return pa.Table.from_pylist([refusal.as_dict() for refusal in refusals], schema=schema)


def read_receipt(lake: Lake, dataset: str, upload: str) -> dict[str, Any]:
    """The receipt of an upload. Raises LakeError if `raw_uploads` was not materialised for it."""
    return read_document(lake, dataset, upload, RAW)


def read_document(lake: Lake, dataset: str, upload: str, name: str) -> dict[str, Any]:
    """What an asset published for one upload. Raises LakeError if it has not yet."""
    key = of_upload(dataset, upload, name)
    document = lake.read_json(key)
    if document is None:
        raise LakeError(
            code="not_materialised",
            what=f"{dataset}/{name} was not materialised for upload '{upload}' yet",
            where=f"{lake.url}/{key}",
            todo="Materialise it for this partition, or run `mm sync`.",
        )
    return document


def read_parquet(lake: Lake, document: dict[str, Any], name: str) -> pa.Table:
    """One published Parquet file, whole; its sha256 is verified."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = lake.read_published(document, name)
    if (parsed := _parsed.get(data)) is not None:
        return parsed
    # `read_table` looks for a folder of files first: for a small one that is most of the time.
    table = pq.ParquetFile(pa.BufferReader(data)).read()
    if len(data) <= FEW_BYTES and table.nbytes <= 4 * FEW_BYTES:
        while len(_parsed) >= MOST_PARSED:
            _parsed.pop(next(iter(_parsed)), None)
        _parsed[data] = table
    return table


def how_it_ended(
    receipt: dict[str, Any],
    files: pa.Table,
    rejects: pa.Table,
    used: int,
    more: Sequence[LeftOut] = (),
) -> Ended:
    """How an upload ends, of its receipt, its files.parquet and its refused rows.

    used: the records, labels and images that came through. more: what else was left out.
    """
    system = (receipt["quarantined_by_code"] or {}).get("system_file", 0)
    return end_of_upload(
        rows=receipt["counts"]["rows"],
        files=files.num_rows - system,
        used=used,
        left_out=[*refused_by_code(files, "file"), *refused_by_code(rejects, "row"), *more],
        refused=receipt["refused"],
    )


def end_so_far(lake: Lake, raw: dict[str, Any]) -> Ended:
    """How an upload would end if every row that could be read were used; of its receipt."""
    files = read_parquet(lake, raw, "files.parquet")
    rejects = read_parquet(lake, raw, "rejects.parquet")
    counts = raw["counts"]
    used = counts["rows"] - counts["rejected"] + counts["images"]
    return how_it_ended(raw, files, rejects, used)


def refused_by_code(table: pa.Table, what: str) -> list[LeftOut]:
    """Refused rows or files (columns code, reason, file and perhaps line), counted by code."""
    import pyarrow.compute as pc

    found = []
    lines = "line" in table.column_names
    columns = ["reason", "file", *(["line"] if lines else [])]
    for counted in pc.value_counts(table["code"].combine_chunks()).to_pylist():
        code = counted["values"]
        if code is None:
            continue
        first = table.filter(pc.equal(table["code"], code)).slice(0, PLACES).select(columns)
        rows = first.to_pylist()
        places = tuple(place_of(row["file"], row.get("line")) for row in rows)
        found.append(
            LeftOut(code, what, counted["counts"], places, rows[0]["reason"] or "",
                    REFUSALS.get(code, ""))
        )  # fmt: skip
    return found


def read_images(
    lake: Lake, dataset: str, upload: str, wanted: Set[str]
) -> Iterator[dict[str, bytes]]:
    """The normalised images of an upload, a few megabytes at a time: {sha256: bytes}.

    `wanted` holds the sha256 of the original files. Row groups without a wanted image are not
    read. Raises LakeError when an image that is wanted is not there.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    left = set(wanted)
    receipt = read_receipt(lake, dataset, upload)
    with lake.open_published(receipt, "images.parquet") as handle:
        packed = pq.ParquetFile(handle)
        for group in range(packed.num_row_groups):
            if not left:
                break
            names = packed.read_row_group(group, columns=["sha256"])["sha256"].to_pylist()
            if left.isdisjoint(names):
                continue
            images = packed.read_row_group(group, columns=["image"])["image"]
            there = pc.is_valid(images).to_pylist()  # the bytes of one file stand there once
            positions = [i for i, name in enumerate(names) if name in left and there[i]]
            if not positions:
                continue
            some = pc.take(images, positions).to_pylist()
            found = dict(zip((names[i] for i in positions), some, strict=True))
            left -= found.keys()
            yield found
    if left:
        raise images_lost(len(left), dataset, upload)


def read_image_sets(
    lake: Lake, dataset: str, upload: str, sets: Sequence[Sequence[str]]
) -> Iterator[tuple[list[int], dict[str, bytes]]]:
    """The normalised images of records that have several each, some records at a time.

    sets: of each record the sha256 of its images. Gives places in `sets`, each of them once, and
    the images of these records. They come as they lie in the file, so that a row group is read
    once or a few times, and no more is in memory than the images of `MOST_IN_SETS` and what the
    last record needs. Raises LakeError when an image that is wanted is not there.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with lake.open_published(read_receipt(lake, dataset, upload), "images.parquet") as handle:
        packed = pq.ParquetFile(handle)
        group_of: dict[str, int] = {}
        for group in range(packed.num_row_groups):
            names = packed.read_row_group(group, columns=["sha256"])["sha256"].to_pylist()
            for name in names:
                group_of.setdefault(name, group)  # its bytes stand with the first
        if missing := {one for own in sets for one in own} - group_of.keys():
            raise images_lost(len(missing), dataset, upload)
        order = sorted(range(len(sets)), key=lambda n: (max(group_of[one] for one in sets[n]), n))
        for places in _some_at_a_time(order, sets):
            left = {one for place in places for one in sets[place]}
            images: dict[str, bytes] = {}
            for group in sorted({group_of[one] for one in left}):
                own = packed.read_row_group(group, columns=["sha256", "image"])
                own = own.filter(pc.is_valid(own["image"]))
                for at, name in enumerate(own["sha256"].to_pylist()):
                    if name in left:
                        images[name] = own["image"][at].as_py()
                        left.discard(name)
            if left:
                raise images_lost(len(left), dataset, upload)
            yield places, images


def _some_at_a_time(order: Sequence[int], sets: Sequence[Sequence[str]]) -> Iterator[list[int]]:
    """Places in order, so many that their images are at most MOST_IN_SETS, but at least one."""
    some: list[int] = []
    count = 0
    for place in order:
        if some and count + len(sets[place]) > MOST_IN_SETS:
            yield some
            some, count = [], 0
        some.append(place)
        count += len(sets[place])
    if some:
        yield some


def empty_image_features(spec: DatasetSpec) -> pa.Table:
    """No images, in the columns that `read_image_features` has."""
    import pyarrow as pa

    fields = [(feature.column, pa.float64()) for feature in spec.image_features]
    return pa.schema([("sha256", pa.string()), ("features", pa.struct(fields))]).empty_table()


def read_image_features(lake: Lake, spec: DatasetSpec, upload: str, wanted: pa.Array) -> pa.Table:
    """`sha256` and `features`, those that the spec names, of the wanted images of an upload.

    Raises LakeError when an image that is wanted is not there, or none was measured.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    receipt = read_receipt(lake, spec.dataset, upload)
    with lake.open_published(receipt, "images.parquet") as handle:
        packed = pq.ParquetFile(handle)
        if "features" not in packed.schema_arrow.names:
            raise LakeError(
                code="image_features_missing",
                what=f"upload '{upload}' was received before images were measured",
                where=of_upload(spec.dataset, upload, RAW),
                todo=f"Materialise {spec.dataset}/raw_uploads again for this partition.",
            )
        listed = packed.read(columns=["sha256", "features"])
    listed = listed.take(pc.index_in(wanted.cast(pa.string()), listed["sha256"]).drop_null())
    if len(listed) < len(wanted):
        raise images_lost(len(wanted) - len(listed), spec.dataset, upload)
    whole = listed["features"].combine_chunks()
    chosen = [pc.struct_field(whole, feature.value) for feature in spec.image_features]
    names = [feature.column for feature in spec.image_features]
    features = pa.StructArray.from_arrays(chosen, names=names)
    return pa.table({"sha256": listed["sha256"].combine_chunks(), "features": features})


def images_lost(count: int, dataset: str, upload: str) -> LakeError:
    return LakeError(
        code="image_lost",
        what=f"{count} images that the index knows are not in upload '{upload}'",
        where=of_upload(dataset, upload, RAW),
        todo=f"Materialise {dataset}/raw_uploads and manifest again for this partition.",
    )


def read_sample_images(
    lake: Lake, receipt: dict[str, Any], count: int
) -> list[tuple[bytes, list[str]]]:
    """The first few images of an upload with the lines to write below them."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with lake.open_published(receipt, "images.parquet") as handle:
        packed = pq.ParquetFile(handle)
        if not packed.num_row_groups:
            return []
        first = packed.read_row_group(0, columns=["record_id", "image"])
        first = first.filter(pc.is_valid(first["image"])).slice(0, count)
    return [(row["image"], [row["record_id"]]) for row in first.to_pylist()]
