"""Another champion by hand: promote a stored model, or take a champion back.

What is promoted here answers from then on; whoever calls has everything predicted again
(`Dataset.predict_again`), or leaves that to the daemon's repredict sensor.
"""

from __future__ import annotations

from collections.abc import Callable

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.errors import MMError, ModelError, UsageError
from mm_assets.lake.lake import Lake
from mm_assets.predictions.ask import load
from mm_assets.registry.champions import Found, find_model, line_of_champions, refuse_unfit
from mm_assets.registry.store import Champion, ModelStore, StoredModel
from mm_assets.training.stored_models import found_of

Say = Callable[[str], None]


def promote(
    lake: Lake,
    spec: DatasetSpec,
    version: str,
    reason: str,
    modality: Modality | None = None,
    *,
    by: str = "",
    say: Say = lambda _: None,
) -> Champion:
    """Make a stored model the champion, by hand; the reason stands in the log of promotions.

    version: or how it begins. The present champion stays what it is. by: who wants it. say: is
    given what MLflow was told, where it is told of trainings. Raises, before anything is promoted,
    ModelError for a model that is damaged, cannot be loaded or does not fit the YAML; UsageError.
    """
    if not reason.strip():
        raise UsageError(code="arguments", what="a promotion by hand needs a reason")
    models = ModelStore(lake, spec.dataset)
    return promote_found(models, spec, find_model(models, spec, version, modality), reason, say, by)


def rollback(
    lake: Lake,
    spec: DatasetSpec,
    modality: Modality | None = None,
    reason: str = "",
    to: str | None = None,
    *,
    by: str = "",
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
    return promote_found(models, spec, found, words, say, by)


def promote_found(
    models: ModelStore, spec: DatasetSpec, found: Found, reason: str, say: Say, by: str = ""
) -> Champion:
    """Promote a model that may answer, and tell MLflow. Raises as `promote` does."""
    stored = refuse_unfit(models, spec, found)
    present = models.champion(found.modality)
    _refuse_unloadable(models, spec, stored)
    champion = models.promote(
        found.modality, found.version, reason, manifest_sha256=stored.manifest_sha256, by=by
    )
    if models.lake.settings.mlflow_tracking_uri and champion != present:
        try:
            say(_tell_mlflow(models, spec, stored))
        except MMError as error:  # it is only told
            say(f"! {error}")
    return champion


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
    return found_of(able[0][-2])


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
