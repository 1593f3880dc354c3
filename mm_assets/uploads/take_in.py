"""Receive an upload, then move its bytes out of the inbox to where received uploads lie.

Nothing is moved before there is a receipt and a note of every object of the delivery with its
ETag. So a move that was cut off is carried on by the next run, and a file that somebody sends
under the same name in the meantime is never touched: it belongs to a delivery of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from typing import Any

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.errors import LakeError
from mm_assets.lake.lake import Lake, LakeObject
from mm_assets.lake.layout import INBOX_NOTE, MARKER, SIZE_MARKER, of_upload, received
from mm_assets.lake.local import working_folder
from mm_assets.uploads.find import Source
from mm_assets.uploads.receive import Packer, publish_receipt, receive
from mm_assets.uploads.received import RAW, read_parquet
from mm_assets.uploads.withdrawals import Withdrawal, read_withdrawal

THREADS = 16
NOT_MEANT = ("not_announced", "checksum_differs")


def take_in(
    lake: Lake,
    spec: DatasetSpec,
    source: Source,
    *,
    run_id: str,
    progress: Callable[[str], None],
) -> tuple[dict[str, Any], str]:
    """Receive an upload and move it out of the inbox; returns its receipt, and why it stays there.

    What was moved is read from where it is now, so that an upload can be received again at any
    time. What cannot be moved stays in the inbox, where it does no harm. Of an upload that was
    withdrawn nothing is read: its receipt stands, or one says that it was refused whole.
    """
    if withdrawn := read_withdrawal(lake, spec.dataset, source.upload):
        return _withdrawn(lake, spec, source, withdrawn, run_id), ""
    note_key = of_upload(spec.dataset, source.upload, INBOX_NOTE)
    note = lake.read_json(note_key)
    objects: list[LakeObject] = []
    if note is None:
        objects = _objects(lake, source)
    else:
        with suppress(LakeError):  # if it lasts, it is said below
            _move_out(lake, source, note, note_key)
    receipt = receive(lake, spec, source, run_id=run_id, progress=progress)
    refused = (receipt["refused"] or {}).get("code")
    if spec.keep_inbox or refused == "upload_superseded":
        return receipt, ""
    if note is None:
        own = _own(lake, source, objects, receipt)
        mine = {"objects": own, "moved": False}
        is_mine = bool(own) and lake.create_json(note_key, mine)
        note = mine if is_mine else lake.read_json(note_key)  # of another run, which was faster
    if note is None:
        return receipt, "it is no longer in the inbox"
    try:
        return receipt, _move_out(lake, source, note, note_key)
    except LakeError as error:
        return receipt, f"it could not be moved out of the inbox: {error.what}"


def _withdrawn(
    lake: Lake, spec: DatasetSpec, source: Source, withdrawn: Withdrawal, run_id: str
) -> dict[str, Any]:
    before = lake.read_json(of_upload(spec.dataset, source.upload, RAW))
    if before is not None:
        return before
    with working_folder("receive") as folder:
        packer = Packer(spec, folder)
        refused = withdrawn.refused
        return publish_receipt(lake, spec, source, packer, refused=refused, run_id=run_id)


def _objects(lake: Lake, source: Source) -> list[LakeObject]:
    """The objects of a delivery in the inbox, the marker first."""
    if source.kind != "folder":
        arrived = datetime.fromisoformat(source.arrived_at)
        return [LakeObject(source.key, source.size, source.etag, arrived)]
    markers = (source.key + MARKER, source.key + SIZE_MARKER)
    found = [item for item in lake.list(source.key) if item.key[-1] != "/"]
    return sorted(found, key=lambda item: (item.key not in markers, item.key))


def _own(
    lake: Lake, source: Source, objects: list[LakeObject], receipt: dict[str, Any]
) -> list[tuple[str, str]]:
    """What shall be moved, with ETags: all but files that the marker does not mean and that came
    after it. They are the beginning of the next delivery into the same folder.
    """
    files = read_parquet(lake, receipt, "files.parquet").select(["file", "code"]).to_pylist()
    strange = {file["file"] for file in files if file["code"] in NOT_MEANT}
    arrived = datetime.fromisoformat(source.arrived_at)
    return [
        (item.key, item.etag)
        for item in objects
        if item.modified <= arrived or item.key.removeprefix(source.key) not in strange
    ]


def _move_out(lake: Lake, source: Source, note: dict[str, Any], note_key: str) -> str:
    """Move what the note names; returns why something stays, or ''. Safe to repeat."""
    if note["moved"]:
        return ""
    target = received(source.dataset, source.name, source.upload)
    folder = source.key if source.kind == "folder" else source.key.rpartition("/")[0] + "/"

    def move(one: Sequence[str]) -> bool:
        return lake.move(one[0], target + one[0].removeprefix(folder), one[1])

    # Without the marker (or the archive) the rest is no finished upload; if that cannot be moved,
    # the store has no safe way to, or something newer has taken its place.
    first, *rest = note["objects"]
    if not move(first):
        return "it stays in the inbox: something newer lies there, or the store cannot move safely"
    moved = []
    if rest:
        with ThreadPoolExecutor(THREADS, thread_name_prefix="move") as pool:
            moved = list(pool.map(move, rest))
    if not all(moved):
        return f"{moved.count(False)} files stay in the inbox: they were replaced meanwhile"
    lake.write_json(note_key, {**note, "moved": True})
    return ""
