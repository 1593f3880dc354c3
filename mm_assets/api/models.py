"""Stored models: list and describe them, promote another one, take a champion back, export it.

What is promoted here answers from then on; whoever calls has everything predicted again
(`Dataset.predict_again`), or leaves that to the daemon's repredict sensor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.errors import MMError, ModelError, UsageError
from mm_assets.lake.lake import Lake
from mm_assets.registry.champions import (
    Found,
    find_model,
    line_of_champions,
    refuse_unfit,
    why_unfit,
)
from mm_assets.registry.store import Champion, ModelStore, StoredModel
from mm_assets.training.leaderboard import Leaderboard
from mm_assets.training.promised import Promised, promised, recalibration_of

LISTED = (
    "modality", "version", "created_at", "engine", "metric", "score", "n", "champion",
    "generation", "promoted_at", "reason", "problem",
)  # fmt: skip
Say = Callable[[str], None]


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
    found = _named(models, spec, version, modality)
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
             "previous": one.previous} for one in own
        ],
    }  # fmt: skip


def promise_of_model(
    lake: Lake, spec: DatasetSpec, version: str | None = None, modality: Modality | None = None
) -> Promised | None:
    """What one stored model promises (training/promised.py); None where nothing is known."""
    models = ModelStore(lake, spec.dataset)
    found = _named(models, spec, version, modality)
    return promised(spec, models.stored(found.modality, found.version).manifest)


def promote(
    lake: Lake,
    spec: DatasetSpec,
    version: str,
    reason: str,
    modality: Modality | None = None,
    *,
    say: Say = lambda _: None,
) -> Champion:
    """Make a stored model the champion, by hand; the reason stands in the log of promotions.

    version: or how it begins. The present champion stays what it is. say: is given what MLflow
    was told, where it is told of trainings. Raises, before anything is promoted, ModelError for a
    model that is damaged, cannot be loaded or does not fit the YAML; UsageError.
    """
    if not reason.strip():
        raise UsageError(code="arguments", what="a promotion by hand needs a reason")
    models = ModelStore(lake, spec.dataset)
    return promote_found(models, spec, find_model(models, spec, version, modality), reason, say)


def rollback(
    lake: Lake,
    spec: DatasetSpec,
    modality: Modality | None = None,
    reason: str = "",
    to: str | None = None,
    *,
    say: Say = lambda _: None,
) -> Champion:
    """Take a champion back: the model that answered before it is promoted again.

    Twice goes two models back (registry/champions.py says how). modality: may be left out where
    only one has an earlier champion. to: an earlier champion by version, instead of the one before.
    Returns the new promotion; a later training has to beat it. Raises, before anything is
    promoted, ModelError (nothing_to_roll_back, or as `promote` does), UsageError.
    """
    models = ModelStore(lake, spec.dataset)
    found = _earlier(models, spec, modality) if to is None else _at(models, spec, to, modality)
    present = models.champion(found.modality)
    assert present is not None  # noqa: S101  there was an earlier one
    words = f"Rolled back from {present.version}: {reason}".rstrip(": ")
    return promote_found(models, spec, found, words, say)


def _earlier(models: ModelStore, spec: DatasetSpec, modality: Modality | None) -> Found:
    """The model that was the champion before, where it is clear of which modality."""
    asked = spec.modalities if modality is None else (modality,)
    lines = {one: line_of_champions(models.champions(one)) for one in asked}
    able = [line for line in lines.values() if len(line) > 1]
    if len(able) > 1:
        named = ", ".join(f"{x[-1].modality} (from {x[-1].version} to {x[-2].version})"
                          for x in able)  # fmt: skip
        raise UsageError(
            code="arguments", what=f"several models can be rolled back, name one: {named}"
        )
    if not able:
        said = (f"{one}: {line[-1].version} came first" if line else f"{one}: no champion yet"
                for one, line in lines.items())  # fmt: skip
        raise ModelError(
            code="nothing_to_roll_back",
            what=f"there is no earlier champion ({'; '.join(said)})",
            where=spec.dataset,
            todo="`mm models list` shows every model; `mm models promote VERSION --reason …` "
            "makes any of them the champion.",
        )
    return _found(able[0][-2])


def _at(models: ModelStore, spec: DatasetSpec, to: str, modality: Modality | None) -> Found:
    """The earlier champion that was named."""
    found = find_model(models, spec, to, modality)
    promoted = [one.version for one in models.champions(found.modality)]
    if found.version in promoted[:-1] and found.version != promoted[-1]:
        return found
    is_now = promoted[-1:] == [found.version]
    raise ModelError(
        code="nothing_to_roll_back",
        what=f"{found.version} is the champion already"
        if is_now
        else f"{found.version} was never the champion",
        where=f"{spec.dataset}/model_{found.modality}",
        todo=f"Name another one, or predict everything again with `mm models promote "
        f"{found.version} --reason …`."
        if is_now
        else f"Use `mm models promote {found.version} --reason …`.",
    )


def promote_found(
    models: ModelStore, spec: DatasetSpec, found: Found, reason: str, say: Say
) -> Champion:
    """Promote a model that may answer, and tell MLflow. Raises as `promote` does."""
    stored = refuse_unfit(models, spec, found)
    present = models.champion(found.modality)
    _refuse_unloadable(models, spec, stored)
    champion = models.promote(
        found.modality, found.version, reason, manifest_sha256=stored.manifest_sha256
    )
    if models.lake.settings.mlflow_tracking_uri and champion != present:
        try:
            say(_tell_mlflow(models, spec, stored))
        except MMError as error:  # it is only told
            say(f"! {error}")
    return champion


def _tell_mlflow(models: ModelStore, spec: DatasetSpec, stored: StoredModel) -> str:
    """Move the alias of MLflow's registered model; one that it does not know is told first."""
    from mm_assets.lake.local import working_folder
    from mm_assets.registry.mlflow_model import write_trained
    from mm_assets.registry.tracking import CHAMPION, track_promotion, track_training

    uri, manifest = models.lake.settings.mlflow_tracking_uri or "", stored.manifest
    named = {
        "dataset": spec.dataset, "modality": stored.modality.value, "version": stored.version,
    }  # fmt: skip
    if not track_promotion(uri, **named):
        with working_folder("tracking") as folder:
            write_trained(models, spec, stored, folder / "model")
            track_training(
                uri, **named, run_id=manifest.get("run_id") or "",
                candidate=manifest["engine"]["engine"], parameters=manifest["engine"],
                metrics=manifest["metrics"], baseline=manifest["baseline"], tags={}, artefacts={},
                folder=folder / "model", trials=None, promoted=True,
            )  # fmt: skip
    return f"MLflow: {spec.dataset}-{stored.modality}@{CHAMPION} is {stored.version} now."


