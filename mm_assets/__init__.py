"""Uploads in S3 become predictions that people can rely on.

    import mm_assets as mm

    ds = mm.open("pets")

The rooms of this package, in the order in which data flows; each uses those before it:

    contract      what a dataset is, its errors, IDs, settings
    display       how plots, tables and the terminal look
    queues        messages in and out: SQS, SNS, EventBridge
    lake          where bytes live
    reading       bytes to rows, bytes to images
    tables        the predictions table and the index
    uploads       send, find, receive, verify
    manifest      rows joined with images
    engines       what learns
    registry      stored models and champions
    training      from labelled records to a promoted model
    predictions   what the champions say, and the receipt
    review        doubt goes to people, answers come back
    monitoring    figures and pictures over time
    orchestration the Dagster side of all of it
    drafting      a YAML from data
    serving       the same answers over HTTP
    api           the Python door; pipeline.py and workflow.py: the names that a YAML calls
    demo, cli     made data and stories; the command line

Nothing is imported until it is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mm_assets.api.dataset import Dataset
    from mm_assets.api.exported import load_exported
    from mm_assets.api.project import datasets, doctor, draft, job, jobs, run_job, table
    from mm_assets.api.project import open_dataset as open  # noqa: A004
    from mm_assets.api.results import Outcomes, Receipt, Rows, RunFailed
    from mm_assets.contract.dataset import DatasetSpec
    from mm_assets.contract.ends import End
    from mm_assets.contract.errors import (
        ComputeError,
        LakeError,
        MMError,
        ModelError,
        Refusal,
        ReviewError,
        SettingsError,
        SpecError,
        StoreError,
        UploadError,
        UsageError,
    )
    from mm_assets.contract.modality import Modality
    from mm_assets.contract.settings import Settings
    from mm_assets.serving.predictor import Predictor

_WHERE = {
    "api.dataset": ("Dataset",),
    "api.exported": ("load_exported",),
    "api.project": ("datasets", "doctor", "draft", "job", "jobs", "open", "run_job", "table"),
    "api.results": ("Outcomes", "Receipt", "Rows", "RunFailed"),
    "contract.dataset": ("DatasetSpec",),
    "contract.ends": ("End",),
    "contract.errors": (
        "ComputeError", "LakeError", "MMError", "ModelError", "Refusal", "ReviewError",
        "SettingsError", "SpecError", "StoreError", "UploadError", "UsageError",
    ),
    "contract.modality": ("Modality",),
    "contract.settings": ("Settings",),
    "serving.predictor": ("Predictor",),
}  # fmt: skip
_ROOM_OF = {name: room for room, names in _WHERE.items() for name in names}
_RENAMED = {"open": "open_dataset"}  # `open` is Python's own inside of a module

__all__ = [
    "ComputeError",
    "Dataset",
    "DatasetSpec",
    "End",
    "LakeError",
    "MMError",
    "Modality",
    "ModelError",
    "Outcomes",
    "Predictor",
    "Receipt",
    "Refusal",
    "ReviewError",
    "Rows",
    "RunFailed",
    "Settings",
    "SettingsError",
    "SpecError",
    "StoreError",
    "UploadError",
    "UsageError",
    "datasets",
    "doctor",
    "draft",
    "job",
    "jobs",
    "load_exported",
    "open",
    "run_job",
    "table",
]


def __getattr__(name: str) -> Any:
    if name not in _ROOM_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_ROOM_OF[name]}")
    return getattr(module, _RENAMED.get(name, name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
