"""One project, and one server of it, for all tests of protocols."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.protocols.served import Project, make_project, serving


@pytest.fixture(scope="session")
def served_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make_project(tmp_path_factory.mktemp("served") / "project")


@pytest.fixture(scope="session")
def url(served_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of both datasets."""
    folder: Path = tmp_path_factory.mktemp("server") / "here"
    folder.mkdir()
    with serving(folder, "--port", "0", environment=served_project.environment) as address:
        yield address
