"""The Dagster component: a dataset's YAML in; assets, checks, jobs and sensors out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import BaseModel, ConfigDict

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.settings import Settings, present_settings
from mm_assets.contract.spec_file import load_spec, load_specs
from mm_assets.orchestration.checks.of_asset import ChecksOf
from mm_assets.orchestration.scope import LakeResource, Scope


class _AnyAttributes(BaseModel):
    """Lets every attribute through: `load_spec` judges them, with file, line and remedy."""

    model_config = ConfigDict(extra="allow")


class DatasetPipeline(dg.Component):
    """One dataset of records and images: from uploads to predictions.

    Everything about it is in the `attributes:` of its defs.yaml; see docs/your-own-dataset.md.
    """

    def __init__(self, spec: DatasetSpec) -> None:
        self.spec = spec

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        return _AnyAttributes

    @classmethod
    def load(
        cls,
        attributes: BaseModel | None,  # noqa: ARG003
        context: dg.ComponentLoadContext,
    ) -> DatasetPipeline:
        return cls(load_spec(Path(context.path) / "defs.yaml"))

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:  # noqa: ARG002
        if not present_settings().serves(self.spec.dataset):
            return dg.Definitions()
        return dataset_definitions(self.spec)


def dataset_definitions(spec: DatasetSpec) -> dg.Definitions:
    """All that one dataset contributes to the code location."""
    from mm_assets.orchestration.triggers.sensors import build_sensors

    scope = Scope(spec)
    jobs = build_jobs(scope)
    schedules = []
    if spec.train_schedule:
        schedules.append(
            dg.ScheduleDefinition(
                name=f"{spec.dataset}_train_schedule",
                job=jobs[1],
                cron_schedule=spec.train_schedule,
                default_status=dg.DefaultScheduleStatus.RUNNING,
            )
        )
    return dg.Definitions(
        assets=build_assets(scope),
        asset_checks=[checks.build() for checks in build_checks(scope)],
        jobs=jobs,
        schedules=schedules,
        sensors=build_sensors(scope, jobs),
    )


def build_assets(scope: Scope) -> list[dg.AssetsDefinition]:
    """The assets of every room, in the order of the flow."""
    from mm_assets.orchestration.assets import manifest, monitoring, predictions, uploads
    from mm_assets.orchestration.assets import training as models

    rooms = (uploads, manifest, models, predictions, monitoring)
    return [asset for room in rooms for asset in room.build_assets(scope)]


def build_checks(scope: Scope) -> list[ChecksOf]:
    """The checks of every asset that has some."""
    from mm_assets.orchestration.checks import manifest, monitoring, predictions, uploads
    from mm_assets.orchestration.checks import training as models

    rooms: Sequence[Any] = (uploads, manifest, models, predictions, monitoring)
    return [check for room in rooms for check in room.build_checks(scope)]


def receiving(scope: Scope) -> tuple[str, ...]:
    """The first steps of an upload's run, in their order: up to the records of each modality."""
    return ("raw_uploads", "manifest", *(f"records_{m.value}" for m in scope.spec.modalities))


def predicting(scope: Scope) -> tuple[str, ...]:
    """The other steps of an upload's run."""
    return (*(f"predictions_{m.value}" for m in scope.spec.modalities), "predictions")


def training(scope: Scope) -> tuple[str, ...]:
    """The steps of a training."""
    return ("training_set", *(f"model_{m.value}" for m in scope.spec.modalities))


def build_jobs(scope: Scope) -> list[Any]:
    """upload: one upload from bytes to predictions; train; predict: one upload once more; monitor;
    uploads: small ones that wait, together.

    All run in one process, so that AutoGluon is imported once a run.
    """

    def job(name: str, names: Sequence[str], words: str, partitioned: bool, **tags: str) -> Any:
        return dg.define_asset_job(
            f"{scope.dataset}_{name}",
            selection=dg.AssetSelection.assets(*(scope.key(name) for name in names)),
            description=words,
            partitions_def=scope.partitions if partitioned else None,
            executor_def=dg.in_process_executor,
            tags={**tags, "mm/dataset": scope.dataset},
        )

    from mm_assets.orchestration.together import build_job as build_together

    steps = (*receiving(scope), *predicting(scope))
    words = "Train the models; promote those that pass the gate."
    return [
        job("upload", steps, "One upload, from its bytes to predictions.", True),
        job("train", training(scope), words, False, **_training_tags(scope)),
        job("predict", steps[1:], "Join and predict one upload again, as things are now.", True),
        job("monitor", ("monitoring",), "Draw the monitoring pictures again.", False),
        build_together(scope, lambda: _of_an_upload(scope)),
    ]


def _training_tags(scope: Scope) -> dict[str, str]:
    """Those of the YAML as Dagster keeps tags: what is no text as JSON."""
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in scope.spec.training_tags.items()
    }


def _of_an_upload(
    scope: Scope,
) -> tuple[list[dg.AssetsDefinition], list[ChecksOf]]:
    """The assets of an upload's run in their order, and the checks."""
    assets = {asset.key: asset for asset in build_assets(scope)}
    names = (*receiving(scope), *predicting(scope))
    return [assets[scope.key(name)] for name in names], build_checks(scope)


def build_check_jobs(scope: Scope) -> list[Any]:
    """Jobs that run checks alone: on one upload (by the partition tag), and on the rest.

    For `mm checks` only: Dagster gives a job of checks no partitions to choose from in the UI.
    """

    def job(name: str, names: Sequence[str]) -> Any:
        keys = {scope.key(name) for name in names}
        assets = [asset for asset in build_assets(scope) if asset.key in keys]
        return dg.define_asset_job(
            f"{scope.dataset}_{name}",
            selection=dg.AssetSelection.checks_for_assets(*assets),
            executor_def=dg.in_process_executor,
        )

    return [
        job("check_upload", (*receiving(scope), *predicting(scope))),
        job("check_models", (*training(scope), "monitoring")),
    ]


def shared_sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """What all datasets share: the sensors of the queues that the settings name."""
    from mm_assets.orchestration.triggers.queues import build_queue_sensors

    if not (settings.events or settings.work or settings.results):
        return []
    datasets = frozenset(load_specs(settings.defs_folder))
    return list(build_queue_sensors(settings, datasets))


def resources() -> dict[str, Any]:
    """What every asset, check and sensor is given."""
    return {"lake": LakeResource()}
