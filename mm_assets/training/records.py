"""The records of one training, read and divided by split, with categories as the model knows them.

What training learns of spellings comes from the parts `training` and `tuning` alone, and is applied
to them before any engine or trial sees them. Held-out records stay as they came: the new model and
the champion each meet them as they would meet an upload.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.errors import ModelError
from mm_assets.engines.shared.spellings import Spellings
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import TRAINING_SET, of_dataset
from mm_assets.training.splits import SPLITS
from mm_assets.training.training_set import (
    groups_in,
    labelled_frame,
    records_for,
)
from mm_assets.uploads.vectors import LakeVectors

if TYPE_CHECKING:
    import pandas as pd

SEEN = ("training", "tuning")  # the parts that a model is made from


@dataclass(frozen=True)
class TrainingRecords:
    """The records of one training, in the order of the training set, divided by split.

    parts: a frame for each split, with the label except for `holdout`, whose label is `truth`.
    groups: the name of each record's group, which no fold may divide. vectors: what is known of
    their images.
    """

    document: dict[str, Any]
    parts: dict[str, pd.DataFrame]
    ids: dict[str, list[str]]
    groups: dict[str, list[str]]
    counts: dict[str, int]
    truth: pd.Series
    spellings: Spellings
    warnings: list[str]
    vectors: LakeVectors | None = None

    def learned_from(self, label: str) -> pd.Series:
        return self.parts["training"][label]


def read_records(lake: Lake, spec: DatasetSpec, modality: Modality) -> TrainingRecords:
    """Read the published training set. Raises ModelError where nothing can be learnt from it."""
    import numpy as np

    document = lake.read_json(of_dataset(spec.dataset, TRAINING_SET))
    if document is None:
        raise ModelError(
            code="training_set_missing",
            what="there is no training set yet",
            where=f"{spec.dataset}/{TRAINING_SET}",
            todo="Materialise it first, or run `mm train`.",
        )
    records, counts = records_for(lake, spec, modality, document)
    vectors = LakeVectors(lake, spec.dataset)
    frame = labelled_frame(lake, spec, modality, records, vectors)
    splits = records["split"].to_numpy(zero_copy_only=False)
    ids, groups = np.array(records["record_id"].to_pylist()), np.array(groups_in(records))
    parts = {name: frame[splits == name].reset_index(drop=True) for name in SPLITS}
    truth = parts["holdout"].pop(spec.label_column)
    named, together = (
        {name: of[splits == name].tolist() for name in SPLITS} for of in (ids, groups)
    )
    seen = [parts[name] for name in SEEN]
    spellings, warnings = Spellings.learn(seen, spec.features(modality))
    for name in SEEN:
        parts[name] = spellings.applied(parts[name])
    return TrainingRecords(
        document, parts, named, together, counts, truth, spellings, warnings, vectors
    )
