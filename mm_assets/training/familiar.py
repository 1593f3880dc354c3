"""What a training notes of its records, so that others are noticed (doubt/familiar.py)."""

from __future__ import annotations

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.engine_spec import EngineSpec
from mm_assets.doubt.familiar import WRITTEN, Familiar
from mm_assets.engines.protocol import Progress
from mm_assets.engines.shared.stopping import is_asked
from mm_assets.training.records import SEEN, TrainingRecords

# For images that the engine has not looked at: a part of its own time, or so many seconds.
SHARE = 0.25
LEAST_SECONDS, SECONDS, STOPPED_SECONDS = 20.0, 120.0, 5.0


def learn_familiar(
    spec: DatasetSpec,
    modality: Modality,
    data: TrainingRecords,
    chosen: EngineSpec,
    progress: Progress,
) -> Familiar | None:
    """What the records were that the model is made from; None for one that a person wrote.

    Looking at images takes at most a quarter of the engine's time limit, and what is told says so
    where that is too little.
    """
    if chosen.engine in WRITTEN:
        return None
    import pandas as pd

    columns = spec.features(modality)
    frame = pd.concat([data.parts[name][list(columns)] for name in SEEN], ignore_index=True)
    return Familiar.learn(
        frame,
        columns,
        data.spellings,
        groups=[name for part in SEEN for name in data.groups[part]],
        vectors=data.vectors,
        seconds=_seconds(chosen),
        progress=lambda words: progress(f"{modality}: {words}"),
    )


def _seconds(chosen: EngineSpec) -> float:
    if is_asked():  # to stop
        return STOPPED_SECONDS
    limit = chosen.time_limit_seconds
    return SECONDS if limit is None else max(LEAST_SECONDS, SHARE * limit)
