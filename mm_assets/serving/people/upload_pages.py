"""What came in, what became of each file and row, and a way to send more."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request, Response
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect

from mm_assets.contract.ends import read_ended
from mm_assets.contract.errors import MMError
from mm_assets.lake.local import working_folder
from mm_assets.manifest.before import judge_rows
from mm_assets.predictions.receipt import build_receipt
from mm_assets.serving.entrance import key_name
from mm_assets.serving.people import shell
from mm_assets.serving.people.parts import Parts, safe_file_name
from mm_assets.serving.people.room import Room
from mm_assets.serving.problems import Problem
from mm_assets.uploads.check import (
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
        request, "uploads", own_requests=True, dataset=dataset, place="uploads",
        uploads=[asdict(one) for one in found], sent=asked.get("sent", ""),
        fault=asked.get("fault", ""), todo=asked.get("todo", ""), newest=NEWEST,
        most_mb=request.app.state.options.most_bytes >> 20,
        most_large_mb=request.app.state.options.most_upload_bytes >> 20,
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
    unused.sort(key=lambda one: one["fate"] != "quarantined")
    images = any(one["fate"] == "quarantined" and one["kind"] == "image" for one in unused)
    seen = await asyncio.to_thread(room.glimpses, told["upload"]) if images else {}
    return shell.page(
        request, "receipt", seen=seen, dataset=dataset, place="uploads", told=told,
        ended=read_ended(told), unused=unused, shown=SHOWN,
    )  # fmt: skip


@router.get("/{dataset}/{upload}/image")
async def quarantined(dataset: str, upload: str, file: str, request: Request) -> Response:
    """What can be seen of an image that was refused: small, and decoded in a process apart."""
    room = await shell.rooms(request).room(dataset)
    seen = await asyncio.to_thread(room.glimpses, upload)
    return shell.image(seen.get(file), file)


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


# -- in parts -------------------------------------------------------------------------------------


@router.post("/{dataset}/parts")
async def begin(dataset: str, request: Request) -> Response:
    """Announce a file: its name, size and a stamp. Says how much of it is here already."""
    shell.refuse_other_sites(request)
    await shell.rooms(request).room(dataset)
    form = await request.form(max_files=0, max_fields=3)
    said = str(form.get("size", ""))
    size = int(said) if said.isascii() and said.isdigit() and len(said) < 16 else 0
    name = safe_file_name(printable(str(form.get("name", ""))))
    part = await asyncio.to_thread(
        _parts(request).begin, dataset, key_name() or "", name, size, str(form.get("stamp", ""))
    )
    return _told({"part": part.key, "offset": part.offset})


@router.patch("/{dataset}/parts/{key}")
async def append(dataset: str, key: str, request: Request) -> Response:
    """The next bytes. `offset`: where they begin; another one than is here is refused with 409."""
    shell.refuse_other_sites(request)
    await shell.rooms(request).room(dataset)
    parts = _parts(request)
    part = await asyncio.to_thread(parts.find, key, dataset, key_name() or "")
    said = request.query_params.get("offset", "")
    offset = int(said) if said.isascii() and said.isdigit() and len(said) < 16 else -1
    try:
        return _told({"offset": await parts.append(part, offset, request.stream())})
    except ClientDisconnect:  # what came of it is kept
        raise Problem(400, "body_cut_short", "the part broke off", offset=part.offset) from None


@router.post("/{dataset}/parts/{key}/finish")
async def finish(dataset: str, key: str, request: Request) -> Response:
    """Check and send the whole file, as the form does. Says which page tells how that ended."""
    shell.refuse_other_sites(request)
    room, parts = await shell.rooms(request).room(dataset), _parts(request)
    part = await asyncio.to_thread(parts.find, key, dataset, key_name() or "")
    if part.offset != part.size:
        raise Problem(409, "part_offset", "the file is not whole yet", offset=part.offset)
    try:
        sent = await asyncio.to_thread(_checked_and_sent, room, part.file)
    except MMError as error:
        to = _path(dataset, fault=f"{error.what}.", todo=error.todo)
    else:
        to = _path(dataset, sent=sent.key)
    await asyncio.to_thread(parts.remove, part)
    return _told({"to": to})


def _parts(request: Request) -> Parts:
    folder = request.app.state.rooms.settings.data_folder / "serving" / "parts"
    return Parts(folder, request.app.state.options.most_upload_bytes)


def _told(document: dict[str, Any]) -> Response:
    return Response(json.dumps(document), 200, shell.HEADERS, "application/json")


# -- sending --------------------------------------------------------------------------------------


def _sent(room: Room, file: UploadFile) -> Sent:
    """The file of a form. Raises MMError."""
    with working_folder("dropped") as folder:
        path = folder / "upload" / safe_file_name(printable(file.filename or ""))
        path.parent.mkdir()
        with path.open("wb") as written:
            shutil.copyfileobj(file.file, written)
        return _checked_and_sent(room, path)


def _checked_and_sent(room: Room, path: Path) -> Sent:
    """A file, checked as `mm upload` does and sent as an upload of its own. Raises MMError.

    The upload's name is that of the file and a hash, so the same file twice is one upload.
    """
    with path.open("rb") as read:
        digest = hashlib.file_digest(read, "sha256").hexdigest()[:8]
    refuse_to_send(check(path, room.spec, no_progress, judge_rows), path.name)
    return send(room.lake, path, room.spec.dataset, f"{safe_name(path)[:80]}-{digest}")


def _path(dataset: str, **asked: str) -> str:
    return f"/uploads/{quote(dataset, safe='')}" + (f"?{urlencode(asked)}" if asked else "")
