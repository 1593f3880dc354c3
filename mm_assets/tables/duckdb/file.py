"""A table's file as this process opens it, and what DuckDB says of it in words.

All files that a process opens are attached to one database in its memory: to make a database takes
DuckDB longer than most of what is asked of it.
"""

from __future__ import annotations

import itertools
import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from mm_assets.contract.errors import StoreError
from mm_assets.contract.sql import literal
from mm_assets.tables.duckdb.sql import SCHEMA

if TYPE_CHECKING:
    import duckdb

# Threads of one process share the file's instance but must not interleave on it.
process_lock = threading.RLock()
_numbers = itertools.count()


@dataclass
class _File:
    """A table's file that this process has open. database: what it is part of, as `name`, or is
    itself, where `name` is None; users: how many connections there are to it."""

    database: duckdb.DuckDBPyConnection
    name: str | None
    users: int = 0


_open: dict[Path, _File] = {}


def connect(path: Path, patience: float) -> duckdb.DuckDBPyConnection:
    """A connection of its own to the file, which is opened unless this process has it open.

    Waits for another process that holds it, with jitter, `patience` seconds at most. Raises
    StoreError. Who calls this, or `close`, holds `process_lock`.
    """
    import duckdb

    if path not in _open:
        _open[path] = _patiently_opened(path, patience)
    file = _open[path]
    file.users += 1
    # A cursor is a connection of its own: what it registers goes with it.
    connection = file.database.cursor()
    try:
        if file.name:
            connection.execute(f"USE {file.name}")
        if file.users == 1:
            connection.execute(SCHEMA)
    except duckdb.Error as error:
        close(path, connection)
        raise in_words(path, error) from error
    return connection


def close(path: Path, connection: duckdb.DuckDBPyConnection) -> None:
    """Close it, which rolls back what is not committed; the last one lets go of the file."""
    connection.close()
    file = _open[path]
    file.users -= 1
    if not file.users:
        del _open[path]
        _let_go(file)


def _patiently_opened(path: Path, patience: float) -> _File:
    import duckdb
    from tenacity import RetryError, Retrying, retry_if_exception, stop_after_delay
    from tenacity import wait_random_exponential as jitter

    busy = retry_if_exception(lambda error: "set lock on file" in str(error))
    try:
        for attempt in Retrying(
            stop=stop_after_delay(patience),
            wait=jitter(multiplier=0.05, max=1.0),
            retry=busy,
        ):
            with attempt:
                return _opened(path)
    except RetryError:
        raise StoreError(
            code="table_busy",
            what=f"another process held the predictions table for {patience:.0f} s",
            where=str(path),
            todo="Close other programs that have this DuckDB file open, then try again.",
        ) from None
    except duckdb.Error as error:
        raise in_words(path, error) from error
    raise AssertionError  # the last attempt ends in one of these


def _opened(path: Path) -> _File:
    import duckdb

    database = _database(os.getpid())  # a fork has none of the threads of its parent's
    with suppress(duckdb.NotImplementedException):  # it has spilled into another's already
        database.execute(f"SET temp_directory = {literal(f'{path}.tmp')}")
    name = f"table_{next(_numbers)}"
    try:
        database.execute(f"ATTACH {literal(str(path))} AS {name}")
    except duckdb.ResourceInUseException:  # somebody else in this process has it open
        return _File(duckdb.connect(str(path)), None)
    return _File(database, name)


@lru_cache(maxsize=4)
def _database(_process: int) -> duckdb.DuckDBPyConnection:
    """What files are attached to: to make a database takes DuckDB 30 ms of processor time, to
    attach a file two."""
    import duckdb

    return duckdb.connect(":memory:")


def _let_go(file: _File) -> None:
    import duckdb

    try:
        if file.name:
            file.database.execute(f"DETACH {file.name}")
            return
    except duckdb.Error:  # after a fault of its own it does nothing any more
        _database.cache_clear()
    file.database.close()


def in_words(path: Path, error: duckdb.Error) -> StoreError:
    """What DuckDB says, with what to do about it; a failed transaction has changed nothing."""
    import duckdb

    code, todo = "table_failed", "Nothing was changed. Please report this with all that is said."
    if isinstance(error, duckdb.IOException):
        code = "table_unreachable"
        todo = "Check MM_TABLE, the permissions and the free space; is it a DuckDB file?"
        if "No space left" in str(error):
            code, todo = "disk_full", "Free some space there, then run the same command again."
    elif isinstance(error, duckdb.OutOfMemoryException):
        code, todo = "table_memory", "Nothing was changed. Free some memory and run it again."
    elif isinstance(error, duckdb.IntegrityError | duckdb.DataError):
        code = "table_refused"
        todo = "Nothing was changed: the table does not hold such values. Please report this."
    elif isinstance(error, duckdb.InternalException | duckdb.FatalException):
        code = "table_failed"
        todo = "Stop everything that uses the file, copy it aside, then try again."
    return StoreError(code=code, what=str(error).split("\n")[0], where=str(path), todo=todo)
