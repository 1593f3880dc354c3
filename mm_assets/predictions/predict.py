"""What the champion of a modality says of an upload's records, in batches.

Images come from the packed files of the lake, decoded and normalised at upload. Records without
a champion are not guessed at: they wait, and the published document says why. So do those of a
champion that lacks something on this machine: neither a part of it nor another model answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mm_assets.compute import map_ordered
from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.errors import Refusal, UploadError
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import (
    dataset_prefix,
    of_upload,
    predictions_name,
    records_name,
    unmerged_prefix,
)
from mm_assets.lake.local import utc_now, working_folder
from mm_assets.predictions.ask import judge_failures
from mm_assets.predictions.asking import Asking, Batch
from mm_assets.predictions.offer import empty_predictions, loaded_or_why, why_not
from mm_assets.predictions.unlike import Counted, Unlike, UnlikeCounter
from mm_assets.registry.store import Champion, ModelStore
from mm_assets.uploads.received import (
    read_document,
    read_image_sets,
    read_images,
    read_parquet,
    refusals_table,
)

if TYPE_CHECKING:
    import pyarrow as pa

BATCH = 2048
IMAGED_BATCH = 256  # records with images: some seconds of a processor, and a share for many workers
IMAGED_BYTES = 4 << 20  # or fewer, if their images are so large
Progress = Callable[[str], None]


def predict_records(
    lake: Lake,
    models: ModelStore,
    spec: DatasetSpec,
    upload: str,
    modality: Modality,
    *,
    champions: Mapping[Modality, Champion | None],
    run_id: str,
    progress: Progress,
) -> dict[str, Any]:
    """Predict and publish one upload's records of one modality; returns the document.

    Records that carry their label are not predicted. `waiting` counts records that no model can
    predict yet, and `reason` says why. Raises UploadError if the records were read by another
    wording of the YAML than `spec`. As long as no champion can look at images, the one without
    them answers for records that have one, too (`standing_in`): else the answer would depend on
    whether a record was predicted before its image came. `unlike` says what the model never saw
    (unlike.py).
    """
    champion = champions[modality]
    records = _to_predict(lake, spec, upload, modality)
    standing_in = 0
    if modality is Modality.WITHOUT_IMAGE and Modality.WITH_IMAGE in spec.modalities:
        rival = champions[Modality.WITH_IMAGE]
        if why_not(models, spec, Modality.WITH_IMAGE, rival):
            imaged = _to_predict(lake, spec, upload, Modality.WITH_IMAGE)
            records, standing_in = _with(records, _without_image(imaged)), imaged.num_rows
    reason, loaded = "", None
    if records.num_rows:
        reason = why_not(models, spec, modality, champion)
        if champion is not None and not reason:
            reason, loaded = loaded_or_why(models, spec, modality, champion)
    parts: list[pa.Table] = []
    failed: list[Refusal] = []
    unlike: Unlike = {}
    if loaded is not None:
        assert champion is not None  # noqa: S101  or nothing would be loaded
        generation, counted = spec_generation(lake, spec), Counted()
        asking = Asking(models, spec, modality, champion, generation, run_id, loaded)
        batches = (
            Batch(batch, images, _home_of(lake, models, batch) if images else None)
            for batch, images in _batches(lake, spec, records, modality)
        )
        for said in map_ordered(asking, batches):
            counted.add(said.unlike)
            failed += said.failed
            if said.offered is None:
                continue
            parts.append(said.offered)
            progress(f"{modality}: {sum(p.num_rows for p in parts):,} of {records.num_rows:,}")
        reason = judge_failures(spec, modality, upload, failed, records.num_rows)
        unlike = UnlikeCounter(loaded.spellings, loaded.familiar).to_json(counted)
    document = _publish(
        lake, spec, upload, modality, champion, parts, failed, records.num_rows, standing_in,
        reason, unlike,
    )  # fmt: skip
    if parts:
        note = f"{unmerged_prefix(spec.dataset, upload)}{run_id}-{modality}.json"
        lake.write_json(note, document)
    return document


def _home_of(lake: Lake, models: ModelStore, batch: pa.Table) -> str | None:
    """The upload that a batch's images lie in; None if that is in a lake of passage."""
    if lake.url != models.lake.url:
        return None
    upload: str = batch["image_upload"][0].as_py()
    return upload


def _to_predict(lake: Lake, spec: DatasetSpec, upload: str, modality: Modality) -> pa.Table:
    """The upload's records of one modality that carry no label."""
    import pyarrow.compute as pc

    name = records_name(modality)
    document = read_document(lake, spec.dataset, upload, name)
    if document["fingerprint"] != spec.fingerprint:
        # Its values would be offered as if this wording had read them.
        raise UploadError(
            code="wording_changed",
            what="another run joined this upload meanwhile, with another wording of the YAML",
            where=f"{spec.dataset}/{name}, upload {upload}",
            todo="Nothing; the run is tried again. By hand: run the whole job again.",
        )
    records = read_parquet(lake, document, f"{name}.parquet")
    return records.filter(pc.equal(records["purpose"], "predict"))


