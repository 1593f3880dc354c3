"""Dagster's history in PostgreSQL: the whole flow through the daemon, with both of them killed."""

from __future__ import annotations

import importlib.util
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from mm_assets.api.doctor import examine
from mm_assets.orchestration.home import prepare_home
from tests.kill.harness import DAGSTER, Project, Victim, drop, is_quiet, make_waves
from tests.postgres import Postgres, find_postgres, running_postgres

WAIT = 450  # seconds; a machine that does nothing else takes a tenth


@pytest.fixture(scope="module")
def postgres(say_at_the_end: Callable[[str], None]) -> Iterator[Postgres]:
    programs, why_not = find_postgres()
    if importlib.util.find_spec("dagster_postgres") is None:
        programs, why_not = None, 'dagster-postgres is missing: pip install "mm-assets[postgres]"'
    if programs is None:
        say_at_the_end(f"Dagster on PostgreSQL was NOT tested: {why_not}")
        pytest.skip(why_not)
    with running_postgres(programs) as server:
        yield server


@pytest.fixture
def project(tmp_path: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose dagster.yaml we wrote as the image does, from the environment."""
    for name in ("MM_ROOT", "MM_DATA", "MM_LAKE", "MM_TABLE", "DAGSTER_HOME", "PYTHONPATH"):
        monkeypatch.setenv(name, os.environ.get(name, ""))  # put back afterwards
    for name, value in postgres.environment.items():
        monkeypatch.setenv(name, value)
    project = Project(tmp_path / "project")
    (project.root / "dagster.yaml").write_text(DAGSTER)
    prepare_home(project.enter(), renew=True)
    return project


def wait_until(condition: Callable[[], bool], what: str, pause: float = 0.3) -> None:
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(pause)


def restart(postgres: Postgres) -> None:
    postgres.crash()
    time.sleep(1)
    postgres.start()


def test_the_flow_goes_through_a_killed_daemon_and_a_crash_of_the_database(
    project: Project, postgres: Postgres
) -> None:
    labelled, second, _ = make_waves(0)
    uploads = [*labelled, second[2]]  # 60 records to learn from, and 10 others, 5 with an image
    victim = Victim(project, random.Random(0), next_kinds=["everything"])
    drop(project.enter().lake_folder, 0, uploads)
    victim.start()
    try:
        for strike in (lambda: restart(postgres), victim.kill_one):
            wait_until(lambda: bool(victim.processes()["worker"]), "no run began")
            time.sleep(1)
            strike()
        wait_until(lambda: is_quiet(project, 1, len(uploads)), "it did not get quiet", 2)
    finally:
        victim.end()
    assert victim.kills["everything"] == 1
    end = project.end_state()
    assert not end["pending"]
    assert not end["set aside"]
    assert end["newest champion everywhere"]
    assert set(end["records"].values()) == {1}
    assert len(end["rows"]) == 10
    assert sum(row["modality"] == "with_image" for row in end["rows"].values()) == 5
    home = project.root / "dagster"
    assert postgres.password not in (home / "dagster.yaml").read_text()
    assert not list(home.rglob("*.db"))
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert instance.get_runs_count() >= 3


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
