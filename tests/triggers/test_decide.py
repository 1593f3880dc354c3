"""What the sensors decide, without Dagster: nothing starves, nothing is forgotten or done twice."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mm_assets.triggers.decide import choose, next_wave, should_train

quick = examples(max_examples=200, deadline=None, derandomize=True)
keys = st.sets(st.integers(0, 99).map(lambda n: f"u{n:02d}"), max_size=12)


# -- choose ---------------------------------------------------------------------------------------


def test_the_next_keys_are_those_behind_the_last_one_going_round() -> None:
    assert choose(list("abcde"), None, 2) == (["a", "b"], "b")
    assert choose(list("abcde"), "b", 2) == (["c", "d"], "d")
    assert choose(list("abcde"), "d", 2) == (["e", "a"], "a")
    assert choose(list("ab"), "a", 5) == (["b", "a"], "a")
    assert choose([], "d", 2) == ([], "d")
    assert choose([], None, 2) == ([], "")


@quick
@given(keys, st.none() | st.sampled_from(["", "u00", "u50", "u99", "gone"]), st.integers(1, 5))
def test_a_tick_takes_a_chunk_of_what_is_pending_each_key_once(
    pending: set[str], after: str | None, chunk: int
) -> None:
    chosen, _ = choose(sorted(pending), after, chunk)
    assert len(chosen) == len(set(chosen)) == min(chunk, len(pending))
    assert set(chosen) <= pending


@quick
@given(keys, keys, st.integers(1, 4), st.data())
def test_no_key_starves_behind_ones_that_never_finish(
    finishing: set[str], stuck: set[str], chunk: int, data: st.DataObject
) -> None:
    pending = finishing | stuck
    everything, reached = set(pending), set()
    cursor = data.draw(st.none() | st.sampled_from(["", "u50"]))
    for _ in range(-(-len(everything) // chunk) + 1):
        chosen, cursor = choose(sorted(pending), cursor, chunk)
        reached |= set(chosen)
        pending -= set(chosen) - stuck
    assert reached == everything


@quick
@given(st.integers(1, 4), st.lists(keys, min_size=1, max_size=5))
def test_a_key_is_reached_although_others_come_in_between(
    chunk: int, arrivals: list[set[str]]
) -> None:
    pending: set[str] = set()
    reached: set[str] = set()
    cursor: str | None = None
    for arriving in arrivals:
        pending |= arriving
        chosen, cursor = choose(sorted(pending), cursor, chunk)
        reached |= set(chosen)
    for _ in range(len(pending)):
        chosen, cursor = choose(sorted(pending), cursor, chunk)
        reached |= set(chosen)
    assert reached == pending


# -- should_train ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labelled", "trained_on", "train", "words"),
    [
        (0, None, False, "0 labelled records; 50 are needed"),
        (49, None, False, "50 are needed"),
        (50, None, True, "no training yet"),
        (49, 10, False, "50 are needed"),
        (100, 100, False, "the next training comes at 120"),
        (119, 100, False, "the next training comes at 120"),
        (120, 100, True, "grew from 100 to 120"),
        (90, 100, False, "next training"),
    ],
)
def test_a_training_comes_first_when_there_is_enough_and_then_when_it_grew(
    labelled: int, trained_on: int | None, train: bool, words: str
) -> None:
    decided, why = should_train(labelled, trained_on, minimum=50, growth=0.2)
    assert decided is train
    assert words in why


@quick
@given(st.integers(0, 10_000), st.integers(1, 100), st.floats(0.001, 3))
def test_the_same_records_are_never_trained_on_twice_by_growth(
    labelled: int, minimum: int, growth: float
) -> None:
    assert not should_train(labelled, labelled, minimum, growth)[0]


# -- next_wave ------------------------------------------------------------------------------------


class Uploads:
    """Uploads that begin and finish while ticks ask what is to be predicted again."""

    def __init__(self) -> None:
        self.known: list[str] = []
        self.finished: set[str] = set()
        self.cursor: str | None = None
        self.again: Counter[str] = Counter()

    def begin(self, *names: str) -> None:
        self.known += names

    def finish(self, *names: str) -> None:
        self.finished |= set(names)

    def tick(self, champions: str, chunk: int = 50) -> list[str]:
        chosen, self.cursor = next_wave(self.cursor, champions, self.finished, self.known, chunk)
        self.again.update(chosen)
        assert len(chosen) <= chunk
        assert set(chosen) <= self.finished
        return chosen


def test_every_finished_upload_is_predicted_again_once_a_chunk_at_a_time() -> None:
    uploads = Uploads()
    uploads.begin("a", "b", "c")
    uploads.finish("c", "a", "b")
    assert [uploads.tick("1-0", 2) for _ in range(3)] == [["a", "b"], ["c"], []]


def test_uploads_under_way_at_a_promotion_are_taken_when_they_are_finished() -> None:
    uploads = Uploads()
    uploads.begin("a", "b", "c")
    uploads.finish("b")
    assert uploads.tick("1-1") == ["b"]
    assert uploads.tick("1-1") == []
    uploads.finish("a")
    assert uploads.tick("1-1") == ["a"]
    uploads.finish("c")
    assert uploads.tick("1-1") == ["c"]
    assert uploads.tick("1-1") == []


def test_another_promotion_starts_from_the_beginning() -> None:
    uploads = Uploads()
    uploads.begin("a", "b", "c")
    uploads.finish("a", "b")
    assert uploads.tick("1-0", 1) == ["a"]
    assert uploads.tick("1-1", 1) == ["a"]
    uploads.finish("c")
    assert uploads.tick("1-1") == ["b", "c"]


def test_the_cursor_is_small_and_can_be_read() -> None:
    finished = {f"u{i:05d}" for i in range(5000)}
    _, cursor = next_wave(None, "1-1", finished, sorted(finished))
    assert set(json.loads(cursor)) >= {"champions", "after", "late"}
    assert len(cursor) < 200


def story(data: st.DataObject, chunk: int) -> tuple[Uploads, dict[str, set[str]]]:
    """Uploads that begin and finish before, during and after a promotion, between ticks."""
    names = sorted(data.draw(keys))
    began_before = data.draw(st.sets(st.sampled_from(names))) if names else set()
    order = data.draw(st.permutations(names))
    uploads = Uploads()
    uploads.begin(*sorted(began_before))
    early = data.draw(st.sets(st.sampled_from(sorted(began_before)))) if began_before else set()
    uploads.finish(*early)
    uploads.tick("1-1", chunk)
    for name in order:
        if name not in uploads.known:
            uploads.begin(name)
        if data.draw(st.booleans()):
            uploads.tick("1-1", chunk)
        uploads.finish(name)
    for _ in range(len(names) + 2):
        uploads.tick("1-1", chunk)
    return uploads, {"before": began_before, "after": set(names) - began_before}


@quick
@given(st.data(), st.integers(1, 4))
def test_what_began_before_a_promotion_is_predicted_again_exactly_once(
    data: st.DataObject, chunk: int
) -> None:
    uploads, began = story(data, chunk)
    assert {name: uploads.again[name] for name in began["before"]} == dict.fromkeys(
        began["before"], 1
    )
    assert all(uploads.again[name] <= 1 for name in began["after"])


def test_what_began_after_a_promotion_with_the_greatest_key_is_not_predicted_again() -> None:
    uploads = Uploads()
    uploads.begin("a")
    uploads.finish("a")
    assert uploads.tick("1-1") == ["a"]
    uploads.begin("b")
    uploads.finish("b")
    assert uploads.tick("1-1") == []


@quick
@given(st.data(), st.integers(1, 4), st.sampled_from([None, "{}", '{"champions": "0-1"}']))
def test_a_tick_can_be_repeated_when_its_cursor_was_not_kept(
    data: st.DataObject, chunk: int, cursor: Any
) -> None:
    finished, known = data.draw(keys), data.draw(keys)
    first = next_wave(cursor, "1-1", finished, sorted(known | finished), chunk)
    assert next_wave(cursor, "1-1", finished, sorted(known | finished), chunk) == first
