"""A run that stops and dies where it is told to.

It has a thread of its own, but only one run moves at a time: it goes on until it ends, or until
the call to the lake or the table before which it shall stop. There it waits, as a slow run would,
while others go on, or it dies, as a process that is killed would: no later call does anything.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake


class Crash(BaseException):
    """The process is gone: nothing catches this."""


@dataclass(frozen=True)
class Until:
    """How far a run goes: before the n-th call from here, or before the next one of that name.

    dies_after: so many calls and requests (of DynamoDB) later it is killed.
    """

    calls: int | None = None
    name: str | None = None
    dies_after: int | None = None


TO_THE_END = Until()


class Process:
    """One run. `error` is what it failed with, if not by a crash."""

    def __init__(self, work: Callable[[Process], None]) -> None:
        self.ended = False
        self.dead = False
        self.error: BaseException | None = None
        self._until = TO_THE_END
        self._calls = 0
        self._left: int | None = None  # calls and requests until it dies
        self._lock = threading.Lock()
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def go_on(self, until: Until = TO_THE_END) -> None:
        """Let it go on as far as `until`; returns when it stands still or has ended."""
        if self.ended:
            return
        self._until, self._calls, self._left = until, 0, until.dies_after
        self._go.release()
        self._stopped.acquire()
        if self.error is not None:
            raise self.error

    def kill(self) -> None:
        """It dies where it stands."""
        self.dead = True
        self.go_on()

    def call(self, name: str) -> None:
        """The run is about to call this."""
        self.request()
        if threading.current_thread() is not self._thread:
            return
        self._calls += 1
        if self._calls == self._until.calls or name == self._until.name:
            self._stand_still()

    def request(self) -> None:
        """One step towards its death, if it shall die."""
        with self._lock:
            if self._left is not None:
                self._left -= 1
                self.dead |= self._left < 0
            if self.dead:
                raise Crash

    def _stand_still(self) -> None:
        self._stopped.release()
        self._go.acquire()
        if self.dead:
            raise Crash

    def _run(self, work: Callable[[Process], None]) -> None:
        self._go.acquire()
        try:
            if not self.dead:
                work(self)
        except Crash:
            pass
        except BaseException as error:
            self.error = error
        self.ended = True
        self._stopped.release()


class WatchedLake(Lake):
    """A lake as one run sees it; it shares the connections of `lake`."""

    def __init__(self, settings: Settings, process: Process, lake: Lake) -> None:
        super().__init__(settings, lake.s3_client if settings.is_s3 else None)
        self._store = lake.store
        self.process = process


class WatchedStore:
    """The table as one run sees it."""

    def __init__(self, store: Any, process: Process) -> None:
        self.store, self.process = store, process


def _watch(kind: type, base: Callable[[Any], Any], name: str) -> None:
    def watched(self: Any, *arguments: Any, **named: Any) -> Any:
        self.process.call(name)
        return getattr(base(self), name)(*arguments, **named)

    setattr(kind, name, watched)


for _name in (
    "list", "top", "names", "stat", "read", "fetch", "open", "read_range",
    "write", "create_json", "delete", "move",
):  # fmt: skip
    _watch(WatchedLake, lambda lake: super(WatchedLake, lake), _name)
for _name in (
    "publish", "withdraw", "stated", "naming", "look_up", "merge", "read", "read_withdrawn",
):  # fmt: skip
    _watch(WatchedStore, lambda watched: watched.store, _name)
