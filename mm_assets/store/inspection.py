"""What the table is, what it lacks and what to do: for `mm table` and `mm doctor`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from mm_assets.errors import StoreError
from mm_assets.settings import Settings

PATIENCE = 10.0  # seconds; a person waits for the answer


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing about the table: what was looked at, whether it is good, and what to do."""

    what: str
    good: bool
    found: str
    todo: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


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
        from mm_assets.store.base import open_store

        open_store(settings, PATIENCE).counts("")  # made on first use
        return
    from mm_assets.store.dynamodb_requests import Requests, client_for
    from mm_assets.store.dynamodb_table import create

    create(Requests(client_for(settings), settings.dynamodb_table, PATIENCE), say)


def _duckdb(settings: Settings) -> Iterator[Fact]:
    from mm_assets.store.duckdb import DuckDBStore

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
    from mm_assets.store.dynamodb_requests import Requests, client_for
    from mm_assets.store.dynamodb_table import look_at

    yield Fact("kind", True, "DynamoDB, for any number of writers")
    endpoint = settings.dynamodb_endpoint_url or f"AWS, {settings.region}"
    yield Fact("where", True, f"{settings.dynamodb_table} at {endpoint}")
    yield from look_at(Requests(client_for(settings), settings.dynamodb_table, PATIENCE))
