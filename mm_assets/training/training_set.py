"""The training set: every labelled record of every upload, and the split that each belongs to.

Which records belong together is found in groups.py, on which side each group stands in splits.py.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.errors import ModelError
from mm_assets.contract.spellings import Known, counted, label_meant
from mm_assets.engines.frames import feature_frame
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import TRAINING_SET, of_dataset, published_key
from mm_assets.lake.local import sha256_of, working_folder
from mm_assets.manifest.image_sets import ImageSets, all_of, by_image
from mm_assets.manifest.join import with_row_upload
from mm_assets.manifest.names import without_names
from mm_assets.tables.store import Store
from mm_assets.training.gathered import LIKENESSES, Gathered, gathered_by, kept_for_the_next
from mm_assets.training.groups import Groups, groups_of
from mm_assets.training.splits import SPLITS, refuse_few_groups, split
from mm_assets.uploads.received import read_images, read_parquet
from mm_assets.uploads.vectors import LakeVectors, note_image_homes

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def build_training_set(
    lake: Lake, store: Store, spec: DatasetSpec, *, run_id: str
) -> dict[str, Any]:
    """Publish every labelled record, its newest row, label and image; returns the document."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    gathered = Gathered.last(lake, spec)
    rows, groups = grouped_rows(lake, store, spec, gathered=gathered)
    rows = gathered.with_image_features(lake, spec, rows)
    names = ["record_id", "label", "row_upload", "image_upload", "image_sha256", "features"]
    names += ["images"] if spec.all_images else []
    names += ["image_features"] if spec.image_features else []
    sides = split(rows, spec, groups)
    records = rows.select(names).append_column("split", pa.array(sides.sides, pa.string()))
    records = records.append_column("group", pa.array(groups.names, pa.string()))
    for name in kept_for_the_next(spec):
        records = records.append_column(name, rows[name])
    records = _with_labels_as_meant(records, spec).combine_chunks()
    counted = pc.value_counts(records["split"].combine_chunks()).to_pylist()
    labels = pc.value_counts(records["label"].combine_chunks()).to_pylist()
    note_image_homes(lake, spec.dataset, by_image(records))
    with working_folder("training") as folder:
        path = folder / "training_set.parquet"
        pq.write_table(records, path, compression="zstd")
        return lake.publish(
            of_dataset(spec.dataset, TRAINING_SET),
            {"training_set.parquet": path},
            {
                "dataset": spec.dataset,
                "fingerprint": sha256_of(path),
                "spec_fingerprint": spec.fingerprint,
                "gathered_by": gathered_by(spec),
                "run_id": run_id,
                "labelled": store.count_labelled(spec.dataset),
                "counts": {
                    "records": records.num_rows,
                    "with_image": records.num_rows - records["image_sha256"].null_count,
                    **{item["values"]: item["counts"] for item in counted},
                },
                "split": sides.document,
                "labels": None
                if spec.is_regression
                else {item["values"]: item["counts"] for item in labels},
            },
        )


def grouped_rows(
    lake: Lake,
    store: Store,
    spec: DatasetSpec,
    ids: pa.Array | None = None,
    gathered: Gathered | None = None,
) -> tuple[pa.Table, Groups]:
    """The newest row of every labelled record, or of these, and which of them belong together.

    gathered: the last training set, if it was read already.
    """
    import pyarrow as pa

    known = with_row_upload(store.look_up(spec.dataset, ids), labelled_too=True)
    sets = ImageSets.read(lake, spec, known)
    gathered = gathered or Gathered.last(lake, spec)
    rows = sets.add_to(gathered.rows(lake, spec, without_names(known, spec)))
    likenesses = gathered.likenesses(lake, spec, rows)
    if spec.has_images:
        rows = rows.append_column(LIKENESSES, pa.array(likenesses, pa.list_(pa.binary())))
    told = [[one for one in own if one is not None] for own in likenesses]
    return rows, groups_of(rows, spec, told)


def groups_in(records: pa.Table) -> list[str]:
    """The name of each record's group; a training set of before there were groups has none."""
    column = "group" if "group" in records.column_names else "record_id"
    names: list[str] = records[column].to_pylist()
    return names


def _with_labels_as_meant(records: pa.Table, spec: DatasetSpec) -> pa.Table:
    """The manifest does so already; an upload that was joined long ago may not have it."""
    import pyarrow as pa

    if spec.is_regression:
        return records
    told = records["label"].combine_chunks().dictionary_encode()
    meant = [label_meant(label, spec.classes) for label in told.dictionary.to_pylist()]
    labels = pa.array(meant, pa.string()).take(told.indices)
    return records.set_column(records.column_names.index("label"), "label", labels)


