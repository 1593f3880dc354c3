"""What the sensors decide, without Dagster: nothing starves, nothing is forgotten or done twice."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mm_assets.orchestration.triggers.decide import (
    LONGEST_PAUSE,
    Try,
    choose,
    is_through,
    next_step,
    next_wave,
    should_train,
)

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
        under_way = set(self.known) - self.finished
        chosen, self.cursor = next_wave(self.cursor, champions, self.finished, under_way, chunk)
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
    _, cursor = next_wave(None, "1-1", finished, set())
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
    first = next_wave(cursor, "1-1", finished, known, chunk)
    assert next_wave(cursor, "1-1", finished, known, chunk) == first


def test_an_upload_whose_run_died_is_not_waited_for() -> None:
    _, cursor = next_wave(None, "1-1", {"a"}, {"b"})
    assert not is_through(cursor, "1-1")
    chosen, cursor = next_wave(cursor, "1-1", {"a"}, set())
    assert chosen == []
    assert is_through(cursor, "1-1")


@pytest.mark.parametrize("cursor", ["{", "[]", "5", '{"champions": "1-1"}', '{"after": "u"}'])
def test_a_cursor_of_another_version_starts_the_wave_again(cursor: str) -> None:
    assert not is_through(cursor, "1-1")
    assert next_wave(cursor, "1-1", {"a"}, set())[0] == ["a"]


# -- next_step ------------------------------------------------------------------------------------

states = st.sampled_from(["running", "succeeded", "failed", "canceled"])
histories = st.lists(st.builds(Try, st.just("run"), states, st.floats(0, 1e6), st.booleans()))


def failed(*moments: float) -> list[Try]:
    return [Try(f"run {moment}", "failed", moment) for moment in moments]


def test_an_upload_without_a_try_is_run_at_once() -> None:
    step = next_step([], now=0.0, maximum=5, pause=15)
    assert (step.do, step.number) == ("run", 1)


def test_pauses_grow_fourfold_up_to_an_hour() -> None:
    for tries, pause in ((1, 15), (2, 60), (3, 240), (4, 960), (5, LONGEST_PAUSE)):
        before = failed(*range(tries))
        ended = before[-1].ended
        assert next_step(before, ended + pause - 1, 999, 15).do == "wait"
        step = next_step(before, ended + pause, 999, 15)
        assert (step.do, step.number) == ("run", tries + 1)


def test_a_thousand_tries_are_no_overflow() -> None:
    assert next_step(failed(*range(999)), 1e6, 1000, 15).do == "run"


def test_a_run_that_a_person_canceled_is_not_tried_again() -> None:
    step = next_step([Try("a", "failed"), Try("b", "canceled")], 1e9, 5, 15)
    assert (step.do, step.number, step.reason) == ("set aside", 2, "its run was canceled")


def test_runs_of_people_are_waited_for_but_do_not_count() -> None:
    theirs = [Try(str(n), "failed", 0.0, counts=False) for n in range(9)]
    assert next_step(theirs, 0.0, 1, 15).do == "run"
    assert next_step([*theirs, Try("x", "running", counts=False)], 0.0, 1, 15).do == "wait"
    assert next_step([Try("x", "canceled", counts=False)], 0.0, 1, 15).do == "run"


def test_a_clock_that_jumped_holds_no_upload_back_for_longer_than_a_pause() -> None:
    assert next_step(failed(1e9), 0.0, 5, 15).do == "run"
    assert next_step(failed(10.0), 8.0, 5, 15).do == "wait"  # two machines differ by a little


@quick
@given(histories, st.floats(0, 2e6), st.integers(1, 6), st.floats(0, 100))
def test_every_history_leads_to_one_step_and_in_the_end_out_of_waiting(
    tries: list[Try], now: float, maximum: int, pause: float
) -> None:
    counted = [one for one in tries if one.counts]
    step = next_step(tries, now, maximum, pause)
    if any(one.state == "running" for one in tries):
        assert step.do == "wait"
        return
    if step.do == "run":
        assert step.number == len(counted) + 1 <= maximum
    if step.do == "set aside":
        assert counted
        assert step.number == len(counted)
        assert len(counted) >= maximum or counted[-1].state == "canceled"
    assert next_step(tries, 1e9, maximum, pause).do != "wait"


@quick
@given(st.integers(1, 8), st.floats(0, 1000), st.lists(st.floats(0, 5000), max_size=60))
def test_an_upload_that_always_fails_is_tried_exactly_so_often(
    maximum: int, pause: float, waits: list[float]
) -> None:
    tries: list[Try] = []
    now = 0.0
    for wait in [*waits, *[LONGEST_PAUSE] * (maximum + 1)]:
        step = next_step(tries, now, maximum, pause)
        if step.do == "set aside":
            break
        if step.do == "run":
            assert step.number == len(tries) + 1
            tries.append(Try(str(len(tries)), "failed", now))
        now += wait
    assert len(tries) == maximum
    assert next_step(tries, now, maximum, pause).do == "set aside"
