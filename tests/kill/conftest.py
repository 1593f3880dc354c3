"""A project takes this process over (`Project.enter`): afterwards it is as before. And a database
for Dagster's history.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator

import pytest

from mm_assets.lake import moves
from mm_assets.queues import sqs
from mm_assets.tables.dynamodb import requests
from tests.postgres import Postgres, find_postgres, running_postgres


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
    sqs.client.cache_clear()
    requests._clients.clear()
    moves._conditional.clear()


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
