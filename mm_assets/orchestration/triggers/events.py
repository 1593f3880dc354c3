"""S3 event notifications through SQS: what is new is noted without listing the inbox.

Messages come at least once, in any order and repeatedly, so a message is only a hint where to
look: what counts is what lies there now. A message is deleted when what it tells of is noted in
the ledger, from which the uploads sensor requests runs until there are predictions. A message that
cannot be handled is left in the queue, whose redrive policy moves it to the dead-letter queue, and
holds no other back.
What events missed is found by a listing every ten minutes.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_plus

from mm_assets.contract.errors import LakeError
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import INBOX
from mm_assets.uploads import ledger
from mm_assets.uploads.find import Source, look_at

BATCH = 10  # messages in one request, the most that SQS gives
REQUESTS = 20  # in one tick
WAIT_SECONDS = 1  # for the first message; without it SQS asks only some of its servers
VISIBILITY_SECONDS = 120  # a message that was not deleted comes again after this
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


class CannotHandle(Exception):  # noqa: N818  never leaves this module as an error
    """A message that goes to the dead-letter queue, with the reason."""


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
            raise CannotHandle(f"it tells of bucket '{event_bucket}', but MM_LAKE is in '{bucket}'")
        if not key.startswith(base):
            continue
        dataset, _, rest = key[len(base) :].partition("/")
        if dataset not in datasets:
            raise CannotHandle(f"there is no dataset '{dataset}'")
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
        raise CannotHandle("it is no S3 event notification") from None


class Queue:
    """The SQS queue that MM_EVENTS names."""

    def __init__(self, settings: Settings) -> None:
        self.url = settings.queue_url
        self.client = _client(queue_region(self.url, settings.region))

    def receive(self) -> Iterator[dict[str, Any]]:
        """Messages, until there are none or a tick has had its share."""
        for _ in range(REQUESTS):
            with _speaking(self.url):
                answer = self.client.receive_message(
                    QueueUrl=self.url,
                    MaxNumberOfMessages=BATCH,
                    VisibilityTimeout=VISIBILITY_SECONDS,
                    WaitTimeSeconds=WAIT_SECONDS,
                )
            if not (messages := answer.get("Messages", [])):
                return
            yield from messages

    def delete(self, messages: Iterable[dict[str, Any]]) -> None:
        """Delete messages. One that is not deleted comes again, which does no harm."""
        entries = [
            {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
            for number, message in enumerate(messages)
        ]
        for start in range(0, len(entries), BATCH):
            some = entries[start : start + BATCH]
            with _speaking(self.url):
                self.client.delete_message_batch(QueueUrl=self.url, Entries=some)

    def attributes(self) -> dict[str, str]:
        """The queue's attributes, for `mm doctor`."""
        with _speaking(self.url):
            answer = self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=["All"])
        attributes: dict[str, str] = answer["Attributes"]
        return attributes


def pump(lake: Lake, queue: Any, datasets: Set[str]) -> Pumped:
    """Take messages from the queue and note the finished uploads that they lead to.

    Raises LakeError when the queue or the lake cannot be reached, once all was handled that could
    be. No message is deleted of which something was not looked at, or not noted.
    """
    lake.stat(f"{INBOX}/")  # a lake that is away uses up no message's number of receipts
    pumped, deadline = Pumped(), time.monotonic() + LOOKING_SECONDS
    told: list[tuple[dict[str, Any], set[Place]]] = []
    for message in queue.receive():
        try:
            told.append((message, set(places_of(message["Body"], lake.settings, datasets))))
        except CannotHandle as error:
            pumped.left.append(f"message {message['MessageId']}: {error}")
    # All messages are received before the first look, so that one look at a place is for all.
    looked: set[Place] = set()
    failure: LakeError | None = None
    for place in sorted(set().union(*(places for _, places in told))):
        if time.monotonic() > deadline:
            break
        try:
            found = look_at(lake, place.dataset, place.name, folder=place.folder)
            if isinstance(found, Source):
                ledger.note(lake, found)
                pumped.noted.append(found.upload)
            looked.add(place)
        except LakeError as error:
            failure = error
            pumped.left.append(f"{place.dataset}/{place.name}: {error.what}")
    handled = [message for message, places in told if places <= looked]
    queue.delete(handled)
    pumped.done = len(handled)
    if failure is not None:
        raise failure
    return pumped


def queue_region(url: str, default: str) -> str:
    """The region in the URL of a queue at AWS; elsewhere the default."""
    found = re.match(r"https://(?:sqs\.([a-z0-9-]+)|([a-z0-9-]+)\.queue)\.amazonaws\.com", url)
    return (found[1] or found[2]) if found else default


@lru_cache(maxsize=4)
def _client(region: str) -> Any:
    import boto3
    from botocore.config import Config

    timeouts = Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard"})
    return boto3.client("sqs", region_name=region, config=timeouts)


@contextmanager
def _speaking(where: str) -> Iterator[None]:
    """Turn what boto3 raises into LakeError."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise LakeError(
            code="queue_unreachable",
            what=str(error).split("\n")[0][:300],
            where=where,
            todo="Check MM_EVENTS, the credentials and the queue's policy; run `mm doctor`.",
        ) from error
