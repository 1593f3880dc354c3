"""The rooms of the datasets that are served, and the sending of what people answered there."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from functools import cached_property

from mm_assets.contract.errors import MMError
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.serving.answering import Answering
from mm_assets.serving.people.room import Room
from mm_assets.serving.predictor import Predictor
from mm_assets.serving.problems import Problem
from mm_assets.tables.open import open_store
from mm_assets.tables.store import Store

logger = logging.getLogger(__name__)
SEND_ANSWERS = 20  # that wait make one upload
SEND_SECONDS = 60.0  # that an answer waits for others
LOOK_SECONDS = 5.0


class Rooms:
    """Of one process. An exported model has none: no lake and no table belong to it."""

    def __init__(self, answering: Answering, settings: Settings) -> None:
        self.answering, self.settings = answering, settings
        self._rooms: dict[str, Room] = {}
        self._lock = threading.Lock()
        self._task: asyncio.Task[None] | None = None

    async def predictor(self, dataset: str) -> Predictor:
        """Raises Problem for a dataset that is not served, or cannot be loaded."""
        return await self.answering.predictor(dataset)

    async def room(self, dataset: str) -> Room:
        """Raises Problem: as `predictor`, and for an exported model."""
        predictor = await self.predictor(dataset)
        return await asyncio.to_thread(self._room, dataset, predictor)

    def _room(self, dataset: str, predictor: Predictor) -> Room:
        with self._lock:
            if dataset not in self._rooms:
                if predictor.models.lake.url != self._lake.url:
                    raise Problem(
                        404,
                        "dataset_exported",
                        f"{dataset} is an exported model: no uploads and no review belong to it",
                    )
                self._rooms[dataset] = Room(self._lake, self._store, predictor.spec)
            return self._rooms[dataset]

    @cached_property
    def _lake(self) -> Lake:
        return Lake(self.settings)

    @cached_property
    def _store(self) -> Store:
        return open_store(self.settings)

    # -- sending what people answered ---------------------------------------------------------

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._send_again_and_again())

    async def close(self) -> None:
        """Send what was answered; what cannot be sent now stays in the lake for the next time."""
        if self._task is not None:
            self._task.cancel()
        for room in list(self._rooms.values()):
            await self._sent(room, answers=1, seconds=0.0)

    async def _send_again_and_again(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self._open_what_is_loaded()
            for room in list(self._rooms.values()):
                await self._sent(room, SEND_ANSWERS, SEND_SECONDS)

    async def _open_what_is_loaded(self) -> None:
        """Also where nobody looks: a service that died may have left answers behind."""
        for name, one in list(self.answering.service.served.items()):
            if name not in self._rooms and one.predictor is not None:
                with contextlib.suppress(Problem):  # an exported model
                    room = await asyncio.to_thread(self._room, name, one.predictor)
                    await self._speaking(room, room.look_at_answers)

    async def _sent(self, room: Room, answers: int, seconds: float) -> None:
        if room.is_due(answers, seconds):
            await self._speaking(room, room.send)

    async def _speaking(self, room: Room, work: Callable[[], None]) -> None:
        """Do it in a thread; what goes wrong is said, and tried again later."""
        try:
            await asyncio.to_thread(work)
        except MMError as error:
            logger.warning("%s: answers cannot be sent yet: %s", room.spec.dataset, error)
        except Exception:
            logger.exception("%s: answers cannot be sent yet", room.spec.dataset)
