"""A project with two trained datasets, `pets_like` and `prices`, and `mm serve` as a process."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pandas as pd
import pytest

import mm_assets as mm

TREES = "{engine: gradient_boosting, hyperparameters: {n_estimators: 30, learning_rate: 0.3}}"
LINEAR = "{engine: sklearn, hyperparameters: {steps: [sklearn.linear_model.LogisticRegression]}}"
MM = "from mm_assets.cli.main import main; main()"
UNTIL_READY = 120.0  # seconds, for a machine that does other things


class World(NamedTuple):
    """known: records with their label; new: without. images: of both, by ID; None without one."""

    root: Path
    ds: mm.Dataset
    known: pd.DataFrame
    new: pd.DataFrame
    images: dict[str, Any]

    def record(self, place: int = 0) -> dict[str, Any]:
        """A record without label, as a client sends it."""
        row = self.new.iloc[place]
        told = {self.ds.spec.id_column: self.new.index[place]}
        for name, value in row.items():
            told[str(name)] = float(value) if isinstance(value, float) else value
        return told


@pytest.fixture(scope="session")
def serving_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the project."""
    return tmp_path_factory.mktemp("serving-project")


@pytest.fixture(scope="session")
def trained_pets(serving_root: Path) -> World:
    """A class, from a table and images: boosted trees with images, a linear model without."""
    chance = np.random.default_rng(5)
    count = 240
    light = chance.integers(0, 2, count)
    frame = pd.DataFrame(
        {
            "age": np.where(light, chance.uniform(0, 6, count), chance.uniform(4, 12, count)),
            "colour": chance.choice(["red", "blue"], count),
            "note": chance.choice(["loud", 'quiet, "shy"\nand small'], count),
            "adopted": np.where(light, "yes", "no"),
        },
        index=pd.Index([f"P{i:03d}" for i in range(count)], name="pet"),
    )
    shades = (40 + 160 * light + chance.integers(-20, 20, count)).astype("uint8")
    there = chance.random(count) > 0.3
    images = {
        name: np.full((24, 30, 3), shade) if has else None
        for name, shade, has in zip(frame.index, shades, there, strict=True)
    }
    known, new = frame.iloc[:200], frame.iloc[200:].drop(columns="adopted")
    with _project(serving_root):
        ds = mm.draft(known, images, label="adopted", name="pets_like", say=lambda _: None)
        text = re.sub(r"(model_with_image): .*", rf"\1: {TREES}", ds.file.read_text())
        text = re.sub(r"(model_without_image): .*", rf"\1: {LINEAR}", text)
        ds.file.write_text(f"{text}\n  image_features: [brightness]\n")
        _learn(ds := mm.open("pets_like"), known, {name: images[name] for name in known.index})
        return World(serving_root, ds, known, new, images)


@pytest.fixture(scope="session")
def trained_prices(serving_root: Path) -> World:
    """A number with its interval, from a table alone."""
    chance = np.random.default_rng(6)
    count = 240
    frame = pd.DataFrame(
        {
            "area": chance.uniform(30, 200, count),
            "rooms": chance.integers(1, 7, count).astype(float),
            "district": chance.choice(["north", "south", "west"], count),
        },
        index=pd.Index([f"H{i:03d}" for i in range(count)], name="house"),
    )
    south = np.where(frame["district"] == "south", 1.3, 1.0)
    frame["price"] = (frame["area"] * 2_000 * south + chance.normal(0, 9_000, count)).round()
    known, new = frame.iloc[:200], frame.iloc[200:].drop(columns="price")
    with _project(serving_root):
        ds = mm.draft(known, label="price", name="prices", say=lambda _: None)
        text = re.sub(r"(model_without_image): .*", rf"\1: {TREES}", ds.file.read_text())
        ds.file.write_text(text)
        _learn(ds := mm.open("prices"), known, None)
        return World(serving_root, ds, known, new, {})