def learnt_ids(lake: Lake, spec: DatasetSpec, fingerprint: str) -> pa.Array:
    """The records of the training set of that fingerprint, which a model's manifest names.

    Raises LakeError (lake_not_found) if it is no longer in the lake.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    pointer = of_dataset(spec.dataset, TRAINING_SET)
    key = published_key(pointer, f"{TRAINING_SET}.parquet", fingerprint)
    entry = {"files": {TRAINING_SET: {"key": key, "sha256": fingerprint}}}
    data = pa.BufferReader(lake.read_published(entry, TRAINING_SET))
    return pq.read_table(data, columns=["record_id"])["record_id"].combine_chunks()


def records_for(
    lake: Lake, spec: DatasetSpec, modality: Modality, document: dict[str, Any]
) -> tuple[pa.Table, dict[str, int]]:
    """The labelled records this model learns from, and how many there are in each split."""
    import pyarrow.compute as pc

    where = f"{spec.dataset}/model_{modality}"
    records = read_parquet(lake, document, "training_set.parquet")
    judged = records
    if modality is Modality.WITH_IMAGE:
        judged = records.filter(pc.is_valid(records["image_sha256"]))
    splits = judged["split"].to_pylist()
    counts = {name: splits.count(name) for name in SPLITS}
    if modality is Modality.WITH_IMAGE and records.num_rows and not judged.num_rows:
        raise ModelError(
            code="no_images",
            what=f"none of the {records.num_rows} labelled records has an image",
            where=where,
            todo="Send images that belong to the records by `image_name` or `image_column` in the "
            "dataset's YAML; `mm receipt UPLOAD` says what became of those that came. If there are "
            "none, write `image_name: null`.",
        )
    if judged.num_rows >= spec.minimum_training_records:
        refuse_few_groups(spec, groups_in(judged), counts, where)
    if judged.num_rows < spec.minimum_training_records or not all(counts.values()):
        raise ModelError(
            code="too_few_records",
            what=f"{judged.num_rows} labelled records ({_sides(counts)}); "
            f"the dataset asks for {spec.minimum_training_records}",
            where=where,
            todo="Send more labelled records, or lower `minimum_training_records`."
            if records.num_rows
            else f"Send records with a value in '{spec.label_column}', the `label_column`.",
        )
    if modality is Modality.WITH_IMAGE:
        # Rows without an image teach the part of the model that reads the table; what is held out
        # has an image, because the model is only ever asked about records that have one.
        held_out_unseen = pc.and_(
            pc.equal(records["split"], "holdout"), pc.is_null(records["image_sha256"])
        )
        records = records.filter(pc.invert(held_out_unseen))
    learned = judged.filter(pc.equal(judged["split"], "training"))
    if document.get("spec_fingerprint") != spec.fingerprint:
        raise ModelError(
            code="training_set_outdated",
            what="the training set was made by another wording of the YAML",
            where=where,
            todo="Materialise the training set again, or run `mm train`.",
        )
    if not spec.is_regression and pc.count_distinct(learned["label"]).as_py() < 2:
        raise ModelError(
            code="one_class",
            what=f"every labelled record is '{learned['label'][0].as_py()}'",
            where=where,
            todo="Send records of another class: there is nothing to tell apart.",
        )
    if not spec.is_regression and spec.classes is None:
        _refuse_spellings(judged["label"], where)
    if spec.problem_type == "binary":
        _refuse_third_class(judged, where)
    return records, counts


def _sides(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items())


def _refuse_third_class(records: pa.Table, where: str) -> None:
    """Often it is a slip in one row; so a record with the rarest label is named."""
    import pyarrow.compute as pc

    labels = Counter(records["label"].to_pylist()).most_common()
    if len(labels) <= 2:
        return
    listed = ", ".join(f"{label} ({number:,})" for label, number in labels[:6])
    more = ", …" if len(labels) > 6 else ""
    rarest = labels[-1][0]
    first = records.filter(pc.equal(records["label"], rarest))["record_id"][0].as_py()
    raise ModelError(
        code="classes_differ",
        what=f"a binary problem has two classes, and the labels are {listed}{more}; '{rarest}' is "
        f"the label of record '{first}', for one",
        where=where,
        todo="Send such records again with the right label, write `problem_type: multiclass`, or "
        "list the two `classes`, so that other labels are refused.",
    )


def _refuse_spellings(labels: pa.ChunkedArray, where: str) -> None:
    """Labels that may be one class or two: a person knows."""
    import pyarrow.compute as pc

    counts = {one["values"]: one["counts"] for one in pc.value_counts(labels).to_pylist()}
    if alike := Known(tuple(sorted(counts))).alike():
        raise ModelError(
            code="label_spelling",
            what="labels differ only in how they are written: "
            + "; ".join(counted(counts, group) for group in alike),
            where=where,
            todo="List `classes` in the dataset's YAML: one spelling to make them the same, or "
            "each of them to keep them apart.",
        )


def labelled_frame(
    lake: Lake,
    spec: DatasetSpec,
    modality: Modality,
    records: pa.Table,
    vectors: LakeVectors | None = None,
) -> pd.DataFrame:
    """The records' columns and label. vectors: is told where the images lie."""
    import pandas as pd
    import pyarrow.compute as pc

    images: dict[str, bytes] = {}
    if modality is Modality.WITH_IMAGE:
        for upload in pc.unique(records["image_upload"].drop_null()).to_pylist():
            own = records.filter(pc.equal(records["image_upload"], upload))
            wanted: set[str] = set(all_of(own).to_pylist())
            for some in read_images(lake, spec.dataset, upload, wanted):
                images.update(some)
                if vectors:
                    vectors.lie(upload, some)
    frame = feature_frame(records, spec, modality, images)
    labels = records["label"].to_pylist()
    frame[spec.label_column] = pd.Series(
        [float(label) for label in labels] if spec.is_regression else labels
    )
    return frame
