"""Several pieces of work that ask the table together: each is answered as if it were alone."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mm_assets.contract.errors import StoreError
from mm_assets.tables import several
from mm_assets.tables.duckdb.store import DuckDBStore
from mm_assets.tables.several import ask_together
from mm_assets.tables.store import MergeResult, Query, Store
from tests.tables.offers import images, offer, offered, refusals, rows

Said = dict[str, Any]  # of one upload: what it says of records a to d, and what it was answered


def work_of(dataset: str, upload: str, said: Said) -> Callable[[Store], None]:
    """What the steps of an upload ask, in their order."""

    def work(store: Store) -> None:
        labels = dict.fromkeys(said["rows"])
        refused = refusals(*((one, "row_number") for one in said["refused"]))
        own_images = images(**{one: f"{upload}-{one}" for one in said["images"]})
        fallen = store.publish(dataset, upload, rows(**labels), own_images, refused)
        known = store.look_up(
            dataset, pa.array([*labels, *said["images"], *fallen.to_pylist()], pa.string())
        )
        said["known"] = known.column("record_id").to_pylist()
        offers = [
            offer(row["record_id"], upload=row["unlabelled_upload"],
                  image_upload=row["image_upload"] or "",
                  modality_rank=int(row["image_upload"] is not None))
            for row in known.to_pylist() if row["unlabelled_upload"]
        ]  # fmt: skip
        store.read_withdrawn(dataset, fallen.to_pylist())
        said["merged"] = store.merge(dataset, offered(*offers))
        said["offered"] = len(offers)
        found = store.read(dataset, Query(record_ids=[one["record_id"] for one in offers]))
        said["ids"] = found.column("record_id").to_pylist()
        said["own"] = store.read(dataset, Query(upload=upload, limit=2)).to_pylist()

    return work


def end_of(store: Store, dataset: str) -> tuple[Any, ...]:
    own = ("predicted_at", "run_id")
    there = store.read(dataset).drop_columns(list(own)).to_pylist()
    known = store.look_up(dataset, pa.array([*"abcd"], pa.string())).to_pylist()
    return there, known, store.counts(dataset)


some = st.sets(st.sampled_from("abcd"), max_size=3)
uploads = st.lists(
    st.fixed_dictionaries({"rows": some, "refused": some, "images": some}),
    min_size=2, max_size=6,
)  # fmt: skip


@examples(
    max_examples=4,
    phases=[Phase.generate],
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(uploads, st.integers(2, 4), st.permutations(range(6)))
def test_together_in_any_groups_they_end_as_one_by_one(
    store: Store, came: list[Said], at_once: int, order: list[int]
) -> None:
    came = [{**said, "refused": said["refused"] - said["rows"]} for said in came]
    alone, together = uuid.uuid4().hex, uuid.uuid4().hex
    with store.held():
        for number, said in enumerate(came):
            work_of(alone, f"u{number}", said)(store)
    works = [
        work_of(together, f"u{number}", came[number]) for number in order if number < len(came)
    ]
    with store.held():
        for start in range(0, len(works), at_once):
            ask_together(store, works[start : start + at_once])
        assert end_of(store, together) == end_of(store, alone)
    for said in came:
        did = said["merged"]
        assert did.inserted + did.updated + did.unchanged + did.void == said["offered"]
        assert len(said["own"]) <= 2


def test_the_one_that_the_table_refuses_costs_the_others_nothing(store: Store) -> None:
    ended: dict[str, Any] = {}

    def work(name: str, record_id: str) -> Callable[[Store], None]:
        def do(given: Store) -> None:
            try:
                ended[name] = given.merge("pets", offered(offer(record_id, upload=name)))
            except StoreError as error:
                ended[name] = error.code

        return do

    bad = "x" * 3000  # longer than a key of DynamoDB may be
    with store.held():
        ask_together(store, [work("u1", "a"), work("u2", bad), work("u3", "c")])
    assert ended["u1"] == ended["u3"] == MergeResult(1, 0, 0)
    kept = {one["record_id"] for one in store.read("pets").to_pylist()}
    if isinstance(store, DuckDBStore):
        assert kept == {"a", "c", bad}
    else:
        assert ended["u2"] == "table_refused"
        assert kept == {"a", "c"}


def test_what_fails_for_several_is_asked_for_each(
    duckdb_store: DuckDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = DuckDBStore.merge_several

    def merge_several(self: DuckDBStore, dataset: str, offers: Any) -> Any:
        if "poison" in [i for one in offers for i in one["record_id"].to_pylist()]:
            raise StoreError(code="table_refused", what="poison", where="", todo="")
        return whole(self, dataset, offers)

    monkeypatch.setattr(DuckDBStore, "merge_several", merge_several)
    ended: dict[str, Any] = {}

    def work(record_id: str) -> Callable[[Store], None]:
        def do(given: Store) -> None:
            try:
                ended[record_id] = given.merge("pets", offered(offer(record_id)))
            except StoreError as error:
                ended[record_id] = error.what

        return do

    ask_together(duckdb_store, [work(one) for one in ("a", "poison", "c")])
    assert ended == {"a": MergeResult(1, 0, 0), "poison": "poison", "c": MergeResult(1, 0, 0)}


def test_ten_uploads_ask_duckdb_as_often_as_one(
    duckdb_store: DuckDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    whole = DuckDBStore._transaction

    @contextmanager
    def transaction(self: DuckDBStore) -> Any:
        asked.append(1)
        with whole(self) as db:
            yield db

    def said(number: int) -> Said:
        return {"rows": {"a", f"r{number}"}, "refused": {"b"}, "images": ()}

    def count(numbers: range) -> int:
        asked.clear()
        works = [work_of("pets", f"u{number:02d}", said(number)) for number in numbers]
        ask_together(duckdb_store, works)
        return len(asked)

    monkeypatch.setattr(DuckDBStore, "_transaction", transaction)
    with duckdb_store.held():
        assert count(range(1)) == count(range(1, 11)) == 6
        monkeypatch.setattr(several, "FEW", 10)  # many rows are not put together
        assert count(range(11, 21)) > 40


def test_who_is_interrupted_leaves_no_thread_behind(duckdb_store: DuckDBStore) -> None:
    ended: list[str] = []

    def waits(given: Store) -> None:
        try:
            given.counts("pets")
            ended.append("answered")
        finally:
            ended.append("left")

    def breaks(given: Store) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask_together(duckdb_store, [waits, breaks, waits])
    assert ended.count("left") == 2
    assert not [one for one in threading.enumerate() if one.name == "several"]
