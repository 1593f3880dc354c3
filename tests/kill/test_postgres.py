"""Dagster's history in PostgreSQL, as `mm doctor` sees it. The flow on it: test_on_servers.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mm_assets.api.doctor import examine
from mm_assets.orchestration.home import prepare_home
from tests.kill.project import Project
from tests.postgres import Postgres


@pytest.fixture
def project(tmp_path: Path, postgres: Postgres) -> Project:
    """A project whose dagster.yaml we wrote as the image does, from the environment."""
    project = Project(tmp_path / "project", more=postgres.environment)
    prepare_home(project.enter(), renew=True)
    return project


def test_doctor_says_whether_the_database_answers(project: Project, postgres: Postgres) -> None:
    def found() -> tuple[bool, str]:
        fact = next(fact for fact in examine() if fact.what == "Dagster home")
        return fact.good, fact.found

    assert found() == (
        True, f"{project.root / 'dagster'}; Dagster's history is in PostgreSQL, which answers",
    )  # fmt: skip
    os.environ["DAGSTER_PG_PASSWORD"] = "wrong"
    good, words = found()
    assert not good
    assert "home_unusable" in words
    assert "password authentication failed" in words
