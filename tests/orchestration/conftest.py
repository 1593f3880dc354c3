"""A real Dagster instance for all tests of the triggers; each test has a dataset of its own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import dagster as dg
import pytest

from mm_assets.lake.lake import Lake
from mm_assets.orchestration.history import held_open
from tests.make import dataset
from tests.orchestration.daemon import Daemon

_numbers = itertools.count()


@pytest.fixture(scope="session")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    home = tmp_path_factory.mktemp("triggers")
    with dg.instance_for_test(temp_dir=str(home)) as made, held_open(made):
        yield made


@pytest.fixture
def daemon_of(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Daemon]:
    def make(lake: Lake, **changes: object) -> Daemon:
        spec = dataset(**{"dataset": f"d{next(_numbers)}", "retry_pause_seconds": 0, **changes})
        return Daemon(instance, lake, spec, monkeypatch)

    return make


@pytest.fixture
def daemon(daemon_of: Callable[..., Daemon], lake: Lake) -> Daemon:
    """Over a folder and over S3."""
    return daemon_of(lake)


@pytest.fixture
def folder_daemon(daemon_of: Callable[..., Daemon], folder_settings) -> Daemon:
    """Where it makes no difference what the lake is."""
    return daemon_of(Lake(folder_settings))
