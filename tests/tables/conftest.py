"""One suite for every table store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mm_assets.tables.duckdb.store import DuckDBStore
from mm_assets.tables.dynamodb.store import DynamoDBStore
from mm_assets.tables.store import Store


@pytest.fixture
def dynamodb_store(dynamodb_client: Any, dynamodb_table: str) -> DynamoDBStore:
    return DynamoDBStore(dynamodb_client, dynamodb_table, patience=20.0)


@pytest.fixture
def duckdb_store(tmp_path: Path) -> DuckDBStore:
    return DuckDBStore(tmp_path / "predictions.duckdb")


@pytest.fixture(params=["duckdb", "dynamodb"])
def store(request: pytest.FixtureRequest) -> Store:
    """The same test over DuckDB and over DynamoDB."""
    chosen: Store = request.getfixturevalue(f"{request.param}_store")
    return chosen
