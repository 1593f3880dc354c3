"""Join rows and images by ID, within an upload and across uploads.

The manifest of an upload has one row for each record that the upload touches, by a row or by an
image, with the newest row and the newest image known anywhere. It publishes the upload's own part
in the index before it looks for the others' parts, so that of two uploads handled at the same
moment at least one sees both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.ends import End, Ended
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import MANIFEST, of_upload
from mm_assets.lake.local import working_folder
from mm_assets.manifest.image_sets import ImageSets, all_of
from mm_assets.manifest.names import own_names, unclear, without_names
from mm_assets.manifest.refused import refused_records
from mm_assets.manifest.rows import TypedRows, empty_records, typed_rows
from mm_assets.manifest.writing import counts_by, write_table, write_tables
from mm_assets.reading.ahead import one_ahead
from mm_assets.reading.image_features import mean_features
from mm_assets.reading.in_memory import in_memory
from mm_assets.tables.named import is_file_id
from mm_assets.tables.store import Published, Store
from mm_assets.uploads.joined import note_joined
from mm_assets.uploads.received import (
    empty_image_features,
    how_it_ended,
    read_image_features,
    read_parquet,
    read_receipt,
    refusals_table,
)
from mm_assets.uploads.withdrawals import read_withdrawal, withdrawn_uploads
from mm_assets.uploads.without_row import nearly

if TYPE_CHECKING:
    import pyarrow as pa

# The manifest's own columns; the dataset's columns are in the struct column `features`.
MANIFEST_COLUMNS = (
    "record_id", "purpose", "row_upload", "row_file", "row_line", "label", "label_upload",
    "image_upload", "image_sha256", "image_file", "input_hash",
)  # fmt: skip


def build_manifest(
    lake: Lake, store: Store, spec: DatasetSpec, upload: str, *, run_id: str
) -> dict[str, Any]:
    """Type, index, join and publish one upload's manifest; returns the published document.

    Of an upload that was withdrawn, nothing is indexed any more (`_withdrawn_manifest`).
    """
    import pyarrow as pa

    receipt = read_receipt(lake, spec.dataset, upload)
    gone = withdrawn_uploads(lake, spec.dataset)
    store.withdraw(spec.dataset, gone)  # a table that was made anew may not know
    if upload in gone:
        return _withdrawn_manifest(lake, store, spec, receipt, run_id=run_id)
    with typed_rows(lake, spec, receipt) as typed, working_folder("manifest") as folder:
        images = own_images(lake, spec, receipt)
        best = images.filter(images["best"]).select(["record_id", "image_sha256", "image_file"])
        rejects = _all_rejects(lake, receipt, typed)
        refused = refused_records(receipt, typed.index, rejects)
        names = own_names(lake, spec, receipt, images)
        own = Published(upload, typed.index, best, refused, names)
        fallen = store.publish(spec.dataset, upload, typed.index, best, refused, names)
        if read_withdrawal(lake, spec.dataset, upload) is not None:  # meanwhile
            store.withdraw(spec.dataset, [upload])
            return _withdrawn_manifest(lake, store, spec, receipt, run_id=run_id)
        others = pa.chunked_array([fallen, *_by_name(store, spec, upload, names)], pa.string())
        known = store.look_up(spec.dataset, others.combine_chunks(), own)
        fates = image_fates(spec, upload, images, known)
        not_clear = unclear(known)
        known = _with_a_row(_compact(with_row_upload(known, labelled_too=False)))
        sets = ImageSets.read(lake, spec, known)
        known = without_names(known, spec)
        rows = gather_rows(lake, spec, known, {upload: typed})
        joined = one_ahead(_manifest_table(_with_images(lake, spec, part, sets)) for part in rows)
        # Fewer than the index knows, where the YAML has changed since another upload was joined.
        written = Counter[str]()
        write_tables(
            folder / "manifest.parquet", _manifest_schema(spec), _counted(joined, upload, written)
        )
        used = typed.index.num_rows + typed.labels_joined + images.num_rows
        files = read_parquet(lake, receipt, "files.parquet")
        ended = how_it_ended(receipt, files, rejects, used, not_clear)
        beside = {"rejects": rejects, "images": fates, "fallen": _ids(fallen)}
        return _publish(
            lake, spec, upload, folder, beside,
            {
                "run_id": run_id,
                "counts": _counts(receipt, typed, written, rejects, fates),
                "rejected_by_code": counts_by(rejects, "code"),
                "numbers": typed.numbers,
                "nearly": nearly(typed.index["record_id"], _orphans(fates)),
                **ended.as_document(),
            },
        )  # fmt: skip


def _withdrawn_manifest(
    lake: Lake, store: Store, spec: DatasetSpec, receipt: dict[str, Any], *, run_id: str
) -> dict[str, Any]:
    """The manifest of an upload that was withdrawn: the records it spoke of, from what is left.

    So it is this upload's own run that brings back the answers which it had pushed aside.
    """
    upload = receipt["upload"]
    withdrawal = read_withdrawal(lake, spec.dataset, upload)
    assert withdrawal is not None  # noqa: S101  asked before
    touched = store.stated(spec.dataset, upload)
    known = with_row_upload(store.look_up(spec.dataset, touched), labelled_too=False)
    images = own_images(lake, spec, receipt)
    with working_folder("manifest") as folder:
        known = _with_a_row(known)
        sets = ImageSets.read(lake, spec, known)
        known = _compact(without_names(known, spec))
        parts = gather_rows(lake, spec, known, {})
        joined = (_manifest_table(_with_images(lake, spec, part, sets)) for part in parts)
        written = Counter[str]()
        write_tables(
            folder / "manifest.parquet", _manifest_schema(spec), _counted(joined, upload, written)
        )
        rejects, fates = refusals_table([]), _fates_withdrawn(images)
        nothing = TypedRows(known.slice(0, 0), rejects, 0, {}, lambda _: iter(()))
        counts = _counts(receipt, nothing, written, rejects, fates)
        beside = {"rejects": rejects, "images": fates, "fallen": _ids(touched)}
        return _publish(
            lake, spec, upload, folder, beside,
            {
                "run_id": run_id,
                "withdrawn": withdrawal.words,
                "counts": {**counts, "withdrawn": receipt["counts"]["rows"]},
                "rejected_by_code": {},
                "numbers": {},
                **Ended(End.USED, withdrawal.words).as_document(),
            },
        )  # fmt: skip


def _by_name(
    store: Store, spec: DatasetSpec, upload: str, names: pa.Table | None
) -> list[pa.Array]:
    """The records that an upload touches by name alone: those that it names, and those whose rows,
    in other uploads, name an image of it."""
    if names is None:
        return []
    return [store.naming(spec.dataset, upload), *names["record_id"].chunks]


def _publish(
    lake: Lake,
    spec: DatasetSpec,
    upload: str,
    folder: Path,
    beside: dict[str, pa.Table],
    document: dict[str, Any],
) -> dict[str, Any]:
    """Publish manifest.parquet, which lies in the folder by now, and the tables beside it."""
    names = ["manifest.parquet"]
    for name, table in beside.items():
        names.append(f"{name}.parquet")
        write_table(folder / names[-1], table)
    said = {"dataset": spec.dataset, "upload": upload, "fingerprint": spec.fingerprint, **document}
    files = {name: folder / name for name in names}
    document = lake.publish(of_upload(spec.dataset, upload, MANIFEST), files, said)
    note_joined(lake, spec.dataset, upload)
    return document


def _ids(record_ids: pa.Array) -> pa.Table:
    """Records of which an answer may have been taken back, as a table."""
    import pyarrow as pa

    return pa.table({"record_id": record_ids.cast(pa.string())})


def _orphans(fates: pa.Table) -> dict[str, str]:
    """Images without a row, by file: their IDs, as far as their names say one."""
    import pyarrow.compute as pc

    alone = fates.filter(pc.equal(fates["fate"], "orphaned"))
    found = zip(alone["file"].to_pylist(), alone["record_id"].to_pylist(), strict=True)
    return {file: record_id for file, record_id in found if not is_file_id(record_id)}


def _fates_withdrawn(images: pa.Table) -> pa.Table:
    import pyarrow as pa

    fates = pa.array(["withdrawn"] * images.num_rows, pa.string())
    columns = images.select(["image_file", "record_id", "image_sha256"])
    return columns.rename_columns(["file", "record_id", "sha256"]).append_column("fate", fates)


def with_row_upload(known: pa.Table, *, labelled_too: bool) -> pa.Table:
    """Add `row_upload`, where a record's row is taken from, and `purpose`, predict or train.

    For predictions it is the newest row without a label, else the newest labelled one; for
    training (`labelled_too`) it is the newest of all.
    """
    import pyarrow.compute as pc

    known = _as_text(known) if labelled_too else known
    unlabelled, labelled = known["unlabelled_upload"], known["labelled_upload"]
    if labelled_too:
        chosen = pc.max_element_wise(unlabelled, labelled, skip_nulls=True)
    else:
        chosen = pc.coalesce(unlabelled, labelled)
    purpose = pc.if_else(pc.is_valid(unlabelled), "predict", "train")
    return known.append_column("row_upload", chosen).append_column("purpose", purpose)


def gather_rows(
    lake: Lake, spec: DatasetSpec, known: pa.Table, typed: dict[str, TypedRows]
) -> Iterator[pa.Table]:
    """The typed rows that `known` (with row_upload) points to, from however many uploads.

    typed: uploads that are typed already; of the others only the wanted records are read. Gives,
    some at a time, RECORD_COLUMNS and `features`; `label` and the rest are those of `known`.
    """
    import pyarrow.compute as pc

    known = _with_a_row(known)
    uploads = sorted(pc.unique(known["row_upload"]).to_pylist())
    for upload in uploads:
        wanted = known
        if len(uploads) > 1:
            wanted = known.filter(pc.equal(known["row_upload"].cast("string"), upload))
        if upload in typed:
            yield from _with_features(typed[upload], wanted)
        else:
            with typed_rows(lake, spec, read_receipt(lake, spec.dataset, upload)) as rows:
                yield from _with_features(rows, wanted)


def _with_a_row(known: pa.Table) -> pa.Table:
    import pyarrow.compute as pc

    return (
        known.filter(pc.is_valid(known["row_upload"])) if known["row_upload"].null_count else known
    )


def _compact(known: pa.Table) -> pa.Table:
    """The same in a fraction of the memory: uploads, labels and purposes are few."""
    for name in ("row_upload", "label_upload", "image_upload", "label", "purpose"):
        place = known.column_names.index(name)
        known = known.set_column(place, name, known[name].dictionary_encode())
    return known.drop_columns(["unlabelled_upload", "labelled_upload"])


def _with_features(rows: TypedRows, wanted: pa.Table) -> Iterator[pa.Table]:
    import pyarrow.compute as pc

    said = wanted.rename_columns(["told" if n == "label" else n for n in wanted.column_names])
    for batch in rows.batches(said):
        alone = batch["labels_only"]
        records = batch.filter(pc.invert(alone)) if pc.any(alone).as_py() else batch
        records = records.drop_columns(["label"])
        records = records.rename_columns(
            ["label" if n == "told" else n for n in records.column_names]
        )
        yield _as_text(records)


def _as_text(table: pa.Table) -> pa.Table:
    """The same without dictionaries."""
    import pyarrow as pa

    text = [
        field.with_type(pa.string()) if pa.types.is_dictionary(field.type) else field
        for field in table.schema
    ]
    return table.cast(pa.schema(text))


def all_rows(lake: Lake, spec: DatasetSpec, known: pa.Table) -> pa.Table:
    """The same in one table, by record_id."""
    import pyarrow as pa

    empty = empty_records(spec).drop_columns(["label"])
    for name in known.column_names:
        if name != "record_id":
            empty = empty.append_column(name, known[name].slice(0, 0))
    return pa.concat_tables([empty, *gather_rows(lake, spec, known, {})]).sort_by("record_id")


def _with_images(lake: Lake, spec: DatasetSpec, rows: pa.Table, sets: ImageSets) -> pa.Table:
    return with_image_features(lake, spec, sets.add_to(rows))


def with_image_features(lake: Lake, spec: DatasetSpec, rows: pa.Table) -> pa.Table:
    """Add `image_features`, a struct of the numbers that the spec names; null without an image.

    rows: with image_upload and image_sha256. Without `image_features` in the spec, as they are.
    Where there is a set of `images`, it is the mean of theirs.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if not spec.image_features:
        return rows
    measured = []
    for upload in pc.unique(rows["image_upload"].drop_null()).to_pylist():
        own = rows.filter(pc.equal(rows["image_upload"], upload))
        measured.append(read_image_features(lake, spec, upload, all_of(own)))
    known = pa.concat_tables(measured) if measured else empty_image_features(spec)
    if "images" in rows.column_names:
        of = dict(zip(known["sha256"].to_pylist(), known["features"].to_pylist(), strict=True))
        means = [
            mean_features([of[one] for one in images]) if images else None
            for images in rows["images"].to_pylist()
        ]
        return rows.append_column("image_features", pa.array(means, known.schema.types[1]))
    hashes = rows["image_sha256"].cast(pa.string())
    positions = pc.index_in(hashes, known["sha256"].combine_chunks())
    return rows.append_column("image_features", known["features"].combine_chunks().take(positions))


