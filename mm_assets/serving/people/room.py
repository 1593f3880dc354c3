"""What the pages know of one dataset: its queue and what people gave, looked at now and then."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.errors import LakeError, MMError, ModelError, UploadError
from mm_assets.display.side_by_side import side_by_side
from mm_assets.lake.lake import Lake
from mm_assets.manifest.image_sets import images_of
from mm_assets.monitoring.batches import Batch, batches
from mm_assets.review.agreement import Agreement, agreement
from mm_assets.review.answers import Refused
from mm_assets.review.features import features_of
from mm_assets.review.one_by_one import (
    Given,
    Standing,
    keep,
    leased,
    let_go,
    now,
    send_kept,
    standing,
    take_back,
    to_send,
)
from mm_assets.review.order import Order
from mm_assets.review.queue import Item, image_of, review_classes, review_queue
from mm_assets.review.settled import is_same
from mm_assets.review.useful import POOL, most_useful
from mm_assets.tables.store import Store
from mm_assets.training.known_records import KnownRecords, known_records
from mm_assets.uploads.quarantined import glimpses_of

logger = logging.getLogger(__name__)
QUEUE_SECONDS = 5.0  # that a look at the table is good for; then the next is taken meanwhile
STALE_SECONDS = 60.0  # after which nobody is shown what was seen then
USEFUL_SECONDS = 600.0  # that an order by use is kept
GLIMPSED_UPLOADS = 4  # whose quarantined images are kept at hand
LEASES = 50  # records from the front of the queue that may be held by others


@dataclass(frozen=True)
class Progress:
    """own: answers of whoever asks, unsure: of these without a label; agreed: of those with one,
    how many say what the model said. given: of everybody. waiting: records that nobody answered;
    second: records of which one more person is asked. unsent: records whose label can be sent."""

    own: int
    unsure: int
    agreed: int
    given: int
    waiting: int
    second: int
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
        self._lock, self._looking = threading.Lock(), threading.Lock()
        self._ordering, self._glimpsing = threading.Lock(), threading.Lock()
        self._glimpses: dict[str, dict[str, bytes]] = {}
        self._useful: list[str] = []
        self._ordered = float("-inf")
        self._looked = float("-inf")
        self._queue: dict[str, Item] = {}
        self._standing = Standing()
        self._known: KnownRecords | None = None

    # -- looking ------------------------------------------------------------------------------

    def look(self) -> tuple[Mapping[str, Item], Standing]:
        """The queue by record, in its order, and what was given.

        Whoever answers is not kept waiting by a long queue: it is read again beside.
        """
        age = time.monotonic() - self._looked
        if age > STALE_SECONDS:
            with self._looking:
                if time.monotonic() - self._looked > STALE_SECONDS:
                    self._look()
        elif age > QUEUE_SECONDS and self._looking.acquire(blocking=False):
            threading.Thread(target=self._look_beside, daemon=True).start()
        with self._lock:
            return self._queue, self._standing

    def _look_beside(self) -> None:
        """Holds `_looking`, and lets go of it."""
        try:
            self._look()
        except MMError as error:  # what was seen last goes on being shown, for a minute
            logger.warning("%s: the queue cannot be read: %s", self.spec.dataset, error)
        except Exception:
            logger.exception("%s: the queue cannot be read", self.spec.dataset)
        finally:
            self._looking.release()

    def _look(self) -> None:
        items = review_queue(self.store, self.spec)
        with self._lock:
            self._queue = {item.record_id: item for item in items}
            self._looked = time.monotonic()
            self._standing = standing(self.lake, self.spec.dataset, self._standing)

    def classes(self) -> tuple[str, ...]:
        """What a person chooses from; none for a number, or where nobody knows them yet."""
        try:
            return review_classes(self.lake, self.spec)
        except ModelError:
            return ()

    def open_for(self, who: str, order: str = Order.DOUBTFUL) -> list[Item]:
        """What this person can still answer: others did not say enough, and they said nothing."""
        queue, stood = self.look()
        done = {one.record_id for one in stood.given() if one.who == who}
        done |= stood.settled(self.spec)
        items = [item for name, item in queue.items() if name not in done]
        return self._by_use(items) if order == Order.USEFUL else items

    def _by_use(self, items: list[Item]) -> list[Item]:
        """Those that were put in order first; that is done anew when half of them are answered."""
        with self._ordering:
            there = {item.record_id: item for item in items}
            first = [name for name in self._useful if name in there]
            old = time.monotonic() - self._ordered > USEFUL_SECONDS
            if old or 2 * len(first) < len(self._useful):
                some = most_useful(self.lake, self.spec, items)[:POOL]
                first = self._useful = [item.record_id for item in some]
                self._ordered = time.monotonic()
        ahead = set(first)
        return [there[name] for name in first] + [i for i in items if i.record_id not in ahead]

    def next_for(
        self, who: str, after: str | None = None, order: str = Order.DOUBTFUL
    ) -> Item | None:
        """A record that nobody else is looking at; after: the one that was skipped."""
        items = self.open_for(who, order)
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

    def known(self) -> KnownRecords | None:
        """The records that models learnt from; None where they cannot be had."""
        try:
            found = known_records(self.lake, self.spec, self._known)
        except LakeError:
            return None
        self._known = found
        return found

    def known_image(self, record_id: str) -> bytes | None:
        """The normalised images, as one, of a record that models learnt from."""
        known = self.known()
        one = known.by_id.get(record_id) if known else None
        if one is None or one.image is None:
            return None
        try:
            found = images_of(self.lake, self.spec, {record_id: one.image}).get(record_id)
        except LakeError:
            return None
        return side_by_side(found) if found else None

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
            second=sum(name in queue for name in answered - stood.settled(self.spec)),
            unsent=len(to_send(self.spec, stood)),
        )

    def agreement(self) -> Agreement:
        """What several people said of the same records, and of the model's answers."""
        return agreement(self.spec, self.look()[1].given())

    def batches(self) -> list[Batch]:
        """What the answers did, the newest first."""
        return batches(self.lake, self.spec, self.look()[1].given())

    def is_settled(self, record_id: str) -> bool:
        """Whether nobody else is asked of this record."""
        return record_id in self.look()[1].settled(self.spec)

    def others(self, record_id: str, who: str) -> dict[str, bool]:
        """Who else gave this record a label, and whether it is the same as this person's last."""
        _, stood = self.look()
        last: dict[str, Given] = {}
        for one in sorted(stood.given(), key=lambda one: one.at):
            if one.record_id == record_id and not one.is_unsure:
                last[one.who] = one
        own = last.pop(who, None)
        if own is None:
            return {}
        return {name: is_same(self.spec, one.label, own.label) for name, one in last.items()}

    def glimpses(self, upload: str) -> Mapping[str, bytes]:
        """What can be seen of an upload's quarantined images, by file."""
        with self._glimpsing:
            if upload not in self._glimpses:
                try:
                    found = glimpses_of(self.lake, self.spec, upload)
                except (LakeError, UploadError):
                    return {}
                while len(self._glimpses) >= GLIMPSED_UPLOADS:
                    del self._glimpses[next(iter(self._glimpses))]
                self._glimpses[upload] = found
            return self._glimpses[upload]

    # -- answering ----------------------------------------------------------------------------

    def item(self, record_id: str) -> Item | None:
        return self.look()[0].get(record_id)

    def answer(self, item: Item, label: str, who: str) -> None:
        """Keep a person's answer. label: '' for "can't tell"."""
        at = now().isoformat(timespec="milliseconds")
        record_id = item.record_id
        given = Given(record_id, label, who, at, item.prediction, item.model_version)
        keep(self.lake, self.spec.dataset, given)
        self.look_at_answers()
        if not self.is_settled(record_id):
            told = {one.who for one in self._standing.kept.values() if one.record_id == record_id}
            let_go(self.lake, self.spec.dataset, record_id, told)

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
        refused = {one.record_id for one in self.refused}
        given, labels = self._standing.open_labels(), to_send(self.spec, self._standing)
        newest = [given[name][-1].at for name in labels if name not in refused]
        if not newest:
            return False
        return len(newest) >= answers or _seconds_since(min(newest)) >= seconds

    def look_at_answers(self) -> None:
        """Take up what was given meanwhile, also by way of other processes."""
        with self._lock:
            self._standing = standing(self.lake, self.spec.dataset, self._standing)


def _seconds_since(at: str) -> float:
    return (now() - datetime.fromisoformat(at)).total_seconds()
