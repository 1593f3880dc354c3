"""Two small projects with champions, and `mm serve` as a process on a free port."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, Queue
from typing import Any, NamedTuple

import httpx
import numpy as np
import pandas as pd
import pytest

import mm_assets as mm
from tests.api.conftest import pets

ENGINE = "{engine: gradient_boosting}"
MAIN = "from mm_assets.cli.main import main; main()"
UNSET = (
    "MM_LAKE", "MM_TABLE", "MM_DEFS", "MM_EVENTS", "MM_DATA", "MM_DATASETS", "DAGSTER_HOME",
)  # fmt: skip


class World(NamedTuple):
    """A project in a folder. new: records without their label; images: of them, by ID."""

    root: Path
    ds: mm.Dataset
    new: pd.DataFrame
    images: dict[str, bytes | None]


def png(array: Any) -> bytes:
    import io

    from PIL import Image

    written = io.BytesIO()
    Image.fromarray(array).save(written, "PNG")
    return written.getvalue()


def environment(root: Path) -> dict[str, str]:
    """The environment of a process in this project."""
    kept = {name: value for name, value in os.environ.items() if name not in UNSET}
    return {**kept, "MM_ROOT": str(root)}


def _trained(
    root: Path, known: pd.DataFrame, images: dict[str, Any] | None, name: str, label: str
) -> mm.Dataset:
    with pytest.MonkeyPatch.context() as patch:
        for variable in UNSET:
            patch.delenv(variable, raising=False)
        patch.setenv("MM_ROOT", str(root))
        ds = mm.draft(known, images, label=label, name=name, say=lambda _: None)
        assert ds.file is not None
        text = re.sub(r"(model_with\w*_image): .*", rf"\1: {ENGINE}", ds.file.read_text())
        ds.file.write_text(re.sub(r"training_minutes.*", "", text))
        ds = mm.open(name)
        ds.upload(known, images, quiet=True)
        ds.sync(quiet=True)
        ds.train(quiet=True)
    return ds


@pytest.fixture(scope="session")
def pets_like(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Classes, from a table with images; `ds.predictor()` has both champions."""
    root = tmp_path_factory.mktemp("serving-pets")
    frame, arrays = pets(260)
    known, new = frame.iloc[:200], frame.iloc[200:].drop(columns="adopted")
    ds = _trained(root, known, {name: arrays[name] for name in known.index}, "pets", "adopted")
    images = {name: None if arrays[name] is None else png(arrays[name]) for name in new.index}
    return World(root, ds, new, images)


@pytest.fixture(scope="session")
def prices(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Numbers, from a table alone."""
    root = tmp_path_factory.mktemp("serving-prices")
    chance = np.random.default_rng(1)
    size = chance.uniform(20, 200, 400).round(1)
    town = chance.choice(["A", "B", "C"], 400)
    price = size * 1000 + np.where(town == "A", 50_000, 0) + chance.normal(0, 5000, 400)
    frame = pd.DataFrame(
        {"size": size, "town": town, "price": price.round()},
        index=pd.Index([f"H{n:03d}" for n in range(400)], name="house"),
    )
    ds = _trained(root, frame.iloc[:350], None, "prices", "price")
    return World(root, ds, frame.iloc[350:].drop(columns="price"), {})


def records_of(world: World, count: int = 1_000) -> list[dict[str, Any]]:
    """The world's new records as a client would send them."""
    rows = world.new.iloc[:count].reset_index().to_dict("records")
    return [{str(k): v.item() if hasattr(v, "item") else v for k, v in r.items()} for r in rows]


class Server(NamedTuple):
    """A running `mm serve`. lines: what it has written so far."""

    url: str
    process: subprocess.Popen[str]
    lines: list[str]

    def wait_ready(self, seconds: float = 60) -> None:
        """Until every dataset can answer. Raises AssertionError."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if httpx.get(f"{self.url}/ready", trust_env=False).status_code == 200:
                return
            time.sleep(0.1)
        raise AssertionError(httpx.get(f"{self.url}/ready", trust_env=False).text)

    def stop(self, how: signal.Signals = signal.SIGTERM, seconds: float = 45) -> int:
        """End it by a signal; returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(seconds)


def start(root: Path, *arguments: str, ready: bool = True, **more: str) -> Server:
    """Start `mm serve` in a project, on a free port."""
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-W", "ignore", "-c", MAIN, "serve", "--port", "0", *arguments],
        cwd=root,
        env={**environment(root), "PYTHONUNBUFFERED": "1", **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines: list[str] = []
    told: Queue[str] = Queue()

    def listen() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            told.put(line)

    threading.Thread(target=listen, daemon=True).start()
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            line = told.get(timeout=0.5)
        except Empty:
            if process.poll() is not None:
                break
            continue
        if found := re.search(r"(http://[\w.\[\]:]+:\d+) is up", line):
            server = Server(found[1], process, lines)
            if ready:
                server.wait_ready()
            return server
    process.kill()
    process.wait()
    raise AssertionError("".join(lines))


@pytest.fixture
def serving() -> Iterator[Callable[..., Server]]:
    """`serving(world, "--workers", "2")` starts a server, which ends with the test."""
    started: list[Server] = []

    def begin(world: World, *arguments: str, **more: Any) -> Server:
        started.append(start(world.root, *arguments, **more))
        return started[-1]

    yield begin
    for server in started:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()
