"""Stored models as the dataset's YAML allows them: which fit it, and loading those."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.errors import ModelError
from mm_assets.doubt.calibration import Calibration
from mm_assets.doubt.confidence import with_sureness
from mm_assets.engines.make import make_engine
from mm_assets.engines.protocol import Predictor, Vectors
from mm_assets.engines.shared.spellings import Spellings, spelled
from mm_assets.registry.store import Champion, ModelStore


def load_model(
    models: ModelStore,
    spec: DatasetSpec,
    modality: Modality,
    champion: Champion,
    vectors: Vectors | None = None,
) -> Predictor:
    """A stored model, verified. Raises ModelError if the YAML no longer names its engine.

    Which class is imported is the YAML's word, never the stored manifest's. vectors: what is known
    of images.
    """
    manifest = models.manifest(modality, champion.version, manifest_sha256=champion.manifest_sha256)
    _refuse_other_wording(manifest, spec, modality)
    folder = models.fetch(modality, champion.version, manifest_sha256=champion.manifest_sha256)
    return load_verified(folder, manifest, spec, modality, vectors)


def load_verified(
    folder: Path,
    manifest: Mapping[str, Any],
    spec: DatasetSpec,
    modality: Modality,
    vectors: Vectors | None = None,
) -> Predictor:
    """As `load_model`, from what `ModelStore.fetch` and `manifest` have just verified.

    The predictor brings categories to the spelling that the model knows; see contract/spellings.py.
    """
    _refuse_other_wording(manifest, spec, modality)
    named = manifest["engine"]["engine"]
    chosen = next(one for one in spec.candidates(modality) if one.engine == named)
    loaded = spelled(make_engine(chosen, vectors=vectors).load(folder), spellings_of(manifest))
    return with_sureness(loaded, Calibration.of_manifest(spec, manifest).sureness)


def spellings_of(manifest: Mapping[str, Any]) -> Spellings:
    """The categories that a stored model knows; none, if it was trained before they were noted."""
    return Spellings.from_json(manifest.get("spellings"))


def _refuse_other_wording(
    manifest: Mapping[str, Any], spec: DatasetSpec, modality: Modality
) -> None:
    if fault := other_wording(manifest, spec, modality):
        raise ModelError(
            code="model_other_wording",
            what=f"the champion {fault}",
            where=f"{spec.dataset}/model_{modality}",
            todo="Run `mm train`.",
        )


def other_wording(manifest: Mapping[str, Any], spec: DatasetSpec, modality: Modality) -> str:
    """Why a stored model does not fit the YAML as it is now, as the end of a sentence; or ''."""
    if manifest["problem_type"] != spec.problem_type:
        return "was trained for another problem_type"
    if manifest["columns"] != spec.features(modality):
        return "was trained on other columns"
    if manifest["engine"]["engine"] not in {c.engine for c in spec.candidates(modality)}:
        return "was trained by another engine"
    return ""
