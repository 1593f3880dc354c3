"""Asking a stored model: load it once a process, and know which records it fails on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.errors import ModelError, Refusal
from mm_assets.doubt.calibration import Calibration
from mm_assets.doubt.familiar import Familiar
from mm_assets.doubt.promise import Promise
from mm_assets.doubt.unlike import Doubt
from mm_assets.engines.shared.spellings import Spellings
from mm_assets.registry.loading import load_verified, spellings_of
from mm_assets.registry.store import Champion, ModelStore
from mm_assets.training.decision import DecisionRule, Places, chosen, rule_of
from mm_assets.uploads.vectors import LakeVectors

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    import pyarrow as pa

MOST_LOADED = 8  # models kept in a process
# What an engine says where its model is whole and something beside it is missing on this machine.
_MISSING_HERE = ("package_missing", "backbone_differs", "backbone_incomplete")
MOST_PLACES = 50_000  # images of which each model remembers where they lie


@dataclass(frozen=True)
class Loaded:
    """A verified model in memory, the categories that it knows, and what is known of images.

    promise: which of its answers go to review, by the YAML with which it was loaded. familiar: what
    it saw in training; None if nothing is noted of that. `vectors` has to be told
    where the images of a batch lie before the model is asked.
    """

    predictor: Any
    calibration: Calibration
    spellings: Spellings
    vectors: LakeVectors
    promise: Promise
    rule: DecisionRule | None = None
    familiar: Familiar | None = None


_in_memory: dict[tuple[str, str, Modality, str], Loaded] = {}


def load(models: ModelStore, spec: DatasetSpec, modality: Modality, champion: Champion) -> Loaded:
    """Raises ModelError; `is_missing_here` tells which of them records may wait for."""
    # Every time verified again; what is read once a process is the model.
    folder = models.fetch(modality, champion.version, manifest_sha256=champion.manifest_sha256)
    key = (str(models.cache), spec.model_dump_json(), modality, champion.version)
    if key not in _in_memory:
        while len(_in_memory) >= MOST_LOADED:
            _in_memory.pop(next(iter(_in_memory)))
        _in_memory[key] = _read(models, spec, modality, champion, folder)
    return _in_memory[key]


def load_own(
    models: ModelStore, spec: DatasetSpec, modality: Modality, champion: Champion
) -> Loaded:
    """As `load`, in memory only as long as the caller holds it."""
    folder = models.fetch(modality, champion.version, manifest_sha256=champion.manifest_sha256)
    return _read(models, spec, modality, champion, folder)


def _read(
    models: ModelStore, spec: DatasetSpec, modality: Modality, champion: Champion, folder: Path
) -> Loaded:
    manifest = models.manifest(modality, champion.version, manifest_sha256=champion.manifest_sha256)
    vectors = LakeVectors(models.lake, spec.dataset, most_places=MOST_PLACES)
    calibration = Calibration.of_manifest(spec, manifest)
    return Loaded(
        load_verified(folder, manifest, spec, modality, vectors),
        calibration,
        spellings_of(manifest),
        vectors,
        calibration.promise(spec.review),
        rule_of(spec, manifest),
        Familiar.of_manifest(manifest, spellings_of(manifest), folder, vectors),
    )


def is_missing_here(error: ModelError) -> bool:
    """Whether a model can't be loaded for want of a library or a backbone on this machine.

    Its files are what was signed for, so nothing is wrong with the model: once the machine has
    what it needs, it answers. A model that was tampered with is another matter.
    """
    lacks_library = isinstance(error.__cause__, ImportError | OSError)  # a package, or its .so
    return error.code in _MISSING_HERE or (error.code == "model_unreadable" and lacks_library)


@dataclass(frozen=True)
class Answers:
    """What a model said of a batch: predictions and, where it has them, its reasons.

    doubts: what of each record is unlike training. chosen: the column of each record's answer, as
    the model's rule decides; None for regression.
    """

    predicted: pd.DataFrame
    reasons: Sequence[str | None]
    doubts: Sequence[Sequence[Doubt]]
    chosen: Places | None = None


def ask(
    loaded: Loaded,
    spec: DatasetSpec,
    batch: pa.Table,
    frame: pd.DataFrame,
    *,
    each: bool | None = None,
) -> tuple[pa.Table, Answers, list[Refusal]]:
    """The batch's answers. each: leave out the records that fail alone instead of failing with
    them; None: where the YAML has a `tolerated_failure_share`.
    """
    try:
        return batch, _answers(loaded, spec, frame), []
    except Exception:
        if not (spec.tolerated_failure_share is not None if each is None else each):
            raise
    import pandas as pd
    import pyarrow as pa

    kept: list[int] = []
    answers: list[Answers] = []
    failed: list[Refusal] = []
    ids = batch["record_id"].to_pylist()
    for place, record_id in enumerate(ids):
        try:
            answers.append(_answers(loaded, spec, frame.iloc[[place]].reset_index(drop=True)))
            kept.append(place)
        except Exception as error:  # noqa: BLE001  whatever an engine raises, the record is named
            why = f"{type(error).__name__}: {error}".split("\n")[0][:300]
            failed.append(Refusal("prediction_failed", why, "", record_id=record_id))
    predicted = pd.concat([one.predicted for one in answers]) if answers else pd.DataFrame()
    reasons = [reason for one in answers for reason in one.reasons]
    doubts = [own for one in answers for own in one.doubts]
    parts = [one.chosen for one in answers if one.chosen is not None]
    return (
        batch.take(pa.array(kept, pa.int64())),
        Answers(
            predicted.reset_index(drop=True),
            reasons,
            doubts,
            np.concatenate(parts) if parts else None,
        ),
        failed,
    )


def _answers(loaded: Loaded, spec: DatasetSpec, frame: pd.DataFrame) -> Answers:
    predictor = loaded.predictor
    predicted = predictor.predict(frame)
    places = None if spec.is_regression else chosen(predicted, loaded.rule)
    said: Sequence[str | None] = [None] * len(frame)
    if places is not None and hasattr(predictor, "reasons_for"):
        said = predictor.reasons_for(frame, [str(name) for name in predicted.columns[places]])
    elif hasattr(predictor, "reasons"):
        said = predictor.reasons(frame)
    doubts = loaded.familiar.doubts(frame) if loaded.familiar else [[] for _ in range(len(frame))]
    return Answers(predicted, said, doubts, places)


def judge_failures(
    spec: DatasetSpec, modality: Modality, upload: str, failed: list[Refusal], n_records: int
) -> str:
    """Why some records wait, or ''. Raises ModelError where more failed than is tolerated."""
    if not failed:
        return ""
    named = "; ".join(f"{one.record_id}: {one.reason}" for one in failed[:10])
    more = f"; and {len(failed) - 10} more" if len(failed) > 10 else ""
    words = f"{len(failed)} of {n_records} predictions failed ({named}{more})"
    if len(failed) > (spec.tolerated_failure_share or 0) * n_records:
        raise ModelError(
            code="too_many_failures",
            what=f"{words}; tolerated is a share of {spec.tolerated_failure_share}",
            where=f"{spec.dataset}/predictions_{modality}, upload {upload}",
            todo="Look at what fails; to let such records wait and predict the rest, raise "
            "`tolerated_failure_share` in the dataset's YAML.",
        )
    return f"{modality}: {words}"
