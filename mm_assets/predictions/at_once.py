"""Predict records in hand, without an upload: the batch's own functions, in a lake of their own.

The lake and the table are folders that are gone afterwards; only the champions are the dataset's.
So what is refused, and what is said of a record, is what an upload with it would lead to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import MANIFEST, predictions_name
from mm_assets.lake.local import working_folder
from mm_assets.manifest.join import build_manifest
from mm_assets.manifest.split import split_records
from mm_assets.predictions.offer import empty_predictions
from mm_assets.predictions.predict import predict_records
from mm_assets.predictions.unlike import in_words
from mm_assets.registry.pins import generations, pinned_champions
from mm_assets.registry.store import ModelStore
from mm_assets.tables.open import open_store
from mm_assets.tables.store import COLUMNS
from mm_assets.uploads.deliver import Delivered
from mm_assets.uploads.fetched import Fetching
from mm_assets.uploads.find import Source, upload_key
from mm_assets.uploads.receive import Packer, publish_receipt
from mm_assets.uploads.received import read_document, read_parquet

if TYPE_CHECKING:
    import pyarrow as pa

RUN = "in hand"
Progress = Callable[[str], None]


@dataclass(frozen=True)
class AtOnce:
    """What was said of records in hand.

    predictions: COLUMNS. rejects: rows that were refused (code, reason, file, line, record_id,
    todo). files: every file and, if it was refused, code and reason. failed: records that the model
    failed on. waiting: why records have no answer, for each modality. unlike: what the
    models never saw, a line a column.
    """

    predictions: pa.Table
    rejects: list[dict[str, Any]]
    files: list[dict[str, Any]]
    failed: list[dict[str, Any]]
    waiting: list[str]
    unlike: list[str]


def predict_at_once(
    models: ModelStore,
    spec: DatasetSpec,
    files: Iterable[tuple[str, bytes]],
    progress: Progress = lambda _: None,
) -> AtOnce:
    """Predict what an upload of these files would bring; nothing of it is kept.

    files: name and bytes of each. Raises ModelError where a model cannot be loaded or asked; where
    it only lacks something on this machine, `waiting` says so.
    """
    champions = pinned_champions(models, generations(models))
    with working_folder("in-hand") as folder:
        lake, store = _places(folder)
        source = _source(spec)
        fetch = Fetching(spec, models.lake.settings) if spec.image_column is not None else None
        packer = Packer(spec, folder, fetch=fetch)
        packer.pack((_delivered(name, data) for name, data in files), progress)
        receipt = publish_receipt(lake, spec, source, packer, refused=None, run_id=RUN)
        build_manifest(lake, store, spec, source.upload, run_id=RUN)
        for modality in spec.modalities:
            split_records(lake, spec, source.upload, modality)
        answered = [
            (
                modality,
                predict_records(
                    lake, models, spec, source.upload, modality,
                    champions=champions, run_id=RUN, progress=progress,
                ),
            )
            for modality in spec.modalities
        ]  # fmt: skip
        return _gathered(lake, spec, source.upload, receipt, answered)


def _places(folder: Path) -> tuple[Lake, Any]:
    settings = Settings(
        root=folder, data=Path("data"), lake=str(folder / "lake"),
        table=f"duckdb:///{folder / 'table.duckdb'}", events="",
    )  # fmt: skip
    return Lake(settings), open_store(settings)


def _source(spec: DatasetSpec) -> Source:
    now = datetime.now(UTC)
    upload = upload_key(now, RUN)
    return Source(upload, spec.dataset, RUN, "folder", RUN, "", 0, now.isoformat())


def _delivered(name: str, data: bytes) -> Delivered:
    return Delivered(name, len(data), hashlib.sha256(data).hexdigest(), data)


def _gathered(
    lake: Lake,
    spec: DatasetSpec,
    upload: str,
    receipt: dict[str, Any],
    answered: list[tuple[Modality, dict[str, Any]]],
) -> AtOnce:
    import pyarrow as pa

    manifest = read_document(lake, spec.dataset, upload, MANIFEST)
    parts, failed, waiting = [empty_predictions()], [], []
    for modality, document in answered:
        parts.append(read_parquet(lake, document, f"{predictions_name(modality)}.parquet"))
        failed += read_parquet(lake, document, "failed.parquet").to_pylist()
        waiting += [document["reason"]] if document["reason"] else []
    return AtOnce(
        predictions=pa.concat_tables(parts).select(list(COLUMNS)),
        rejects=read_parquet(lake, manifest, "rejects.parquet").to_pylist(),
        files=read_parquet(lake, receipt, "files.parquet").to_pylist(),
        failed=failed,
        waiting=waiting,
        unlike=in_words(document for _, document in answered),
    )
