"""Subscribers learn of every change of the predictions table, whatever dies in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.predictions import outbox
from mm_assets.predictions.event import SCHEMA, event, schema
from mm_assets.predictions.outbox import Note, Told, finish, left_behind, note, publish_changes
from mm_assets.queues import targets
from mm_assets.queues.schemas import path_of, text_of
from mm_assets.tables.open import open_store
from mm_assets.tables.store import COLUMNS, Query, Store
from tests.queues.subscriber import Subscriber, subscribed
from tests.tables.offers import offer, offered


@pytest.fixture(params=["folder", "dynamodb"])
def lake(request: pytest.FixtureRequest) -> Lake:
    """A lake in a folder, with a table in DuckDB or in DynamoDB."""
    return Lake(request.getfixturevalue(f"{request.param}_settings"))


@pytest.fixture
def reader(lake: Lake, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Subscriber]:
    with subscribed(s3_endpoint, monkeypatch) as made:
        renew(lake)
        yield made


@pytest.fixture
def store(lake: Lake) -> Store:
    return open_store(lake.settings)


def renew(lake: Lake) -> None:
    """Take over what the environment says by now."""
    lake.settings = Settings.from_environment()


def merge(lake: Lake, store: Store, *offers: dict[str, Any], run_id: str = "") -> Note | None:
    """A note, and a merge; returns the note."""
    table = offered(*offers)
    name = note(lake, store, "pets", table["record_id"], "u", run_id)
    store.merge("pets", table)
    return name


def told(lake: Lake, store: Store, *offers: dict[str, Any]) -> Told:
    return publish_changes(lake, store, "pets", merge(lake, store, *offers))


def said(details: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return sorted((one["record_id"], one["kind"]) for one in details)


def in_table(store: Store) -> dict[str, str]:
    return {r["record_id"]: r["prediction"] for r in store.read("pets", Query()).to_pylist()}


SURE = {"needs_review": False, "prediction": "cat"}


def test_a_merge_tells_of_what_it_changed_and_of_nothing_else(
    lake: Lake, store: Store, reader: Subscriber
) -> None:
    assert told(lake, store, offer("a"), offer("b", **SURE)) == Told(sent=2)
    assert said(reader.read()) == [("a", "new"), ("b", "new")]
    assert told(lake, store, offer("a"), offer("b", **SURE)).sent == 0
    older = offer("a", upload="u0")
    assert told(lake, store, older).sent == 0
    renewed = offer("b", model_generation=2, **SURE)
    assert told(lake, store, offer("a", model_generation=2), renewed).sent == 1
    assert said(reader.read()) == [("a", "changed")]
    assert reader.holds() == in_table(store)
    assert left_behind(lake, "pets") == []


def test_every_event_keeps_to_the_schema_and_can_be_filtered(
    lake: Lake, store: Store, reader: Subscriber
) -> None:
    probabilities = json.dumps({"cat": 0.9, "dog": 0.1})
    told(lake, store, offer("a", probabilities=probabilities), offer("ü\n'", **SURE))
    reader.read()
    for message in reader.messages:
        jsonschema.validate(json.loads(message["Body"]), json.loads(path_of(SCHEMA).read_text()))
        attributes = {n: v["StringValue"] for n, v in message["MessageAttributes"].items()}
        detail = json.loads(message["Body"])["detail"]
        assert attributes == {
            "schema": SCHEMA, "dataset": "pets", "kind": "new",
            "needs_review": json.dumps(detail["answer"]["needs_review"]),
        }  # fmt: skip
    assert reader.answers["pets", "a"]["answer"]["probabilities"] == {"cat": 0.9, "dog": 0.1}


def test_the_schema_that_is_shipped_is_that_of_the_classes() -> None:
    assert path_of(SCHEMA).read_text() == text_of(schema())


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("all", [("a", "renewed"), ("b", "changed"), ("c", "new")]),
        ("changed", [("b", "changed"), ("c", "new")]),
        ("review", [("b", "changed")]),
    ],
)
def test_subscribers_choose_all_or_changed_or_review(
    lake: Lake,
    store: Store,
    reader: Subscriber,
    monkeypatch: pytest.MonkeyPatch,
    wanted: str,
    expected: list[tuple[str, str]],
) -> None:
    told(lake, store, offer("a", **SURE), offer("b"))
    reader.read()
    monkeypatch.setenv("MM_RESULTS_SEND", wanted)
    renew(lake)
    newer = {"model_generation": 2, **SURE}
    told(lake, store, offer("a", **newer), offer("b", **newer), offer("c", **newer))
    assert said(reader.read()) == expected


KILLED = """
import os, signal, sys
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.predictions.outbox import note, publish_changes
from mm_assets.predictions import outbox
from mm_assets.tables.open import open_store
from tests.tables.offers import offer, offered

