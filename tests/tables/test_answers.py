"""All answers, read at the price of what changed: always what a whole reading gives."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import answers_prefix
from mm_assets.tables import answers
from mm_assets.tables.answers import ANSWERS, read_answers
from mm_assets.tables.dynamodb import changes, items
from mm_assets.tables.dynamodb import store as dynamodb_module
from mm_assets.tables.dynamodb.store import DynamoDBStore
from mm_assets.tables.store import Query, Store
from tests.tables.faults import Crash, Wire, watched
from tests.tables.offers import images, offer, offered, refusals, rows, told

NUMBERS = itertools.count()
UPLOADS = ("u1", "u2", "u3")
RECORDS = "abcd"


@pytest.fixture
def lake(folder_settings: Settings) -> Lake:
    return Lake(folder_settings)


@pytest.fixture
def few_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that reading all answers, and withdrawing, take few requests."""
    for module in (items, dynamodb_module):
        monkeypatch.setattr(module, "SHARDS", 2)


@pytest.fixture
def wire(dynamodb_client: Any) -> Iterator[Wire]:
    with watched(dynamodb_client) as wire:
        yield wire


def rows_in(table: pa.Table) -> list[dict[str, Any]]:
    assert table.column_names == list(ANSWERS)
    return table.sort_by("record_id").to_pylist()


def whole(store: Store, dataset: str = "pets") -> list[dict[str, Any]]:
    return rows_in(store.read(dataset, Query(columns=ANSWERS, in_order=False)))


def looked(lake: Lake, store: Store, dataset: str = "pets") -> list[dict[str, Any]]:
    return rows_in(read_answers(lake, store, dataset))


def files(lake: Lake, dataset: str = "pets") -> list[str]:
    return [item.key for item in lake.list(answers_prefix(dataset)) if ".parquet" in item.key]


def each(store: Store, dataset: str) -> list[dict[str, Any]]:
    """What the table says of each record at this very moment."""
    return rows_in(store.read(dataset, Query(record_ids=[*RECORDS], columns=ANSWERS)))


def notes(store: DynamoDBStore, dataset: str = "pets") -> list[dict[str, Any]]:
    key = ("pk", f"{dataset}#changes")
    return list(store.requests.query(key, ("sk", "begins_with", {"S": "note|"})))


# -- any order, crashes anywhere, looks in between ------------------------------------------------

Step = Callable[[Store, str], object]
some_label = st.sampled_from([None, "cat", "dog"])
some_offers = st.lists(
    st.builds(
        offer,
        st.sampled_from(RECORDS),
        modality_rank=st.integers(0, 1),
        upload=st.sampled_from(UPLOADS),
        image_upload=st.sampled_from(["", "u2"]),
        model_generation=st.integers(1, 2),
        confidence=st.sampled_from([0.25, 0.75]),
    ),
    min_size=1,
    max_size=4,
)


@st.composite
def published(draw: st.DrawFn) -> Step:
    said = draw(st.dictionaries(st.sampled_from(RECORDS), st.tuples(st.booleans(), some_label)))
    refused = draw(st.sets(st.sampled_from(sorted(set(RECORDS) - said.keys()) or [""]), max_size=1))
    upload = draw(st.sampled_from(UPLOADS))
    table = told([(one, only and label is not None, label) for one, (only, label) in said.items()])
    gone = refusals(*((one, "bad_number") for one in refused if one))
    return lambda store, dataset: store.publish(dataset, upload, table, images(), gone)


def merged(some: list[dict[str, Any]]) -> Step:
    return lambda store, dataset: store.merge(dataset, offered(*some))


def withdrawn(upload: str) -> Step:
    return lambda store, dataset: store.withdraw(dataset, [upload])


a_step = st.one_of(
    published(),
    some_offers.map(merged),
    some_offers.map(merged),
    st.sampled_from(UPLOADS).map(withdrawn),
)
# What is done, before which of its requests somebody looks, and before which it dies (0: none).
some_steps = st.lists(st.tuples(a_step, st.integers(0, 12), st.integers(0, 15)), max_size=8)


@pytest.mark.usefixtures("few_shards")
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(some_steps)
def test_a_look_gives_what_the_table_says_whatever_happened_before(
    lake: Lake, dynamodb_store: DynamoDBStore, wire: Wire, steps: list[tuple[Step, int, int]]
) -> None:
    dataset = f"d{next(NUMBERS)}"

    def look() -> None:
        looked(lake, dynamodb_store, dataset)

    for step, look_at, crash_at in steps:
        wire.rule = at_requests(look, look_at, crash_at)
        try:
            step(dynamodb_store, dataset)
        except Crash:
            pass
        finally:
            wire.rule = lambda operation, request: None
        assert looked(lake, dynamodb_store, dataset) == each(dynamodb_store, dataset)


