"""`mm serve` as processes: they start, are kept running, and end without cutting an answer."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.serving.conftest import Server, World

ONE = ("-d", "prices")  # a table alone: each process starts in half the time
Serving = Callable[..., Server]

ENDS_AT_ONCE = """
import os, sys
if any("spawn_main" in one for one in sys.orig_argv):
    os._exit(9)
"""


class Load:
    """Clients that each ask again once they are answered: a bounded closed loop.

    answered: statuses. cut: of requests that were taken, what kept their answer from coming.
    """

    def __init__(self, server: Server, record: dict[str, Any], clients: int = 6) -> None:
        self.url, self.record = f"{server.url}/v1/datasets/prices/predictions", record
        self.answered: list[int] = []
        self.cut: list[str] = []
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(clients)]

    def __enter__(self) -> Load:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        for thread in self.threads:
            thread.join(30)

    def _ask(self, number: int) -> None:
        """Half of them keep their connection, half make a new one each time."""
        keeps = {} if number % 2 else {"connection": "close"}
        with httpx.Client(timeout=30) as client:
            while not self.ended.is_set():
                try:
                    answer = client.post(self.url, json=self.record, headers=keeps)
                    assert answer.status_code != 200 or len(answer.json()["predictions"]) == 1
                    self.answered.append(answer.status_code)
                except httpx.ConnectError:  # it takes nothing new; nothing was asked
                    return
                except Exception as error:
                    self.cut.append(f"{type(error).__name__}: {error}")
                    return


@pytest.mark.parametrize(
    ("workers", "how"), [(1, signal.SIGTERM), (1, signal.SIGINT), (2, signal.SIGTERM)]
)
def test_no_answer_is_cut_when_it_is_told_to_end(
    serving: Serving, trained_prices: World, workers: int, how: signal.Signals
) -> None:
    server = serving(*ONE, "--workers", str(workers))
    with Load(server, trained_prices.record()) as load:
        server.until(lambda: len(load.answered) > 30)
        before = time.monotonic()
        assert server.stop(how) == 0
        took = time.monotonic() - before
        server.process.wait()
    assert load.cut == []
    assert set(load.answered) == {200}
    assert all(not thread.is_alive() for thread in load.threads)
    assert took < 25


def test_while_it_ends_it_says_so_and_still_answers(
    serving: Serving, trained_prices: World
) -> None:
    server = serving(*ONE)
    with httpx.Client(base_url=server.url) as kept:
        assert kept.get("/ready").status_code == 200
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        told = kept.get("/ready")
        assert told.status_code == 503
        assert told.json()["draining"]
        assert told.headers["connection"] == "close"
        assert server.predict("prices", trained_prices.record()).status_code == 200
    assert server.stop() == 0


def test_a_body_that_is_under_way_is_answered_too(serving: Serving, trained_prices: World) -> None:
    server = serving(*ONE)
    body = json.dumps(trained_prices.record()).encode()
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as client:
        head = f"POST /v1/datasets/prices/predictions HTTP/1.1\r\nHost: {host}\r\n"
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:10])
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(2.5)  # long after it has stopped taking new connections
        client.sendall(body[10:])
        answer = client.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in answer
    assert server.stop() == 0


def test_a_worker_that_dies_is_started_again(serving: Serving, trained_prices: World) -> None:
    server = serving(*ONE, "--workers", "2")
    first = _workers(server)
    assert len(first) == 2
    os.kill(first[0], signal.SIGKILL)
    server.until(lambda: len(_workers(server)) == 2 and first[0] not in _workers(server))
    assert f"worker {first[0]} ended by itself (SIGKILL)" in server.log
    server.until(server.is_ready)
    assert server.predict("prices", trained_prices.record()).status_code == 200
    assert server.stop() == 0


def test_workers_end_with_their_parent(serving: Serving) -> None:
    server = serving(*ONE, "--workers", "2")
    workers = _workers(server)
    server.process.kill()
    server.process.wait()
    end = time.monotonic() + 30
    while any(map(psutil.pid_exists, workers)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(map(psutil.pid_exists, workers))


def test_workers_that_cannot_start_end_the_service_in_words(
    serving: Serving, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(ENDS_AT_ONCE)
    places = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    server = serving(*ONE, "--workers", "2", until_ready=False, PYTHONPATH=places)
    assert server.process.wait(180) == 1
    assert server.log.count("ended by itself (status 9)") == 8
    assert "another is started in 4 seconds" in server.log
    assert "workers_ended" in server.log


def test_figures_are_those_of_all_workers(serving: Serving, trained_prices: World) -> None:
    server = serving(*ONE, "--workers", "2")
    asked = 40
    for place in range(asked):  # each over a connection of its own, so that both get some
        assert server.predict("prices", trained_prices.record(place % 10)).status_code == 200
    told = 'mm_serve_requests_total{protocol="native",status="200"} '
    for _ in range(4):
        (line,) = (one for one in server.ask("GET", "/metrics").text.splitlines()
                   if one.startswith(told))  # fmt: skip
        assert float(line.removeprefix(told)) == asked
    folder = psutil.Process(_workers(server)[0]).environ()["PROMETHEUS_MULTIPROC_DIR"]
    assert len({name.split("_")[-1] for name in os.listdir(folder) if "counter" in name}) == 2
    assert server.stop() == 0
    assert not Path(folder).exists()


def test_each_line_of_the_log_is_json_from_start_to_end(
    serving: Serving, trained_prices: World
) -> None:
    server = serving(*ONE, "--log-format", "json")
    server.predict("prices", trained_prices.record())
    assert server.stop() == 0
    lines = [json.loads(line) for line in server.log.splitlines()]
    messages = [line["message"] for line in lines]
    assert any(f"{server.url} is up" in message for message in messages)
    assert "Shutting down" in messages
    assert [line["status"] for line in lines if line["message"] == "request"] == [200]


def test_a_port_that_is_taken_is_said(serving: Serving, trained_prices: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = serving(*ONE, "--port", str(port), until_ready=False)
        assert server.process.wait(60) == 1
    assert "port_taken" in server.log


def _workers(server: Server) -> list[int]:
    children = psutil.Process(server.process.pid).children()
    found = []
    for child in children:
        with suppress(psutil.NoSuchProcess):  # or a zombie
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child.pid)
    return sorted(found)
