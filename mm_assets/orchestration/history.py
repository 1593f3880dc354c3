"""Dagster's history in SQLite, held open while this process writes into it.

Dagster opens a database, compiles its statement and closes the database again for each of the 90
events of an upload, and sets up a database for each run. Held open, and copied once it is set up,
it costs an upload half as much. What is written, and when it is safe, stays the same. What is told
at once is written as rows, each made once: Dagster makes the row of a check twice, and a statement
for each.
"""

# Dagster has no public way to say how its storage connects; tests/orchestration/test_history.py
# holds that what is held open tells the same.
# ruff: noqa: SLF001

from __future__ import annotations

import contextlib
import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import dagster as dg
    import sqlalchemy

# Seconds to wait for another process that writes; as Dagster itself.
PATIENCE = 30
_AT_ONCE = "_mm_at_once"  # where an event storage that is held open has what `told_at_once` needs


@contextmanager
def opened(home: Path) -> Iterator[dg.DagsterInstance]:
    """The Dagster instance of this folder, its history held open."""
    import dagster as dg

    with _in_turn(home):
        made = dg.DagsterInstance.from_config(str(home))
    with made as instance, held_open(instance):
        yield instance


@contextmanager
def _in_turn(home: Path) -> Iterator[None]:
    """One process after the other: two that make Dagster's databases at the same moment spoil them,
    for good."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):  # no room, or no right: Dagster says so in its own words
            lock = held.enter_context((home / "mm-opening.lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def held_open(instance: dg.DagsterInstance) -> Iterator[None]:
    """Hold what `instance` keeps in SQLite open until the end; another storage stays as it is."""
    from dagster._core.storage.event_log import SqliteEventLogStorage
    from dagster._core.storage.runs import SqliteRunStorage

    events: Any = instance.event_log_storage
    runs: Any = instance.run_storage
    if "_connect" in vars(events):  # it is, by whoever called
        yield
        return
    held = _Held()
    if isinstance(events, SqliteEventLogStorage):
        history = _Events(events, held)
        vars(events)["_connect"] = history.connect
        vars(events)["has_table"] = history.has_table
        vars(events)[_AT_ONCE] = history.at_once
    if isinstance(runs, SqliteRunStorage):
        vars(runs)["connect"] = lambda: held.engine(runs._conn_string).begin()
    try:
        yield
    finally:
        vars(events).pop("_connect", None)
        vars(events).pop("has_table", None)
        vars(events).pop(_AT_ONCE, None)
        vars(runs).pop("connect", None)
        held.close_all()


@contextmanager
def told_at_once(instance: dg.DagsterInstance) -> Iterator[None]:
    """What is told within it is written in one transaction, where `instance` is held open.

    It is written at the end, for some milliseconds: no other process can write its events
    meanwhile. It is told by a step that is no asset, so Dagster has planned none of its checks:
    they are written without looking for the plan, which is done once for each and takes as long as
    the writing.
    """
    from dagster._core.storage.event_log import SqlEventLogStorage

    events: Any = instance.event_log_storage
    at_once = getattr(events, _AT_ONCE, contextlib.nullcontext)
    if isinstance(events, SqlEventLogStorage):
        insert = events._store_runless_asset_check_evaluation  # with the run's ID, where it has one
        vars(events)["_update_asset_check_evaluation"] = insert
    try:
        with at_once():
            yield
    finally:
        vars(events).pop("_update_asset_check_evaluation", None)


class _Held:
    """The databases that are open, by address."""

    def __init__(self) -> None:
        self._engines: dict[str, sqlalchemy.Engine] = {}

    def engine(self, address: str) -> sqlalchemy.Engine:
        import sqlalchemy

        if address not in self._engines:
            patience = {"timeout": PATIENCE}
            self._engines[address] = sqlalchemy.create_engine(address, connect_args=patience)
        return self._engines[address]

    def close(self, address: str) -> None:
        if address in self._engines:
            self._engines.pop(address).dispose()

    def close_all(self) -> None:
        for address in list(self._engines):
            self.close(address)


class _Events:
    """The events: a database for each run, of which the last is held open, and an index of all."""

    def __init__(self, storage: Any, held: _Held) -> None:
        self.storage, self.held = storage, held
        self._run = ""  # the address of the one that is open
        self._empty: bytes | None = None  # a run's database that is set up and has no event yet
        self._ask_for_table = storage.has_table
        self._tables: set[str] = set()  # that are there; none is ever taken away
        self._open: dict[str, sqlalchemy.Connection] | None = None  # while much is told at once

    @contextmanager
    def connect(self, shard: str) -> Iterator[sqlalchemy.Connection]:
        """As Dagster's own; `shard` is the ID of a run, or stands for the index."""
        from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME

        with self.storage._db_lock:
            address = self.storage.conn_string_for_shard(shard)
            if shard != INDEX_SHARD_NAME and address != self._run:
                self.held.close(self._run)
                self._run = address
            if shard not in self.storage._initialized_dbs:
                self._set_up(shard, address)
                self.storage._initialized_dbs.add(shard)
            if self._open is not None:
                if address not in self._open:
                    self._open[address] = self.held.engine(address).connect()
                    self._open[address].begin()
                yield self._open[address]
                return
            with self.held.engine(address).begin() as connection:
                yield connection

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """One transaction for each database; none of it is kept if there is an error."""
        told: list[dg.EventLogEntry] = []
        vars(self.storage)["store_event"] = told.append
        try:
            yield
        finally:
            vars(self.storage).pop("store_event")
        self._open = {}
        try:
            self._write(told)
            for connection in self._open.values():
                connection.commit()
        finally:
            # Closing one that is not committed rolls back.
            for connection in self._open.values():
                connection.close()
            self._open = None

    def _write(self, told: list[dg.EventLogEntry]) -> None:
        """As Dagster's own `store_event` does with each; what stands side by side in one table is
        inserted at once."""
        from dagster import DagsterEventType as Type

        ours = {Type.ASSET_MATERIALIZATION, Type.ASSET_CHECK_EVALUATION}
        plain = {*ours, None}  # None: what was said

        def kind(event: dg.EventLogEntry) -> tuple[str, bool]:
            return event.run_id, event.dagster_event_type in plain

        for (run_id, is_plain), events in groupby(told, kind):
            if not is_plain:
                for event in events:
                    self.storage.store_event(event)
                continue
            rows = [(event, self.storage._event_to_row(event)) for event in events]
            with self.connect(run_id) as connection:
                _insert(connection, [row for _, row in rows])
            of_assets = [one for one in rows if one[0].dagster_event_type in ours]
            if of_assets:
                self._write_index(of_assets)

    def _write_index(self, rows: list[tuple[dg.EventLogEntry, dict[str, Any]]]) -> None:
        """What the index of all runs says of materializations and evaluations."""
        from dagster import DagsterEventType as Type
        from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
        from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME

        newest, checks = {}, []  # of each asset its last materialization: Dagster keeps that beside
        with self.connect(INDEX_SHARD_NAME) as index:
            last = _insert(index, [row for _, row in rows])
            for number, (event, row) in enumerate(rows, last - len(rows) + 1):
                if event.dagster_event_type is Type.ASSET_MATERIALIZATION:
                    self.storage._store_asset_event_tags(index, [event], [number])
                    newest[row["asset_key"]] = (event, number)
                else:
                    checks.append(_row_of_check(event, row, number))
            if checks:
                index.execute(AssetCheckExecutionsTable.insert(), checks)
            for event, number in newest.values():
                self.storage._store_asset_event(index, event, number)

    def has_table(self, name: str) -> bool:
        """As Dagster's own, which opens the index 75 times for an upload to see it."""
        if name not in self._tables and self._ask_for_table(name):
            self._tables.add(name)
        return name in self._tables

    def _set_up(self, shard: str, address: str) -> None:
        path = Path(self.storage.path_for_shard(shard))
        if self._empty is not None and not path.exists():
            _create(path, self._empty)
            return
        is_new = not path.exists()
        self.storage._initdb(self.held.engine(address))
        if is_new:
            self.held.close(address)
            if not Path(f"{path}-wal").exists():  # then all of it is in the file
                self._empty = path.read_bytes()


