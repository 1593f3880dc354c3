"""What stored models said of records whose label came later: live answers, to judge and learn from.

A record that a model was made or judged with in its training says nothing new of it and is left
out, by the IDs of the very training set that its manifest names. So are those that it was
recalibrated on, where its promise is judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.errors import LakeError, ModelError
from mm_assets.contract.spellings import Known
from mm_assets.lake.lake import Lake
from mm_assets.registry.store import ModelStore
from mm_assets.training.training_set import learnt_ids
from mm_assets.uploads.received import read_parquet

if TYPE_CHECKING:
    import pyarrow as pa

MOST_LABELS = 20_000  # of one model, the newest
RECALIBRATION = "recalibration"  # a recalibrated model's key in its manifest
RECORDS = "recalibration.parquet"


@dataclass(frozen=True)
class Answered:
    """What one model said of labelled records that it did not learn from.

    table: as `Store.read` gives it, the label as the model spells it, newest row first.
    """

    modality: Modality
    version: str
    manifest: Mapping[str, Any]
    table: pa.Table


def answered(
    models: ModelStore, spec: DatasetSpec, predictions: pa.Table, *, recalibrated_too: bool = False
) -> list[Answered]:
    """For each model that answered: its live answers; those without any are left out.

    predictions: of `with_labels_as_predicted`. recalibrated_too: also records that a model was
    recalibrated on. A model that cannot be read is left out; other checks tell of it.
    """
    import pyarrow.compute as pc

    known = predictions.filter(pc.is_valid(predictions["label"]))
    found = []
    for one in known.group_by(["modality", "model_version"]).aggregate([]).to_pylist():
        modality, version = Modality(one["modality"]), one["model_version"]
        own = known.filter(
            pc.and_(
                pc.equal(known["modality"], modality.value),
                pc.equal(known["model_version"], version),
            )
        )
        try:
            manifest = models.manifest(modality, version)
            own = _unseen(models.lake, spec, manifest, own, recalibrated_too=recalibrated_too)
        except (ModelError, LakeError) as error:
            if error.code not in ("model_unknown", "model_tampered", "lake_not_found"):
                raise
            continue
        if own.num_rows:
            own = own.sort_by([("upload", "descending"), ("record_id", "ascending")])
            found.append(Answered(modality, version, manifest, own.slice(0, MOST_LABELS)))
    return sorted(found, key=lambda one: (one.modality, one.version))


def _unseen(
    lake: Lake,
    spec: DatasetSpec,
    manifest: Mapping[str, Any],
    own: pa.Table,
    *,
    recalibrated_too: bool,
) -> pa.Table:
    import pyarrow.compute as pc

    ids = learnt_ids(lake, spec, manifest["training_fingerprint"])
    own = own.filter(pc.invert(pc.is_in(own["record_id"], ids)))
    recalibration = manifest.get(RECALIBRATION)
    if recalibration and not recalibrated_too:
        judged = read_parquet(lake, recalibration, RECORDS)["record_id"].combine_chunks()
        own = own.filter(pc.invert(pc.is_in(own["record_id"], judged)))
    return own


def with_labels_as_predicted(predictions: pa.Table, spec: DatasetSpec) -> pa.Table:
    """The predictions with each label as the models spell it, so that `yes` is not wrong for `Yes`.

    Where `classes` are listed, the manifest has seen to it; else no two of them differ only so.
    """
    import pyarrow as pa

    if spec.is_regression or spec.classes is not None:
        return predictions
    said = predictions["prediction"].combine_chunks().dictionary_encode()
    known = Known(tuple(sorted(said.dictionary.to_pylist())))
    told = predictions["label"].combine_chunks().dictionary_encode()
    meant = pa.array([known.meant(label) for label in told.dictionary.to_pylist()], pa.string())
    place = predictions.column_names.index("label")
    return predictions.set_column(place, "label", meant.take(told.indices))
