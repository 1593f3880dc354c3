"""Stored models from Python and the command line; and their champions written out of the project.

What belongs here: `export_model`. What is known of models is in training/stored_models.py, how
another one is promoted in predictions/promotion.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.errors import UsageError
from mm_assets.lake.lake import Lake
from mm_assets.predictions.promotion import promote, rollback
from mm_assets.registry.champions import refuse_unfit
from mm_assets.registry.store import ModelStore
from mm_assets.training.stored_models import (
    LISTED,
    describe_model,
    found_of,
    list_models,
    promise_of_model,
    the_champion,
)

__all__ = [
    "LISTED", "SIGNATURES", "Exported", "describe_model", "export_model", "list_models",
    "promise_of_model", "promote", "rollback", "sign_promotions", "signatures",
]  # fmt: skip
SIGNATURES = ("generation", "version", "promoted_at", "by", "reason", "signature")


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
        refuse_unfit(models, spec, found_of(champion))
    folder = Path(to)
    writers[format](models, spec, champions, folder)
    return Exported(
        folder=folder,
        format=format,
        champions={one.modality.value: one.version for one in champions},
        bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
    )


def signatures(lake: Lake, spec: DatasetSpec, modality: Modality) -> list[dict[str, str]]:
    """Every promotion as it stands, oldest first, and what `signature` lacks, or "good"."""
    log = ModelStore(lake, spec.dataset).log(modality)
    return [
        {
            "generation": str(one.generation),
            "version": one.version,
            "promoted_at": one.promoted_at[:19],
            "by": one.by,
            "reason": one.reason,
            "signature": fault or "good",
        }
        for one, fault in log.unsigned()
    ]


def sign_promotions(lake: Lake, spec: DatasetSpec, modality: Modality) -> int:
    """Sign the promotions as they stand, by whoever they are; how many were not yet.

    Raises ModelError (signing_key_missing; model_tampered where one is missing).
    """
    return len(ModelStore(lake, spec.dataset).log(modality).sign())
