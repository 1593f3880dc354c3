"""What the tests of the laws share: both worlds, and a fast DuckDB."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.lake.lake import Lake
from mm_assets.manifest import join, rows
from tests.laws.world import DuckDBWorld, DynamoDBWorld, World
from tests.tables.faults import watched


@pytest.fixture(scope="session")
def in_memory() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as shared:
        yield shared


@pytest.fixture
def fast(in_memory: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the laws are not about takes less time.

    Databases in memory are connections to one, because making one takes DuckDB 25 ms; what they
    hold belongs to a connection. And the same rows, read from the lake, are typed once.
    """
    connect = duckdb.connect
    typed: dict[Any, tuple[pa.Table, rows.TypedRows]] = {}

    def connect_to_it(*arguments: Any, **named: Any) -> duckdb.DuckDBPyConnection:
        return connect(*arguments, **named) if arguments or named else in_memory.cursor()

    @contextmanager
    def typed_once(
        lake: Lake, spec: DatasetSpec, receipt: dict[str, Any]
    ) -> Iterator[rows.TypedRows]:
        told = []
        for table in receipt["tables"]:
            with tempfile.TemporaryDirectory() as folder:
                key = receipt["files"][table["rows_file"]]["key"]
                told.append((lake.fetch(key, Path(folder, "rows")), str(table)))
        key = (spec.fingerprint, *told)
        if key not in typed:
            typed[key] = rows.type_rows(lake, spec, receipt)
        records, found = typed[key]

        def batches(beside: pa.Table) -> Iterator[pa.Table]:
            places = pc.index_in(records["record_id"], beside["record_id"].combine_chunks())
            part = records.filter(pc.is_valid(places))
            near = beside.take(places.drop_null())
            for name in beside.column_names:
                if name != "record_id":
                    part = part.append_column(name, near[name])
            if part.num_rows:
                yield part

        yield replace(found, batches=batches)

    monkeypatch.setattr(duckdb, "connect", connect_to_it)
    monkeypatch.setattr(join, "typed_rows", typed_once)


@pytest.fixture
def make_worlds(
    fast: None, dynamodb_client: Any, dynamodb_table: str
) -> Iterator[Callable[[], list[World]]]:
    """Makes two worlds: one with DuckDB and one with DynamoDB. Each call, another dataset."""
    n_made = 0
    with watched(dynamodb_client) as wire, ExitStack() as stack:

        def make() -> list[World]:
            nonlocal n_made
            n_made += 1
            dataset = f"pets_{n_made}"
            worlds = [
                DuckDBWorld(dataset),
                DynamoDBWorld(dynamodb_client, dynamodb_table, dataset, wire),
            ]
            for world in worlds:
                stack.callback(world.close)
            return worlds

        yield make


@pytest.fixture(params=["duckdb", "dynamodb"])
def world(make_worlds: Callable[[], list[World]], request: pytest.FixtureRequest) -> World:
    """An empty world with a champion of each modality."""
    one, other = make_worlds()
    chosen = one if request.param == "duckdb" else other
    chosen.promote_both()
    return chosen
