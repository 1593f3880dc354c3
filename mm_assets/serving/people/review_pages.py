"""The review queue, one record at a time: look, press a key, the next one is there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request, Response
from starlette.datastructures import FormData

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.review.answers import label_fault
from mm_assets.review.order import Order
from mm_assets.review.queue import Item
from mm_assets.serving.people import shell
from mm_assets.serving.people.charts import scale_of
from mm_assets.serving.people.model_facts import live_words
from mm_assets.serving.people.room import Room

KEYS = 9  # classes that have a key of their own
SHOWN_QUEUE = 200  # records on one page of the whole queue
ORDER = "mm_order"  # a cookie: in which order a person wants the queue


@dataclass(frozen=True)
class Choice:
    """A class to answer with. key: its digit, or ''. share: the model's probability, or None."""

    label: str
    key: str
    share: float | None
    is_guess: bool


router = APIRouter(prefix="/review", include_in_schema=False)


@router.get("/{dataset}")
async def next_(dataset: str, request: Request) -> Response:
    room = await shell.rooms(request).room(dataset)
    if not (who := shell.who(request)):
        return shell.page(request, "name", dataset=dataset, place="review")
    asked = request.query_params
    order = _order(request)
    shown = await asyncio.to_thread(
        _shown, room, who, asked.get("record"), asked.get("after"), order
    )
    done = asked.get("done")
    others = await asyncio.to_thread(room.others, done, who) if done else {}
    asked_on = done is not None and not room.is_settled(done)
    response = shell.page(
        request, "review", dataset=dataset, place="review", spec=room.spec, **shown,
        done=done, done_as=asked.get("as", ""), too_late=asked.get("late"),
        fault=asked.get("fault", ""), order=order, others=others, asked_on=asked_on,
    )  # fmt: skip
    if "order" in asked:
        shell.remember(response, request, order, ORDER)
    return response


@router.get("/{dataset}/queue")
async def queue(dataset: str, request: Request) -> Response:
    room = await shell.rooms(request).room(dataset)
    order = _order(request)
    items = await asyncio.to_thread(room.open_for, shell.who(request), order)
    pages = max(1, -(-len(items) // SHOWN_QUEUE))
    said = request.query_params.get("page", "1")
    number = min(max(int(said) if said.isascii() and said.isdigit() else 1, 1), pages)
    return shell.page(
        request, "queue", dataset=dataset, place="review", spec=room.spec, order=order,
        items=items[(number - 1) * SHOWN_QUEUE : number * SHOWN_QUEUE], count=len(items),
        number=number, pages=pages,
    )  # fmt: skip


@router.get("/{dataset}/results")
async def results(dataset: str, request: Request) -> Response:
    """What came of it: who answered how much, who agrees, and what it says of the models."""
    room = await shell.rooms(request).room(dataset)
    found = await asyncio.to_thread(room.agreement)
    live = await asyncio.to_thread(live_words, room.lake, room.spec)
    progress = await asyncio.to_thread(room.progress, shell.who(request))
    done = await asyncio.to_thread(room.batches)
    return shell.page(
        request, "results", dataset=dataset, place="review", spec=room.spec, found=found,
        live=live, progress=progress, batches=done, shown=SHOWN_QUEUE,
    )  # fmt: skip


@router.get("/{dataset}/image")
async def image(dataset: str, record: str, request: Request) -> Response:
    room = await shell.rooms(request).room(dataset)
    item = await asyncio.to_thread(room.item, record)
    data = await asyncio.to_thread(room.image, item) if item is not None else None
    return shell.image(data, record)


@router.post("/{dataset}")
async def answer(dataset: str, request: Request) -> Response:
    room, form = await _posted(dataset, request)
    if not (who := shell.who(request)):
        return shell.back_to(_path(dataset))
    record = str(form.get("record", ""))
    if "skip" in form:
        return shell.back_to(_path(dataset, after=record))
    item = await asyncio.to_thread(room.item, record)
    if item is None:
        return shell.back_to(_path(dataset, late=record))
    label = "" if "unsure" in form else str(form.get("label", "")).strip()
    if "unsure" not in form and (fault := _fault(room.spec, label, room.classes())):
        return shell.back_to(_path(dataset, record=record, fault=fault))
    await asyncio.to_thread(room.answer, item, label, who)
    return shell.back_to(_path(dataset, done=record, **{"as": label}))


@router.post("/{dataset}/undo")
async def undo(dataset: str, request: Request) -> Response:
    room, form = await _posted(dataset, request)
    record = str(form.get("record", ""))
    done = await asyncio.to_thread(room.undo, record, shell.who(request))
    return shell.back_to(_path(dataset, **{"record" if done else "late": record}))


@router.post("/{dataset}/send")
async def send(dataset: str, request: Request) -> Response:
    room, _ = await _posted(dataset, request)
    await asyncio.to_thread(room.send)
    return shell.back_to(_path(dataset))


@router.post("/{dataset}/name")
async def name(dataset: str, request: Request) -> Response:
    _, form = await _posted(dataset, request)
    response = shell.back_to(_path(dataset))
    shell.remember(response, request, str(form.get("name", "")))
    return response


async def _posted(dataset: str, request: Request) -> tuple[Room, FormData]:
    shell.refuse_other_sites(request)
    room = await shell.rooms(request).room(dataset)
    return room, await request.form(max_files=0, max_fields=10)


def _path(dataset: str, **asked: str) -> str:
    return f"/review/{quote(dataset, safe='')}" + (f"?{urlencode(asked)}" if asked else "")


def _order(request: Request) -> str:
    """As it is asked for, or was the last time."""
    said = request.query_params.get("order") or request.cookies.get(ORDER)
    return Order.USEFUL if said == Order.USEFUL else Order.DOUBTFUL


def _shown(
    room: Room, who: str, record: str | None, after: str | None, order: str
) -> dict[str, Any]:
    """What the page of a record shows; item None: nothing is left for this person."""
    item = room.item(record) if record else None
    item = item or room.next_for(who, after, order)
    shown: dict[str, Any] = {
        "item": item,
        "progress": room.progress(who),
        "left": len(room.open_for(who)),
        "refused": room.refused,
    }
    if item is not None:
        choices = _choices(room.classes(), item)
        shown |= {
            "values": room.values(item),
            "choices": choices,
            "more": len(choices) > KEYS,
            "scale": scale_of(item.prediction, item.lower, item.upper),
        }
    return shown


def _choices(classes: Sequence[str], item: Item) -> list[Choice]:
    """Few classes in their own order, so that a key means the same for every record; of many, the
    most probable first."""
    shares: Mapping[str, float] = item.probabilities
    ordered = list(classes)
    if len(ordered) > KEYS:
        ordered.sort(key=lambda label: -shares.get(label, 0.0))
    return [
        Choice(label, str(place + 1) if place < KEYS else "", shares.get(label),
               label == item.prediction)
        for place, label in enumerate(ordered)
    ]  # fmt: skip


def _fault(spec: DatasetSpec, label: str, classes: Sequence[str]) -> str:
    """Why this cannot be an answer, or ''."""
    if not label:
        return 'Type a number, or choose "can\'t tell".' if spec.is_regression else "Choose one."
    return label_fault(label, spec, classes)
