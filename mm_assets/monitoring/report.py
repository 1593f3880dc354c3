"""The monitoring of one dataset: reads what is there, draws it, and publishes `monitoring.json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.errors import ModelError
from mm_assets.display.pictures import contact_sheet
from mm_assets.display.side_by_side import side_by_side
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import MANIFEST, TRAINING_SET, of_dataset, of_upload, uploads_prefix
from mm_assets.lake.local import working_folder
from mm_assets.manifest.image_sets import images_of
from mm_assets.monitoring import charts, live, promises
from mm_assets.monitoring.by_model import by_model
from mm_assets.monitoring.drift import drift_picture, feature_drift, label_drift
from mm_assets.monitoring.promise_picture import promise_picture
from mm_assets.monitoring.refused import refused_of
from mm_assets.monitoring.timeline import time_bins
from mm_assets.registry.store import ModelStore
from mm_assets.tables.answers import read_answers
from mm_assets.tables.store import Store
from mm_assets.training.answered import Answered, answered, with_labels_as_predicted
from mm_assets.uploads.received import read_parquet
from mm_assets.uploads.withdrawals import withdrawn_uploads

if TYPE_CHECKING:
    import pyarrow as pa

MONITORING = "monitoring"
LEAST_CONFIDENT = 18
RECENT_UPLOADS = 20
REFUSAL_UPLOADS = 500  # whose rejects and quarantines are counted
MOST_RECENT_RECORDS = 200_000  # enough to see any drift; older uploads are then left out
# Every picture that there may be, in the order in which people look at them.
PICTURES = (
    "confidence", "predicted_classes", "predicted_values", "images", "promise", "live_accuracy",
    "calibration", "least_confident", "drift", "rejects", "quarantines",
)  # fmt: skip
Figures = dict[str, float | int]


def build_monitoring(
    lake: Lake, store: Store, spec: DatasetSpec, folder: Path | None
) -> tuple[dict[str, bytes], Figures]:
    """Draw and publish the state of a dataset; returns the pictures (PNG) and the figures.

    With `folder`, the pictures are also written as `<folder>/<name>.png`, and those that have
    nothing to show any more are removed. Figures that cannot be measured are absent, counts are 0
    where nothing is. Published under `monitoring.json`: the pictures, the figures, and
    `feature_drift`, the drift of each feature, `promises`, whether each model's promise holds, and
    `confidences`, how many records have which confidence.
    """
    predictions = with_labels_as_predicted(read_answers(lake, store, spec.dataset), spec)
    withdrawn = withdrawn_uploads(lake, spec.dataset)
    noted: list[str] = lake.names(uploads_prefix(spec.dataset))
    uploads = [upload for upload in noted if upload not in withdrawn]
    training = lake.read_json(of_dataset(spec.dataset, TRAINING_SET))
    drifts, figures = _drift(lake, spec, uploads[-RECENT_UPLOADS:], predictions, training)
    limit = spec.limits.maximum_drift
    found: dict[str, bytes | None] = {"drift": drift_picture(drifts, limit)}
    figures["uploads"] = len(uploads)
    live_answers = answered(ModelStore(lake, spec.dataset), spec, predictions)
    promised, promised_figures, promised_pictures = _promises(lake, spec, live_answers)
    for pictures, numbers in (
        _of_predictions(spec, predictions, training),
        (promised_pictures, promised_figures),
        _least_confident(lake, store, spec, predictions),
        _refusals(lake, spec, uploads[-REFUSAL_UPLOADS:], all_of_them=len(uploads)),
    ):
        found.update(pictures)
        figures.update(numbers)
    drawn = {name: png for name in PICTURES if (png := found.get(name)) is not None}
    document = {
        **figures, "dataset": spec.dataset, "feature_drift": drifts, "promises": promised,
        "by_model": _by_model(lake, spec, live_answers, promised),
        "confidences": _confidences(spec, predictions),
    }  # fmt: skip
    _publish(lake, spec, drawn, document, folder)
    return drawn, figures


def _confidences(spec: DatasetSpec, predictions: pa.Table) -> dict[str, Any]:
    """Records by confidence, in equal bins from `least` to 1."""
    from mm_assets.display.small_charts import confidence_counts, least_of

    least = least_of(spec)
    passed, in_review = confidence_counts(
        predictions["confidence"].to_numpy(), predictions["needs_review"].to_numpy(), least
    )
    return {"least": least, "passed": passed, "in_review": in_review}


def _by_model(
    lake: Lake, spec: DatasetSpec, live_answers: Sequence[Answered], promised: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    before = lake.read_json(of_dataset(spec.dataset, MONITORING)) or {}
    models, champions = ModelStore(lake, spec.dataset), set()
    for modality in spec.modalities:
        with suppress(ModelError):  # a damaged log: whoever predicts says so
            champions |= {one.version for one in [models.champion(modality)] if one}
    return by_model(spec, live_answers, promised, before.get("by_model", []), champions)


def _promises(
    lake: Lake, spec: DatasetSpec, live_answers: Sequence[Answered]
) -> tuple[list[dict[str, Any]], Figures, dict[str, bytes | None]]:
    """What later labels say of each model's promise: for the check, the figures, the picture."""
    kept = [found for one in live_answers if (found := promises.kept_of(spec, one))]
    documents = [promises.judged(lake, spec, one) for one in kept if len(one.right)]
    if not documents:
        return [], {}, {}
    figures: Figures = {
        "unreviewed_n": sum(one["n"] for one in documents),
        "promise_broken": sum(map(promises.is_broken, documents)),
    }
    for name in ("accuracy", "coverage"):
        said = [one[name] for one in documents if name in one]
        if said:
            figures[f"unreviewed_{name}"] = sum(v["right"] for v in said) / sum(
                v["n"] for v in said
            )
    return documents, figures, {"promise": promise_picture(kept, documents)}


