"""DuckDB without a file: one database of the process, and a connection of its own for each use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb


@contextmanager
def in_memory(threads: int = 0) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that sees only what it registers; anything that it creates has to be TEMP.

    threads: at most so many, 0 for one a processor. To make a database takes DuckDB 20 ms, a
    connection to one that is there less than one.
    """
    # A fork has none of the threads of its parent's database.
    with _database(os.getpid(), threads).cursor() as connection:
        yield connection


@lru_cache(maxsize=4)
def _database(_process: int, threads: int) -> duckdb.DuckDBPyConnection:
    import duckdb

    return duckdb.connect(":memory:", config={"threads": threads} if threads else {})
