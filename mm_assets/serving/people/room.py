"""What the pages know of one dataset: its queue and what people gave, looked at now and then."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.errors import LakeError, ModelError
from mm_assets.lake.lake import Lake
from mm_assets.review.answers import Refused
from mm_assets.review.export import features_of
from mm_assets.review.one_by_one import (
    Given,
    Standing,
    keep,
    leased,
    now,
    send_kept,
    standing,
    take_back,
)
from mm_assets.review.queue import Item, image_of, review_classes, review_queue
from mm_assets.tables.store import Store

QUEUE_SECONDS = 5.0  # that a look at the table is good for
LEASES = 50  # records from the front of the queue that may be held by others


@dataclass(frozen=True)
class Progress:
    """own: answers of whoever asks, unsure: of these without a label; agreed: of those with one,
    how many say what the model said. given: of everybody. waiting: records that nobody answered.
    unsent: answers that are not sent yet."""

    own: int
    unsure: int
    agreed: int
    given: int
    waiting: int
    unsent: int

    @property
    def share(self) -> float:
        """Of what there was to answer, how much is answered, between 0 and 1."""
        whole = self.given + self.waiting
        return self.given / whole if whole else 1.0


class Room:
    """Safe in threads. All methods wait for the lake or the table."""

    def __init__(self, lake: Lake, store: Store, spec: DatasetSpec) -> None:
        self.lake, self.store, self.spec = lake, store, spec
        self.refused: list[Refused] = []  # by the last send
        self._lock = threading.Lock()
        self._looked = float("-inf")
        self._queue: dict[str, Item] = {}
        self._standing = Standing()

    # -- looking ------------------------------------------------------------------------------

    def look(self) -> tuple[Mapping[str, Item], Standing]:
        """The queue by record, in its order, and what was given."""
        with self._lock:
            if time.monotonic() - self._looked > QUEUE_SECONDS:
                items = review_queue(self.store, self.spec)
                self._queue = {item.record_id: item for item in items}
                self._looked = time.monotonic()
                self._standing = standing(self.lake, self.spec.dataset, self._standing)
            return self._queue, self._standing

    def classes(self) -> tuple[str, ...]:
        """What a person chooses from; none for a number, or where nobody knows them yet."""
        try:
            return review_classes(self.lake, self.spec)
        except ModelError:
            return ()

    def open_for(self, who: str) -> list[Item]:
        """What this person can still answer: nobody gave a label, and they did not pass."""
        queue, stood = self.look()
        done = {one.record_id for one in stood.given() if one.who == who or not one.is_unsure}
        return [item for name, item in queue.items() if name not in done]

    def next_for(self, who: str, after: str | None = None) -> Item | None:
        """A record that nobody else is looking at; after: the one that was skipped."""
        items = self.open_for(who)
        places = [place for place, item in enumerate(items) if item.record_id == after]
        if places:
            items = items[places[0] + 1 :] + items[: places[0]]
        some = {item.record_id: item for item in items[:LEASES]}
        found = leased(self.lake, self.spec.dataset, list(some), who)
        return some[found] if found is not None else None

    def values(self, item: Item) -> Mapping[str, Any]:
        """The record's columns, as they were read."""
        try:
            return features_of(self.lake, self.spec, [item]).get(item.record_id, {})
        except LakeError:
            return {}

    def image(self, item: Item) -> bytes | None:
        """The record's normalised images as one; None if it has none, or none is in the lake."""
        try:
            return image_of(self.lake, self.spec, item)
        except LakeError:
            return None

    def progress(self, who: str) -> Progress:
        queue, stood = self.look()
        given = list(stood.given())
        own = [one for one in given if one.who == who]
        labelled = [one for one in own if not one.is_unsure]
        answered = {one.record_id for one in given if not one.is_unsure}
        return Progress(
            own=len(own),
            unsure=len(own) - len(labelled),
            agreed=sum(one.label == one.prediction for one in labelled),
            given=len(answered),
            waiting=sum(name not in answered for name in queue),
            unsent=sum(not one.is_unsure for one in stood.kept.values()),
        )

    # -- answering ----------------------------------------------------------------------------

    def item(self, record_id: str) -> Item | None:
        return self.look()[0].get(record_id)

    def answer(self, item: Item, label: str, who: str) -> None:
        """Keep a person's answer. label: '' for "can't tell"."""
        at = now().isoformat(timespec="milliseconds")
        given = Given(item.record_id, label, who, at, item.prediction, item.model_version)
        keep(self.lake, self.spec.dataset, given)
        self.look_at_answers()

    def undo(self, record_id: str, who: str) -> bool:
        """Take one's own answer back; False if it was sent already."""
        done = take_back(self.lake, self.spec.dataset, record_id, who)
        self.look_at_answers()
        return done

    def send(self) -> None:
        """Send what was kept, as one upload of labels."""
        _, self.refused = send_kept(self.lake, self.store, self.spec)
        self.look_at_answers()

    def is_due(self, answers: int, seconds: float) -> bool:
        """Whether so many answers wait to be sent, or one for so long."""
        said = [one for one in self._standing.kept.values() if not one.is_unsure]
        said = [one for one in said if one.record_id not in {r.record_id for r in self.refused}]
        if not said:
            return False
        oldest = min(one.at for one in said)
        return len(said) >= answers or _seconds_since(oldest) >= seconds

    def look_at_answers(self) -> None:
        """Take up what was given meanwhile, also by way of other processes."""
        with self._lock:
            self._standing = standing(self.lake, self.spec.dataset, self._standing)


def _seconds_since(at: str) -> float:
    return (now() - datetime.fromisoformat(at)).total_seconds()
