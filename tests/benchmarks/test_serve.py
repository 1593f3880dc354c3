"""The client that measures servers, and the page that is made of what it measured."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from benchmarks.quality.page import END, PAGE
from benchmarks.serve.load import Measured, closed, steady
from benchmarks.serve.page import BEGIN, section, stored

SECONDS = 0.02  # what an answer takes
HEADS = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "refused": b"HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
}


def measured(answer: bytes, ask: Callable[[int], Coroutine[Any, Any, Measured]]) -> Measured:
    """What is measured of a server that answers everything so."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readline():
            while (line := await reader.readline()) != b"\r\n":
                head += line
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            assert await reader.readexactly(length) == b"body"
            await asyncio.sleep(SECONDS)
            writer.write(answer)
            if b"close" in answer:
                writer.close()
                return

    async def story() -> Measured:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            return await ask(server.sockets[0].getsockname()[1])

    return asyncio.run(story())


@pytest.mark.parametrize("kind", HEADS)
def test_closed_loops_count_answers_and_what_was_refused(kind: str) -> None:
    bodies = itertools.repeat(b"body")
    found = measured(HEADS[kind], lambda port: closed(port, "/", bodies, clients=4, seconds=0.5))
    assert sum(found.statuses.values()) > 10
    assert found.refused == (0 if kind != "refused" else sum(found.statuses.values()))
    if kind != "refused":
        assert found.p50 >= SECONDS
        assert found.rate <= 4 / SECONDS


def test_a_steady_stream_asks_at_its_rate_whatever_the_answers_take() -> None:
    bodies = itertools.repeat(b"body")
    found = measured(HEADS["length"], lambda port: steady(port, "/", bodies, rate=100, seconds=1))
    assert len(found.seconds) == 100
    assert SECONDS <= found.p50 <= found.p99


def test_the_page_is_made_of_what_was_measured() -> None:
    made = BEGIN + PAGE.read_text().partition(BEGIN)[2].partition(END)[0] + END + "\n"
    assert made == section(stored())
