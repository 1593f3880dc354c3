"""Who comes in: by a key, or from this machine alone.

Without keys the service is for programs on this machine, and not for web pages that are looked at
there: a page of another origin is refused, and so is a host name that only pretends to be this
machine (DNS rebinding). With keys each request brings one, and a dataset beyond its scope does not
exist for it.
"""

from __future__ import annotations

import base64
import binascii
from contextvars import ContextVar
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote, unquote, urlsplit

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from mm_assets.contract.listening import LOOPBACK
from mm_assets.serving.keys import Key, Keys
from mm_assets.serving.options import Options
from mm_assets.serving.problems import Problem

# What whoever asks may see; None: everything.
_visible: ContextVar[frozenset[str] | None] = ContextVar("visible", default=None)
OPEN = ("/live", "/ready", "/ping", "/v2/health/live", "/v2/health/ready")
METRICS = "/metrics"
COOKIE = "mm_key"  # holds the key of somebody who signed in with a browser
SIGN_IN = ("/login", "/static/page.css", "/static/page.js")
_key: ContextVar[Key | None] = ContextVar("key", default=None)
_is_guarded: ContextVar[bool] = ContextVar("is_guarded", default=False)


def may_see(dataset: str) -> bool:
    """Whether the request that is answered now may ask this dataset."""
    visible = _visible.get()
    return visible is None or dataset in visible


def key_name() -> str | None:
    """Whose key the request brought that is answered now; None without keys."""
    key = _key.get()
    return key.name if key is not None else None


def may_promote() -> bool:
    """Whether the request that is answered now may make another model the champion.

    On this machine alone everybody may, as with `mm models promote`. Where anybody may ask
    (`--open`) nobody may.
    """
    key = _key.get()
    return _is_guarded.get() and (key is None or key.may_promote)


class Entrance:
    """Lets requests in, or answers with a problem."""

    def __init__(self, app: ASGIApp, options: Options, keys: Keys | None) -> None:
        """keys: None: nobody needs one."""
        self.app = app
        self._keys = keys
        self._local = self._keys is None and not options.open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            visible, key = self._let_in(scope)
        except Problem as problem:
            response: Response = problem.response()
            if problem.status == 401 and _is_browsing(scope):
                response = RedirectResponse(f"/login?to={quote(scope['path'], safe='')}", 303)
            await response(scope, receive, send)
            return
        guarded = _is_guarded.set(self._local or key is not None)
        token, named = _visible.set(visible), _key.set(key)
        try:
            await self.app(scope, receive, send)
        finally:
            _visible.reset(token)
            _key.reset(named)
            _is_guarded.reset(guarded)

    def _let_in(self, scope: Scope) -> tuple[frozenset[str] | None, Key | None]:
        """The datasets that it may see, None for all; and its key. Raises Problem."""
        headers = Headers(scope=scope)
        if self._local:
            _refuse_strangers(headers)
        if self._keys is None:
            return None, None
        given = _given(headers)
        key = self._keys.key_of(given) if given else None
        if key is None:
            if scope["path"] in SIGN_IN or (scope["path"] in OPEN and not given):
                return frozenset(), None
            what = "the API key is not valid" if given else "an API key is needed"
            raise Problem(
                401, "key_invalid" if given else "key_missing", what,
                "Send `Authorization: Bearer KEY`; `mm serve-keys add NAME` makes one.",
                headers={"WWW-Authenticate": "Bearer"},
            )  # fmt: skip
        if scope["path"] == METRICS and key.datasets is not None:
            raise Problem(403, "key_scope", "this key is for some datasets, not for all figures")
        return None if key.datasets is None else frozenset(key.datasets), key


def _given(headers: Headers) -> str:
    """The key of a program, else that of somebody who signed in."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and token.strip():
        return token.strip()
    if kind.lower() == "basic" and (password := _password(token)):
        return password
    if own := headers.get("x-api-key", "").strip():
        return own
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return unquote(found.value) if found is not None else ""


def _password(token: str) -> str:
    """Of a client that knows names and passwords alone: the key is the password of any name."""
    try:
        return base64.b64decode(token.strip(), validate=True).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        return ""


def _is_browsing(scope: Scope) -> bool:
    """Whether a person looks at a page, and so can sign in."""
    return scope["method"] == "GET" and "text/html" in Headers(scope=scope).get("accept", "")


def _refuse_strangers(headers: Headers) -> None:
    host = _name_of(f"//{headers.get('host', '')}")
    if host not in LOOPBACK:
        raise Problem(
            403, "host_unknown", "this service is for programs on this machine",
            "Ask for 127.0.0.1 or localhost; for others make keys (`mm serve-keys add NAME`).",
        )  # fmt: skip
    if is_of_elsewhere(headers):
        raise Problem(403, "origin_unknown", "web pages of elsewhere may not ask this service")


def is_of_elsewhere(headers: Headers) -> bool:
    """Whether a browser says that another site's page asks."""
    origin = headers.get("origin")
    return origin is not None and origin.partition("://")[2] != headers.get("host")


def _name_of(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""
