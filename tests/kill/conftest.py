"""A project takes this process over (`Project.enter`): afterwards it is as before. And a database
for Dagster's history.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator

import pytest

from tests.kill.project import process_as_before
from tests.postgres import Postgres, find_postgres, running_postgres


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    with process_as_before():
        yield


@pytest.fixture(scope="session")
def postgres(say_at_the_end: Callable[[str], None]) -> Iterator[Postgres]:
    programs, why_not = find_postgres()
    if importlib.util.find_spec("dagster_postgres") is None:
        programs, why_not = None, 'dagster-postgres is missing: pip install "mm-assets[postgres]"'
    if programs is None:
        say_at_the_end(f"Dagster on PostgreSQL was NOT tested: {why_not}")
        pytest.skip(why_not)
    with running_postgres(programs) as server:
        yield server