def own_images(lake: Lake, spec: DatasetSpec, receipt: dict[str, Any]) -> pa.Table:
    """This upload's images without their bytes: record_id, image_sha256, image_file, best, seen.

    Of several images of one record the one with the lowest number is best, then by file name. seen:
    whether models see it; with `images: all` every one that is no copy of another.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not receipt["counts"]["images"]:
        kinds = [(name, pa.string()) for name in ("record_id", "image_sha256", "image_file")]
        kinds += [(name, pa.bool_()) for name in ("best", "seen")]
        return pa.schema(kinds).empty_table()
    with lake.open_published(receipt, "images.parquet") as file:
        listed = pq.ParquetFile(file).read(columns=["record_id", "number", "file", "sha256"])
    several = "record_id, sha256" if spec.all_images else "record_id"
    with in_memory() as db:
        db.register("listed", listed)
        return db.sql(
            "SELECT record_id, sha256 AS image_sha256, file AS image_file, row_number() OVER "
            "(PARTITION BY record_id ORDER BY number, file, sha256) = 1 AS best, row_number() OVER "
            f"(PARTITION BY {several} ORDER BY number, file, sha256) = 1 AS seen "
            "FROM listed ORDER BY image_file"
        ).to_arrow_table()


def _all_rejects(lake: Lake, receipt: dict[str, Any], typed: TypedRows) -> pa.Table:
    import pyarrow as pa

    structural = read_parquet(lake, receipt, "rejects.parquet")
    return pa.concat_tables([structural, typed.rejects.cast(structural.schema)])


def refused_shares(ended: Ended, receipt: dict[str, Any]) -> dict[str, float]:
    """Which share of an upload's rows, and of its files, was left out.

    Where a table was refused and no row came at all, that is all of them: who sent it knows how
    many there were.
    """
    files = receipt["counts"]["files"] - receipt["quarantined_by_code"].get("system_file", 0)
    totals = {"row": receipt["counts"]["rows"], "file": files}
    out = {
        what: sum(one.count for one in ended.left_out if one.what == what) / max(1, total)
        for what, total in totals.items()
    }
    no_table = any(one.code.startswith("table_") for one in ended.left_out)
    rows = 1.0 if no_table and not totals["row"] else out["row"]
    return {"rows": rows, "files": out["file"]}


def _manifest_table(rows: pa.Table) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    image = pc.fill_null(rows["image_sha256"].cast(pa.string()), "")
    if "images" in rows.column_names:
        image = pa.array([_hash_of(one) for one in rows["images"].to_pylist()], pa.string())
    hashed = pc.binary_join_element_wise(rows["row_hash"], image, "-")
    table = rows.append_column("input_hash", hashed).select(list(MANIFEST_COLUMNS))
    table = table.cast(_own_schema()).append_column("features", rows["features"])
    for name in ("image_order", "images", "image_features"):
        if name in rows.column_names:
            table = table.append_column(name, rows[name])
    return table


def _hash_of(images: list[str] | None) -> str:
    """One hash of a record's images; of one image it is that image's own."""
    several = images or [""]
    return several[0] if len(several) == 1 else sha256("-".join(several).encode()).hexdigest()


def _own_schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [(name, pa.int64() if name == "row_line" else pa.string()) for name in MANIFEST_COLUMNS]
    )


def _manifest_schema(spec: DatasetSpec) -> pa.Schema:
    import pyarrow as pa

    schema = _own_schema().append(empty_records(spec).schema.field("features"))
    if spec.image_column is not None:
        schema = schema.append(pa.field("image_order", pa.string()))
    if spec.all_images:
        schema = schema.append(pa.field("images", pa.list_(pa.string())))
    if spec.image_features:
        features = empty_image_features(spec).schema.field("features")
        schema = schema.append(features.with_name("image_features"))
    return schema


def image_fates(spec: DatasetSpec, upload: str, images: pa.Table, known: pa.Table) -> pa.Table:
    """Each image of this upload and what became of it: used, duplicate, superseded, orphaned.

    known: what `look_up` knows of their records, and of those that may name one of them.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if not images.num_rows:
        names = ("file", "record_id", "sha256", "fate")
        return pa.schema([(name, pa.string()) for name in names]).empty_table()
    named = known.filter(pc.is_valid(known["named_files"])).select(
        ["image_upload", "image_file", "named_files"]
    )
    here = [one for one in named.to_pylist() if one["image_upload"] == upload]
    used = {one["image_file"] for one in here}
    every = {file for one in here for file in one["named_files"]}
    used = every if spec.all_images else used
    with in_memory() as db:
        db.register("images", images)
        db.register("known", known.drop_columns(["named_files"]))
        for name, files in (("used", used), ("every", every)):
            db.register(name, pa.table({"file": pa.array(sorted(files), pa.string())}))
        return db.sql(
            """
            SELECT images.image_file AS file, record_id, images.image_sha256 AS sha256, CASE
                WHEN record_id[1] = '/' AND images.image_file IN (FROM used) THEN 'used'
                WHEN record_id[1] = '/' AND images.image_file IN (FROM every) THEN 'duplicate'
                WHEN unlabelled_upload IS NULL AND labelled_upload IS NULL THEN 'orphaned'
                WHEN NOT seen THEN 'duplicate'
                WHEN image_upload <> $1 THEN 'superseded' ELSE 'used' END AS fate
            FROM images JOIN known USING (record_id) ORDER BY file""",
            params=[upload],
        ).to_arrow_table()


