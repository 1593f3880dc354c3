"""The training set, and from it a trained, evaluated, stored and perhaps promoted model.

The held-out split is decided by a hash of the record's ID, so a record stays on its side however
much data comes later. Held-out records are never seen in training, not even for early stopping.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mm_assets.dataset import DatasetSpec, Modality
from mm_assets.errors import ModelError
from mm_assets.lake import Lake, sha256_of
from mm_assets.lake_errors import working_folder
from mm_assets.layout import of_dataset
from mm_assets.manifest.join import gather_rows, with_row_upload
from mm_assets.models.confidence import Calibration
from mm_assets.models.evaluation import (
    Decision,
    Evaluation,
    calibration_picture,
    confusion_picture,
    evaluate,
    gate,
    residual_picture,
)
from mm_assets.models.frames import feature_frame
from mm_assets.models.store import Champion, ModelStore
from mm_assets.store.base import Store
from mm_assets.uploads.received import read_images, read_parquet

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

TRAINING_SET = "training_set"
TUNING_SHARE = 0.15  # of the records that are not held out; for early stopping
Progress = Callable[[str], None]


def split_of(record_id: str, holdout_share: float) -> str:
    """`holdout`, `tuning` or `training`: a function of the ID and nothing else."""
    digest = hashlib.sha256(record_id.encode("utf-8", "surrogatepass")).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < holdout_share:
        return "holdout"
    rest = int.from_bytes(digest[8:16], "big") / 2**64
    return "tuning" if rest < TUNING_SHARE else "training"


def build_training_set(
    lake: Lake, store: Store, spec: DatasetSpec, *, run_id: str
) -> dict[str, Any]:
    """Publish every labelled record, its newest row, label and image; returns the document."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    known = with_row_upload(store.look_up(spec.dataset, None), labelled_too=True)
    rows = gather_rows(lake, spec, known, {})
    names = ["record_id", "label", "row_upload", "image_upload", "image_sha256", "features"]
    splits = [split_of(i, spec.holdout_share) for i in rows["record_id"].to_pylist()]
    records = rows.select(names).append_column("split", pa.array(splits, pa.string()))
    counted = pc.value_counts(records["split"].combine_chunks()).to_pylist()
    labels = pc.value_counts(records["label"].combine_chunks()).to_pylist()
    with working_folder("training") as folder:
        path = folder / "training_set.parquet"
        pq.write_table(records, path, compression="zstd")
        return lake.publish(
            of_dataset(spec.dataset, TRAINING_SET),
            {"training_set.parquet": path},
            {
                "dataset": spec.dataset,
                "fingerprint": sha256_of(path),
                "run_id": run_id,
                "labelled": store.count_labelled(spec.dataset),
                "counts": {
                    "records": records.num_rows,
                    "with_image": records.num_rows - records["image_sha256"].null_count,
                    **{item["values"]: item["counts"] for item in counted},
                },
                "labels": None
                if spec.is_regression
                else {item["values"]: item["counts"] for item in labels},
            },
        )


@dataclass(frozen=True)
class TrainingResult:
    """What became of one training. `champion` is set only if the new model was promoted."""

    version: str
    evaluation: Evaluation
    decision: Decision
    champion: Champion | None
    pictures: dict[str, bytes]
    counts: dict[str, int]


