"""Requests that wait at the same time are answered together.

Nobody waits for company: what has come is asked about at once, and what comes meanwhile is the
next batch. So a lone request costs what it costs, and under load batches grow by themselves. What
waits is bounded; a request beyond that is refused at once, with the time after which to try again.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from mm_assets.serving.notes import ANSWER, WAIT, note
from mm_assets.serving.predictor import Answer
from mm_assets.serving.reading import Read

MOST_TOGETHER = 64  # records of different requests; a request itself is never torn apart
Work = Callable[[Sequence[Read]], list[Answer]]
Seen = Callable[[int, float, float], None]


class Overloaded(Exception):  # noqa: N818  it speaks of the moment
    """No more may wait. retry_after: seconds, about the time until what waits is done."""

    def __init__(self, retry_after: int) -> None:
        self.retry_after = retry_after
        super().__init__(retry_after)


class LaneClosed(Exception):  # noqa: N818
    """This lane takes nothing more."""


@dataclass(eq=False)
class _Waiting:
    reads: Sequence[Read]
    answers: asyncio.Future[list[Answer]]
    since: float
    began: float = 0.0


class Lane:
    """The requests to one dataset, in the order in which they came. Of one event loop.

    work: answers records; it runs in a thread of this lane. most_waiting: records that may wait.
    seen: is told of each batch: how many records, seconds that its oldest waited, seconds it took.
    """

    def __init__(
        self, work: Work, *, most_waiting: int, seen: Seen = lambda _n, _w, _s: None
    ) -> None:
        self._work = work
        self._most_waiting = most_waiting
        self._seen = seen
        self._waiting: deque[_Waiting] = deque()
        self._records = 0  # that wait
        self._rate = 0.0  # records a second, lately
        self._came = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="answer")
        # It outlives the request that it is made for, so it takes nothing of that along.
        self._task = asyncio.get_running_loop().create_task(
            self._run(), context=contextvars.Context()
        )
        self._closed = False

    @property
    def waiting(self) -> int:
        """Records that wait."""
        return self._records

    async def answers(self, reads: Sequence[Read]) -> list[Answer]:
        """Raises Overloaded, LaneClosed."""
        if self._closed:
            raise LaneClosed
        if self._records and self._records + len(reads) > self._most_waiting:
            raise Overloaded(max(1, math.ceil(self._records / self._rate)) if self._rate else 1)
        future: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(reads, future, time.perf_counter())
        self._waiting.append(waiting)
        self._records += len(reads)
        self._came.set()
        try:
            answers = await future
        except asyncio.CancelledError:
            self._leave(waiting)
            raise
        told = note()
        told.stage(WAIT, waiting.since, waiting.began)
        told.stage(ANSWER, waiting.began, time.perf_counter())
        return answers

    def _leave(self, waiting: _Waiting) -> None:
        """Who went away makes room for others at once, unless it is being answered already."""
        with contextlib.suppress(ValueError):
            self._waiting.remove(waiting)
            self._records -= len(waiting.reads)

    async def close(self) -> None:
        """Answer what waits, then stop."""
        self._closed = True
        self._came.set()
        await self._task
        self._thread.shutdown(wait=False)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._came.wait()
            self._came.clear()
            while some := self._next():
                reads = [read for one in some for read in one.reads]
                began = time.perf_counter()
                for one in some:
                    one.began = began
                try:
                    said = await loop.run_in_executor(self._thread, self._work, reads)
                except Exception as error:  # noqa: BLE001  whoever asked is told
                    _fail(some, error)
                else:
                    _tell(some, said)
                took = time.perf_counter() - began
                self._rate = 0.8 * self._rate + 0.2 * len(reads) / max(took, 1e-6)
                self._seen(len(reads), began - some[0].since, took)
            if self._closed:
                return

    def _next(self) -> list[_Waiting]:
        """Those to be answered together; who went away meanwhile is left out."""
        some: list[_Waiting] = []
        records = 0
        while self._waiting:
            one = self._waiting[0]
            if some and records + len(one.reads) > MOST_TOGETHER:
                break
            self._waiting.popleft()
            self._records -= len(one.reads)
            if not one.answers.done():
                some.append(one)
                records += len(one.reads)
        return some


def _tell(some: Sequence[_Waiting], said: Sequence[Answer]) -> None:
    start = 0
    for one in some:
        end = start + len(one.reads)
        if not one.answers.done():
            one.answers.set_result(list(said[start:end]))
        start = end


def _fail(some: Sequence[_Waiting], error: Exception) -> None:
    for one in some:
        if not one.answers.done():
            one.answers.set_exception(error)
