"""Which model could be the champion instead: those that led to the present one, and what fits.

A promotion of a model that led to the present champion takes back all that came after it, so the
log of promotions is read as a stack: a new model is laid on top, and one that lies in it already
uncovers itself. `A B C`, rolled back, is `A B`; rolled back again, `A`; and C, once taken back,
does not come again by itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.errors import ModelError, UsageError
from mm_assets.lake.local import working_folder
from mm_assets.registry.loading import other_wording
from mm_assets.registry.store import Champion, ModelStore, StoredModel
from mm_assets.registry.versions import other_version, refuse_other_version


def line_of_champions(promotions: Iterable[Champion]) -> list[Champion]:
    """The promotions that led to the present champion, which is the last; oldest first."""
    line: list[Champion] = []
    for one in promotions:
        place = next((i for i, c in enumerate(line) if c.version == one.version), len(line))
        line[place:] = [one]
    return line


@dataclass(frozen=True)
class Found:
    """A stored model by the beginning of its version."""

    modality: Modality
    version: str


def find_model(
    models: ModelStore, spec: DatasetSpec, version: str, modality: Modality | None = None
) -> Found:
    """The one stored model whose version is, or begins with, `version`.

    Raises ModelError (model_unknown) if there is none, UsageError if there are several.
    """
    asked = spec.modalities if modality is None else (modality,)
    there = [Found(m, v) for m in asked for v in models.versions(m) if v.startswith(version)]
    exact = [one for one in there if one.version == version]
    found = exact or (there if version else [])
    if not found:
        among = f" among the models {modality}" if modality else ""
        raise ModelError(
            code="model_unknown",
            what=f"there is no model {version!r}{among}",
            where=spec.dataset,
            todo="Look at `mm models list`.",
        )
    if len(found) > 1:
        named = ", ".join(f"{one.version} ({one.modality})" for one in found[:5])
        raise UsageError(
            code="arguments",
            what=f"{version!r} fits several models: {named}; write more of it, or --modality",
        )
    return found[0]


def why_unfit(stored: StoredModel, spec: DatasetSpec) -> str:
    """Why a model cannot answer as the YAML and the libraries are now; or ''."""
    return other_wording(stored.manifest, spec, stored.modality) or other_version(stored.manifest)


def refuse_unfit(models: ModelStore, spec: DatasetSpec, found: Found) -> StoredModel:
    """The model, after all of it was read again from the lake and fits the YAML.

    Raises ModelError: model_tampered, model_other_wording, model_other_version.
    """
    stored = models.stored(found.modality, found.version)
    where = f"{spec.dataset}/model_{found.modality}"
    if fault := other_wording(stored.manifest, spec, found.modality):
        raise ModelError(
            code="model_other_wording",
            what=f"the model {found.version} {fault}",
            where=where,
            todo="Choose another one (`mm models list`), put the YAML back as it was when this "
            "one was trained, or run `mm train`.",
        )
    refuse_other_version(stored.manifest, where)
    with working_folder("model") as folder:  # a copy that is here already would hide damage there
        afresh = ModelStore(models.lake, models.dataset, cache=folder)
        afresh.fetch(found.modality, found.version, manifest_sha256=stored.manifest_sha256)
    return stored
