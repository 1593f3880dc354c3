"""Connections: uvicorn, with limits on who connects and an end that cuts no answer.

A head (the request's line and headers) has to be whole within seconds and is bounded; so is the
time for a body, also for one whose request is refused already. At SIGTERM or SIGINT the service
says so on /ready and goes on answering for a moment, each answer the last of its connection; then
it takes nothing new, answers what has come, and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from asyncio.events import TimerHandle
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mm_assets.contract.listening import cannot_listen, url_of
from mm_assets.serving.options import Options

HEAD_SECONDS = 10.0
HEAD_BYTES = 64 << 10
BODY_GRACE = 5.0  # seconds beyond those of the options, in which a refusal can be sent
BACKLOG = 1024
KEEP_ALIVE = 65  # longer than that of the usual load balancers, so that they are those who close
NOTICE_SECONDS = 1.0  # from the signal on, in which others can see that this service goes down
LAST_BYTES = 0.25  # seconds for requests that are on their way on connections that are open
DRAIN_SECONDS = 25  # for all of it; Kubernetes and ECS kill after 30


class Connection(HttpToolsProtocol):
    """One client. `seconds` is set before the first is made."""

    seconds = 30.0
    _due: TimerHandle | None = None
    _in_head = True
    _head = 0
    _ended = False  # whether what came last ended a request

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._within(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._at_ease()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._ended = False
        super().data_received(data)
        if not self._in_head or self._ended:  # the end of a body is no head
            return
        self._head += len(data)
        if self._head > HEAD_BYTES and not self.transport.is_closing():
            self._refuse(b"431 Request Header Fields Too Large")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head = True, 0
        self._within(HEAD_SECONDS)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._within(self.seconds + BODY_GRACE)
        # How many there are is for `watched.py`, which can answer.
        self.scope["state"]["connections"] = len(self.connections)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._at_ease()
        self._in_head, self._head, self._ended = True, 0, True
        super().on_message_complete()

    def _within(self, seconds: float) -> None:
        self._at_ease()
        self._due = self.loop.call_later(seconds, self._late)

    def _at_ease(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _late(self) -> None:
        if self.transport.is_closing():
            return
        if self._in_head and self._head:
            self._refuse(b"408 Request Timeout")
        else:
            self.transport.close()

    def _refuse(self, status: bytes) -> None:
        head = b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        self.transport.write(head)
        self.transport.close()


class Server(uvicorn.Server):
    """One process. going_down: called in the moment of the signal; up: once requests are taken.

    is_worker: Ctrl-C reaches every process of a terminal; a worker leaves it to its parent.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        listener: socket.socket,
        *,
        going_down: Callable[[], None],
        up: Callable[[], None] = lambda: None,
        is_worker: bool = False,
    ) -> None:
        super().__init__(config)
        listener.setblocking(False)
        self._listener = listener
        self._going_down, self._up, self._is_worker = going_down, up, is_worker

    def serve_on_it(self) -> None:
        """Until a signal. uvicorn closes what it is given before it is done with it, so a copy."""
        self.run([self._listener.dup()])

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if sig == signal.SIGINT and self._is_worker:
            return
        if sig == signal.SIGINT and self.should_exit:
            self.force_exit = True  # asked for twice
        self.should_exit = True
        self._going_down()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._up()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._pause(NOTICE_SECONDS)
        for server in self.servers:
            server.close()
        await self._take_the_last()
        await self._pause(LAST_BYTES)
        await super().shutdown(sockets)

    async def _take_the_last(self) -> None:
        """Those that the system has connected already; closing the socket would reset them."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(BlockingIOError, OSError):
            while True:
                client, _ = self._listener.accept()
                await loop.connect_accepted_socket(self._connection, client)
        self._listener.close()

    def _connection(self) -> asyncio.Protocol:
        return Connection(self.config, self.server_state, self.lifespan.state)

    async def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.force_exit:
            await asyncio.sleep(0.05)


def make_config(app: Any, options: Options) -> uvicorn.Config:
    """How uvicorn is to run; it listens where it is told when it runs."""
    Connection.seconds = options.seconds
    return uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(DRAIN_SECONDS - NOTICE_SECONDS),
        timeout_keep_alive=KEEP_ALIVE,
        backlog=BACKLOG,
    )


def listen(options: Options) -> socket.socket:
    """The socket for one process or several. Raises SettingsError."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        return socket.create_server((options.host, options.port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise cannot_listen(
            error, options.host, options.port, "; `--port 0` takes any that is free."
        ) from None


def address_of(listener: socket.socket, options: Options) -> str:
    return url_of(options.host, listener.getsockname()[1])
