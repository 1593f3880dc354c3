"""The models: which answer, how good they are, how it came to that; and another one instead."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request, Response
from starlette.datastructures import FormData

from mm_assets.contract.dataset import Modality
from mm_assets.contract.errors import MMError, ModelError
from mm_assets.predictions.promotion import promote, rollback
from mm_assets.registry.champions import line_of_champions
from mm_assets.registry.store import Champion, ModelStore
from mm_assets.serving.entrance import key_name, may_promote
from mm_assets.serving.people import shell
from mm_assets.serving.people.model_facts import Shown, all_of
from mm_assets.serving.people.room import Room
from mm_assets.serving.problems import Problem

MOST_LETTERS = 500  # of a reason
router = APIRouter(prefix="/models", include_in_schema=False)


@router.get("/{dataset}")
async def models(dataset: str, request: Request) -> Response:
    room = await shell.rooms(request).room(dataset)
    shown = await asyncio.to_thread(all_of, room.lake, room.spec)
    return shell.page(
        request, "models", dataset=dataset, place="models", spec=room.spec, shown=shown,
        may_promote=may_promote(), done=request.query_params.get("done", ""),
    )  # fmt: skip


@router.get("/{dataset}/{modality}/{version}")
async def confirm(dataset: str, modality: str, version: str, request: Request) -> Response:
    """What would change, and who says so and why."""
    _refuse_others()
    room = await shell.rooms(request).room(dataset)
    return await _asked(request, room, modality, version)


@router.post("/{dataset}/{modality}/{version}")
async def change(dataset: str, modality: str, version: str, request: Request) -> Response:
    shell.refuse_other_sites(request)
    _refuse_others()
    room = await shell.rooms(request).room(dataset)
    form = await request.form(max_files=0, max_fields=5)
    by = key_name() or shell.clean(str(form.get("name", "")))
    reason = str(form.get("reason", "")).strip()[:MOST_LETTERS]
    present = str(form.get("present", ""))
    if not by or not reason:
        fault = "Say why." if by else "Say who you are."
        return await _asked(request, room, modality, version, fault, form)
    try:
        champion = await asyncio.to_thread(
            _changed, room, Modality(modality), version, present, reason, by
        )
    except MMError as error:
        words = f"{error.what}. {error.todo}"
        return await _asked(request, room, modality, version, words, form)
    await request.app.state.service.look_again(dataset)
    response = shell.back_to(_path(dataset, done=champion.version))
    if key_name() is None:
        shell.remember(response, request, by)
    return response


async def _asked(
    request: Request, room: Room, modality: str, version: str, fault: str = "",
    form: FormData | None = None,
) -> Response:  # fmt: skip
    shown = await asyncio.to_thread(all_of, room.lake, room.spec)
    one = next((one for one in shown if one.modality.value == modality), None)
    row = _row(one, version) if one is not None else None
    if one is None or row is None:
        raise Problem(404, "model_unknown", f"there is no model {modality}/{version}")
    present = one.champion and _row(one, one.champion.version)
    return shell.page(
        request, "promote", 422 if fault else 200, dataset=room.spec.dataset, place="models",
        one=one, row=row, present=present, fault=fault, key=key_name(),
        is_back=one.back_to == version,
        own_name=str(form.get("name", "")) if form else shell.who(request),
        reason=str(form.get("reason", "")) if form else "",
    )  # fmt: skip


def _row(one: Shown, version: str) -> dict[str, Any] | None:
    return next((row for row in one.stored if row["version"] == version), None)


def _changed(
    room: Room, modality: Modality, version: str, present: str, reason: str, by: str
) -> Champion:
    """The model that answered before is a roll-back, others are promotions. Raises MMError."""
    line = line_of_champions(ModelStore(room.lake, room.spec.dataset).champions(modality))
    now = line[-1].version if line else ""
    if now != present:
        raise ModelError(
            code="promotion_contested",
            what=f"{now} was promoted meanwhile",
            todo="Look at the models again, and decide anew.",
        )
    if len(line) > 1 and line[-2].version == version:
        return rollback(room.lake, room.spec, modality, reason, version, by=by)
    return promote(room.lake, room.spec, version, reason, modality, by=by)


def _refuse_others() -> None:
    if not may_promote():
        raise Problem(
            403, "key_scope", "this key may not promote models",
            "Whoever runs the service makes one that may: mm serve-keys add NAME --promote.",
        )  # fmt: skip


def _path(dataset: str, **asked: str) -> str:
    return f"/models/{quote(dataset, safe='')}" + (f"?{urlencode(asked)}" if asked else "")
