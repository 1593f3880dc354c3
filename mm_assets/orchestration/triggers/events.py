"""S3 events and work messages through SQS: what is new is noted without listing the inbox.

Messages come at least once, in any order and repeatedly, so a message is only a hint where to
look: what counts is what lies there now. A message is deleted when what it tells of is noted in
the ledger, from which the uploads sensor requests runs until there are predictions. A message that
cannot be handled is left in the queue, comes again, holds no other back, and ends in the
dead-letter queue with the reason, after as many times as the queue's redrive policy says.
What events missed is found by a listing every ten minutes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_plus

from mm_assets.contract.errors import LakeError
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import INBOX
from mm_assets.queues.sqs import Queue
from mm_assets.uploads import ledger
from mm_assets.uploads.find import Source, look_at
from mm_assets.uploads.message import (
    CannotHandle,
    WorkMessage,
    envelope_of,
    note_work,
    read_work,
)

LOOKING_SECONDS = 30.0  # a tick looks at no further place after this


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where in the inbox something happened: an archive, or a folder."""

    dataset: str
    name: str
    folder: bool


@dataclass
class Pumped:
    """What one tick did: uploads noted, messages done with, and what was left, with the reason."""

    noted: list[str] = field(default_factory=list)
    done: int = 0
    left: list[str] = field(default_factory=list)


def places_of(body: str, settings: Settings, datasets: Set[str]) -> list[Place]:
    """Where in the inbox a message says that something was created; [] if that is not our affair.

    Understands S3 notifications, as they are and through SNS, and EventBridge events. Raises
    CannotHandle for what is no such message, another bucket, or a dataset that is not there.
    """
    bucket, prefix = settings.bucket_and_prefix
    base = f"{prefix}/{INBOX}/" if prefix else f"{INBOX}/"
    places = []
    for event_bucket, key in _created(body):
        if event_bucket != bucket:
            reason = f"it tells of bucket '{event_bucket}', but MM_LAKE is in '{bucket}'"
            raise CannotHandle("bucket_unknown", reason)
        if not key.startswith(base):
            continue
        dataset, _, rest = key[len(base) :].partition("/")
        if dataset not in datasets:
            raise CannotHandle("dataset_unknown", f"there is no dataset '{dataset}'")
        name, slash, inside = rest.partition("/")
        if name and (inside or not slash):
            places.append(Place(dataset, name, bool(slash)))
    return places


def _created(body: str) -> Iterator[tuple[str, str]]:
    """Bucket and key of each object that a message says was created."""
    try:
        message = json.loads(body)
        if isinstance(message, dict) and isinstance(message.get("Message"), str):  # from SNS
            message = json.loads(message["Message"])
        if message.get("Event") == "s3:TestEvent":
            return
        if "detail" in message:  # from EventBridge
            detail = message["detail"]
            if str(message["detail-type"]) == "Object Created":
                yield detail["bucket"]["name"], detail["object"]["key"]
            return
        for record in message["Records"]:
            if record["eventName"].removeprefix("s3:").startswith("ObjectCreated:"):
                yield record["s3"]["bucket"]["name"], unquote_plus(record["s3"]["object"]["key"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CannotHandle("message_unknown", "it is no S3 event notification") from None


def events_queue(settings: Settings) -> Queue:
    """The queue that MM_EVENTS names."""
    return Queue(settings.queue_url, settings.region, "MM_EVENTS")


def work_queue(settings: Settings) -> Queue:
    """The queue that MM_WORK names."""
    return Queue(settings.work_url, settings.region, "MM_WORK")


def pump(lake: Lake, queue: Any, datasets: Set[str]) -> Pumped:
    """Take messages from the queue and note the finished uploads that they lead to.

    S3 events are understood in every queue, work messages only in the one that MM_WORK names:
    whoever may tell of events need not be allowed to send records. Raises LakeError when the queue
    or the lake cannot be reached, once all was handled that could be. No message is deleted of
    which something was not looked at, or not noted.
    """
    lake.stat(f"{INBOX}/")  # a lake that is away uses up no message's number of receipts
    pumped = Pumped()
    messages = list(queue.receive())
    # All messages are received before the first look, so that one look at a place is for all.
    with queue.holding(messages):
        handled, failed, failure = _handle(lake, queue, messages, datasets, pumped)
        queue.delete(handled)
        pumped.done = len(handled)
        try:
            queue.bury(failed)
        except LakeError as error:  # SQS moves them by itself, without the reason
            pumped.left.append(f"their reasons could not be written beside them: {error.what}")
    if failure is not None:
        raise failure
    return pumped


Failed = list[tuple[dict[str, Any], str, str]]  # a message, code and reason


def _handle(
    lake: Lake,
    queue: Any,
    messages: Sequence[dict[str, Any]],
    datasets: Set[str],
    pumped: Pumped,
) -> tuple[list[dict[str, Any]], Failed, LakeError | None]:
    """Handle messages; returns those that are done, those that failed, and the last fault."""
    takes_work = bool(lake.settings.work) and queue.url == lake.settings.work_url
    deadline = time.monotonic() + LOOKING_SECONDS
    told: list[tuple[dict[str, Any], set[Place], WorkMessage | None]] = []
    failed: Failed = []
    for message in messages:
        try:
            work = read_work(message["Body"], datasets) if takes_work else None
            found = [] if work else places_of(message["Body"], lake.settings, datasets)
            told.append((message, set(found), work))
        except CannotHandle as error:
            failed.append((message, error.code, str(error)))
    looked, faults = _look(lake, {p for _, places, _ in told for p in places}, deadline, pumped)
    handled, failure = [], next(iter(faults.values()), None)
    for message, places, work in told:
        try:
            if work is None:
                fault = next((faults[place] for place in places if place in faults), None)
                if fault is not None:
                    failed.append((message, fault.code, fault.what))
                if places <= looked:
                    handled.append(message)
            elif time.monotonic() <= deadline:
                pumped.noted.append(note_work(lake, work, envelope_of(message)))
                handled.append(message)
        except CannotHandle as error:
            failed.append((message, error.code, str(error)))
        except LakeError as error:
            failure = error
            failed.append((message, error.code, error.what))
    pumped.left += [f"message {m['MessageId']}: [{code}] {why}" for m, code, why in failed]
    return handled, failed, failure


def _look(
    lake: Lake, places: Set[Place], deadline: float, pumped: Pumped
) -> tuple[set[Place], dict[Place, LakeError]]:
    """Look at places in the inbox and note what is finished there: which were looked at, and
    which could not be."""
    looked: set[Place] = set()
    faults: dict[Place, LakeError] = {}
    for place in sorted(places):
        if time.monotonic() > deadline:
            break
        try:
            found = look_at(lake, place.dataset, place.name, folder=place.folder)
            if isinstance(found, Source):
                ledger.note(lake, found)
                pumped.noted.append(found.upload)
            looked.add(place)
        except LakeError as error:
            faults[place] = error
    return looked, faults
