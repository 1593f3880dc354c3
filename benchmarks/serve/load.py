"""The client: closed loops (each asks again once it is answered) and a steady stream of requests.

Plain sockets and no HTTP library, because on two cores the client's work is taken from the server.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median

import numpy as np

JSON = "application/json"


@dataclass
class Measured:
    """seconds: of each answered request. statuses: how many of each. lasted: seconds in all."""

    seconds: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    lasted: float = 0.0

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.seconds) / self.lasted if self.lasted else 0.0

    @property
    def p50(self) -> float:
        return median(self.seconds) if self.seconds else float("nan")

    @property
    def p99(self) -> float:
        return float(np.quantile(self.seconds, 0.99)) if self.seconds else float("nan")

    @property
    def refused(self) -> int:
        return sum(count for status, count in self.statuses.items() if status != 200)

    def note(self, status: int, seconds: float) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status == 200:
            self.seconds.append(seconds)


class Client:
    """One connection that is kept."""

    def __init__(self, port: int, path: str) -> None:
        self._port, self._path = port, path
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, body: bytes) -> int:
        """The status of the answer, which is read to its end."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        head = (
            f"POST {self._path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n"
            f"Content-Type: {JSON}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        told = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        if "transfer-encoding: chunked" in told:
            await _chunks(reader)
        else:
            length = told.partition("content-length:")[2].partition("\r\n")[0]
            await reader.readexactly(int(length or 0))
        if "connection: close" in told:
            self.close()
        return int(told.split(" ", 2)[1])

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _chunks(reader: asyncio.StreamReader) -> None:
    while size := int(await reader.readuntil(b"\r\n"), 16):
        await reader.readexactly(size + 2)
    await reader.readuntil(b"\r\n")


async def closed(
    port: int, path: str, bodies: Iterator[bytes], *, clients: int, seconds: float
) -> Measured:
    """So many clients, each with one request on its way."""
    found = Measured()
    end = time.perf_counter() + seconds

    async def one() -> None:
        client = Client(port, path)
        while time.perf_counter() < end:
            begin = time.perf_counter()
            found.note(await client.ask(next(bodies)), time.perf_counter() - begin)
        client.close()

    begin = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(clients)))
    found.lasted = time.perf_counter() - begin
    return found


async def steady(
    port: int, path: str, bodies: Iterator[bytes], *, rate: float, seconds: float
) -> Measured:
    """So many requests a second, at random moments, whether or not earlier ones are answered.

    A request's time counts from the moment at which it was due.
    """
    found = Measured()
    idle: list[Client] = []
    tasks: list[asyncio.Task[None]] = []

    async def one(due: float) -> None:
        client = idle.pop() if idle else Client(port, path)
        found.note(await client.ask(next(bodies)), time.perf_counter() - due)
        idle.append(client)

    gaps = np.random.default_rng(0).exponential(1 / rate, max(1, int(rate * seconds)))
    begin = time.perf_counter()
    for due in begin + np.cumsum(gaps):
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(one(float(due))))
    await asyncio.gather(*tasks)
    found.lasted = time.perf_counter() - begin
    for client in idle:
        client.close()
    return found