def _refuse_unloadable(models: ModelStore, spec: DatasetSpec, stored: StoredModel) -> None:
    """Load the model as a prediction does; what predicts here next finds it in memory."""
    from mm_assets.predictions.ask import load

    trial = Champion(stored.modality, 0, stored.version, stored.manifest_sha256, "", "", None)
    try:
        load(models, spec, stored.modality, trial)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            code="model_not_loadable",
            what=f"the model {stored.version} cannot be loaded: {type(error).__name__}: {error}",
            where=f"{spec.dataset}/model_{stored.modality}",
            todo="Choose another one (`mm models list`), or run `mm train`.",
        ) from error


# -- export ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Exported:
    """What was written, and which champions are in it: modality to version."""

    folder: Path
    format: str
    champions: dict[str, str]
    bytes: int


def export_model(
    lake: Lake,
    spec: DatasetSpec,
    to: str | Path,
    *,
    format: str = "mlflow",  # noqa: A002  as on the command line
    modality: Modality | None = None,
) -> Exported:
    """Write the champions into a folder that is new or empty, verified; all of them or one.

    format: "mlflow", which `mlflow.pyfunc.load_model` loads; or "folder", the plain files, which
    `mm_assets.api.exported.load_exported` loads. Raises ModelError, UsageError.
    """
    from mm_assets.registry.export import write_folder
    from mm_assets.registry.mlflow_model import write_mlflow_model

    writers = {"mlflow": write_mlflow_model, "folder": write_folder}
    if format not in writers:
        raise UsageError(
            code="arguments", what=f"there is no format {format!r}: {', '.join(writers)}"
        )
    models = ModelStore(lake, spec.dataset)
    asked = spec.modalities if modality is None else (modality,)
    champions = [one for m in asked if (one := models.champion(m))]
    if not champions:
        the_champion(models, spec, modality)
    for champion in champions:
        refuse_unfit(models, spec, _found(champion))
    folder = Path(to)
    writers[format](models, spec, champions, folder)
    return Exported(
        folder=folder,
        format=format,
        champions={one.modality.value: one.version for one in champions},
        bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
    )


# -- what the calls share -------------------------------------------------------------------------


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


def _named(
    models: ModelStore, spec: DatasetSpec, version: str | None, modality: Modality | None
) -> Found:
    """The model of this version, else the champion. Raises ModelError, UsageError."""
    if version:
        return find_model(models, spec, version, modality)
    return _found(the_champion(models, spec, modality))


def asked_model(
    models: ModelStore, spec: DatasetSpec, version: str | None, modality: Modality | None
) -> Found:
    """The model of that version; without one, the champion."""
    if version:
        return find_model(models, spec, version, modality)
    return _found(the_champion(models, spec, modality))


def _found(champion: Champion) -> Found:
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
    from mm_assets.training.decision import rule_of

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
