"""What only the DuckDB file has: it is held by one at a time, and it may be damaged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest

from mm_assets.contract.errors import StoreError
from mm_assets.contract.settings import Settings
from mm_assets.tables.duckdb import file
from mm_assets.tables.duckdb import store as duckdb_store
from mm_assets.tables.duckdb.file import _database
from mm_assets.tables.duckdb.sql import OF_WANTED, UPLOADS
from mm_assets.tables.duckdb.store import DuckDBStore
from mm_assets.tables.open import open_store
from mm_assets.tables.store import MergeResult, Query
from tests.tables.offers import greatest, images, offer, offered, rows


@pytest.fixture
def store(duckdb_store: DuckDBStore) -> DuckDBStore:
    return duckdb_store


def test_publishing_again_adds_nothing_to_the_file(store: DuckDBStore) -> None:
    for _ in range(3):
        store.publish("pets", "u1", rows(a="cat", b=None), images(a="1"))
    with duckdb.connect(str(store.path)) as db:
        assert db.execute("SELECT count(*) FROM record_index").fetchone() == (2,)
        assert db.execute("SELECT count(*) FROM image_index").fetchone() == (1,)


def test_a_file_that_is_opened_needs_no_database_of_its_own(
    store: DuckDBStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.merge("pets", offered(offer("a")))
    with monkeypatch.context() as patch:
        patch.setattr(duckdb, "connect", lambda *_, **__: pytest.fail("it takes 30 ms"))
        other = DuckDBStore(tmp_path / "it's another.duckdb")
        with store.held():
            other.merge("pets", offered(offer("b"), offer("c")))
            assert store.records() == {"pets": 1}
        assert other.records() == {"pets": 2}
    with duckdb.connect(str(other.path)) as db:  # nobody holds it, nothing lies beside it
        assert db.execute("SELECT count(*) FROM predictions").fetchone() == (2,)
    assert not other.path.with_name(f"{other.path.name}.wal").exists()


def test_a_file_that_somebody_in_this_process_has_open_is_used_all_the_same(
    store: DuckDBStore,
) -> None:
    with duckdb.connect(str(store.path)) as own:
        store.merge("pets", offered(offer("a")))
        assert own.execute("SELECT record_id FROM predictions").fetchall() == [("a",)]
    store.merge("pets", offered(offer("b")))
    assert store.records() == {"pets": 2}


def test_a_database_that_does_nothing_any_more_is_replaced(store: DuckDBStore) -> None:
    store.merge("pets", offered(offer("a")))
    spoilt = _database(os.getpid())
    with store.held():
        spoilt.close()
    assert store.records() == {"pets": 1}
    assert _database(os.getpid()) is not spoilt


# -- many who want to write -----------------------------------------------------------------------

HOLD = """
import duckdb, sys
held = duckdb.connect(sys.argv[1])
print("held", flush=True)
sys.stdin.readline()
"""


@contextmanager
def held_elsewhere(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the file open until a line is written to it."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.stdin.close()


def test_who_finds_the_file_held_waits_for_it(store: DuckDBStore) -> None:
    store.merge("pets", offered(offer("a")))
    with held_elsewhere(store.path) as process:
        threading.Timer(1.0, lambda: process.stdin and process.stdin.close()).start()
        started = time.monotonic()
        assert store.merge("pets", offered(offer("b"))) == MergeResult(1, 0, 0)
        assert 0.5 < time.monotonic() - started < 20


def test_who_waits_too_long_is_told_that_the_table_is_busy(store: DuckDBStore) -> None:
    store.merge("pets", offered(offer("a")))
    store.patience = 0.3
    with held_elsewhere(store.path):
        with pytest.raises(StoreError) as caught:
            store.read("pets")
        assert caught.value.code == "table_busy"
        assert str(store.path) in caught.value.where
        assert "Close other programs" in caught.value.todo
    assert store.read("pets").num_rows == 1


MERGE = """
import sys
from pathlib import Path
import pyarrow.parquet as pq
from mm_assets.tables.duckdb.store import DuckDBStore
store = DuckDBStore(Path(sys.argv[1]))
for file in sys.argv[2:]:
    store.merge("pets", pq.read_table(file))
