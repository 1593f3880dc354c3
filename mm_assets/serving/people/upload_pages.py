"""What came in, what became of each file and row, and a way to send more."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import PurePosixPath
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request, Response
from starlette.datastructures import UploadFile

from mm_assets.contract.ends import read_ended
from mm_assets.contract.errors import MMError
from mm_assets.lake.local import working_folder
from mm_assets.manifest.before import judge_rows
from mm_assets.predictions.receipt import build_receipt
from mm_assets.serving.people import shell
from mm_assets.serving.people.room import Room
from mm_assets.uploads.check import (
    archive_suffix,
    check,
    no_progress,
    refuse_to_send,
    safe_name,
)
from mm_assets.uploads.find import printable
from mm_assets.uploads.ledger import newest_uploads
from mm_assets.uploads.send import Sent, send

NEWEST = 50
SHOWN = 200  # files and rows of a receipt; the download has all
router = APIRouter(prefix="/uploads", include_in_schema=False)


@router.get("/{dataset}")
async def uploads(dataset: str, request: Request) -> Response:
    room = await shell.rooms(request).room(dataset)
    found = await asyncio.to_thread(newest_uploads, room.lake, dataset, NEWEST)
    asked = request.query_params
    return shell.page(
        request, "uploads", dataset=dataset, place="uploads",
        uploads=[asdict(one) for one in found], sent=asked.get("sent", ""),
        fault=asked.get("fault", ""), todo=asked.get("todo", ""), newest=NEWEST,
        most_mb=request.app.state.options.most_bytes >> 20,
    )  # fmt: skip


@router.get("/{dataset}/{upload}")
async def receipt(dataset: str, upload: str, request: Request) -> Response:
    room = await shell.rooms(request).room(dataset)
    try:
        told = await asyncio.to_thread(build_receipt, room.lake, room.store, room.spec, upload)
    except MMError as error:
        return shell.back_to(_path(dataset, fault=error.what, todo=error.todo))
    if request.query_params.get("as") == "json":
        text = json.dumps(told, indent=1, ensure_ascii=False, default=str)
        headers = shell.HEADERS | {
            "Content-Disposition": f'attachment; filename="receipt-{told["upload"]}.json"'
        }
        return Response(text, media_type="application/json", headers=headers)
    unused = [one for one in told["files"] if one["fate"] != "used"]
    return shell.page(
        request, "receipt", dataset=dataset, place="uploads", told=told, ended=read_ended(told),
        unused=unused, shown=SHOWN,
    )  # fmt: skip


@router.post("/{dataset}")
async def drop(dataset: str, request: Request) -> Response:
    shell.refuse_other_sites(request)
    room = await shell.rooms(request).room(dataset)
    async with request.form(max_files=1, max_fields=2) as form:
        file = form.get("file")
        if not isinstance(file, UploadFile) or not file.filename:
            return shell.back_to(_path(dataset, fault="Choose a file first."))
        try:
            sent = await asyncio.to_thread(_sent, room, file)
        except MMError as error:
            return shell.back_to(_path(dataset, fault=f"{error.what}.", todo=error.todo))
    return shell.back_to(_path(dataset, sent=sent.key))


def _sent(room: Room, file: UploadFile) -> Sent:
    """The file, checked as `mm upload` does and sent as an upload of its own. Raises MMError.

    Its name is that of the file and a hash, so the same file twice is one upload. What is no
    archive is sent as a folder that holds it.
    """
    own = PurePosixPath((file.filename or "").replace("\\", "/")).name
    name = printable(own).lstrip(".") or "upload"
    with working_folder("dropped") as folder:
        path = folder / "upload" / name
        path.parent.mkdir()
        with path.open("wb") as written:
            shutil.copyfileobj(file.file, written)
        with path.open("rb") as written:
            digest = hashlib.file_digest(written, "sha256").hexdigest()[:8]
        source = path if archive_suffix(path) else path.parent
        refuse_to_send(check(source, room.spec, no_progress, judge_rows), name)
        return send(room.lake, source, room.spec.dataset, f"{safe_name(path)[:80]}-{digest}")


def _path(dataset: str, **asked: str) -> str:
    return f"/uploads/{quote(dataset, safe='')}" + (f"?{urlencode(asked)}" if asked else "")
