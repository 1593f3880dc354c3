"""`mm checks --sample`: the demo's small, quick relative that CI runs, without a daemon."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.errors import MMError
from mm_assets.contract.settings import Settings
from mm_assets.contract.spec_file import load_spec
from mm_assets.demo import pets
from mm_assets.demo.machine import empty, local_settings
from mm_assets.display.console import say
from mm_assets.drafting.templates import template_file
from mm_assets.lake.lake import Lake
from mm_assets.orchestration.run import Outcome, Runner, open_instance
from mm_assets.registry.store import ModelStore
from mm_assets.uploads.send import send


def sample_checks(
    settings: Settings, folder: Path, report: Callable[[DatasetSpec, Outcome], None]
) -> list[tuple[DatasetSpec, Outcome]]:
    """Materialise a small sample of the pets, every asset and every check; all outcomes."""
    folder = settings.root / folder
    spec = load_spec(template_file(pets.STORY.dataset))
    empty(folder)
    pets.make_pets(folder / "uploads", labelled=320, unlabelled=40)
    inside = local_settings(folder, spec.dataset)
    quick = spec.model_with_image[0].model_copy(
        update={"hyperparameters": {"optim.max_epochs": 15}}
    )
    spec = spec.model_copy(
        update={
            "minimum_training_records": 30,
            "model_with_image": (quick,),
            "model_without_image": (quick,),
        }
    )
    outcomes: list[tuple[DatasetSpec, Outcome]] = []
    with open_instance(inside) as instance:
        runner = Runner(spec, instance, say)
        for upload in sorted((folder / "uploads").iterdir()):
            send(Lake(inside), upload, spec.dataset)
        for work in (runner.sync, runner.train, runner.check):
            for outcome in work():
                report(spec, outcome)
                outcomes.append((spec, outcome))
    models = ModelStore(Lake(inside), spec.dataset)
    if not all(models.champion(modality) for modality in Modality):
        raise MMError(
            code="sample_not_promoted",
            what="a model of the sample did not pass its gate, so nothing was predicted with it",
            where=str(folder),
            todo="Look at the observations of pets/model_… : did training change?",
        )
    return outcomes