@pytest.mark.usefixtures("few_shards")
@pytest.mark.parametrize(
    "step",
    [
        merged([offer("b", upload="u2"), offer("d", upload="u2")]),
        lambda store, dataset: store.publish(dataset, "u3", rows(a="cat", c="dog"), images()),
        lambda store, dataset: store.publish(dataset, "u1", rows(b=None), images()),
        lambda store, dataset: store.publish(
            dataset, "u2", rows(), images(), refusals(("a", "bad_number"), ("b", "bad_number"))
        ),
        withdrawn("u1"),
    ],
    ids=["merged", "labelled", "unlabelled", "refused", "withdrawn"],
)
def test_a_look_may_be_at_any_moment_of_a_change_and_a_change_at_any_moment_of_a_look(
    lake: Lake, dynamodb_store: DynamoDBStore, wire: Wire, step: Step
) -> None:
    def change(dataset: str) -> None:
        step(dynamodb_store, dataset)

    def look(dataset: str) -> None:
        looked(lake, dynamodb_store, dataset)

    def change_and_look(dataset: str) -> None:
        change(dataset)
        look(dataset)

    def happens(
        first: Callable[[str], None], other: Callable[[str], None], at: int, crash_at: int = 0
    ) -> bool:
        """Whether it was possible: the one at this moment of the other, which dies then or not."""
        dataset, happened = begun(dynamodb_store, lake), list[int]()

        def meanwhile() -> None:
            happened.append(1)
            other(dataset)

        wire.rule = at_requests(meanwhile, at, crash_at)
        with suppress(Crash):
            first(dataset)
        wire.rule = lambda operation, request: None
        for _ in range(2):
            assert looked(lake, dynamodb_store, dataset) == each(dynamodb_store, dataset), at
        return bool(happened)

    for at in itertools.count(1):
        if not happens(change, look, at, at + 1):
            break
        if at % 3 == 0:
            happens(change, look, at)
    assert at > 5
    for at in itertools.count(1):  # at which another look sees the change, and takes its note
        if not happens(look, change_and_look, at):
            break
        if at % 2:
            happens(look, change, at)
    assert at > 5


@pytest.mark.usefixtures("few_shards")
def test_of_two_looks_at_the_same_time_each_sees_all(
    lake: Lake, dynamodb_store: DynamoDBStore, wire: Wire
) -> None:
    for at in itertools.count(1):
        dataset, other = begun(dynamodb_store, lake), list[Any]()
        wire.rule = at_requests(
            lambda dataset=dataset, other=other: other.append(  # type: ignore[misc]
                looked(lake, dynamodb_store, dataset)
            ),
            at,
        )
        found = looked(lake, dynamodb_store, dataset)
        wire.rule = lambda operation, request: None
        expected = each(dynamodb_store, dataset)
        assert found == expected, at
        assert other in ([expected], []), at
        if not other:
            break
    assert at > 5


def begun(store: Store, lake: Lake) -> str:
    """A dataset at which somebody looked, and of which one answer has changed since."""
    dataset = f"d{next(NUMBERS)}"
    store.publish(dataset, "u1", rows(b="cow"), images())
    uploads = {"a": "u0", "b": "u9", "c": "u0"}  # a refusal by u2 hides the label of b alone
    first = [offer(one, image_upload="u1", upload=upload) for one, upload in uploads.items()]
    store.merge(dataset, offered(*first))
    looked(lake, store, dataset)
    store.merge(dataset, offered(offer("a", model_generation=2, image_upload="u1")))
    return dataset


def at_requests(
    meanwhile: Callable[[], object], at: int, crash_at: int = 0
) -> Callable[[str, Any], None]:
    """A rule by which something is done before the so-manieth request goes out, 1 being the first,
    and by which from another one on the process is gone; 0: never.

    What is done asks for itself; its requests are not counted.
    """
    count, busy = itertools.count(1), threading.Lock()

    def rule(operation: str, request: Any) -> None:
        if not busy.acquire(blocking=False):
            return
        try:
            number = next(count)
            if number == at:
                meanwhile()
            if crash_at and number >= crash_at:
                raise Crash
        finally:
            busy.release()

    return rule


# -- what it costs --------------------------------------------------------------------------------


def test_a_look_reads_what_is_new_and_nothing_else(
    lake: Lake, dynamodb_store: DynamoDBStore, wire: Wire
) -> None:
    store = dynamodb_store
    store.merge("pets", offered(*(offer(f"r{n}", upload=f"u{n // 5}") for n in range(300))))
    looked(lake, store)
    aged(store, changes.LAG_SECONDS)  # an index may lag so long
    looked(lake, store)
    store.publish("pets", "new", rows(**{f"n{n}": None for n in range(5)}), images())
    store.publish("pets", "late", rows(r7="cat", unknown="dog"), images())
    store.merge("pets", offered(*(offer(f"n{n}", upload="new") for n in range(5))))

    indexes: list[str] = []

    def watch(operation: str, request: Any) -> None:
        indexes.append(json.loads(request.body).get("IndexName", ""))

    wire.rule = watch
    wire.seen.clear()
    found = looked(lake, store)
    assert not any(indexes)
    # Five that are new and one that has a label now, the notes, and which uploads are withdrawn.
    # The copy's name is asked for, and written.
    assert wire.seen == {"Query": 6 + 2, "GetItem": 1, "PutItem": 1, "BatchWriteItem": 1}
    wire.seen.clear()
    assert looked(lake, store) == found
    assert wire.seen == {"Query": 1, "GetItem": 1}  # nothing is new: no more than to see that
    wire.rule = lambda operation, request: None
    assert found == whole(store)
    assert len(found) == 305


