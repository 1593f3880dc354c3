"""Which table the settings name: open it, make it, say what it is and what it lacks.

The only module of this room that knows every kind of table there is; a new kind is named here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mm_assets.contract.errors import StoreError
from mm_assets.contract.facts import Fact
from mm_assets.contract.settings import Settings
from mm_assets.tables.store import Store

PATIENCE = 10.0  # seconds; a person waits for the answer
NO_DATASET = ""  # no dataset can be called so


def open_store(settings: Settings, patience: float = 60.0) -> Store:
    """The store that MM_TABLE names; `patience` is how many seconds it waits for a busy one."""
    if settings.is_dynamodb:
        from mm_assets.tables.dynamodb.requests import client_for
        from mm_assets.tables.dynamodb.store import DynamoDBStore

        return DynamoDBStore(client_for(settings), settings.dynamodb_table, patience)
    from mm_assets.tables.duckdb.store import DuckDBStore

    path = settings.table_path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            code="table_unreachable",
            what=error.strerror or str(error),
            where=str(path),
            todo="Check MM_TABLE and the permissions of its folder.",
        ) from None
    return DuckDBStore(path, patience)


def reach_table(settings: Settings, patience: float = PATIENCE) -> None:
    """Ask the table something small, whatever it holds. Raises StoreError if it cannot be used."""
    open_store(settings, patience).counts(NO_DATASET)


def inspect_table(settings: Settings) -> list[Fact]:
    """Facts about the table that MM_TABLE names; that it cannot be reached is one, too."""
    found: list[Fact] = []
    try:
        # One by one: what was seen before a failure is worth telling.
        for fact in (_dynamodb if settings.is_dynamodb else _duckdb)(settings):
            found.append(fact)  # noqa: PERF402
    except StoreError as error:
        found.append(Fact("reached", False, f"[{error.code}] {error.what}", error.todo))
    return found


def create_table(settings: Settings, say: Callable[[str], None]) -> None:
    """Make the table, or add what it lacks. Raises StoreError; safe to repeat."""
    if not settings.is_dynamodb:
        reach_table(settings)  # made on first use
        return
    from mm_assets.tables.dynamodb.requests import Requests, client_for
    from mm_assets.tables.dynamodb.table import create

    create(Requests(client_for(settings), settings.dynamodb_table, PATIENCE), say)


def _duckdb(settings: Settings) -> Iterator[Fact]:
    from mm_assets.tables.duckdb.store import DuckDBStore

    path = settings.table_path
    yield Fact("kind", True, "DuckDB, a file for one writer at a time")
    yield Fact("where", True, str(path))
    if not path.exists():
        yield Fact("exists", True, "not yet; it is made when it is first used")
        return
    yield Fact("size", True, f"{path.stat().st_size / 1e6:,.1f} MB")
    records = DuckDBStore(path, PATIENCE).records()
    shown = ", ".join(f"{dataset}: {number:,}" for dataset, number in records.items())
    yield Fact("records", True, shown or "none yet")


def _dynamodb(settings: Settings) -> Iterator[Fact]:
    from mm_assets.tables.dynamodb.requests import Requests, client_for
    from mm_assets.tables.dynamodb.table import look_at

    yield Fact("kind", True, "DynamoDB, for any number of writers")
    endpoint = settings.dynamodb_endpoint_url or f"AWS, {settings.region}"
    yield Fact("where", True, f"{settings.dynamodb_table} at {endpoint}")
    yield from look_at(Requests(client_for(settings), settings.dynamodb_table, PATIENCE))
