"""Started as SageMaker starts a container: its model in a folder, and nothing else said."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mm_assets.contract.errors import UsageError
from mm_assets.contract.settings import Settings
from mm_assets.registry.export import DATASET
from mm_assets.serving.sources import export_folder

MODEL = "/opt/ml/model"


@dataclass(frozen=True)
class Container:
    """What SageMaker means by `serve`. It lets nobody reach the address whom it does not know."""

    model: Path
    port: int
    host: str = "0.0.0.0"  # noqa: S104  SageMaker asks from outside of the container


def of_sagemaker(settings: Settings) -> Container | None:
    """What this container is to serve; None where this is none, or where a project is.

    Raises UsageError where the model's folder holds something else than an export.
    """
    folder = Path(os.environ.get("SM_MODEL_DIR") or MODEL)
    if any(settings.defs_folder.glob("*/defs.yaml")):
        return None
    if not folder.is_dir() or not any(folder.iterdir()):
        return None
    if not (export_folder(folder) / DATASET).is_file():
        raise UsageError(
            code="arguments",
            what=f"{folder} holds no model: pack what is in the folder of `mm models export`, not "
            f"the folder itself, so that {DATASET} or MLmodel lies at the top",
        )
    port = os.environ.get("SAGEMAKER_BIND_TO_PORT") or "8080"
    if not port.isascii() or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise UsageError(code="arguments", what=f"SAGEMAKER_BIND_TO_PORT is no port: {port!r}")
    return Container(folder, int(port))
