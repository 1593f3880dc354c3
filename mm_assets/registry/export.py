"""Champions that leave: their files, manifests and promotions, and the dataset's YAML as JSON.

    <folder>/dataset.json                 the DatasetSpec
    <folder>/datasets/<dataset>/models/   as in the lake, with only these models

So an export is a lake of its own, and is verified by the same code when it is read.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.errors import ModelError, UsageError
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.lake.local import speaking_of_disk
from mm_assets.registry.store import Champion, ModelStore

DATASET = "dataset.json"
EXPORT = "export"  # what the folder is called inside of MLflow's


def write_folder(
    models: ModelStore, spec: DatasetSpec, champions: Sequence[Champion], to: Path
) -> None:
    """Write these models, each file verified, into `to`, which is there afterwards or not at all.

    Raises UsageError if something lies there, ModelError (model_tampered, model_other_version).
    """
    with new_folder(to) as folder:
        put_into(models, spec, champions, folder)


def put_into(
    models: ModelStore, spec: DatasetSpec, champions: Sequence[Champion], folder: Path
) -> None:
    """As `write_folder`, into a folder that is nobody else's."""
    folder.mkdir(exist_ok=True)
    copy = ModelStore(_lake(folder), models.dataset, is_export=True)
    for champion in champions:
        models.copy_to(copy, champion)
    (folder / DATASET).write_text(spec.model_dump_json(indent=2), encoding="utf-8")


def open_export(folder: Path, cache: Path) -> tuple[ModelStore, DatasetSpec]:
    """The models and the dataset of an export. cache: where verified copies are kept.

    Raises ModelError (export_unreadable) if it is none.
    """
    try:
        spec = DatasetSpec.model_validate_json((folder / DATASET).read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(
            code="export_unreadable",
            what=f"this is no export of `mm models export`: {error}",
            where=str(folder / DATASET),
            todo="Export the model again, and copy the whole folder.",
        ) from None
    return ModelStore(_lake(folder), spec.dataset, cache=cache, is_export=True), spec


@contextmanager
def new_folder(to: Path) -> Iterator[Path]:
    """A folder to write into that becomes `to` in one step, in the end."""
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UsageError(code="arguments", what=f"{to} is there already; name a new folder")
    with speaking_of_disk(to):
        to.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".mm-export-", dir=to.parent))
        try:
            folder.chmod(0o755)
            yield folder
            folder.rename(to)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _lake(folder: Path) -> Lake:
    settings = Settings(
        root=folder, data=folder / "data", lake=str(folder.resolve()), table="", events=""
    )
    return Lake(settings)
