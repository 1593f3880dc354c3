"""What every protocol asks of a request: its body within limits, and what kind of body it is."""

from __future__ import annotations

from typing import Any

from starlette.requests import ClientDisconnect, Request

from mm_assets.serving.bodies import BodyRefused, parse_json, read_body
from mm_assets.serving.problems import Problem


def media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def body_of(request: Request) -> bytes:
    """The whole body, unpacked. Raises Problem."""
    most = request.app.state.options.most_bytes
    try:
        return await read_body(
            request.stream(), request.headers.get("content-encoding", ""), most, most
        )
    except BodyRefused as error:
        raise Problem(error.status, error.code, error.what, error.todo) from None
    except ClientDisconnect:
        raise Problem(400, "body_cut_short", "the client went away") from None


def json_of(body: bytes) -> Any:
    """The body as JSON. Raises Problem."""
    try:
        return parse_json(body)
    except BodyRefused as error:
        raise Problem(error.status, error.code, error.what, error.todo) from None