def train_model(
    lake: Lake,
    models: ModelStore,
    spec: DatasetSpec,
    modality: Modality,
    *,
    run_id: str,
    progress: Progress,
) -> TrainingResult:
    """Train on the published training set, evaluate, store, and promote through the gate.

    Raises ModelError, before anything is stored, when there is too little to learn from.
    """
    document = lake.read_json(of_dataset(spec.dataset, TRAINING_SET))
    if document is None:
        raise ModelError(
            code="training_set_missing",
            what="there is no training set yet",
            where=f"{spec.dataset}/{TRAINING_SET}",
            todo="Materialise it first, or run `mm train`.",
        )
    records, counts = _records_for(lake, spec, modality, document)
    frame = _frame_with_label(lake, spec, modality, records)
    splits = records["split"].to_numpy(zero_copy_only=False)
    parts = {name: frame[splits == name].reset_index(drop=True) for name in counts}
    with working_folder("model") as folder:
        directory = folder
        engine = engine_of(spec, modality)
        engine.train(
            parts["training"],
            parts["tuning"],
            columns=spec.features(modality),
            label=spec.label_column,
            problem_type=spec.problem_type,
            directory=directory,
            progress=progress,
        )
        # Loaded again from its files, so that what is evaluated is what is stored.
        holdout = parts["holdout"]
        truth = holdout.pop(spec.label_column)
        predicted = engine.load(directory).predict(holdout)
        learned_from = parts["training"][spec.label_column]
        evaluation = evaluate(
            truth, predicted, problem_type=spec.problem_type, training_labels=learned_from
        )
        manifest = _manifest(spec, modality, document, counts, evaluation, truth, predicted, run_id)
        stored = models.save(modality, directory, manifest)
    rival = _champion_evaluation(models, spec, modality, holdout, truth, learned_from, progress)
    decision = gate(evaluation, rival, spec.promotion_tolerance)
    progress(f"{modality}: {decision.reason}")
    champion = None
    if decision.promote:
        champion = models.promote(
            modality,
            stored.version,
            decision.reason,
            manifest_sha256=stored.manifest_sha256,
        )
    pictures = _pictures(spec, truth, predicted)
    return TrainingResult(stored.version, evaluation, decision, champion, pictures, counts)


def engine_of(spec: DatasetSpec, modality: Modality) -> Any:
    """The engine that the spec names for this modality.

    An engine of one's own is a class `package.module:ClassName` with the methods `train` and `load`
    of `AutoGluonEngine`. It is made with the keywords `hyperparameters`, `time_limit` and `seed`.
    Raises ModelError if there is no such class.
    """
    chosen = spec.engine_for(modality)
    options: dict[str, Any] = {
        "hyperparameters": chosen.hyperparameters,
        "time_limit": chosen.time_limit_seconds,
        "seed": chosen.seed,
    }
    if chosen.engine != "autogluon":
        return _own_engine(chosen.engine)(**options)
    from mm_assets.models.autogluon import AutoGluonEngine

    return AutoGluonEngine(
        preset=chosen.preset,
        image_backbone=chosen.image_backbone,
        text_backbone=chosen.text_backbone,
        **options,
    )


def _own_engine(path: str) -> Any:
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ModelError(
            code="engine_missing",
            what=f"the engine {path} cannot be imported: {error}",
            where="engine, in the dataset's YAML",
            todo="Write package.module:ClassName of an installed package, or `autogluon`.",
        ) from None


def _records_for(
    lake: Lake, spec: DatasetSpec, modality: Modality, document: dict[str, Any]
) -> tuple[pa.Table, dict[str, int]]:
    """The labelled records this model learns from, and how many there are in each split."""
    import pyarrow.compute as pc

    where = f"{spec.dataset}/model_{modality}"
    if not spec.features(modality):
        raise ModelError(
            code="nothing_to_learn_from",
            what="the dataset has no columns besides the ID, the label and the image",
            where=where,
            todo="Add `columns`, or rely on the model with images alone.",
        )
    records = read_parquet(lake, document, "training_set.parquet")
    judged = records
    if modality is Modality.WITH_IMAGE:
        judged = records.filter(pc.is_valid(records["image_sha256"]))
    splits = judged["split"].to_pylist()
    counts = {name: splits.count(name) for name in ("training", "tuning", "holdout")}
    if judged.num_rows < spec.minimum_training_records or not all(counts.values()):
        raise ModelError(
            code="too_few_records",
            what=f"{judged.num_rows} labelled records ({counts}); "
            f"the dataset asks for {spec.minimum_training_records}",
            where=where,
            todo="Send more labelled records, or lower `minimum_training_records`.",
        )
    if modality is Modality.WITH_IMAGE:
        # Rows without an image teach the part of the model that reads the table; what is held out
        # has an image, because the model is only ever asked about records that have one.
        held_out_unseen = pc.and_(
            pc.equal(records["split"], "holdout"), pc.is_null(records["image_sha256"])
        )
        records = records.filter(pc.invert(held_out_unseen))
    learned = judged.filter(pc.equal(judged["split"], "training"))
    if not spec.is_regression and pc.count_distinct(learned["label"]).as_py() < 2:
        raise ModelError(
            code="one_class",
            what=f"every labelled record is '{learned['label'][0].as_py()}'",
            where=where,
            todo="Send records of another class: there is nothing to tell apart.",
        )
    return records, counts


