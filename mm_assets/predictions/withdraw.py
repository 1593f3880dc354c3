"""Take a whole upload back: written in the lake for good, then gone from the table at once.

What it had pushed aside (older answers, answers without its images) comes back with the upload's
own next run, which is pending until that is done.
"""

from __future__ import annotations

from dataclasses import dataclass

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.errors import LakeError, ModelError
from mm_assets.lake.lake import Lake
from mm_assets.registry.store import ModelStore
from mm_assets.tables.store import Store
from mm_assets.training.training_set import learnt_ids
from mm_assets.uploads.withdrawals import is_taken_back, withdraw_upload


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """What a withdrawal did.

    words: when and why, as the first one said. is_new: it was not withdrawn before. records: how
    many the upload spoke of; answers: how many of them have no answer now. learnt_by: champions
    that are newer than the upload and whose training set holds any of these records. is_done: what
    it pushed aside is back.
    """

    upload: str
    words: str
    is_new: bool
    is_done: bool
    records: int
    answers: int
    learnt_by: tuple[str, ...]


def withdraw(lake: Lake, store: Store, spec: DatasetSpec, upload: str, reason: str) -> Withdrawn:
    """Withdraw an upload, named by its key. Safe to repeat after any failure.

    Raises UploadError if the upload is unknown or the reason is no single line.
    """
    import pyarrow.compute as pc

    found, is_new = withdraw_upload(lake, spec.dataset, upload, reason)
    store.withdraw(spec.dataset, [upload])
    stated = store.stated(spec.dataset, upload)
    gone = store.read_withdrawn(spec.dataset, stated.to_pylist())
    learnt_by = []
    models = ModelStore(lake, spec.dataset)
    for modality in spec.modalities:
        champion = models.champion(modality)
        try:
            if champion is not None and not _is_older(champion.version, upload):
                manifest = models.manifest(modality, champion.version)
                ids = learnt_ids(lake, spec, manifest["training_fingerprint"])
                if pc.any(pc.is_in(stated, value_set=ids)).as_py():
                    learnt_by.append(champion.version)
        except (ModelError, LakeError):  # its training set is gone: nothing is known
            continue
    return Withdrawn(
        upload, found.words, is_new, is_taken_back(lake, spec.dataset, upload), len(stated),
        gone.num_rows, tuple(learnt_by),
    )  # fmt: skip


def _is_older(version: str, upload: str) -> bool:
    """Whether a model was there before the upload; both names begin with their time in UTC."""
    return version[:15] < upload[:15]
