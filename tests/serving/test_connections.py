"""Limits on who connects: heads, bodies, connections, and clients that go away."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from mm_assets.serving import connections
from mm_assets.serving.app import make_app
from mm_assets.serving.connections import Server, address_of, listen, make_config
from mm_assets.serving.options import Options
from mm_assets.serving.predictor import Answer, Predictor
from mm_assets.serving.reading import Read
from tests.serving.conftest import World

PATH = "/v1/datasets/pets_like/predictions"


class Gated(Predictor):
    """Answers once its gate is open; `asked` counts the records that came so far."""

    gate: threading.Event
    asked: int

    def answer(self, reads: Sequence[Read]) -> list[Answer]:
        self.asked += len(reads)
        assert self.gate.wait(30)
        return super().answer(reads)


class Running:
    """The application behind real connections, in a thread of this process."""

    def __init__(self, app: Any, url: str, gated: Gated) -> None:
        self.service, self.url, self.gated = app.state.service, url, gated

    @property
    def waiting(self) -> int:
        return self.service.served["pets_like"].lane.waiting

    def connect(self) -> socket.socket:
        host, port = self.url.removeprefix("http://").split(":")
        return socket.create_connection((host, int(port)), timeout=20)

    def send(self, record: Any, head: str = "") -> socket.socket:
        """A whole request, whose answer nobody has read yet."""
        client, body = self.connect(), json.dumps(record).encode()
        said = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n{head}"
        client.sendall(f"{said}\r\n".encode() + body)
        return client


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


@contextmanager
def running(world: World, **options: Any) -> Iterator[Running]:
    chosen = Options(port=0, **options)
    gated = Gated(world.ds._models, world.ds.spec)
    gated.gate, gated.asked = threading.Event(), 0
    gated.gate.set()
    app = make_app(chosen, {world.ds.name: lambda: gated}, world.ds.settings)
    with listen(chosen) as listener:
        server = Server(make_config(app, chosen), listener, going_down=app.state.service.drain)
        thread = threading.Thread(target=server.serve_on_it)
        thread.start()
        made = Running(app, address_of(listener, chosen), gated)
        try:
            until(lambda: app.state.service.readiness()["ready"])
            yield made
        finally:
            gated.gate.set()
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.6)
    monkeypatch.setattr(connections, "BODY_GRACE", 0.6)
    monkeypatch.setattr(connections, "NOTICE_SECONDS", 0.1)


def test_who_goes_away_makes_room_for_others(trained_pets: World) -> None:
    with running(trained_pets, most_waiting=2) as it:
        it.gated.gate.clear()
        record = trained_pets.record()
        first = it.send(record)  # it is being answered
        until(lambda: it.gated.asked == 1)
        waiting = [it.send(record) for _ in range(2)]
        until(lambda: it.waiting == 2)
        refused = httpx.post(it.url + PATH, json=record)
        assert refused.status_code == 503
        assert refused.json()["code"] == "too_many_waiting"
        assert int(refused.headers["retry-after"]) >= 1
        waiting[0].close()
        until(lambda: it.waiting == 1)
        last = it.send(record)
        until(lambda: it.waiting == 2)
        it.gated.gate.set()
        for client in (first, waiting[1], last):
            assert client.recv(12) == b"HTTP/1.1 200"
        until(lambda: it.gated.asked == 3)  # and the record of who went away was not asked about


def test_a_head_that_drips_is_ended(trained_pets: World) -> None:
    with running(trained_pets) as it, it.connect() as client:
        client.sendall(f"POST {PATH} HTTP/1.1\r\nHost:".encode())
        began = time.monotonic()
        with pytest.raises(OSError):  # noqa: PT011  one of several, by the moment
            while time.monotonic() - began < 10:
                client.sendall(b"x")
                time.sleep(0.1)
        assert time.monotonic() - began < 3


def test_who_says_nothing_is_ended(trained_pets: World) -> None:
    with running(trained_pets) as it, it.connect() as client:
        began = time.monotonic()
        assert client.recv(1) == b""
        assert time.monotonic() - began < 3


@pytest.mark.parametrize("part", [b"X-Long: " + b"x" * 200_000, b"X: y\r\n" * 30_000])
def test_a_head_without_end_is_refused(trained_pets: World, part: bytes) -> None:
    with running(trained_pets) as it, it.connect() as client:
        client.sendall(b"GET /live HTTP/1.1\r\nHost: 127.0.0.1\r\n" + part)
        try:
            answer = client.recv(100)
        except ConnectionResetError:
            answer = b""  # it did not read what was beyond the limit
        assert answer == b"" or answer.startswith(b"HTTP/1.1 431")
        assert httpx.get(f"{it.url}/live").status_code == 200


def test_the_end_of_a_large_body_is_not_taken_for_a_head(trained_pets: World) -> None:
    record = json.dumps(trained_pets.record()).encode()
    body = record + b" " * (3 * connections.HEAD_BYTES)
    head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
    with running(trained_pets) as it, it.connect() as client:
        answers = client.makefile("rb")
        for _ in range(20):  # of the same connection; how it is read is up to the moment
            client.sendall(head.encode())
            time.sleep(0.02)
            client.sendall(body)
            assert answers.readline() == b"HTTP/1.1 200 OK\r\n"
            length = 0
            while (line := answers.readline()) != b"\r\n":
                name, _, value = line.partition(b": ")
                length = int(value) if name.lower() == b"content-length" else length
            answers.read(length)


def test_a_body_that_drips_has_a_time_for_all_of_it(trained_pets: World) -> None:
    with running(trained_pets, seconds=0.6) as it, it.connect() as client:
        head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n"
        client.sendall(head.encode())
        began = time.monotonic()
        client.settimeout(0.1)
        told = b""
        while not told and time.monotonic() - began < 10:
            client.sendall(b" ")
            try:
                told = client.recv(10_000)
            except TimeoutError:
                continue
        assert told.startswith(b"HTTP/1.1 408")
        assert b'"code": "body_too_slow"' in told
        assert time.monotonic() - began < 3


def test_a_body_that_is_said_to_be_too_long_is_not_waited_for(trained_pets: World) -> None:
    with running(trained_pets, most_bytes=1_000) as it, it.connect() as client:
        head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1001\r\n"
        client.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        told = client.makefile("rb").read()
        assert told.startswith(b"HTTP/1.1 413")
        assert b'"code": "body_too_large"' in told
        assert b"100 Continue" not in told


def test_a_body_of_unknown_length_stops_at_the_limit(trained_pets: World) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 1_000

    with running(trained_pets, most_bytes=10_000) as it:
        answer = httpx.post(it.url + PATH, content=parts())
        assert answer.status_code == 413
        assert httpx.post(it.url + PATH, json=trained_pets.record()).status_code == 200


def test_more_connections_than_may_be_are_told_when_to_come_back(
    trained_pets: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mm_assets.serving.watched.MOST_CONNECTIONS", 3)
    monkeypatch.setattr(connections, "HEAD_SECONDS", 10)
    with running(trained_pets) as it:
        others = [it.connect() for _ in range(3)]
        until(lambda: httpx.get(f"{it.url}/live").status_code == 503)
        refused = httpx.get(f"{it.url}/live")
        assert refused.json()["code"] == "too_many_connections"
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["connection"] == "close"
        for other in others:
            other.close()
        until(lambda: httpx.get(f"{it.url}/live").status_code == 200)


def test_loading_goes_on_when_who_asked_first_has_gone(trained_pets: World) -> None:
    """Else a model that takes longer than a client's patience would never be there."""
    from mm_assets.serving.service import Service

    gate, loads = threading.Event(), []

    def slowly() -> Predictor:
        loads.append(1)
        assert gate.wait(20)
        return Predictor(trained_pets.ds._models, trained_pets.ds.spec)

    async def story() -> None:
        service = Service(Options(preload=False), {"pets_like": slowly})
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(service.use("pets_like"), 0.1)
        second = asyncio.create_task(service.use("pets_like"))
        await asyncio.sleep(0.1)
        gate.set()
        predictor, _ = await second
        assert predictor.is_ready
        await service.close()

    asyncio.run(story())
    assert loads == [1]