def _counted(parts: Iterable[pa.Table], upload: str, counts: Counter[str]) -> Iterator[pa.Table]:
    """The parts of a manifest, counted as they pass."""
    import pyarrow.compute as pc

    for part in parts:
        by_purpose = counts_by(part, "purpose")
        from_here = pc.sum(pc.equal(part["row_upload"], upload)).as_py() or 0
        without_image = part["image_sha256"].null_count
        counts.update(
            in_manifest=part.num_rows,
            rows_from_other_uploads=part.num_rows - from_here,
            with_image=part.num_rows - without_image,
            without_image=without_image,
            to_predict=by_purpose.get("predict", 0),
            labelled=by_purpose.get("train", 0),
        )
        yield part


def _counts(
    receipt: dict[str, Any],
    typed: TypedRows,
    written: Counter[str],
    rejects: pa.Table,
    fates: pa.Table,
) -> dict[str, int]:
    by_fate = counts_by(fates, "fate")
    of_manifest = (
        "in_manifest", "rows_from_other_uploads", "with_image", "without_image", "to_predict",
        "labelled",
    )  # fmt: skip
    return {
        "rows": receipt["counts"]["rows"],
        "records": typed.index.num_rows,
        "labels_joined": typed.labels_joined,
        "rejected": rejects.num_rows,
        **{name: written[name] for name in of_manifest},
        **{f"images_{fate}": by_fate.get(fate, 0)
           for fate in ("used", "duplicate", "superseded", "orphaned", "withdrawn")
           if fate != "withdrawn" or fate in by_fate},
    }  # fmt: skip