def _without_image(records: pa.Table) -> pa.Table:
    """The records as they would be if their images had not come."""
    import pyarrow as pa
    import pyarrow.compute as pc

    hashes = pc.replace_substring_regex(records["input_hash"], "-[^-]*$", "-")
    records = records.set_column(records.column_names.index("input_hash"), "input_hash", hashes)
    gone = ("image_upload", "image_sha256", "image_file", "image_order")
    for name in (name for name in gone if name in records.column_names):
        place = records.column_names.index(name)
        records = records.set_column(place, name, pa.nulls(records.num_rows, pa.string()))
    return records


def _with(records: pa.Table, more: pa.Table) -> pa.Table:
    import pyarrow as pa

    return pa.concat_tables([records, more.cast(records.schema)])


def spec_generation(lake: Lake, spec: DatasetSpec) -> int:
    """Which wording of the YAML this is: one more for each change that can change an answer.

    Kept as a log in the lake, so that after a correction of the YAML (a threshold, a missing
    value) the new answers replace the old ones, in whatever order they are merged.
    """
    prefix = f"{dataset_prefix(spec.dataset)}specs/"
    while True:
        numbers = [int(item.key[len(prefix) :].removesuffix(".json")) for item in lake.list(prefix)]
        newest = max(numbers, default=0)
        if newest:
            document = lake.read_json(f"{prefix}{newest:08d}.json") or {}
            if document.get("fingerprint") == spec.answer_fingerprint:
                return newest
        document = {"fingerprint": spec.answer_fingerprint, "since": utc_now()}
        if lake.create_json(f"{prefix}{newest + 1:08d}.json", document):
            return newest + 1


def _batches(
    lake: Lake, spec: DatasetSpec, records: pa.Table, modality: Modality
) -> Iterator[tuple[pa.Table, dict[str, bytes]]]:
    """Records with their images, a bounded number of bytes at a time."""
    import pyarrow.compute as pc

    if modality is Modality.WITHOUT_IMAGE:
        for start in range(0, records.num_rows, BATCH):
            yield records.slice(start, BATCH), {}
        return
    for upload in pc.unique(records["image_upload"]).to_pylist():
        own = records.filter(pc.equal(records["image_upload"], upload))
        if spec.all_images:
            sets = own["images"].to_pylist()
            for places, images in read_image_sets(lake, spec.dataset, upload, sets):
                yield own.take(places), images
            continue
        yield from _imaged_batches(lake, spec, upload, own)


def _imaged_batches(
    lake: Lake, spec: DatasetSpec, upload: str, records: pa.Table
) -> Iterator[tuple[pa.Table, dict[str, bytes]]]:
    """Records whose images lie in one upload, as many at a time whatever blocks these lie in.

    Even shares: a worker with a small rest of a block would wait for those who have more.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = set(records["image_sha256"].to_pylist())
    waiting, images = records.slice(0, 0), dict[str, bytes]()
    for more in read_images(lake, spec.dataset, upload, wanted):
        there = records.filter(pc.is_in(records["image_sha256"], pa.array(list(more))))
        waiting, images = pa.concat_tables([waiting, there]), images | more
        while waiting.num_rows >= IMAGED_BATCH or sum(map(len, images.values())) >= IMAGED_BYTES:
            some, waiting = waiting.slice(0, IMAGED_BATCH), waiting.slice(IMAGED_BATCH)
            yield some, _of(some, images)
            images = _of(waiting, images)
    if waiting.num_rows:
        yield waiting, images


def _of(records: pa.Table, images: Mapping[str, bytes]) -> dict[str, bytes]:
    """The images of these records alone."""
    return {sha: images[sha] for sha in records["image_sha256"].to_pylist()}


def _publish(
    lake: Lake,
    spec: DatasetSpec,
    upload: str,
    modality: Modality,
    champion: Champion | None,
    parts: list[pa.Table],
    failed: list[Refusal],
    n_records: int,
    standing_in: int,
    reason: str,
    unlike: Unlike,
) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    whole = pa.concat_tables(parts) if parts else empty_predictions()
    whole = whole.cast(empty_predictions().schema)
    with working_folder("predictions") as folder:
        path = folder / "predictions.parquet"
        pq.write_table(whole, path, compression="zstd")
        failures = folder / "failed.parquet"
        pq.write_table(refusals_table(failed), failures, compression="zstd")
        return lake.publish(
            of_upload(spec.dataset, upload, predictions_name(modality)),
            {f"{predictions_name(modality)}.parquet": path, "failed.parquet": failures},
            {
                "dataset": spec.dataset,
                "upload": upload,
                "model_version": champion.version if champion else None,
                "model_generation": champion.generation if champion else None,
                "reason": reason,
                "unlike": unlike,
                "counts": {
                    "records": n_records,
                    "predicted": whole.num_rows,
                    "failed": len(failed),
                    "waiting": n_records - whole.num_rows,
                    "standing_in": standing_in,
                    "needs_review": pc.sum(whole["needs_review"]).as_py() or 0,
                },
            },
        )
