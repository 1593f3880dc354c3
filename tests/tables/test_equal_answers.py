"""DuckDB and DynamoDB give equal answers, whatever is done to both."""

from __future__ import annotations

import os
import uuid
from typing import Any

import pyarrow as pa
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mm_assets.tables.duckdb.store import DuckDBStore
from mm_assets.tables.dynamodb.store import DynamoDBStore
from mm_assets.tables.store import Query, Store
from tests.tables.offers import images, offer, offered, refusals, told

NIGHTLY = os.environ.get("MM_NIGHTLY") == "1"

ids = st.sampled_from(["a", "b", "ü|#", "A"])
uploads = st.sampled_from(["u1", "u2", "u10"])
labels = st.none() | st.sampled_from(["cat", "dog", ""])
days = st.sampled_from(["2026-01-01", "2026-01-02T00:00:00.5+00:00", "2026-02"])

predictions = st.builds(
    offer,
    ids,
    modality_rank=st.integers(0, 1),
    upload=uploads,
    image_upload=st.just("") | uploads,
    model_generation=st.sampled_from([1, 2, 10]),
    content_hash=st.sampled_from(["0", "a"]),
    confidence=st.sampled_from([0.0, 0.25, 0.1 + 0.2, 1.0]),
    needs_review=st.booleans(),
    predicted_at=days,
    probabilities=st.none() | st.just('{"cat": 1.0}'),
)
published = st.tuples(
    uploads,
    st.dictionaries(ids, st.tuples(st.booleans(), labels), max_size=4),
    st.dictionaries(ids, st.sampled_from("123"), max_size=3),
    st.dictionaries(ids, st.sampled_from(["number_invalid", "value_missing"]), max_size=2),
)
# Of two that the order holds for equal either may stay; a content hash is of what is said, so
# that there are no such two.
merged = st.lists(predictions, max_size=5)
queries = st.builds(
    Query,
    record_ids=st.none() | st.lists(ids | st.just("none"), max_size=4),
    upload=st.none() | uploads | st.just(""),
    needs_review=st.none() | st.booleans(),
    changed_since=st.none() | days | st.just(""),
    limit=st.none() | st.integers(0, 3),
)
work = st.lists(
    st.tuples(st.just("publish"), published)
    | st.tuples(st.just("merge"), merged)
    | st.tuples(st.just("withdraw"), st.lists(uploads, max_size=2))
    | st.tuples(st.just("read"), queries)
    | st.tuples(st.just("look_up"), st.none() | st.lists(ids | st.just(""), max_size=4)),
    min_size=4,
    max_size=14,
)


def do(store: Store, dataset: str, name: str, value: Any, said: dict[Any, Any]) -> Any:
    """One step; what the store answers, as plain Python."""
    if name == "publish":
        upload, told_rows, shas, codes = value
        own = told([(i, *values) for i, values in told_rows.items()])
        refused = [(i, code) for i, code in codes.items() if told_rows.get(i, (True,))[0]]
        found = store.publish(dataset, upload, own, images(**shas), refusals(*refused))
        return sorted(found.to_pylist())
    if name == "withdraw":
        return store.withdraw(dataset, value)
    if name == "read_withdrawn":
        found = store.read_withdrawn(dataset, value)
        return found.drop_columns(["withdrawn_at"]).to_pylist()
    if name == "merge":
        # A prediction's values are a function of its place in the order, as they are in life.
        some = [said.setdefault((o["record_id"], o["input_hash"]), o) for o in value]
        return store.merge(dataset, offered(*some))
    if name == "read":
        return store.read(dataset, value).to_pylist()
    wanted = None if value is None else pa.array(value, pa.string())
    return store.look_up(dataset, wanted).to_pylist()


@examples(
    max_examples=400 if NIGHTLY else 8,
    deadline=None,
    derandomize=not NIGHTLY,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(work)
def test_both_tables_give_equal_answers(
    duckdb_store: DuckDBStore, dynamodb_store: DynamoDBStore, steps: list[tuple[str, Any]]
) -> None:
    dataset = f"d{uuid.uuid4().hex}"  # empty tables, without making them each time
    said: tuple[dict[Any, Any], dict[Any, Any]] = {}, {}
    closing = [
        ("read_withdrawn", None),
        ("read_withdrawn", ["a", "b"]),
        ("read", Query()),
        ("look_up", None),
        ("look_up", ["a", "b", "ü|#", "A"]),
    ]
    for name, value in [*steps, *closing]:
        one = do(duckdb_store, dataset, name, value, said[0])
        other = do(dynamodb_store, dataset, name, value, said[1])
        assert one == other, (name, value)
    for upload in ("u1", "u10"):
        one, other = (s.stated(dataset, upload).to_pylist() for s in (duckdb_store, dynamodb_store))
        assert one == other
    for count in ("counts", "count_labelled"):
        assert getattr(duckdb_store, count)(dataset) == getattr(dynamodb_store, count)(dataset)


def told_as(table: pa.Table) -> dict[str, pa.DataType]:
    """The columns and their types; uploads may come as a dictionary."""
    types = {field.name: field.type for field in table.schema}
    return {
        name: kind.value_type if pa.types.is_dictionary(kind) and name.endswith("upload") else kind
        for name, kind in types.items()
    }


def test_both_answer_with_the_same_columns_and_types(
    duckdb_store: DuckDBStore, dynamodb_store: DynamoDBStore
) -> None:
    both = (duckdb_store, dynamodb_store)
    for filled in (False, True):
        for store in both if filled else ():
            store.publish("pets", "u1", told([("a", False, "cat")]), images(a="1"))
            store.merge("pets", offered(offer("a")))
        for ask in (
            lambda store: store.read("pets"),
            lambda store: store.look_up("pets", None),
            lambda store: store.look_up("pets", pa.array(["a"])),
        ):
            assert told_as(ask(duckdb_store)) == told_as(ask(dynamodb_store))