def _of_predictions(
    spec: DatasetSpec, predictions: pa.Table, training: dict[str, Any] | None
) -> tuple[dict[str, bytes | None], Figures]:
    import pyarrow.compute as pc

    n = predictions.num_rows
    review = pc.sum(predictions["needs_review"]).as_py() or 0
    with_image = pc.sum(pc.equal(predictions["modality"], Modality.WITH_IMAGE.value)).as_py() or 0
    figures: Figures = {
        "records": n,
        "needs_review": review,
        "with_image": with_image,
        "without_image": n - with_image,
    }
    if not n:
        return {}, figures
    found = live.live_figures(predictions, spec.problem_type)
    figures |= {
        "low_confidence_share": review / n,
        "median_confidence": pc.quantile(predictions["confidence"], 0.5)[0].as_py(),
        **{f"live_{name}": value for name, value in found.items()},
    }
    bins = time_bins(predictions)
    pictures: dict[str, bytes | None] = {
        "confidence": charts.confidence_over_time(predictions, bins, spec.review.threshold),
        "live_accuracy": live.live_accuracy(
            predictions, spec.problem_type, spec.limits.minimum_live_accuracy
        ),
        "calibration": live.live_calibration(predictions, spec.problem_type),
    }
    if len(spec.modalities) > 1:  # else every record has an image, or none
        figures["image_share"] = with_image / n
        pictures["images"] = charts.image_share(predictions, bins)
    if spec.is_regression:
        pictures["predicted_values"] = charts.value_distribution(
            predictions, bins, spec.label_column
        )
    else:
        expected = training["labels"] if training else None
        pictures["predicted_classes"] = charts.class_balance(predictions, bins, expected)
    return pictures, figures


def _least_confident(
    lake: Lake, store: Store, spec: DatasetSpec, predictions: pa.Table
) -> tuple[dict[str, bytes | None], Figures]:
    """A gallery of the records that the model with images is least sure of, the lowest first."""
    import pyarrow.compute as pc

    seen = predictions.filter(pc.equal(predictions["modality"], Modality.WITH_IMAGE.value))
    records = seen.sort_by([("confidence", "ascending"), ("record_id", "ascending")])
    records = records.slice(0, LEAST_CONFIDENT)
    if not records.num_rows:
        return {}, {}
    known = store.look_up(spec.dataset, records["record_id"].combine_chunks())
    image_of = {
        row["record_id"]: (row["image_upload"], row["image_sha256"])
        for row in known.to_pylist()
        if row["image_upload"] is not None
    }
    found = images_of(lake, spec, image_of)
    items: list[tuple[bytes, list[str]]] = []
    for row in records.to_pylist():
        images = found.get(row["record_id"])
        items.append((side_by_side(images) if images else b"", caption_of(row)))
    title = f"Least confident first: {len(items)} of {seen.num_rows:,} records with an image"
    lost = sum(not data for data, _ in items)
    return {"least_confident": contact_sheet(items, title)}, {"images_lost": lost}