"""


def test_two_processes_that_merge_at_the_same_time_both_succeed(
    store: DuckDBStore, tmp_path: Path
) -> None:
    import pyarrow.parquet as pq

    offers: list[dict[str, Any]] = []
    files: list[list[str]] = [[], []]
    for process in range(2):
        for part in range(4):
            some = [
                offer(f"{part}-{i}", upload=f"u{process}", content_hash=f"{process}{i}")
                for i in range(20)
            ]
            offers += some
            path = tmp_path / f"{process}-{part}.parquet"
            pq.write_table(offered(*some), path)
            files[process].append(str(path))
    running = [
        subprocess.Popen(
            [sys.executable, "-c", MERGE, str(store.path), *names], stderr=subprocess.PIPE
        )
        for names in files
    ]
    for process in running:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said.decode()
    found = {row["record_id"]: row["prediction"] for row in store.read("pets").to_pylist()}
    assert found == {i: row["prediction"] for i, row in greatest(offers).items()}


def test_threads_of_one_process_take_turns(store: DuckDBStore) -> None:
    def work(number: int) -> None:
        store.publish("pets", f"u{number}", rows(**{f"r{number}": "cat"}), images())
        store.merge("pets", offered(offer("shared", upload=f"u{number}"), offer(f"own{number}")))
        store.read("pets")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(12)))
    assert store.count_labelled("pets") == 12
    assert store.counts("pets")["records"] == 13
    assert store.read("pets", Query(record_ids=["shared"]))["upload"].to_pylist() == ["u9"]


# -- the file -------------------------------------------------------------------------------------


def test_a_file_that_is_no_table_is_an_error_in_words_and_at_once(tmp_path: Path) -> None:
    path = tmp_path / "block" / "predictions.duckdb"  # "lock" in its name is not a lock
    path.parent.mkdir()
    path.write_bytes(b"this is no DuckDB file" * 1000)
    started = time.monotonic()
    with pytest.raises(StoreError) as caught:
        DuckDBStore(path).read("pets")
    assert caught.value.code == "table_unreachable"
    assert str(path) in caught.value.where
    assert time.monotonic() - started < 5


def test_a_folder_that_is_not_there_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        DuckDBStore(tmp_path / "no" / "p.duckdb").read("pets")
    assert caught.value.code == "table_unreachable"


def test_the_file_and_its_folder_are_made_on_first_use(folder_settings: Settings) -> None:
    store = open_store(Settings(root=folder_settings.root, table="duckdb:///deep/er/p.duckdb"))
    assert store.counts("pets")["records"] == 0
    assert (folder_settings.root / "deep/er/p.duckdb").exists()


def test_a_folder_that_cannot_be_made_is_said_to_be_the_fault(folder_settings: Settings) -> None:
    (folder_settings.root / "file").write_text("in the way")
    with pytest.raises(StoreError) as caught:
        open_store(Settings(root=folder_settings.root, table="duckdb:///file/p.duckdb"))
    assert caught.value.code == "table_unreachable"
    assert "MM_TABLE" in caught.value.todo


def test_what_was_merged_is_there_after_opening_again(store: DuckDBStore) -> None:
    store.merge("pets", offered(offer("a")))
    assert DuckDBStore(store.path).read("pets").num_rows == 1


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("SELECT error('no')", "table_failed"),
        ("SELECT 'x'::INTEGER", "table_refused"),
        ("INSERT INTO predictions (dataset) VALUES (NULL)", "table_refused"),
        ("SELECT list(repeat('x', 1000000) || n) FROM range(900) AS r(n)", "table_memory"),
    ],
)
def test_whatever_duckdb_says_is_said_in_words(
    store: DuckDBStore, statement: str, code: str
) -> None:
    with pytest.raises(StoreError) as caught, store._transaction() as db:
        db.execute("SET memory_limit = '200MB'")
        db.execute(statement).fetchall()
    with store._transaction() as db:  # it is of all files that this process opens
        db.execute("RESET memory_limit")
    assert caught.value.code == code
    assert caught.value.todo
    assert "\n" not in caught.value.what
    assert store.counts("pets")["records"] == 0


def test_the_number_of_records_is_told_for_each_dataset(store: DuckDBStore) -> None:
    assert store.records() == {}
    store.merge("pets", offered(offer("a"), offer("b")))
    store.merge("parts", offered(offer("a")))
    assert store.records() == {"parts": 1, "pets": 2}


# -- what it costs --------------------------------------------------------------------------------


class _Noted:
    """A connection that notes what it is told to execute."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, told: list[str]) -> None:
        self.connection = connection
        self.told = told

    def execute(self, statement: str, *more: Any) -> Any:
        self.told.append(statement.split(maxsplit=1)[0])
        return self.connection.execute(statement, *more)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The first word of each statement that the store executes."""
    noted: list[str] = []
    connect = file.connect
    monkeypatch.setattr(duckdb_store, "connect", lambda *given: _Noted(connect(*given), noted))
    return noted


def test_of_a_new_upload_nothing_is_looked_for_to_delete_or_change(
    store: DuckDBStore, told: list[str]
) -> None:
    store.publish("pets", "u1", rows(a="cat", b=None), images())
    assert not {"DELETE", "UPDATE"} & set(told)
    assert told.count("INSERT") == 1
    store.publish("pets", "u1", rows(a="dog"), images())
    assert {"DELETE", "UPDATE"} <= set(told)


def test_a_merge_that_changes_nothing_tells_the_table_nothing_to_write(
    store: DuckDBStore, told: list[str]
) -> None:
    both = offered(offer("a"), offer("b"))
    store.merge("pets", both)
    assert told.count("INSERT") == 1
    told.clear()
    assert store.merge("pets", both).unchanged == 2
    assert "INSERT" not in told


def test_a_question_ranks_only_the_uploads_that_speak_of_its_records(store: DuckDBStore) -> None:
    with store._transaction() as db:
        db.execute(
            "INSERT INTO record_index SELECT 'pets', 'r' || i, 'u' || i, false, NULL "
            "FROM range(5000) AS of(i)"
        )
        db.execute(
            "CREATE TEMP TABLE wanted AS FROM (VALUES ('r7', 0), ('r8', 1)) AS of(record_id, place)"
        )
        steps = [step for one in OF_WANTED for step in _steps(db, one, ["pets", ""])]
        steps += _steps(db, UPLOADS, [])
        assert db.execute("SELECT upload, rank FROM uploads").fetchall() == [("u7", 0), ("u8", 1)]
    assert len(steps) > 10
    assert max(rows for step, rows in steps if "SCAN" not in step) <= 2


def _steps(
    db: duckdb.DuckDBPyConnection, statement: str, given: list[str]
) -> list[tuple[str, int]]:
    """Every step of a statement that is run, with the rows that it hands on."""
    told = db.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", given).fetchall()
    left, found = json.loads(told[0][1])["operator"], []
    while left:
        one = left.pop()
        found.append((one["type"], one["intermediate_rows"]))
        left += one.get("children", [])
    return found
