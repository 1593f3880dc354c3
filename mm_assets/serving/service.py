"""The datasets of one process: loaded, watched for promotions, let go for want of memory."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mm_assets.contract.errors import MMError
from mm_assets.serving.batching import Lane, LaneClosed
from mm_assets.serving.entrance import may_see
from mm_assets.serving.options import Options
from mm_assets.serving.predictor import Answer, Predictor
from mm_assets.serving.reading import Read

logger = logging.getLogger(__name__)
Source = Callable[[], Predictor]
State = Literal["resting", "loading", "ready", "failed"]


@dataclass
class Served:
    """One dataset. resting: not in memory; the next request loads it."""

    name: str
    source: Source
    state: State = "resting"
    predictor: Predictor | None = None
    lane: Lane | None = None
    bytes: int = 0
    fault: str = ""
    used: int = 0  # of the last use, counted up
    loading: asyncio.Task[None] | None = None


class Unavailable(Exception):  # noqa: N818
    """A dataset that cannot answer now; `reason` says why."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Service:
    """Of one event loop. sources: dataset to what loads it; that runs in a thread."""

    def __init__(self, options: Options, sources: Mapping[str, Source]) -> None:
        self.options = options
        self.served = {name: Served(name, source) for name, source in sources.items()}
        self.draining = False
        self.on_batch: Callable[[str, int, float, float], None] = lambda _d, _n, _w, _s: None
        self.on_promotion: Callable[[str], None] = lambda _: None
        self._closed = False
        self._clock = 0
        self._one_at_a_time = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to load, if asked to, and to look for promotions. Returns at once."""
        loop = asyncio.get_running_loop()
        if self.options.preload:
            self._tasks.append(loop.create_task(self._preload()))
        self._tasks.append(loop.create_task(self._watch()))

    def drain(self) -> None:
        """Say that this process is going down; what comes is answered as before."""
        self.draining = True

    async def close(self) -> None:
        """Answer what waits, then let everything go."""
        self.draining = self._closed = True
        loading = [one.loading for one in self.served.values() if one.loading is not None]
        for task in (tasks := [*self._tasks, *loading]):
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for one in self.served.values():
            if one.lane is not None:
                await one.lane.close()

    async def answers(self, name: str, reads: Sequence[Read]) -> list[Answer]:
        """Raises KeyError for a dataset that is not served, Unavailable, Overloaded."""
        while True:
            _, lane = await self.use(name)
            with contextlib.suppress(LaneClosed):  # it was let go between the two
                return await lane.answers(reads)

    async def use(self, name: str) -> tuple[Predictor, Lane]:
        """A dataset's predictor and lane, loaded if need be.

        Raises KeyError for a dataset that is not served, Unavailable.
        """
        one = self.served[name]
        self._clock += 1
        one.used = self._clock
        while one.predictor is None or one.lane is None:  # it may be let go again at once
            if one.state == "failed":  # `_watch` tries again, not every request
                raise Unavailable(one.fault)
            await self._load(one)
        return one.predictor, one.lane

    async def look_again(self, name: str) -> None:
        """Take up a promotion now, and not with the next look; other processes do it by theirs."""
        one = self.served[name]
        if one.predictor is not None:
            await self._refresh(one, one.predictor)

    def visible(self) -> dict[str, Served]:
        """The datasets that whoever asks now may see."""
        return {name: one for name, one in self.served.items() if may_see(name)}

    def readiness(self) -> dict[str, Any]:
        """What `/ready` says: ready where every dataset can answer; each that whoever asks may see
        with its models.
        """
        everything = {name: _told(one) for name, one in self.served.items()}
        told = {name: everything[name] for name in self.visible()}
        states = {one["state"] for one in everything.values()}
        waits = {"loading", "failed", "no_champion"} | (
            {"resting"} if self.options.preload and self.options.memory_bytes is None else set()
        )
        ready = bool(everything) and not states & waits and not self.draining
        return {"ready": ready, "draining": self.draining, "datasets": told}

    # -- loading ------------------------------------------------------------------------------

    async def _preload(self) -> None:
        for one in self.served.values():
            one.state = "loading" if one.predictor is None else one.state
        for one in self.served.values():
            if not self.draining:
                await self._load(one)

    async def _load(self, one: Served) -> None:
        """Once for all who wait for it; it goes on when they have gone. Raises Unavailable."""
        if self._closed:
            raise Unavailable("the service has ended")
        if one.loading is None or one.loading.done():
            one.loading = asyncio.get_running_loop().create_task(self._loaded(one))
        await asyncio.shield(one.loading)

    async def _loaded(self, one: Served) -> None:
        async with self._one_at_a_time:  # so that the memory of each is known
            if one.predictor is None:
                await self._read(one)

    async def _read(self, one: Served) -> None:
        one.state = "loading"
        before = _resident()
        try:
            predictor = await asyncio.to_thread(one.source)
        except MMError as error:
            one.state, one.fault = "failed", f"[{error.code}] {error.what}. {error.todo}"
            logger.error("%s: %s", one.name, one.fault)
            return
        except Exception as error:
            one.state, one.fault = "failed", f"{type(error).__name__}: {error}"
            logger.exception("%s cannot be loaded", one.name)
            return
        # Another one's memory may come free meanwhile, so the most that was ever seen.
        one.bytes = max(_resident() - before, one.bytes, 1)
        one.predictor, one.state, one.fault = predictor, "ready", ""
        one.lane = Lane(
            predictor.answer,
            most_waiting=self.options.most_waiting,
            seen=lambda n, waited, took: self.on_batch(one.name, n, waited, took),
        )
        let_go = await self._make_room(one)
        await asyncio.to_thread(_settle, let_go)

    async def _make_room(self, newest: Served) -> bool:
        """Let the datasets go that were not used for longest, until the rest fits. True if any."""
        let_go, limit = False, self.options.memory_bytes
        if limit is None:
            return let_go
        there = [one for one in self.served.values() if one.predictor is not None]
        for one in sorted(there, key=lambda one: one.used):
            if sum(other.bytes for other in there) <= limit:
                break
            if one is not newest:
                let_go = True
                there.remove(one)
                lane, one.lane, one.predictor, one.state = one.lane, None, None, "resting"
                logger.info("%s is let go, to make room for %s", one.name, newest.name)
                if lane is not None:
                    await lane.close()
        return let_go

    async def _watch(self) -> None:
        """Take up promotions, and try again what could not be loaded."""
        while True:
            await asyncio.sleep(self.options.refresh_seconds)
            for one in list(self.served.values()):
                if one.predictor is not None:
                    await self._refresh(one, one.predictor)
                elif one.state == "failed":
                    await self._load(one)

    async def _refresh(self, one: Served, predictor: Predictor) -> None:
        try:
            if await asyncio.to_thread(predictor.refresh):
                versions = {
                    m.value: predictor.champions.version(m) for m in predictor.spec.modalities
                }
                logger.info("%s: now answered by %s", one.name, versions)
                self.on_promotion(one.name)
                await asyncio.to_thread(_settle, let_go=True)
            one.fault = ""
        except Exception as error:  # noqa: BLE001  what is loaded goes on answering
            fault = f"promotions can't be looked for: {type(error).__name__}: {error}"
            if one.fault != fault:
                logger.warning("%s: %s", one.name, fault)
            one.fault = fault


def _told(one: Served) -> dict[str, Any]:
    if one.predictor is None:
        return {"state": one.state, **({"reason": one.fault} if one.fault else {})}
    champions = one.predictor.champions
    reasons = [*champions.why_not.values(), *champions.faults.values()]
    reasons += [one.fault] if one.fault else []
    return {
        "state": "ready" if one.predictor.is_ready else "no_champion",
        "models": {m.value: champions.version(m) for m in one.predictor.spec.modalities},
        **({"reason": "; ".join(dict.fromkeys(reasons))} if reasons else {}),
    }


def _settle(let_go: bool) -> None:
    """Have the collector of garbage pass over what is loaded.

    Else it looks through all of it again and again: millions of objects, most of them of libraries.
    let_go: something that was passed over is no longer used; to find it, it looks through all of it
    once more, and meanwhile nobody is answered, for half a second.
    """
    if let_go:
        gc.unfreeze()
    gc.collect()
    gc.freeze()


def _resident() -> int:
    """Bytes of memory that this process holds, without what nobody needs."""
    import psutil

    gc.collect()
    return int(psutil.Process().memory_info().rss)
