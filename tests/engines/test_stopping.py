"""Ctrl-C stops what learns once, where somebody waits for it, and nowhere else."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from dagster import DagsterExecutionInterruptedError
from dagster._core.errors import raise_execution_interrupts

from mm_assets.engines.shared.stopping import (
    Stopped,
    interruptible,
    is_asked,
    keeping_the_best,
    learning,
)


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """What a shell starts in the background is deaf to Ctrl-C, and so would be these tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


def test_the_first_ctrl_c_stops_and_the_second_ends() -> None:
    with keeping_the_best(), learning():
        with pytest.raises(Stopped), interruptible():
            ctrl_c()
        assert is_asked()
        with pytest.raises(KeyboardInterrupt):
            ctrl_c()


def test_dagster_is_given_the_second_ctrl_c() -> None:
    with keeping_the_best(), raise_execution_interrupts(), learning():
        with pytest.raises(Stopped), interruptible():
            ctrl_c()
        with pytest.raises(DagsterExecutionInterruptedError):
            ctrl_c()


def test_between_two_members_ctrl_c_stops_before_the_next_one() -> None:
    with keeping_the_best(), learning():
        with interruptible():
            pass
        ctrl_c()
        with pytest.raises(Stopped), interruptible():
            pytest.fail("nothing more is learnt")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_for_which_nobody_waits_is_ended_as_ever(number: signal.Signals) -> None:
    ended = pytest.raises(DagsterExecutionInterruptedError)
    with raise_execution_interrupts(), ended, learning(), interruptible():
        signal.raise_signal(number)
    assert not is_asked()


def test_sigterm_ends_also_where_somebody_waits() -> None:
    with keeping_the_best(), raise_execution_interrupts(), learning(), interruptible():
        with pytest.raises(DagsterExecutionInterruptedError):
            signal.raise_signal(signal.SIGTERM)
        assert not is_asked()


def test_an_engine_that_cannot_be_stopped_is_ended() -> None:
    with keeping_the_best(), learning(), pytest.raises(KeyboardInterrupt):
        ctrl_c()


def test_what_heard_ctrl_c_before_hears_it_again_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT)
    with keeping_the_best():
        with pytest.raises(Stopped), learning(), interruptible():
            ctrl_c()
        assert signal.getsignal(signal.SIGINT) is before
        with learning(), pytest.raises(Stopped), interruptible():
            pytest.fail("it was asked for already")
    assert signal.getsignal(signal.SIGINT) is before
    with learning(), interruptible():
        pass
    assert not is_asked()


def test_one_inside_another_stops_the_inner_one() -> None:
    with keeping_the_best(), learning(), pytest.raises(Stopped), interruptible():
        with interruptible():
            pass
        ctrl_c()


def test_in_another_thread_nothing_is_heard_and_nothing_fails() -> None:
    done: list[Any] = []

    def learn() -> None:
        with learning(), interruptible():
            done.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    with keeping_the_best():
        thread = threading.Thread(target=learn)
        thread.start()
        thread.join()
    assert done == [before]


def test_an_engine_inside_another_does_not_end_the_hearing_of_the_outer_one() -> None:
    with keeping_the_best(), learning():
        with learning(), interruptible():
            pass
        ctrl_c()
        assert is_asked()
        with pytest.raises(Stopped), interruptible():
            pytest.fail("nothing more is learnt")
