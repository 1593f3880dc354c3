"""Uploads that were withdrawn: a document for each says so for good, and is written once.

A withdrawal is the truth from the moment its document is there: whoever publishes or merges asks
for it. Until another document says that the upload is *taken back*, it is pending (ledger.py), and
its next run makes the table forget it, whatever died in between. A run that began before the
withdrawal never writes that document.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from mm_assets.contract.errors import UploadError
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import (
    of_upload,
    set_aside_prefix,
    taken_back_prefix,
    withdrawn_prefix,
)
from mm_assets.lake.local import utc_now
from mm_assets.uploads.find import read_source

WITHDRAWN = "upload_withdrawn"
ROUND = "round"  # of an upload: how often new tries were asked for; it never goes down


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """That an upload was withdrawn, when, and why (perhaps nothing).

    round: of tries (ledger.py), the one that takes it back.
    """

    upload: str
    withdrawn_at: str
    reason: str
    round: int

    @property
    def words(self) -> str:
        why = f": {self.reason}" if self.reason else ""
        return f"it was withdrawn at {self.withdrawn_at[:19].replace('T', ' ')} UTC{why}"

    @property
    def refused(self) -> dict[str, str]:
        """As a receipt says that an upload was refused whole."""
        error = UploadError(
            code="upload_withdrawn",
            what=self.words,
            where=self.upload,
            todo="Nothing. To use it after all, send it again: that is an upload of its own.",
        )
        return {"code": error.code, "what": error.what, "where": error.where, "todo": error.todo}


def withdraw_upload(lake: Lake, dataset: str, upload: str, reason: str) -> tuple[Withdrawal, bool]:
    """Write for good that an upload is withdrawn; returns that, and whether it is new.

    Safe to repeat: the first one stands. One that was set aside is so no more. Raises UploadError
    if the upload is unknown, or the reason is no single line.
    """
    if len(reason.splitlines()) > 1 or len(reason) > 500:
        raise UploadError(
            code="reason_invalid",
            what="a reason is one line of at most 500 characters",
            where=f"upload {upload}",
            todo="Shorten it.",
        )
    read_source(lake, dataset, upload)
    before = read_withdrawal(lake, dataset, upload)
    if before is not None:
        return before, False
    key = of_upload(dataset, upload, ROUND)
    number = (lake.read_json(key) or {"round": 0})["round"] + 1
    lake.write_json(key, {"round": number})
    mine = Withdrawal(upload, utc_now(), reason.strip(), number)
    new = lake.create_json(f"{withdrawn_prefix(dataset)}{upload}.json", asdict(mine))
    lake.delete(f"{set_aside_prefix(dataset)}{upload}.json")
    return read_withdrawal(lake, dataset, upload) or mine, new


def read_withdrawal(lake: Lake, dataset: str, upload: str) -> Withdrawal | None:
    """The withdrawal of an upload, if it was withdrawn."""
    document = lake.read_json(f"{withdrawn_prefix(dataset)}{upload}.json")
    return None if document is None else Withdrawal(**document)


def withdrawn_uploads(lake: Lake, dataset: str) -> frozenset[str]:
    """Every upload that was withdrawn. One listing."""
    return frozenset(_names(lake, withdrawn_prefix(dataset)))


def to_take_back(lake: Lake, dataset: str) -> set[str]:
    """Withdrawn uploads that the table may still know."""
    withdrawn = {*withdrawn_uploads(lake, dataset)}
    return withdrawn - _names(lake, taken_back_prefix(dataset)) if withdrawn else withdrawn


def note_taken_back(lake: Lake, dataset: str, upload: str) -> None:
    """Note that the table has forgotten a withdrawn upload, and answers from what is left."""
    lake.create_json(f"{taken_back_prefix(dataset)}{upload}.json", {"at": utc_now()})


def is_taken_back(lake: Lake, dataset: str, upload: str) -> bool:
    return lake.stat(f"{taken_back_prefix(dataset)}{upload}.json") is not None


def _names(lake: Lake, prefix: str) -> set[str]:
    return {item.key[len(prefix) :].removesuffix(".json") for item in lake.list(prefix)}
