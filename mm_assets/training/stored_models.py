"""What is known of the stored models of a dataset: all of them in a list, one in full.

What belongs here: reading what was stored, for people. What does not: to promote one
(predictions/promotion.py), and to ask one about records (report/).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.errors import ModelError, UsageError
from mm_assets.lake.lake import Lake
from mm_assets.registry.champions import Found, find_model, why_unfit
from mm_assets.registry.store import Champion, ModelStore, StoredModel
from mm_assets.training.decision import rule_of
from mm_assets.training.leaderboard import Leaderboard
from mm_assets.training.promised import Promised, promised, recalibration_of

LISTED = (
    "modality", "version", "created_at", "engine", "metric", "score", "n", "champion",
    "generation", "promoted_at", "reason", "problem",
)  # fmt: skip


def list_models(lake: Lake, spec: DatasetSpec) -> list[dict[str, Any]]:
    """Every stored model of each modality, newest first: LISTED.

    score: `metric` on the `n` held-out records. champion: whether it answers now. generation,
    promoted_at, reason: of its newest promotion, or None. problem: why it cannot answer, or ''.
    A model whose manifest cannot be used has only its version and the problem.
    """
    models = ModelStore(lake, spec.dataset)
    rows = []
    for modality in spec.modalities:
        promotions = models.champions(modality)
        newest = {one.version: one for one in promotions}
        champion = promotions[-1].version if promotions else None
        mine = []
        for version in models.versions(modality):
            row: dict[str, Any] = dict.fromkeys(LISTED)
            row |= {"modality": modality.value, "version": version}
            row |= {**_promotion(newest.get(version)), "champion": version == champion}
            try:
                stored = models.stored(modality, version)
                row |= {**_told(stored), "problem": why_unfit(stored, spec)}
            except ModelError as error:
                row["problem"] = error.what
            mine.append(row)
        # A version has the second in which it was stored; of two in one second, the manifest knows.
        rows += sorted(mine, key=lambda r: (r["version"][:15], r["created_at"] or ""), reverse=True)
    return rows


def describe_model(
    lake: Lake, spec: DatasetSpec, version: str | None = None, modality: Modality | None = None
) -> dict[str, Any]:
    """What is known about one stored model; without a version, about the champion.

    As a row of `list_models`, and: metrics, baseline, promise (what goes to review, what the rest
    reaches, the curve; training/promised.py), training_counts, candidates, leaderboard
    (training/leaderboard.py; empty for a model without members), image_adds (in words, or ''),
    recalibrated_from (a version, or None), recalibration (of a recalibrated model: since, learned,
    judged, before, after, reason; its `metrics` are still those of the training), stopped_early,
    problem_type, classes, columns, engine_options, libraries, run_id, training_fingerprint,
    manifest_sha256, files (name, bytes, sha256), bytes, promotions (oldest first).
    version: or how it begins. Raises ModelError, UsageError.
    """
    models = ModelStore(lake, spec.dataset)
    found = asked_model(models, spec, version, modality)
    stored = models.stored(found.modality, found.version)
    manifest = stored.manifest
    board = Leaderboard.from_json(manifest)
    told = promised(spec, manifest)
    promotions = models.champions(found.modality)
    own = [one for one in promotions if one.version == found.version]
    files = [{"name": name, **facts} for name, facts in manifest["files"].items()]
    kept = (
        "metrics", "baseline", "training_counts", "candidates", "problem_type", "classes",
        "columns", "libraries", "run_id", "training_fingerprint", "recalibrated_from",
    )  # fmt: skip
    return {
        "dataset": spec.dataset,
        "modality": found.modality.value,
        "version": found.version,
        **_told(stored),
        "champion": bool(own) and own[-1] == promotions[-1],
        **_promotion(own[-1] if own else None),
        "problem": why_unfit(stored, spec),
        "decision": _decision(stored, spec),
        **{name: manifest.get(name) for name in kept},
        "recalibration": recalibration_of(manifest),
        "promise": told.to_json() if told else None,
        "leaderboard": board.rows,
        "image_adds": board.image_words,
        "stopped_early": manifest.get("stopped_early", False),
        "engine_options": manifest["engine"],
        "manifest_sha256": stored.manifest_sha256,
        "files": [{name: one[name] for name in ("name", "bytes", "sha256")} for one in files],
        "bytes": sum(one["bytes"] for one in files),
        "promotions": [
            {"generation": one.generation, "promoted_at": one.promoted_at, "reason": one.reason,
             "previous": one.previous, "by": one.by} for one in own
        ],
    }  # fmt: skip


def promise_of_model(
    lake: Lake, spec: DatasetSpec, version: str | None = None, modality: Modality | None = None
) -> Promised | None:
    """What one stored model promises (training/promised.py); None where nothing is known."""
    models = ModelStore(lake, spec.dataset)
    found = asked_model(models, spec, version, modality)
    return promised(spec, models.stored(found.modality, found.version).manifest)


def the_champion(models: ModelStore, spec: DatasetSpec, modality: Modality | None) -> Champion:
    """The only champion. Raises where there is none, or one of each modality."""
    asked = spec.modalities if modality is None else (modality,)
    there = [one for m in asked if (one := models.champion(m))]
    if not there:
        raise ModelError(
            code="no_champion",
            what=f"there is no champion yet ({', '.join(asked)})",
            where=spec.dataset,
            todo="Send labelled records and run `mm train`.",
        )
    if len(there) > 1:
        named = ", ".join(f"{one.version} ({one.modality})" for one in there)
        raise UsageError(code="arguments", what=f"there are several champions, name one: {named}")
    return there[0]


def asked_model(
    models: ModelStore, spec: DatasetSpec, version: str | None, modality: Modality | None
) -> Found:
    """The model of that version; without one, the champion."""
    if version:
        return find_model(models, spec, version, modality)
    return found_of(the_champion(models, spec, modality))


def found_of(champion: Champion) -> Found:
    """The model that a promotion named."""
    return Found(champion.modality, champion.version)


def _told(stored: StoredModel) -> dict[str, Any]:
    manifest: Mapping[str, Any] = stored.manifest
    metric = manifest.get("metric")
    return {
        "created_at": manifest.get("created_at"),
        "engine": manifest["engine"]["engine"],
        "metric": metric,
        "score": manifest["metrics"].get(metric),
        "n": manifest.get("n"),
    }


def _decision(stored: StoredModel, spec: DatasetSpec) -> str | None:
    """How its answers are decided, in words; None: the most probable class."""
    rule = rule_of(spec, stored.manifest)
    classes = stored.manifest.get("classes") or []
    return rule.in_words(classes, spec.positive_class) if rule else None


def _promotion(champion: Champion | None) -> dict[str, Any]:
    if champion is None:
        return {"generation": None, "promoted_at": None, "reason": None}
    return {
        "generation": champion.generation,
        "promoted_at": champion.promoted_at,
        "reason": champion.reason,
    }