def caption_of(row: dict[str, Any]) -> list[str]:
    """Lines to write below a record's picture: ID, confidence and prediction, review, label."""
    said = [row["record_id"], f"{row['confidence']:.2f} {row['prediction']}"]
    said.append("to review" if row["needs_review"] else "no review")
    return said if row["label"] is None else [*said, f"label {row['label']}"]


def _refusals(
    lake: Lake, spec: DatasetSpec, uploads: list[str], all_of_them: int
) -> tuple[dict[str, bytes | None], Figures]:
    """Rejects and quarantines by code over these uploads, and how many of them were refused."""
    documents = refused_of(lake, spec.dataset, uploads).values()
    quarantined: Counter[str] = Counter()
    rejected: Counter[str] = Counter()
    for document in documents:
        quarantined.update(document["quarantined"])
        rejected.update(document["rejected"])
    bad_rows, bad_files = rejected.total(), quarantined.total()
    figures: Figures = {
        "uploads_refused": sum(document["refused"] for document in documents),
        "rejected_rows": bad_rows,
        "quarantined_files": bad_files,
    }
    part = "" if all_of_them == len(uploads) else f" in the newest {len(uploads):,} uploads"
    return {
        "rejects": charts.rejects_by_code(rejected, f"Rejected rows{part}: {bad_rows:,}", "rows"),
        "quarantines": charts.rejects_by_code(
            quarantined, f"Quarantined files{part}: {bad_files:,}", "files"
        ),
    }, figures


def _drift(
    lake: Lake,
    spec: DatasetSpec,
    recent: list[str],
    predictions: pa.Table,
    training: dict[str, Any] | None,
) -> tuple[dict[str, float], Figures]:
    """The drift of recent records and predictions against the training set, where measurable."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if training is None:
        return {}, {}
    reference = read_parquet(lake, training, "training_set.parquet")
    current = _recent_records(lake, spec, recent)
    features = feature_drift(reference, current, spec) if current is not None else {}
    figures: Figures = {"largest_drift": max(features.values())} if features else {}
    new = predictions.filter(pc.is_in(predictions["upload"], pa.array(recent, pa.string())))
    said = label_drift(
        reference["label"].to_pylist(), new["prediction"].to_pylist(), spec.problem_type
    )
    if said is not None:
        figures["prediction_drift"] = said
    return features, figures


def _recent_records(lake: Lake, spec: DatasetSpec, recent: list[str]) -> pa.Table | None:
    """The records to predict of the newest uploads, each once, or None if there are none.

    Columns: record_id, purpose, features, and image_features if the spec names some.

    Uploads that were read by another version of the dataset's YAML are left out.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    names = ["record_id", "purpose", "features"]
    names += ["image_features"] if spec.image_features else []
    parts: list[pa.Table] = []
    for upload in reversed(recent):
        document = lake.read_json(of_upload(spec.dataset, upload, MANIFEST))
        if document is None or document["fingerprint"] != spec.fingerprint:
            continue
        with lake.open_published(document, "manifest.parquet") as file:
            part = pq.read_table(file, columns=names)
        part = part.filter(pc.equal(part["purpose"], "predict"))
        for newer in parts:
            part = part.filter(pc.invert(pc.is_in(part["record_id"], newer["record_id"])))
        parts.append(part)
        if sum(part.num_rows for part in parts) >= MOST_RECENT_RECORDS:
            break
    return pa.concat_tables(parts) if parts else None


def _publish(
    lake: Lake,
    spec: DatasetSpec,
    pictures: dict[str, bytes],
    document: dict[str, Any],
    folder: Path | None,
) -> None:
    with working_folder("monitoring") as temporary:
        own = temporary if folder is None else folder
        own.mkdir(parents=True, exist_ok=True)
        files = {}
        for name in PICTURES:
            path = own / f"{name}.png"
            if name in pictures:
                path.write_bytes(pictures[name])
                files[path.name] = path
            else:
                path.unlink(missing_ok=True)
        lake.publish(of_dataset(spec.dataset, MONITORING), files, document)
