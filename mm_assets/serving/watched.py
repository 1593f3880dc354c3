"""Around every request: its ID, its limits, its line in the log, and an answer whatever happens.

Plain ASGI, outermost in the application. Who goes away is forgotten at once, so that nothing waits
for them; what nobody expected is answered 500 with the request's ID, and the log says where.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

from mm_assets.serving.logs import log_failure, log_request
from mm_assets.serving.notes import CURRENT, WHOLE, Note
from mm_assets.serving.problems import Problem
from mm_assets.serving.service import Service

Message = MutableMapping[str, Any]
Headers = Mapping[bytes, bytes]
REQUEST_ID = b"x-request-id"
_SAFE = re.compile(rb"[A-Za-z0-9._:-]{1,64}")
GONE = 499  # as nginx says it: the client went away
MOST_CONNECTIONS = 1_000  # of one process


class Watched:
    """app: what answers. began, ended: are told of each request's note."""

    def __init__(
        self,
        app: Any,
        *,
        service: Service,
        began: Sequence[Callable[[Note, Headers], None]] = (),
        ended: Sequence[Callable[[Note], None]] = (),
    ) -> None:
        self.app, self.service, self.began, self.ended = app, service, began, ended

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        note = Note(_request_id(headers.get(REQUEST_ID)), scope["method"])
        token = CURRENT.set(note)
        for tell in self.began:
            tell(note, headers)
        answer = _Answer(send, note, self.service)
        body = _Body(receive, answer, headers, self.service)
        try:
            connections = scope.get("state", {}).get("connections", 0)
            if connections > MOST_CONNECTIONS:
                await answer.instead(_crowded(MOST_CONNECTIONS))
            else:
                await self._answered(scope, body, answer)
        finally:
            body.end()
            note.stage(WHOLE, note.began, time.perf_counter())
            note.path = getattr(scope.get("route"), "path", "")
            log_request(note)
            for ended in self.ended:
                ended(note)
            CURRENT.reset(token)

    async def _answered(self, scope: Any, body: _Body, answer: _Answer) -> None:
        try:
            await self.app(scope, body, answer)
        except asyncio.CancelledError:
            if not body.gone:  # the drain took too long
                await answer.instead(Problem(503, "going_down", "the service has to end now"))
                raise
            answer.note.status, answer.note.problem = GONE, "client_gone"
        except Exception as error:  # noqa: BLE001  whatever it is, it is answered
            log_failure(answer.note, error)
            request_id = answer.note.request_id
            await answer.instead(
                Problem(
                    500,
                    "unexpected",
                    "something went wrong that should not",
                    f"Send the request's ID, {request_id}, to whoever runs this service.",
                )
            )


class _Body:
    """The request as it comes in: within its time, and watched for its sender going away."""

    def __init__(self, receive: Any, answer: _Answer, headers: Headers, service: Service) -> None:
        self.receive, self.answer, self.headers, self.service = receive, answer, headers, service
        self.gone = False
        self._due = asyncio.get_running_loop().time() + service.options.seconds
        self._watch: asyncio.Task[None] | None = None
        self._asked = asyncio.current_task()

    async def __call__(self) -> Message:
        if self._watch is not None:
            await asyncio.shield(self._watch)
            return {"type": "http.disconnect"}
        self._refuse_too_long()
        try:
            async with asyncio.timeout_at(self._due):
                message: Message = await self.receive()
        except TimeoutError:
            seconds = self.service.options.seconds
            raise Problem(
                408, "body_too_slow", f"the body was not whole after {seconds:g} seconds",
                "Send less at once.", headers={"Connection": "close"},
            ) from None  # fmt: skip
        if message["type"] == "http.request" and not message.get("more_body"):
            self._watch = asyncio.get_running_loop().create_task(self._until_gone())
        return message

    def _refuse_too_long(self) -> None:
        """Before any of it is read, so that nothing is sent in vain."""
        said, most = self.headers.get(b"content-length", b"0"), self.service.options.most_bytes
        if said.isdigit() and int(said) > most:
            raise Problem(
                413, "body_too_large", f"{int(said):,} bytes; at most {most:,}",
                "Send several requests, or an upload (`mm upload`).",
                headers={"Connection": "close"},
            )  # fmt: skip

    async def _until_gone(self) -> None:
        await self.receive()  # what comes after the body is that the client has gone
        if not self.answer.whole and self._asked is not None:
            self.gone = True
            self._asked.cancel()

    def end(self) -> None:
        if self._watch is not None:
            self._watch.cancel()


class _Answer:
    """The answer as it goes out, with the request's ID."""

    def __init__(self, send: Any, note: Note, service: Service) -> None:
        self.send, self.note, self.service = send, note, service
        self.whole = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.note.status = message["status"]
            more = [
                (REQUEST_ID, self.note.request_id.encode()),
                (b"x-content-type-options", b"nosniff"),
            ]
            if self.service.draining:
                more.append((b"connection", b"close"))
            message = {**message, "headers": [*message.get("headers", ()), *more]}
        elif not message.get("more_body"):
            self.whole = True
        await self.send(message)

    async def instead(self, problem: Problem) -> None:
        """This, if no answer has begun. One that has is cut, so that nobody takes it for whole."""
        self.note.problem = problem.code
        if self.note.status:
            self.note.status = problem.status
            return
        response = problem.response()
        headers = [*response.raw_headers, (b"connection", b"close")]
        with contextlib.suppress(OSError):
            await self(
                {"type": "http.response.start", "status": problem.status, "headers": headers}
            )
            await self({"type": "http.response.body", "body": response.body})


def _request_id(said: bytes | None) -> str:
    """The client's, if nothing in it can do harm in a log or a header; else a new one."""
    if said is not None and _SAFE.fullmatch(said):
        return said.decode("ascii")
    return secrets.token_hex(16)


def _crowded(most: int) -> Problem:
    return Problem(
        503, "too_many_connections", f"more than {most:,} connections are open",
        "Try again in a second.", headers={"Retry-After": "1"},
    )  # fmt: skip