@pytest.fixture
def pets_like(trained_pets: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The environment points at the project."""
    _point(monkeypatch, trained_pets.root)
    return trained_pets


@pytest.fixture
def prices(trained_prices: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The environment points at the project."""
    _point(monkeypatch, trained_prices.root)
    return trained_prices


@pytest.fixture
def own_copy(
    trained_pets: World, trained_prices: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A copy of the project for a test that changes it; the environment points there."""
    return _copied(trained_pets.root, tmp_path / "copy", monkeypatch)


@pytest.fixture(scope="session")
def waiting_root(
    trained_pets: World, trained_prices: World, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a project of whose new records twenty wait for review."""
    with pytest.MonkeyPatch.context() as patch:
        root = _copied(trained_pets.root, tmp_path_factory.mktemp("waiting") / "project", patch)
        ds = mm.open("pets_like")
        text = re.sub(r"\n  review: .*", "\n  review: {threshold: 1.0}", ds.file.read_text())
        ds.file.write_text(text)
        ds = mm.open("pets_like")
        new = trained_pets.new.head(20)
        ds.upload(new, {name: trained_pets.images[name] for name in new.index}, quiet=True)
        ds.sync(quiet=True)
    return root


@pytest.fixture
def to_review(waiting_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> mm.Dataset:
    """A copy of a project of which twenty records wait; the environment points there."""
    _copied(waiting_root, tmp_path / "copy", monkeypatch)
    return mm.open("pets_like")


class Server:
    """`mm serve` as a process of its own. `url` is where it listens."""

    def __init__(self, process: subprocess.Popen[str], url: str, log: Path) -> None:
        self.process, self.url, self._log = process, url, log

    @property
    def log(self) -> str:
        """What it has written to stderr."""
        return self._log.read_text()

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        return httpx.request(method, self.url + path, timeout=60, **more)

    def predict(self, dataset: str, document: Any, **more: Any) -> httpx.Response:
        return self.ask("POST", f"/v1/datasets/{dataset}/predictions", json=document, **more)

    def until(self, is_so: Callable[[], bool], seconds: float = UNTIL_READY) -> None:
        """Wait until it is so; a server that ended meanwhile fails the test with its log."""
        end = time.monotonic() + seconds
        while not is_so():
            assert self.process.poll() is None, f"it ended with {self.process.poll()}:\n{self.log}"
            assert time.monotonic() < end, f"not within {seconds:g} s:\n{self.log}"
            time.sleep(0.05)

    def is_ready(self) -> bool:
        try:
            return self.ask("GET", "/ready").status_code == 200
        except httpx.TransportError:
            return False

    def stop(self, how: signal.Signals = signal.SIGTERM, seconds: float = 60.0) -> int:
        """Its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(seconds)


@pytest.fixture
def serving(
    trained_pets: World, trained_prices: World, tmp_path: Path
) -> Iterator[Callable[..., Server]]:
    """Starts `mm serve` with arguments, on a free port; by default waits until it is ready.

    root: the project, if not the shared one. more: of the environment. It ends with the test.
    """
    started: list[Server] = []

    def start(
        *arguments: str, root: Path | None = None, until_ready: bool = True, **more: str
    ) -> Server:
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("MM_", "OTEL_", "AWS_")) and name != "DAGSTER_HOME"
        }
        environment |= {"MM_ROOT": str(root or trained_pets.root), "PYTHONUNBUFFERED": "1", **more}
        port = _free_port()
        log = tmp_path / f"serve-{len(started)}.log"
        command = [sys.executable, "-c", MM, "serve", "--port", str(port)]
        with log.open("w") as written:
            process = subprocess.Popen(
                [*command, *arguments], env=environment, stderr=written, stdout=written, text=True,
                cwd=root or trained_pets.root,
            )  # fmt: skip
        server = Server(process, f"http://127.0.0.1:{port}", log)
        started.append(server)
        if until_ready:
            server.until(server.is_ready)
        return server

    yield start
    for server in started:
        if server.process.poll() is None:
            server.process.terminate()
            try:
                server.process.wait(30)
            except subprocess.TimeoutExpired:
                server.process.kill()
                server.process.wait()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _point(patch: pytest.MonkeyPatch, root: Path) -> None:
    for name in ("MM_LAKE", "MM_TABLE", "MM_DEFS", "MM_EVENTS", "MM_DATA", "DAGSTER_HOME"):
        patch.delenv(name, raising=False)
    patch.setenv("MM_ROOT", str(root))


def _copied(root: Path, to: Path, patch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(root, to)
    _point(patch, to)
    return to


@contextmanager
def _project(root: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        _point(patch, root)
        yield


def _learn(ds: mm.Dataset, known: pd.DataFrame, images: dict[str, Any] | None) -> None:
    ds.upload(known, images, quiet=True)
    ds.sync(quiet=True)
    ds.train(quiet=True)
