"""What every page has: its frame, its safety headers, who looks at it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from fastapi import Request, Response
from starlette.responses import RedirectResponse

from mm_assets.display.cells import shown, visible
from mm_assets.display.templates import templates
from mm_assets.serving.entrance import is_of_elsewhere, key_name
from mm_assets.serving.people.rooms import Rooms
from mm_assets.serving.problems import Problem

HERE = Path(__file__).parent
STATIC = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
REVIEWER = "mm_reviewer"  # a cookie: the name that a person gave
MOST_LETTERS = 60  # of it
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def page(
    request: Request,
    name: str,
    status: int = 200,
    *,
    own_images: bool = False,
    own_requests: bool = False,
    **context: Any,
) -> Response:
    """A page of the templates, with the safety headers. own_images: it holds images in itself.
    own_requests: its script asks this service."""
    template = environment().get_template(f"{name}.html.j2")
    text = template.render(**{"dataset": "", "place": "", "who": who(request)} | context)
    headers = dict(HEADERS)
    if own_requests:
        headers["Content-Security-Policy"] += "; connect-src 'self'"
    if own_images:
        own = POLICY.replace("img-src 'self'", "img-src 'self' data:")
        headers["Content-Security-Policy"] = own
    return Response(text, status, media_type="text/html", headers=headers)


def image(data: bytes | None, record: str) -> Response:
    """A normalised image of the lake. Raises Problem where there is none."""
    if data is None:
        raise Problem(404, "image_unknown", f"no image of record {record!r} is in the lake")
    headers = HEADERS | {"Cache-Control": "private, max-age=3600"}
    return Response(data, media_type=kind_of(data), headers=headers)


def kind_of(data: bytes) -> str:
    """The media type of a normalised image."""
    return "image/png" if data.startswith(b"\x89PNG") else "image/jpeg"


def back_to(path: str) -> Response:
    """Go on with a page, after something was changed."""
    return RedirectResponse(path, status_code=303, headers=HEADERS)


def rooms(request: Request) -> Rooms:
    """Of the service that is asked."""
    found: Rooms = request.app.state.rooms
    return found


def who(request: Request) -> str:
    """The name of the key, or the one that the person gave; '' if neither is known."""
    return key_name() or clean(unquote(request.cookies.get(REVIEWER, "")))


def clean(name: str) -> str:
    """A person's name, as it is kept."""
    return visible(name).strip()[:MOST_LETTERS]


def remember(response: Response, request: Request, value: str, cookie: str = REVIEWER) -> None:
    """Keep the person's name, or a choice of theirs, in a cookie that no script and no other site
    gets."""
    response.set_cookie(
        cookie,
        quote(clean(value)),
        max_age=365 * 86400,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )


def refuse_other_sites(request: Request) -> None:
    """A form may only be sent from a page of ours (cross-site request forgery). Raises Problem."""
    site = request.headers.get("sec-fetch-site")
    told = site is not None or "origin" in request.headers
    same = site in (None, "same-origin", "none") and not is_of_elsewhere(request.headers)
    if not (told and same):
        raise Problem(403, "origin_unknown", "this can only be sent from a page of this service")


@lru_cache(maxsize=1)
def environment() -> Any:
    """The templates, and how they write values."""
    made = templates(HERE / "templates")
    made.filters |= {
        "shown": shown,
        "when": lambda text: str(text)[:16].replace("T", " "),
        "percent": _percent,
        "day": lambda text: str(text)[:10],
        "plain": _plain,
        "sentence": lambda text: f"{text[:1].upper()}{text[1:]}",
        "path": lambda text: quote(str(text), safe=""),
    }
    return made


def _percent(share: float, digits: int = 0) -> str:
    """A share that is neither none nor all is never written as if it were."""
    least = 10.0 ** -(digits + 2)
    if 0 < share < least / 2:
        return f"<{least:.{digits}%}"
    if 1 - least / 2 < share < 1:
        return f">{1 - least:.{digits}%}"
    return f"{share:.{digits}%}"


def _plain(value: Any) -> str:
    """A value of a record, as a person would write it."""
    return f"{value:.6g}" if isinstance(value, float) else shown(value)
