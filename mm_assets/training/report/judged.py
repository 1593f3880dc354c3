"""A stored model and what it says of the records that are held out today."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.errors import ModelError
from mm_assets.doubt.calibration import Calibration, Sure
from mm_assets.doubt.confidence import VALUE
from mm_assets.doubt.familiar import Familiar
from mm_assets.doubt.promise import Bools, Curve, Promise
from mm_assets.doubt.unlike import in_a_cell
from mm_assets.lake.lake import Lake
from mm_assets.registry.loading import load_model, other_wording, spellings_of
from mm_assets.registry.store import Champion, ModelStore
from mm_assets.registry.versions import refuse_other_version
from mm_assets.training.calibrate import answered
from mm_assets.training.candidates import evaluated
from mm_assets.training.decision import DecisionRule, chosen, rule_of
from mm_assets.training.evaluation import Evaluation
from mm_assets.training.records import TrainingRecords, read_records

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Judged:
    """What one model says of the held-out records, `data.parts["holdout"]`, in their order.

    is_new: whether the training set is another one than the model was trained on. said: its
    answers as text (classes) or numbers. right, in_review: [records]. doubts: what of each record
    is unlike all that the model learnt from, or None; such records are in review whatever the
    confidence. curve: the same answers as the promise looks at them.
    """

    spec: DatasetSpec
    modality: Modality
    version: str
    manifest: dict[str, Any]
    data: TrainingRecords
    is_new: bool
    predictor: Any
    predicted: pd.DataFrame
    evaluation: Evaluation
    rule: DecisionRule | None
    calibration: Calibration
    promise: Promise
    sure: Sure
    said: Any
    right: Bools
    doubts: list[str | None]
    in_review: Bools

    @property
    def holdout(self) -> pd.DataFrame:
        return self.data.parts["holdout"]

    @property
    def ids(self) -> list[str]:
        return self.data.ids["holdout"]

    @property
    def curve(self) -> Curve:
        return Curve(self.sure.confidence, self.right, self.sure.width)

    def evaluated(self, predicted: pd.DataFrame, rule: DecisionRule | None) -> Evaluation:
        """What others reached on the same records."""
        return evaluated(self.spec, self.data, predicted, rule)


def judge(
    lake: Lake, models: ModelStore, spec: DatasetSpec, modality: Modality, version: str
) -> Judged:
    """Ask a stored model about the held-out records of the published training set.

    Raises ModelError: training_set_missing and others of `read_records`, model_other_wording,
    model_other_version, and what loading raises (package_missing, …).
    """
    stored = models.stored(modality, version)
    manifest = stored.manifest
    where = f"{spec.dataset}/model_{modality}"
    if fault := other_wording(manifest, spec, modality):
        raise ModelError(
            code="model_other_wording",
            what=f"the model {version} {fault}, so it can't answer and there is nothing to report",
            where=where,
            todo="Choose another one (`mm models list`), put the YAML back as it was when this "
            "one was trained, or run `mm train`.",
        )
    refuse_other_version(manifest, where)
    data = read_records(lake, spec, modality)
    predictor = load_model(
        models, spec, modality, asked_for(modality, version, stored.manifest_sha256), data.vectors
    )
    rule, calibration = rule_of(spec, manifest), Calibration.of_manifest(spec, manifest)
    predicted = predictor.predict(data.parts["holdout"])
    promise = calibration.promise(spec.review)
    sure, right = answered(calibration, predicted, data.truth, rule)
    folder = models.fetch(modality, version, manifest_sha256=stored.manifest_sha256)
    familiar = Familiar.of_manifest(manifest, spellings_of(manifest), folder, data.vectors)
    unlike = familiar.doubts(data.parts["holdout"]) if familiar else [[] for _ in right]
    doubts = [in_a_cell(own) for own in unlike]
    return Judged(
        spec=spec,
        modality=modality,
        version=version,
        manifest=manifest,
        data=data,
        is_new=manifest["training_fingerprint"] != data.document["fingerprint"],
        predictor=predictor,
        predicted=predicted,
        evaluation=evaluated(spec, data, predicted, rule),
        rule=rule,
        calibration=calibration,
        promise=promise,
        sure=sure,
        said=_said(spec, predicted, rule),
        right=right,
        doubts=doubts,
        in_review=promise.to_review(sure.confidence, sure.width)
        | np.array([one is not None for one in doubts], dtype=np.bool_),
    )


def asked_for(modality: Modality, version: str, manifest_sha256: str) -> Champion:
    """A stored model as `load_model` takes it, champion or not."""
    return Champion(modality, 0, version, manifest_sha256, "", "", None)


def _said(spec: DatasetSpec, predicted: pd.DataFrame, rule: DecisionRule | None) -> Any:
    if spec.is_regression:
        return predicted[VALUE].to_numpy(dtype=np.float64)
    return predicted.columns.astype(str).to_numpy()[chosen(predicted, rule)]