def _insert(connection: sqlalchemy.Connection, rows: list[dict[str, Any]]) -> int:
    """Insert rows of events; returns the number of the last one.

    Nobody else writes until the transaction ends, so those of the others come right before it.
    """
    import sqlalchemy
    from dagster._core.storage.event_log.schema import SqlEventLogStorageTable

    connection.execute(SqlEventLogStorageTable.insert(), rows)
    last: int = connection.execute(sqlalchemy.text("SELECT last_insert_rowid()")).scalar_one()
    return last


def _row_of_check(event: dg.EventLogEntry, row: dict[str, Any], number: int) -> dict[str, Any]:
    """What the table of checks says of an evaluation; `row`, `number`: its row among the events."""
    from dagster._core.storage.asset_check_execution_record import (
        AssetCheckExecutionRecordStatus as Status,
    )

    evaluation: Any = event.get_dagster_event().event_specific_data
    looked_at = evaluation.target_materialization_data
    return {
        "asset_key": evaluation.asset_key.to_string(),
        "check_name": evaluation.check_name,
        "partition": evaluation.partition,
        "run_id": event.run_id,
        "execution_status": (Status.SUCCEEDED if evaluation.passed else Status.FAILED).value,
        "evaluation_event": row["event"],
        "evaluation_event_timestamp": row["timestamp"],
        "evaluation_event_storage_id": number,
        "materialization_event_storage_id": looked_at.storage_id if looked_at else None,
    }


def _create(path: Path, data: bytes) -> None:
    """Write the file whole, unless somebody else made it in between."""
    part = path.with_name(f".{uuid.uuid4().hex}")
    part.write_bytes(data)
    with contextlib.suppress(FileExistsError):
        os.link(part, path)
    part.unlink()
