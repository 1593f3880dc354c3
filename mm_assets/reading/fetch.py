"""Bytes by their URL, from hosts that were allowed (addresses.py), within limits.

The guard sits where connections are made: a name is looked up once, every address that it stands
for is judged, and the connection goes to one of these very addresses, so that a name that changes
between the look and the connection gains nothing. Redirects are followed by hand, each judged as
the first address was. Proxies of the environment, cookies and packed answers are not used.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from types import TracebackType
from typing import TYPE_CHECKING, Any

import httpcore

from mm_assets.reading.addresses import Address, AllowList, FetchRefused, Target

if TYPE_CHECKING:
    import ssl

MOST_BYTES = 64 << 20
SECONDS = 10.0  # for the whole of one image, with its redirects
MOST_REDIRECTS = 3
AT_ONCE = 16  # fetched at the same time; each may hold `most_bytes`
ADDRESSES_TRIED = 4
KEPT_SECONDS = 5.0  # an idle connection to an allowed host
BUSY = (408, 425, 429)  # of the answers below 500 those that ask for another try
REDIRECTS = (301, 302, 303, 307, 308)
_FAULTS = (
    httpcore.NetworkError, httpcore.ProtocolError, httpcore.ConnectionNotAvailable,
    httpcore.UnsupportedProtocol, OSError,
)  # fmt: skip
# Looks a name up: the addresses that it stands for, as text.
Resolve = Callable[[str, int], Sequence[str]]


def resolve(host: str, port: int) -> Sequence[str]:
    """All addresses of a name, as the system knows them; numbers in any spelling, too.

    Raises OSError, UnicodeError.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


class Fetcher:
    """Fetches from the hosts of an allow list. Of one event loop; close it, or use `async with`."""

    def __init__(
        self,
        allowed: AllowList,
        *,
        most_bytes: int = MOST_BYTES,
        seconds: float = SECONDS,
        resolve: Resolve = resolve,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """most_bytes, seconds: of one image. ssl_context: by default the usual authorities."""
        self._allowed = allowed
        self._most_bytes = most_bytes
        self._seconds = seconds
        self._places = asyncio.Semaphore(AT_ONCE)
        self._guard = _Guard(allowed, resolve)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl_context or httpcore.default_ssl_context(),
            max_connections=AT_ONCE,
            max_keepalive_connections=AT_ONCE,
            keepalive_expiry=KEPT_SECONDS,
            network_backend=self._guard,
        )

    async def __aenter__(self) -> Fetcher:
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections that were kept."""
        await self._pool.aclose()
        self._guard.close()

    async def get(self, url: str) -> bytes:
        """What the host answers with, whole. Raises FetchRefused, and nothing else."""
        target = self._allowed.target(url)
        try:
            async with asyncio.timeout(self._seconds), self._places:
                return await self._followed(target)
        except (TimeoutError, httpcore.TimeoutException):
            said = f"{target.host} took too long; there are {self._seconds:g} seconds"
            raise FetchRefused("url_timeout", said, passing=True) from None

    async def _followed(self, target: Target) -> bytes:
        for _ in range(MOST_REDIRECTS + 1):
            try:
                answer = await self._asked(target)
            except _FAULTS as error:
                said = str(error).partition("\n")[0][:200] or type(error).__name__
                told = f"{target.host}: {said}"
                raise FetchRefused("url_failed", told, passing=True) from None
            if isinstance(answer, bytes):
                return answer
            target = self._redirected(target, answer.location)
        raise FetchRefused("url_redirect", f"more than {MOST_REDIRECTS} redirects")

    async def _asked(self, target: Target) -> bytes | _Elsewhere:
        url = httpcore.URL(
            scheme=target.scheme.encode(),
            host=target.host.encode(),
            port=target.port,
            target=target.path,
        )
        headers = [
            ("Host", target.host_header),
            ("Accept", "image/*, */*;q=0.5"),
            ("Accept-Encoding", "identity"),
            ("User-Agent", "mm-assets"),
        ]
        # One address that does not answer leaves time for another.
        limits = {"timeout": {"connect": self._seconds / 3}}
        async with self._pool.stream("GET", url, headers=headers, extensions=limits) as response:
            told = {name.lower(): value for name, value in response.headers}
            if response.status in REDIRECTS:
                return _Elsewhere(told.get(b"location", b""))
            if response.status != 200:
                said = f"{target.host} answers {response.status}"
                passing = response.status >= 500 or response.status in BUSY
                raise FetchRefused("url_failed", said, passing=passing)
            packed = told.get(b"content-encoding", b"identity").strip().lower()
            if packed not in (b"", b"identity"):
                said = f"{target.host} answers with packed bytes, which were not asked for"
                raise FetchRefused("url_failed", said)
            return await self._read(response, target, told.get(b"content-length", b""))

    async def _read(self, response: httpcore.Response, target: Target, length: bytes) -> bytes:
        said = f"{target.host} has more than {self._most_bytes:,} bytes there"
        if length.isdigit() and (len(length) > 18 or int(length) > self._most_bytes):
            raise FetchRefused("url_too_large", said)
        body = bytearray()
        async for chunk in response.aiter_stream():
            body += chunk
            if len(body) > self._most_bytes:
                raise FetchRefused("url_too_large", said)
        return bytes(body)

    def _redirected(self, target: Target, location: bytes) -> Target:
        """Where a redirect leads, judged. Raises FetchRefused."""
        import httpx

        if not location:
            raise FetchRefused("url_redirect", f"{target.host} redirects to nowhere")
        try:
            url = str(httpx.URL(target.url).join(location.decode()))
        except (httpx.InvalidURL, ValueError):
            said = f"{target.host} redirects to what is no URL"
            raise FetchRefused("url_redirect", said) from None
        found = self._allowed.target(url)
        if target.scheme == "https" and found.scheme == "http":
            said = f"{target.host} redirects from https:// to http://"
            raise FetchRefused("url_redirect", said)
        return found


class _Elsewhere:
    """An answer that leads elsewhere."""

    def __init__(self, location: bytes) -> None:
        self.location = location


class _Guard(httpcore.AsyncNetworkBackend):
    """Makes connections, only to addresses that were judged."""

    def __init__(self, allowed: AllowList, resolve: Resolve) -> None:
        self._allowed = allowed
        self._resolve = resolve
        self._inner = httpcore.AnyIOBackend()
        # Threads of its own: a look that hangs (the system gives it no limit) holds up no others.
        self._lookers = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="names")

    def close(self) -> None:
        self._lookers.shutdown(wait=False, cancel_futures=True)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Look the name up and connect. Raises FetchRefused (url_address, url_failed)."""
        fault: Exception = httpcore.ConnectError("it has no address")
        for address in (await self._judged(host, port))[:ADDRESSES_TRIED]:
            try:
                return await self._inner.connect_tcp(
                    str(address), port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                fault = error
        raise fault

    async def _judged(self, host: str, port: int) -> list[Address]:
        """Every address of the name; one that is not allowed refuses them all."""
        loop = asyncio.get_running_loop()
        try:
            names = await loop.run_in_executor(self._lookers, self._resolve, host, port)
            addresses = [ip_address(name) for name in names]
        except (OSError, ValueError) as error:
            said = f"{host} cannot be looked up: {getattr(error, 'strerror', None) or error}"
            raise FetchRefused("url_failed", said, passing=True) from None
        for address in addresses:
            self._allowed.check_address(host, port, address)
        return addresses

    async def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        raise FetchRefused("url_address", "sockets of this machine are no hosts")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