def aged(store: DynamoDBStore, seconds: float) -> None:
    """As if all that is noted were older."""
    for item in notes(store):
        then = {"N": repr(float(item["at"]["N"]) - seconds - 1)}
        store.requests.call("put_item", Item={**item, "at": then})


def test_what_dies_is_read_again_at_each_look_for_a_day(
    lake: Lake, dynamodb_store: DynamoDBStore, wire: Wire
) -> None:
    store = dynamodb_store
    looked(lake, store)
    wire.crash_after(4)  # the withdrawn uploads, what is there, the note, and one of two
    with pytest.raises(Crash):
        store.merge("pets", offered(offer("a"), offer("b")))
    wire.rule = lambda operation, request: None
    for _ in range(2):
        assert len(notes(store)) == 1
        assert looked(lake, store) == whole(store)
    aged(store, changes.DEAD_SECONDS)
    assert looked(lake, store) == whole(store)
    assert not notes(store)
    assert looked(lake, store) == whole(store)


def test_there_are_few_files_and_old_ones_go(
    lake: Lake, dynamodb_store: DynamoDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = dynamodb_store
    monkeypatch.setattr(answers, "LEFT", answers.LEFT * 0)
    looked(lake, store)
    for n in range(20):
        store.merge("pets", offered(offer(f"r{n}", upload="u2"), offer("same", upload=f"u{n:02d}")))
        assert looked(lake, store) == whole(store)
        assert len(files(lake)) <= 4  # 1 to 21 rows, each four times larger than the next
    assert len(looked(lake, store)) == 21


# -- when it cannot be used -----------------------------------------------------------------------


def lose(lake: Lake) -> None:
    for item in [*lake.list(answers_prefix("pets"))]:
        lake.delete(item.key)


def damage(lake: Lake) -> None:
    for key in files(lake):
        lake.write(key, lake.read(key)[:-1] + b"x")


def of_another_version(lake: Lake) -> None:
    for item in [*lake.list(answers_prefix("pets"))]:
        if item.key.endswith(".json"):
            document = lake.read_json(item.key)
            assert document is not None
            lake.write_json(item.key, {**document, "made_by": "another"})


def old(lake: Lake) -> None:
    for item in [*lake.list(answers_prefix("pets"))]:
        if item.key.endswith(".json"):
            document = lake.read_json(item.key)
            assert document is not None
            lake.write_json(item.key, {**document, "read_at": "2026-01-01T00:00:00+00:00"})


@pytest.mark.parametrize("harm", [lose, damage, of_another_version, old])
def test_a_copy_that_cannot_be_used_is_made_anew(
    lake: Lake, dynamodb_store: DynamoDBStore, wire: Wire, harm: Callable[[Lake], None]
) -> None:
    store = dynamodb_store
    store.merge("pets", offered(*(offer(f"r{n}") for n in range(20))))
    expected = looked(lake, store)
    aged(store, changes.LAG_SECONDS)
    looked(lake, store)
    harm(lake)
    wire.seen.clear()
    assert looked(lake, store) == expected == whole(store)
    assert wire.seen["Query"] > 16  # all of the index
    wire.seen.clear()
    assert looked(lake, store) == expected
    assert wire.seen["Query"] == 1


def test_a_table_that_was_made_anew_or_restored_has_nothing_of_another_copy(
    lake: Lake, dynamodb_store: DynamoDBStore
) -> None:
    store = dynamodb_store
    store.merge("pets", offered(offer("a"), offer("b")))
    looked(lake, store)
    for item in store.requests.query(("pk", "pets|a")):
        store.requests.write_all(
            [{"DeleteRequest": {"Key": {name: item[name] for name in ("pk", "sk")}}}]
        )
    for item in store.requests.query(("pk", "pets#changes")):
        store.requests.write_all(
            [{"DeleteRequest": {"Key": {name: item[name] for name in ("pk", "sk")}}}]
        )
    assert [row["record_id"] for row in looked(lake, store)] == ["b"]


def test_duckdb_reads_its_own_columns_and_keeps_no_copy(lake: Lake, duckdb_store: Store) -> None:
    duckdb_store.publish("pets", "u2", rows(a="cat"), images())
    duckdb_store.merge("pets", offered(offer("a"), offer("b")))
    assert looked(lake, duckdb_store) == whole(duckdb_store)
    assert [row["label"] for row in looked(lake, duckdb_store)] == ["cat", None]
    assert not [*lake.list(answers_prefix("pets"))]
