"""The whole flow while a share of all requests to S3, SQS and DynamoDB goes wrong: the same end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.aws_server import Servers, running_servers
from tests.kill.project import Project, differences, make_waves, run_quietly
from tests.storm import FAULTS, storm_before

SEEDS = range(1, 11) if os.environ.get("MM_NIGHTLY") == "1" else [1]


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with running_servers() as running:
        yield running


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The end without a storm, on a folder and DuckDB."""
    before = dict(os.environ)
    end = run_quietly(Project(tmp_path_factory.mktemp("calm") / "project"), make_waves(0))
    os.environ.clear()
    os.environ.update(before)
    return end


@pytest.mark.parametrize("seed", SEEDS)
def test_the_flow_ends_in_a_storm_as_it_ends_without(
    calm: dict[str, Any], servers: Servers, tmp_path: Path, seed: int
) -> None:
    project = Project(tmp_path / "project", servers)
    with storm_before(project, seed, share=0.1) as storm:
        end = run_quietly(project, make_waves(0))
    assert not any(differences(calm, end).values()), differences(calm, end)
    assert {fault for _, _, fault in storm.met} == {*FAULTS}