def _frame_with_label(
    lake: Lake, spec: DatasetSpec, modality: Modality, records: pa.Table
) -> pd.DataFrame:
    import pandas as pd
    import pyarrow.compute as pc

    pictures: dict[str, bytes] = {}
    if modality is Modality.WITH_IMAGE:
        for upload in pc.unique(records["image_upload"].drop_null()).to_pylist():
            own = records.filter(pc.equal(records["image_upload"], upload))
            wanted: set[str] = set(own["image_sha256"].to_pylist())
            for some in read_images(lake, spec.dataset, upload, wanted):
                pictures.update(some)
    frame = feature_frame(records, spec, modality, pictures)
    labels = records["label"].to_pylist()
    frame[spec.label_column] = pd.Series(
        [float(label) for label in labels] if spec.is_regression else labels
    )
    return frame


def _champion_evaluation(
    models: ModelStore,
    spec: DatasetSpec,
    modality: Modality,
    holdout: pd.DataFrame,
    truth: pd.Series,
    learned_from: pd.Series,
    progress: Progress,
) -> Evaluation | None:
    """How the champion does on the same held-out records; None where there is none to beat."""
    champion = models.champion(modality)
    if champion is None:
        return None
    try:
        manifest = models.manifest(modality, champion.version)
        if manifest["columns"] != spec.features(modality):
            progress(f"{modality}: the champion was trained on other columns, so it is replaced")
            return None
        if manifest["engine"]["engine"] != spec.engine_for(modality).engine:
            progress(f"{modality}: the champion was trained by another engine, so it is replaced")
            return None
        folder = models.fetch(modality, champion.version, manifest_sha256=champion.manifest_sha256)
        predicted = engine_of(spec, modality).load(folder).predict(holdout)
    except ModelError as error:  # a lake that cannot be read is no reason to replace anything
        progress(f"{modality}: the champion cannot be used, so it is replaced: {error}")
        return None
    return evaluate(truth, predicted, problem_type=spec.problem_type, training_labels=learned_from)


def _manifest(
    spec: DatasetSpec,
    modality: Modality,
    document: dict[str, Any],
    counts: dict[str, int],
    evaluation: Evaluation,
    truth: pd.Series,
    predicted: pd.DataFrame,
    run_id: str,
) -> dict[str, Any]:
    calibration = None
    if spec.is_regression:
        tolerance = spec.regression_tolerance or evaluation.baseline["mean_absolute_error"]
        calibration = Calibration.from_holdout(predicted["value"], truth, tolerance).to_json()
    chosen = spec.engine_for(modality)
    return {
        "engine": chosen.model_dump(mode="json"),
        "problem_type": spec.problem_type,
        "classes": evaluation.classes,
        "columns": spec.features(modality),
        "metric": evaluation.metric,
        "metrics": evaluation.metrics,
        "baseline": evaluation.baseline,
        "n": evaluation.n,
        "training_fingerprint": document["fingerprint"],
        "training_counts": counts,
        "spec_fingerprint": spec.fingerprint,
        "calibration": calibration,
        "run_id": run_id,
    }


def _pictures(spec: DatasetSpec, truth: pd.Series, predicted: pd.DataFrame) -> dict[str, bytes]:
    if spec.is_regression:
        return {"residuals": residual_picture(truth, predicted)}
    return {
        "confusion matrix": confusion_picture(truth, predicted),
        "calibration": calibration_picture(truth, predicted),
    }
