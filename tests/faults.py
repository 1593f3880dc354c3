"""A proxy in front of any local HTTP server that lets chosen requests go wrong.

    with FaultyProxy(upstream) as proxy:
        proxy.add(answer(503, b"<Error><Code>SlowDown</Code></Error>"), is_("GET", "data"), times=3)
        client = connect_to(proxy.url)

It knows nothing of what it carries: S3, DynamoDB and SQS all go through. Each request meets the
first rule that matches it and has turns left; without one it passes unchanged.
"""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

Headers = list[tuple[str, str]]


@dataclass
class Request:
    """What a client asked. `path` is with its query, as it was sent."""

    method: str
    path: str
    headers: Headers
    body: bytes

    def header(self, name: str) -> str:
        return next((v for n, v in self.headers if n.lower() == name.lower()), "")


@dataclass
class Response:
    """What the client is told. `cut_after`: reset the connection after so many bytes of it."""

    status: int
    headers: Headers = field(default_factory=list)
    body: bytes = b""
    cut_after: int | None = None


Forward = Callable[[Request], Response]
# What becomes of a request: an answer, or None to reset the connection without a word.
Fault = Callable[[Request, Forward], Response | None]
Matcher = Callable[[Request], bool]


# -- which requests -------------------------------------------------------------------------------


def anything(_request: Request) -> bool:
    return True


def is_(method: str = "", part: str = "", header: str = "") -> Matcher:
    """Requests of this method whose path has this part in it and that carry this header."""

    def matches(request: Request) -> bool:
        return (
            method in ("", request.method)
            and part in request.path
            and (not header or bool(request.header(header)))
        )

    return matches


# -- what goes wrong ------------------------------------------------------------------------------


def answer(status: int, body: bytes = b"", headers: Headers | None = None) -> Fault:
    """Say this instead of asking the server."""
    return lambda _request, _forward: Response(status, list(headers or []), body)


def reset() -> Fault:
    """Reset the connection before the request reaches the server."""
    return lambda _request, _forward: None


def lose_answer() -> Fault:
    """Let the server carry it out, then reset the connection instead of telling."""

    def fault(request: Request, forward: Forward) -> None:
        forward(request)

    return fault


def replace_answer(status: int, body: bytes = b"") -> Fault:
    """Let the server carry it out, then say something else."""

    def fault(request: Request, forward: Forward) -> Response:
        forward(request)
        return Response(status, [], body)

    return fault


def cut_body(after: int) -> Fault:
    """Announce the whole body, send so many bytes of it, then reset the connection."""

    def fault(request: Request, forward: Forward) -> Response:
        response = forward(request)
        response.cut_after = after
        return response

    return fault


def shorten_body(by: int) -> Fault:
    """Drop the last bytes of the body, in an answer that is well-formed all the same."""

    def fault(request: Request, forward: Forward) -> Response:
        response = forward(request)
        response.body = response.body[: len(response.body) - by]
        response.headers = [h for h in response.headers if h[0].lower() != "content-length"]
        return response

    return fault


def flip_byte(at: int) -> Fault:
    """Change one byte of the body of the answer."""

    def fault(request: Request, forward: Forward) -> Response:
        response = forward(request)
        body = bytearray(response.body)
        body[at] ^= 1
        response.body = bytes(body)
        return response

    return fault


def flip_sent_byte(at: int) -> Fault:
    """Change one byte of the body of the request."""

    def fault(request: Request, forward: Forward) -> Response:
        body = bytearray(request.body)
        body[at] ^= 1
        request.body = bytes(body)
        return forward(request)

    return fault


def delay(seconds: float) -> Fault:
    """Wait before the request goes on."""
    return first(lambda: time.sleep(seconds))


def first(action: Callable[[], object]) -> Fault:
    """Do something else before the request goes on: a writer that comes in between."""

    def fault(request: Request, forward: Forward) -> Response:
        action()
        return forward(request)

    return fault


def without_header(name: str) -> Fault:
    """Pass the request on without this header: a server that does not know it."""

    def fault(request: Request, forward: Forward) -> Response:
        request.headers = [h for h in request.headers if h[0].lower() != name.lower()]
        return forward(request)

    return fault


# -- the proxy ------------------------------------------------------------------------------------


@dataclass
class _Rule:
    fault: Fault
    matching: Matcher
    skip: int
    times: int | None


class FaultyProxy:
    """Forwards to `upstream` (http://host:port). `seen` has every request, in order."""

    def __init__(self, upstream: str) -> None:
        address = urlsplit(upstream)
        self._upstream = (address.hostname or "", address.port or 80)
        self._rules: list[_Rule] = []
        self._lock = threading.Lock()
        self.seen: list[Request] = []
        self.faults = 0
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def add(
        self,
        fault: Fault,
        matching: Matcher = anything,
        *,
        skip: int = 0,
        times: int | None = 1,
    ) -> None:
        """Let it happen to matching requests: not to the first `skip`, then `times` (None: all)."""
        self._rules.append(_Rule(fault, matching, skip, times))

    def clear(self) -> None:
        """From now on all is well; forget what was seen."""
        with self._lock:
            self._rules.clear()
            self.seen.clear()
            self.faults = 0

    def count(self, matching: Matcher = anything) -> int:
        """How many requests of this kind there were."""
        with self._lock:
            return sum(map(matching, self.seen))

    def handle(self, request: Request, forward: Forward) -> Response | None:
        fault = self._fault_for(request)
        return forward(request) if fault is None else fault(request, forward)

    def _fault_for(self, request: Request) -> Fault | None:
        with self._lock:
            self.seen.append(request)
            for rule in self._rules:
                if rule.times == 0 or not rule.matching(request):
                    continue
                if rule.skip:
                    rule.skip -= 1
                    continue
                if rule.times is not None:
                    rule.times -= 1
                self.faults += 1
                return rule.fault
        return None

    def forward(self, request: Request) -> Response:
        """Ask the server itself."""
        connection = http.client.HTTPConnection(*self._upstream, timeout=60)
        try:
            connection.putrequest(
                request.method, request.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in request.headers:
                connection.putheader(name, value)
            connection.endheaders(request.body)
            told = connection.getresponse()
            return Response(told.status, told.getheaders(), told.read())
        finally:
            connection.close()

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news here."""


class _Handler(BaseHTTPRequestHandler):
    owner: FaultyProxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        hop = ("expect", "transfer-encoding", "content-length", "connection")
        headers = [(n, v) for n, v in self.headers.items() if n.lower() not in hop]
        body = self._body()
        if body or self.command in ("PUT", "POST"):
            headers.append(("Content-Length", str(len(body))))
        request = Request(self.command, self.path, headers, body)
        response = self.owner.handle(request, self.owner.forward)
        if response is None:
            self._reset()
        else:
            self._tell(response)

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body

    def _tell(self, response: Response) -> None:
        hop = ("connection", "transfer-encoding", "keep-alive")
        headers = [(n, v) for n, v in response.headers if n.lower() not in hop]
        if not any(n.lower() == "content-length" for n, _ in headers):
            headers.append(("Content-Length", str(len(response.body))))
        self.send_response_only(response.status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body[: response.cut_after])
        self.wfile.flush()
        if response.cut_after is not None:
            time.sleep(0.05)  # a reset overtakes what was sent a moment ago
            self._reset()

    def _reset(self) -> None:
        self.close_connection = True
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    def finish(self) -> None:
        super().finish()
        self.connection.close()

    def log_message(self, *_: Any) -> None:
        pass
