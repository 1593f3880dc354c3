"""One database for all questions; what one asks about is nobody else's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import duckdb
import pyarrow as pa
import pytest

from mm_assets.reading.in_memory import in_memory


def test_what_one_registers_no_other_sees_and_nothing_stays() -> None:
    with in_memory() as one, in_memory() as other:
        one.register("listed", pa.table({"n": [1]}))
        other.register("listed", pa.table({"n": [2]}))
        one.execute("CREATE TEMP TABLE kept AS FROM listed")
        other.execute("CREATE TEMP TABLE kept AS FROM listed")
        assert (one.sql("FROM kept").fetchall(), other.sql("FROM kept").fetchall()) == (
            [(1,)],
            [(2,)],
        )
    for name in ("listed", "kept"):
        with in_memory() as later, pytest.raises(duckdb.CatalogException):
            later.sql(f"FROM {name}")


def test_many_threads_ask_at_the_same_moment() -> None:
    def asked(number: int) -> int:
        with in_memory(threads=number % 2) as db:
            db.register("listed", pa.table({"n": list(range(number))}))
            return db.sql("SELECT count(*) FROM listed").fetchall()[0][0]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(asked, range(200))) == list(range(200))


def test_a_database_with_fewer_threads_has_fewer() -> None:
    with in_memory(threads=1) as db:
        assert db.sql("SELECT current_setting('threads')").fetchall() == [(1,)]
