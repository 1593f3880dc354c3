"""What the commands of `mm` share: their options, and which dataset is meant."""

from __future__ import annotations

from typing import Annotated

import typer

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.errors import SpecError
from mm_assets.contract.settings import Settings
from mm_assets.contract.spec_file import load_specs
from mm_assets.display.console import Format

DatasetOption = Annotated[
    str | None, typer.Option("--dataset", "-d", help="The dataset; may be left out if only one.")
]
FormatOption = Annotated[Format, typer.Option("--format", help="How to print the data.")]


def load_all(settings: Settings) -> list[DatasetSpec]:
    """Every dataset of the project. Raises SpecError when there is none."""
    specs = load_specs(settings.defs_folder)
    if not specs:
        raise SpecError(
            code="no_dataset",
            what="there is no dataset yet",
            where=str(settings.defs_folder),
            todo="Draft one: mm init TABLE --images FOLDER --id COLUMN --label COLUMN. "
            "If this is not the project's folder, change to it.",
        )
    return list(specs.values())


def choose_dataset(settings: Settings, name: str | None) -> DatasetSpec:
    """The named dataset, or the only one. Raises SpecError that names the choices."""
    specs = {spec.dataset: spec for spec in load_all(settings)}
    if name is None and len(specs) == 1:
        return next(iter(specs.values()))
    if name not in specs:
        raise SpecError(
            code="dataset_unknown",
            what=f"there is no dataset '{name}'" if name else "several datasets are there",
            where=str(settings.defs_folder),
            todo=f"Write --dataset with one of: {', '.join(specs)}.",
        )
    return specs[name]
