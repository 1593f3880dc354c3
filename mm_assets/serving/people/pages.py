"""The pages of one service, the way in for browsers, and their two static files."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

from fastapi import APIRouter, Request, Response

from mm_assets.serving.entrance import COOKIE, key_name
from mm_assets.serving.people import (
    model_pages,
    monitoring_pages,
    review_pages,
    shell,
    try_pages,
    upload_pages,
)
from mm_assets.serving.problems import Problem
from mm_assets.serving.service import Served

router = APIRouter(include_in_schema=False)
for _part in (try_pages, review_pages, upload_pages, model_pages, monitoring_pages):
    router.include_router(_part.router)


@router.get("/")
async def home(request: Request) -> Response:
    served = request.app.state.service.visible().values()
    return shell.page(request, "home", shown=[_told(one) for one in served])


@router.get("/static/{name}")
async def static(name: str) -> Response:
    if name not in shell.STATIC:
        raise Problem(404, "not_found", f"there is no file {name!r}")
    data = await asyncio.to_thread((shell.HERE / "static" / name).read_bytes)
    headers = shell.HEADERS | {"Cache-Control": "no-cache"}
    return Response(data, media_type=shell.STATIC[name], headers=headers)


@router.get("/login")
async def login(request: Request) -> Response:
    if key_name() is not None:
        return shell.back_to("/")
    return shell.page(request, "login", to=_own_path(request.query_params.get("to", "")), fault="")


@router.post("/login")
async def sign_in(request: Request) -> Response:
    shell.refuse_other_sites(request)
    form = await request.form(max_files=0, max_fields=5)
    to, key = _own_path(str(form.get("to", ""))), str(form.get("key", "")).strip()
    keys = request.app.state.keys
    if keys is not None and keys.key_of(key) is None:
        fault = "This key is not valid."
        return shell.page(request, "login", 401, to=to, fault=fault)
    response = shell.back_to(to)
    response.set_cookie(
        COOKIE, quote(key), httponly=True, samesite="strict",
        secure=request.url.scheme == "https", max_age=12 * 3600,
    )  # fmt: skip
    return response


def _own_path(path: str) -> str:
    """A path of this service, and never an address of another one."""
    good = path.startswith("/") and not path.startswith(("//", "/\\", "/login"))
    return path if good and path.isprintable() else "/"


def _told(one: Served) -> dict[str, str]:
    spec = one.predictor.spec if one.predictor is not None else None
    return {
        "name": one.name,
        "state": one.state,
        "reason": one.fault,
        "description": (spec.description or "") if spec is not None else "",
    }