lake = Lake(Settings.from_environment())
store = open_store(lake.settings)
table = offered(offer("a"), offer("b", model_generation=2))
name = note(lake, store, "pets", table["record_id"], "u", "run-1")
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[1] == "before the merge": die()
store.merge("pets", table)
if sys.argv[1] == "before telling": die()
lake.delete = die
publish_changes(lake, store, "pets", name)
"""


@pytest.mark.parametrize("moment", ["before the merge", "before telling", "after telling"])
def test_a_kill_between_merge_and_publishing_loses_no_event(
    lake: Lake, store: Store, reader: Subscriber, moment: str
) -> None:
    told(lake, store, offer("b"))
    reader.read()
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, moment], check=False, capture_output=True, text=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    first = reader.read()
    told(lake, store, offer("a"), offer("b", model_generation=2))  # the run is tried again
    assert said(reader.read()) == ([("a", "new"), ("b", "changed")] * (moment[-5:] == "merge"))
    assert finish(lake, store, "pets", lambda _: False) == Told()  # it may still be at work
    assert len(left_behind(lake, "pets")) == 1
    finish(lake, store, "pets", {"run-1": True}.get)
    again = reader.read()
    assert said(reader.came)[-2:] == [("b", "changed"), ("b", "new")]
    assert reader.holds() == in_table(store)
    assert left_behind(lake, "pets") == []
    if moment == "after telling":
        assert {one["id"] for one in first} == {one["id"] for one in again}  # told twice, one ID


def test_an_answer_that_was_taken_back_is_told_of(
    lake: Lake, store: Store, reader: Subscriber
) -> None:
    told(lake, store, offer("b"))
    was = {name: offer("a")[name] for name in COLUMNS}
    name = note(lake, store, "pets", offered(offer("b"))["record_id"], "u", "", [was])
    assert publish_changes(lake, store, "pets", name).sent == 1
    reader.read()
    assert (reader.came[-1]["kind"], reader.came[-1]["answer"]) == ("withdrawn", None)
    assert reader.holds() == in_table(store)


def test_an_older_event_that_comes_late_changes_nothing(
    lake: Lake, store: Store, reader: Subscriber
) -> None:
    told(lake, store, offer("a"))
    old = reader.read()[0]
    told(lake, store, offer("a", upload="u2"))
    reader.read()
    reader.keep(reader.answers, {"detail": old})
    assert reader.holds() == in_table(store)


def test_while_the_queue_is_away_the_note_stays_and_the_merge_stands(
    lake: Lake, store: Store, reader: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = lake.settings
    lake.settings = there.model_copy(update={"results": f"{there.results}-gone"})
    left = told(lake, store, offer("a"))
    assert (left.sent, left.left) == (0, 1)
    assert "queue_unreachable" in left.reason
    assert finish(lake, store, "pets", lambda _: True).left == 1
    lake.settings = there
    assert finish(lake, store, "pets", lambda _: True) == Told(sent=1)
    reader.read()
    assert reader.holds() == in_table(store)


def test_a_run_that_was_given_up_too_early_tells_what_it_changed_all_the_same(
    lake: Lake, store: Store, reader: Subscriber
) -> None:
    table = offered(offer("a"))
    noted = note(lake, store, "pets", table["record_id"], "u", "run-1")
    assert finish(lake, store, "pets", lambda _: True) == Told()  # it seemed to be dead
    assert left_behind(lake, "pets") == []
    store.merge("pets", table)
    assert publish_changes(lake, store, "pets", noted) == Told(sent=1)
    assert said(reader.read()) == [("a", "new")]


def test_nobody_is_told_where_no_setting_says_so(lake: Lake, store: Store) -> None:
    assert told(lake, store, offer("a")) == Told()
    assert left_behind(lake, "pets") == []


def test_a_run_that_is_not_known_here_is_over_after_a_day(
    lake: Lake, store: Store, reader: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    merge(lake, store, offer("a"), run_id="of-another-instance")
    assert finish(lake, store, "pets", lambda _: None) == Told()
    monkeypatch.setattr(outbox, "UNKNOWN_SECONDS", 0.0)
    assert finish(lake, store, "pets", lambda _: None) == Told(sent=1)


# -- whatever happens, in whatever order ----------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.integers(1, 4),  # the model's generation: the greatest stays
        st.sampled_from(["told", "killed", "killed before the merge", "finished"]),
    ),
    max_size=12,
)


@examples(max_examples=25, deadline=None, derandomize=True,
          suppress_health_check=list(HealthCheck))  # fmt: skip
@given(STEPS)
def test_whatever_is_cut_off_the_subscriber_ends_with_the_table(
    folder_settings: Settings, steps: list[tuple[str, int, str]]
) -> None:
    lake = Lake(folder_settings)
    lake.settings.results = "events://none"
    store, dataset = open_store(lake.settings), f"pets-{os.urandom(6).hex()}"
    answers: dict[str, dict[str, Any]] = {}

    class Heard:
        where = "a list"

        def put(self, messages: Any) -> list[tuple[str, str, bool]]:
            for message in messages:
                detail = message.body["detail"]
                before = answers.get(detail["record_id"])
                if before is None or detail["sequence"] >= before["sequence"]:
                    answers[detail["record_id"]] = detail
            return [("", "", False)] * len(messages)

        def look(self) -> str:
            return "a list"

    patch = pytest.MonkeyPatch()
    patch.setattr(outbox, "open_target", lambda _: Heard())
    for record, generation, what in steps:
        if what == "finished":
            finish(lake, store, dataset, lambda _: True)
            continue
        table = offered(offer(record, model_generation=generation))
        name = note(lake, store, dataset, table["record_id"], "u", "")
        if what != "killed before the merge":
            store.merge(dataset, table)
        if what == "told":
            publish_changes(lake, store, dataset, name)
    finish(lake, store, dataset, lambda _: True)
    patch.undo()
    rows = store.read(dataset, Query()).to_pylist()
    heard = {record: one["answer"]["prediction"] for record, one in answers.items()}
    assert heard == {row["record_id"]: row["prediction"] for row in rows}
    assert left_behind(lake, dataset) == []


def test_an_event_too_long_for_a_message_leaves_out_what_is_long() -> None:
    row = {**offer("a"), "probabilities": json.dumps({f"class {n}": 0.1 for n in range(30_000)})}
    made = event("pets", "a", "new", row, "note", 1)
    assert len(made.text()) < targets.MOST_BYTES
    assert made.body["detail"]["left_out"] == ["probabilities"]
    jsonschema.validate(made.body, schema())
