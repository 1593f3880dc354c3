"""Champions as a model of MLflow's: an export, and beside it what MLflow has to know.

No pickle of ours: MLmodel names the module that loads the export, `mm_assets.api.exported`.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_assets.contract.dataset import IMAGE, DatasetSpec, Modality
from mm_assets.contract.errors import ModelError
from mm_assets.lake.local import utc_now, working_folder
from mm_assets.registry.export import EXPORT, new_folder, put_into
from mm_assets.registry.store import Champion, ModelStore, StoredModel
from mm_assets.registry.tracking import quiet_mlflow
from mm_assets.registry.versions import libraries_of

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import ModelSignature

LOADER = "mm_assets.api.exported"  # by its name: it stands above this room


def write_mlflow_model(
    models: ModelStore, spec: DatasetSpec, champions: Sequence[Champion], to: Path
) -> None:
    """As `write_folder`, as a model that `mlflow.pyfunc.load_model` loads.

    Raises ModelError: package_missing, export_failed.
    """
    with quiet_mlflow("--format mlflow"):
        import mlflow.pyfunc

        with working_folder("export") as here, new_folder(to) as folder:
            put_into(models, spec, champions, here / EXPORT)
            try:
                mlflow.pyfunc.save_model(
                    folder,
                    loader_module=LOADER,
                    data_path=str(here / EXPORT),
                    signature=_signature(spec, [one.modality for one in champions]),
                    input_example=_example(spec, [one.modality for one in champions]),
                    pip_requirements=_requirements(models, champions),
                    metadata={"dataset": spec.dataset, **_metadata(champions)},
                )
            except mlflow.MlflowException as error:
                raise ModelError(
                    code="export_failed",
                    what=f"MLflow could not write the model: {error}",
                    where=str(to),
                    todo="Export it as a plain folder (`--format folder`), and report this.",
                ) from None


def _metadata(champions: Sequence[Champion]) -> dict[str, str]:
    """What is in it, and what was signed for: compare it with `mm models show`."""
    told = {}
    for one in champions:
        told[f"{one.modality}_version"] = one.version
        told[f"{one.modality}_manifest_sha256"] = one.manifest_sha256
    return told


def write_trained(models: ModelStore, spec: DatasetSpec, stored: StoredModel, to: Path) -> None:
    """As `write_mlflow_model`, one model that was just stored, whether it was promoted or not."""
    found = models.champion(stored.modality)
    if found is None or found.version != stored.version:
        words = "Not promoted: a model as it was trained."
        sha256 = stored.manifest_sha256
        found = Champion(stored.modality, 1, stored.version, sha256, words, utc_now(), None)
    write_mlflow_model(models, spec, [found], to)


def _signature(spec: DatasetSpec, modalities: Sequence[Modality]) -> ModelSignature:
    """What goes in and what comes out. Every column has to be there; its values may be missing."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import AnyType, Map

    text, number = DataType.string, DataType.double
    inputs: list[Any] = [ColSpec(text, spec.id_column, required=False)]
    for name, kind in spec.kinds.items():
        inputs.append(ColSpec(number if kind == "number" else text, name))
    if Modality.WITH_IMAGE in modalities:
        needed = Modality.WITHOUT_IMAGE not in modalities
        anything: Any = AnyType  # bytes, or base64
        inputs.append(ColSpec(anything(), IMAGE, required=needed))
    said: dict[str, Any] = {
        "record_id": text,
        "prediction": number if spec.is_regression else text,
        "lower": number,
        "upper": number,
        "probabilities": Map(number),
        "confidence": number,
        "needs_review": DataType.boolean,
    }
    more = ("doubts", "modality", "model_version", "reasons", "code", "reason", "todo")
    outputs = {**said, **dict.fromkeys(more, text)}
    answers: list[Any] = [
        ColSpec(kind, name, required=name == "record_id") for name, kind in outputs.items()
    ]
    return ModelSignature(Schema(inputs), Schema(answers))


def _example(spec: DatasetSpec, modalities: Sequence[Modality]) -> pd.DataFrame:
    """One record, invented: nobody's data leaves with a model."""
    import pandas as pd

    row: dict[str, Any] = {spec.id_column: "1"}
    for name, kind in spec.kinds.items():
        row[name] = 1.0 if kind == "number" else "text"
    if Modality.WITH_IMAGE in modalities:
        row[IMAGE] = _grey_image()
    return pd.DataFrame([row])


def _grey_image() -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (128, 128, 128)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _requirements(models: ModelStore, champions: Sequence[Champion]) -> list[str]:
    """This package, and the libraries that the models were stored with."""
    found = {"mm-assets": ""}
    with suppress(metadata.PackageNotFoundError):  # else it is a checkout that nobody installed
        found["mm-assets"] = f"=={metadata.version('mm-assets')}"
    for champion in champions:
        manifest = models.manifest(champion.modality, champion.version)
        found |= {name: f"=={version}" for name, version in libraries_of(manifest).items()}
    return [f"{name}{version}" for name, version in sorted(found.items())]
