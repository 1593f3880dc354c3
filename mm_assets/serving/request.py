"""What every protocol asks of a request: its body within limits, and what kind of body it is."""

from __future__ import annotations

from collections.abc import Sequence
from email.message import Message
from typing import Any

from starlette.requests import ClientDisconnect, Request

from mm_assets.serving.bodies import BodyRefused, parse_json, read_body
from mm_assets.serving.problems import Problem


def media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def parameters_of(request: Request) -> dict[str, str]:
    """What stands behind the media type: `header=absent`; names in lower case."""
    message = Message()
    message["content-type"] = request.headers.get("content-type", "")
    told = message.get_params(failobj=[])[1:]
    return {name.lower(): str(value) for name, value in told}


def preferred(accept: str, offered: Sequence[str]) -> str | None:
    """Which of the media types the header Accept likes best; the first, if it does not mind."""
    best, best_share = None, 0.0
    for form in offered:
        share = max((q for kind, q in _accepted(accept) if kind in (form, "*/*", _any(form))),
                    default=0.0)  # fmt: skip
        if share > best_share:
            best, best_share = form, share
    return best


def _any(form: str) -> str:
    return f"{form.partition('/')[0]}/*"


def _accepted(accept: str) -> list[tuple[str, float]]:
    found = []
    for part in (accept.strip() or "*/*").split(","):
        kind, *parameters = (one.strip().lower() for one in part.split(";"))
        shares = [one[2:] for one in parameters if one.startswith("q=")]
        try:
            found.append((kind, float(shares[0]) if shares else 1.0))
        except ValueError:
            found.append((kind, 1.0))
    return found


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
