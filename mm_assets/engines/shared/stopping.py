"""Ctrl-C while something is learnt: stop there, and go on with the best so far.

An engine that has something to show before it is through puts `interruptible()` around what takes
long, and finishes with what it has when `Stopped` is raised in it:

    try:
        for member in members:
            with interruptible():
                member.fit(...)
    except Stopped:
        if nothing_learnt:
            raise  # then the run ends, as by any other Ctrl-C

Only where a person waits (`keeping_the_best`, which `mm train` and the API set) does Ctrl-C mean
that, and only once: the next one ends the run. A run of the daemon, which is ended by a signal,
too, stays ended; and so does an engine that knows nothing of this.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Stopped(BaseException):
    """A person wants no more to be learnt.

    No `Exception`, which libraries swallow, and no KeyboardInterrupt, of which Lightning makes an
    end of the process.
    """


class _State:
    """Of this process: only its main thread ever hears a signal."""

    allowed = False  # whether a person waits
    asked = False  # whether Ctrl-C was heard
    learning = False  # whether an engine is learning that can be stopped
    inside = False  # whether it can be stopped this moment
    before: Any = None  # who heard Ctrl-C before


_state = _State()


@contextmanager
def keeping_the_best() -> Iterator[None]:
    """Inside, the first Ctrl-C while an engine learns keeps the best so far."""
    _state.allowed, _state.asked = True, False
    try:
        yield
    finally:
        _state.allowed = _state.asked = False


def is_asked() -> bool:
    """Whether Ctrl-C was heard, so that nothing more should begin to learn."""
    return _state.asked


@contextmanager
def learning() -> Iterator[None]:
    """Around the training of one engine, so that Ctrl-C between its members is not lost."""
    if not _state.allowed or threading.current_thread() is not threading.main_thread():
        yield
        return
    outer, _state.learning = _state.learning, True
    try:
        yield
    finally:
        _state.learning = outer
        if not outer:
            _state.inside = False
            _listen_no_more()


@contextmanager
def interruptible() -> Iterator[None]:
    """Around what takes long: the first Ctrl-C raises `Stopped` in it, at once.

    One that came since the last `interruptible` raises it on entry, so what was through then is
    not lost. Does nothing outside `keeping_the_best` and `learning`.
    """
    if not _state.learning or threading.current_thread() is not threading.main_thread():
        yield
        return
    if _state.asked:
        raise Stopped
    outer = _state.inside
    try:
        _listen()
        _state.inside = True
        yield
    finally:
        _state.inside = outer


def _listen() -> None:
    """From the first `interruptible` on, until the engine is through. Not before: it may have none.

    SIGTERM is left alone: it ends the run.
    """
    if _state.before is None:
        _state.before = signal.getsignal(signal.SIGINT) or signal.default_int_handler
        signal.signal(signal.SIGINT, _heard)


def _listen_no_more() -> None:
    if _state.before is not None:
        signal.signal(signal.SIGINT, _state.before)
        _state.before = None


def _heard(number: int, frame: FrameType | None) -> None:
    if not _state.asked:
        _state.asked = True
        if _state.inside:
            raise Stopped
    elif callable(_state.before):
        _state.before(number, frame)
    elif _state.before is signal.SIG_DFL:
        raise KeyboardInterrupt
