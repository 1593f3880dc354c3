"""Which datasets a process serves, and from where: the project's lake, or exported models."""

from __future__ import annotations

import atexit
import shutil
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryFile, mkdtemp

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.errors import UsageError
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.registry.export import open_export
from mm_assets.registry.store import ModelStore
from mm_assets.serving.options import Options
from mm_assets.serving.predictor import Predictor
from mm_assets.serving.service import Source


def sources(
    options: Options, settings: Settings, specs: Mapping[str, DatasetSpec]
) -> dict[str, Source]:
    """Dataset to what loads it. specs: the project's datasets, by name.

    Without named datasets and exported models, all that have a champion. Raises UsageError,
    ModelError (export_unreadable), LakeError.
    """
    found: dict[str, Source] = {}
    for folder in options.models:
        models, spec = open_export(export_folder(folder), _cache(settings, folder.name))
        _refuse_double(found, spec.dataset)
        found[spec.dataset] = partial(Predictor, models, spec)
    lake = Lake(settings) if options.datasets or not options.models else None
    for name in options.datasets or (specs if lake is not None else ()):
        if name not in specs:
            known = ", ".join(sorted(specs)) or "none"
            raise UsageError(
                code="arguments", what=f"there is no dataset {name!r}; the project has {known}"
            )
        assert lake is not None  # noqa: S101
        models = ModelStore(lake, name)
        spec = specs[name]
        if not options.datasets and not any(models.champion(m) for m in spec.modalities):
            continue
        _refuse_double(found, name)
        found[name] = partial(Predictor, models, spec)
    if not found:
        raise UsageError(
            code="no_champion",
            what="no dataset has a champion yet",
            todo="Train one (`mm train`), or name a dataset to wait for (`--dataset`).",
        )
    return found


def of_environment(options: Options) -> tuple[Settings, dict[str, Source]]:
    """The settings that the environment says, and the `sources` of its project. Raises MMError."""
    from mm_assets.contract.spec_file import load_specs

    settings = Settings.from_environment()
    return settings, sources(options, settings, load_specs(settings.defs_folder))


def _refuse_double(found: Mapping[str, Source], name: str) -> None:
    if name in found:
        raise UsageError(code="arguments", what=f"the dataset {name!r} is named twice")


def _cache(settings: Settings, name: str) -> Path:
    """Where verified copies of an export are kept: with the project's, or where that is read-only,
    in a folder of this process alone."""
    folder = settings.model_cache / "exported" / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            return folder
    except OSError:
        return _own_folder() / name


@cache
def _own_folder() -> Path:
    atexit.register(clean_up)
    return Path(mkdtemp(prefix="mm-models-"))


def clean_up() -> None:
    """Remove the folder of this process, if there is one; a process that a signal ends has no
    other moment for it than the end of its application."""
    if _own_folder.cache_info().currsize:
        shutil.rmtree(_own_folder(), ignore_errors=True)
        _own_folder.cache_clear()


def export_folder(path: Path) -> Path:
    """The folder of an export, of either format."""
    from mm_assets.registry.export import EXPORT

    return path / "data" / EXPORT if (path / "MLmodel").is_file() else path
