"""Answers given one at a time: kept at once, sent together, by several people."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mm_assets.lake.lake import Lake
from mm_assets.review import one_by_one
from mm_assets.review.one_by_one import Given, keep, leased, send_kept, standing, take_back
from mm_assets.review.settled import is_asked_twice, settled
from tests.make import dataset
from tests.review.conftest import World


def given(
    record_id: str, label: str, who: str = "Ana", at: str = "2026-01-01T10:00:00.000+00:00"
) -> Given:
    return Given(record_id, label, who, at, prediction="cat", model_version="m1")


def labels_of(world: World) -> dict[str, str]:
    found = world.store.look_up(world.spec.dataset, None).to_pylist()
    return {row["record_id"]: row["label"] for row in found}


def test_answers_are_kept_at_once_and_sent_together_with_who_and_when(world: World) -> None:
    keep(world.lake, "pets", given("plain", "dog"))
    keep(world.lake, "pets", given("007", "cat", "Ben"))
    assert {one.record_id for one in standing(world.lake, "pets").kept.values()} == {"plain", "007"}
    sent, refused = send_kept(world.lake, world.store, world.spec)
    assert sent is not None
    assert not refused
    stood = standing(world.lake, "pets")
    assert not stood.kept
    [told] = stood.sent.values()
    assert {(one.record_id, one.label, one.who) for one in told} == {
        ("plain", "dog", "Ana"), ("007", "cat", "Ben"),
    }  # fmt: skip
    world.take_in(Path(sent.key).name)
    assert labels_of(world) == {"plain": "dog", "007": "cat"}


def test_dying_before_the_answers_are_noted_as_sent_sends_them_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(world.lake, "pets", given("plain", "dog"))
    create = Lake.create_json

    def dies(lake: Lake, key: str, document: dict[str, Any]) -> bool:
        if "/review/sent/" in key:
            raise KeyboardInterrupt
        return create(lake, key, document)

    with monkeypatch.context() as patch:
        patch.setattr(Lake, "create_json", dies)
        with pytest.raises(KeyboardInterrupt):
            send_kept(world.lake, world.store, world.spec)
    assert len(standing(world.lake, "pets").kept) == 1
    sent, _ = send_kept(world.lake, world.store, world.spec)
    assert sent is not None
    assert sent.already_there
    assert not standing(world.lake, "pets").kept


def test_a_change_of_mind_replaces_ones_own_answer_and_can_be_taken_back(world: World) -> None:
    before = standing(world.lake, "pets")
    keep(world.lake, "pets", given("plain", "dog"))
    before = standing(world.lake, "pets", before)
    keep(world.lake, "pets", given("plain", "cat", at="2026-01-01T10:00:01.000+00:00"))
    [one] = standing(world.lake, "pets", before).kept.values()
    assert one.label == "cat"
    assert not take_back(world.lake, "pets", "plain", "Ben")
    assert take_back(world.lake, "pets", "plain", "Ana")
    assert not standing(world.lake, "pets").kept
    assert send_kept(world.lake, world.store, world.spec) == (None, [])


def test_who_changes_their_mind_while_answers_are_sent_loses_neither(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(world.lake, "pets", given("plain", "dog"))
    later = given("plain", "cat", at="2026-01-01T10:00:05.000+00:00")
    create = Lake.create_json

    def meanwhile(lake: Lake, key: str, document: dict[str, Any]) -> bool:
        if "/review/sent/" in key:
            keep(lake, "pets", later)
        return create(lake, key, document)

    with monkeypatch.context() as patch:
        patch.setattr(Lake, "create_json", meanwhile)
        first, _ = send_kept(world.lake, world.store, world.spec)
    assert first is not None
    world.take_in(Path(first.key).name)
    assert labels_of(world) == {"plain": "dog"}
    assert list(standing(world.lake, "pets").kept.values()) == [later]
    second, _ = send_kept(world.lake, world.store, world.spec)
    assert second is not None
    world.take_in(Path(second.key).name)
    assert labels_of(world) == {"plain": "cat"}


def test_an_older_answer_that_a_kill_left_beside_the_newer_is_not_sent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Lake, "delete", lambda *_: None)
        keep(world.lake, "pets", given("plain", "dog"))
        keep(world.lake, "pets", given("plain", "cat", at="2026-01-01T10:00:05.000+00:00"))
    sent, refused = send_kept(world.lake, world.store, world.spec)
    assert sent is not None
    assert not refused
    world.take_in(Path(sent.key).name)
    assert labels_of(world) == {"plain": "cat"}
    assert not standing(world.lake, "pets").kept


def test_of_two_who_disagree_nothing_is_sent_until_a_third_decides(world: World) -> None:
    keep(world.lake, "pets", given("plain", "dog"))
    keep(world.lake, "pets", given("plain", "cat", "Ben"))
    keep(world.lake, "pets", given("007", "cat"))
    sent, refused = send_kept(world.lake, world.store, world.spec)
    assert sent is not None
    assert not refused
    stood = standing(world.lake, "pets")
    assert {one.who for one in stood.kept.values()} == {"Ana", "Ben"}
    assert stood.settled(world.spec) == {"007"}
    world.take_in(Path(sent.key).name)
    assert labels_of(world) == {"007": "cat"}
    keep(world.lake, "pets", given("plain", "dog", "Cleo", "2026-01-01T10:00:05.000+00:00"))
    sent, _ = send_kept(world.lake, world.store, world.spec)
    assert sent is not None
    world.take_in(Path(sent.key).name)
    assert labels_of(world) == {"007": "cat", "plain": "dog"}
    stood = standing(world.lake, "pets")
    assert not stood.kept
    told = list(stood.sent.values())[-1]
    assert {one.who: one.label for one in told} == {"Ana": "dog", "Ben": "cat", "Cleo": "dog"}


def test_what_two_are_asked_of_waits_for_the_second(world: World) -> None:
    spec = dataset(review={"answered_twice": 1.0})
    keep(world.lake, "pets", given("plain", "dog"))
    assert send_kept(world.lake, world.store, spec) == (None, [])
    keep(world.lake, "pets", given("plain", "dog", "Ben", "2026-01-01T10:00:05.000+00:00"))
    sent, _ = send_kept(world.lake, world.store, spec)
    assert sent is not None
    world.take_in(Path(sent.key).name)
    assert labels_of(world) == {"plain": "dog"}
    late = given("plain", "cat", "Cleo", "2026-01-01T10:00:09.000+00:00")
    keep(world.lake, "pets", late)  # who does not overrule the two
    assert send_kept(world.lake, world.store, spec) == (None, [])
    stood = standing(world.lake, "pets")
    assert not stood.kept
    assert late in stood.given()


def test_so_large_a_share_is_asked_of_two_and_always_the_same_ones() -> None:
    names = [f"P{n:04d}" for n in range(5_000)]
    tenth = [n for n in names if is_asked_twice(dataset(review={"answered_twice": 0.1}), n)]
    fifth = [n for n in names if is_asked_twice(dataset(review={"answered_twice": 0.2}), n)]
    assert 400 < len(tenth) < 600
    assert set(tenth) < set(fifth)
    assert not any(is_asked_twice(dataset(), name) for name in names)


@pytest.mark.parametrize(
    ("labels", "stands", "of_two"),
    [
        ([], None, None), (["cat"], "cat", None), (["cat", "cat"], "cat", "cat"),
        (["cat", "dog"], None, None), (["cat", "dog", "dog"], "dog", "dog"),
        (["cat", "dog", "cow"], None, None), (["cat", "dog", "dog", "cat"], None, None),
        (["cat", "dog", "dog", "cat", "dog"], "dog", "dog"),
    ],
)  # fmt: skip
def test_a_label_stands_when_one_said_it_or_more_than_any_other(
    labels: list[str], stands: str | None, of_two: str | None
) -> None:
    assert settled(dataset(), "a", labels) == stands
    assert settled(dataset(review={"answered_twice": 1.0}), "a", labels) == of_two


def test_whoever_cannot_tell_sends_nothing_and_is_remembered(world: World) -> None:
    keep(world.lake, "pets", given("plain", ""))
    assert send_kept(world.lake, world.store, world.spec) == (None, [])
    [one] = standing(world.lake, "pets").kept.values()
    assert one.is_unsure


def test_of_several_people_each_is_shown_another_record(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = ["plain", "007", "A b"]
    assert leased(world.lake, "pets", queue, "Ana") == "plain"
    assert leased(world.lake, "pets", queue, "Ben") == "007"
    assert leased(world.lake, "pets", queue, "Ana") == "plain"  # hers still
    assert leased(world.lake, "pets", ["plain", "007"], "Cleo") is None
    later = one_by_one.now().timestamp() + one_by_one.LEASE_SECONDS
    monkeypatch.setattr(one_by_one, "now", lambda: datetime.fromtimestamp(later, UTC))
    assert leased(world.lake, "pets", ["plain"], "Cleo") is None  # until the next span is over
    much = later + one_by_one.LEASE_SECONDS
    monkeypatch.setattr(one_by_one, "now", lambda: datetime.fromtimestamp(much, UTC))
    assert leased(world.lake, "pets", ["plain"], "Cleo") == "plain"
    spans = {item.key.split("/")[-2] for item in world.lake.list("datasets/pets/review/leases/")}
    assert len(spans) == 1  # what is over is forgotten


def test_an_answer_for_a_record_whose_label_came_meanwhile_is_noted_and_not_sent(
    world: World,
) -> None:
    keep(world.lake, "pets", given("plain", "dog"))
    sent, _ = send_kept(world.lake, world.store, world.spec)
    assert sent is not None
    world.take_in(Path(sent.key).name)
    keep(world.lake, "pets", replace(given("plain", "dog", "Ben"), at="2026-01-01T11:00:00+00:00"))
    assert send_kept(world.lake, world.store, world.spec) == (None, [])
    assert not standing(world.lake, "pets").kept
    assert len(standing(world.lake, "pets").sent) == 2
