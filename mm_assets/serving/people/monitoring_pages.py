"""How it goes: the pictures of monitoring as they lie in the lake, and what they say in words."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response

from mm_assets.contract.errors import LakeError
from mm_assets.lake.layout import of_dataset
from mm_assets.monitoring.report import MONITORING, PICTURES
from mm_assets.serving.people import shell
from mm_assets.serving.people.model_facts import live_words
from mm_assets.serving.people.room import Room
from mm_assets.serving.problems import Problem

CAPTIONS = {  # of each picture: what it shows, and what to look for
    "confidence": "How sure the answers of each upload are. A falling line: records unlike those "
    "of training, often before any label says so.",
    "predicted_classes": "How often each class is answered; at the left how often it was in "
    "training.",
    "predicted_values": "The answers of each upload: the median, and the middle half.",
    "images": "How many records were answered with an image. A drop often means that file names "
    "do not fit any more.",
    "promise": "Answers that nobody reviews: how many were right by labels that came later, and "
    "what was promised of them.",
    "live_accuracy": "How often answers were right where a label came later.",
    "calibration": "Whether confidence can be believed, by the same labels. On the dashed line it "
    "can; below it the model is too sure.",
    "least_confident": "The records with an image of which the model is least sure.",
    "drift": "How far the newest uploads are from training, column by column.",
    "rejects": "Rows that were refused, by reason.",
    "quarantines": "Files that were refused, by reason.",
}

router = APIRouter(prefix="/monitoring", include_in_schema=False)


@dataclass(frozen=True)
class Picture:
    """caption: of it in general; words: its figures, or ''. mark: changes with what is drawn."""

    name: str
    title: str
    caption: str
    words: str
    mark: str


@router.get("/{dataset}")
async def monitoring(dataset: str, request: Request) -> Response:
    room = await shell.rooms(request).room(dataset)
    document = await asyncio.to_thread(_document, room)
    live = await asyncio.to_thread(live_words, room.lake, room.spec)
    files: Mapping[str, Any] = document.get("files", {})
    words = _words(document)
    pictures = [
        Picture(name, name.replace("_", " ").capitalize(), CAPTIONS[name], words.get(name, ""),
                files[f"{name}.png"]["sha256"][:12])
        for name in PICTURES if f"{name}.png" in files
    ]  # fmt: skip
    return shell.page(
        request, "monitoring", dataset=dataset, place="monitoring", pictures=pictures, live=live,
        drawn=document.get("published_at", ""), figures=document,
    )  # fmt: skip


@router.get("/{dataset}/{name}.png")
async def picture(dataset: str, name: str, request: Request) -> Response:
    room = await shell.rooms(request).room(dataset)
    data = await asyncio.to_thread(_read, room, f"{name}.png")
    headers = shell.HEADERS | {"Cache-Control": "private, max-age=3600"}
    return Response(data, media_type="image/png", headers=headers)


def _document(room: Room) -> dict[str, Any]:
    return room.lake.read_json(of_dataset(room.spec.dataset, MONITORING)) or {}


def _read(room: Room, file: str) -> bytes:
    """Raises Problem where there is none, or it is drawn anew at this moment."""
    document = _document(room)
    if file not in document.get("files", {}):
        raise Problem(404, "picture_unknown", f"monitoring has drawn no {file!r}")
    try:
        return room.lake.read_published(document, file)
    except LakeError as error:
        raise Problem(404, error.code, error.what, error.todo) from None


def _words(document: Mapping[str, Any]) -> dict[str, str]:
    """What the figures say of a picture, for those who do not see it, and for all others."""
    told: dict[str, str] = {}
    if "median_confidence" in document:
        told["confidence"] = f"The median of all is {document['median_confidence']:.2f}."
    if "image_share" in document:
        told["images"] = f"{document['image_share']:.0%} of all."
    if drifts := document.get("feature_drift"):
        name, most = max(drifts.items(), key=lambda one: one[1])
        told["drift"] = f"{name} by {most:.2f}, the others less." if most else "None of them moved."
    for name, key, what in (
        ("rejects", "rejected_rows", "rows"), ("quarantines", "quarantined_files", "files"),
    ):  # fmt: skip
        if document.get(key):
            told[name] = f"{document[key]:,} {what} so far."
    return told
