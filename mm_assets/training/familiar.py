"""What a training notes of its records, so that others are noticed (doubt/familiar.py)."""

from __future__ import annotations

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.engine_spec import EngineSpec
from mm_assets.doubt.familiar import WRITTEN, Familiar
from mm_assets.training.records import SEEN, TrainingRecords


def learn_familiar(
    spec: DatasetSpec, modality: Modality, data: TrainingRecords, chosen: EngineSpec
) -> Familiar | None:
    """What the records were that the model is made from; None for one that a person wrote."""
    if chosen.engine in WRITTEN:
        return None
    import pandas as pd

    columns = spec.features(modality)
    frame = pd.concat([data.parts[name][list(columns)] for name in SEEN], ignore_index=True)
    return Familiar.learn(frame, columns, data.spellings)
