"""Who is told of results: a queue, a topic or a bus, ten at a time, none forgotten.

`send` returns when all of them are acknowledged. What is throttled, or fails alone in a batch, is
sent again, with growing pauses, for at most `PATIENCE` seconds; after that a LakeError is raised,
and whoever called keeps its note of what was to be sent.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mm_assets.contract.errors import LakeError
from mm_assets.contract.settings import Settings
from mm_assets.queues.sqs import BATCH, client, queue_region, speaking

SETTING = "MM_RESULTS"
PATIENCE = 60.0  # seconds for a batch
# Of a request. SQS takes 1 MiB, EventBridge 1 MB, but an SNS topic 256 KiB unless it is told so.
MOST_BYTES = 250_000
ATTRIBUTE_BYTES = 500  # more than names, types and values of a message's attributes have


@dataclass(frozen=True, slots=True)
class Message:
    """One event. group: what is to stay in order; once: different for each sending."""

    body: dict[str, Any]
    attributes: dict[str, str]
    group: str
    once: str

    def text(self) -> str:
        return json.dumps(self.body, ensure_ascii=True, separators=(",", ":"))


class Target(Protocol):
    """A queue, a topic or a bus."""

    where: str

    def put(self, messages: Sequence[Message]) -> list[tuple[str, str, bool]]:
        """One request. Of each message: code and words of its fault ('' if it has none), and
        whether sending it again is in vain."""
        ...

    def look(self) -> str:
        """Reach it without sending anything; what there is to say. Raises LakeError."""
        ...


def open_target(settings: Settings) -> Target:
    """What MM_RESULTS names."""
    kind, name = settings.results_target
    if kind == "sqs":
        return SqsTarget(name, settings.region)
    if kind == "sns":
        return SnsTarget(name)
    return BusTarget(name, settings.region)


def send(target: Target, messages: Iterable[Message]) -> int:
    """Send all; returns how many. Raises LakeError for what cannot be sent, or not in time."""
    sent = 0
    for batch in batches(messages):
        end, tries, left = time.monotonic() + PATIENCE, 0, list(batch)
        while left:
            with speaking(target.where, SETTING):
                faults = target.put(left)
            failed = [(m, f) for m, f in zip(left, faults, strict=True) if f[0]]
            if hopeless := [fault for _, fault in failed if fault[2]]:
                raise _refused(target, hopeless[0])
            left = [message for message, _ in failed]
            if left and time.monotonic() > end:
                raise _refused(target, failed[0][1])
            if left:
                tries += 1
                time.sleep(random.uniform(0, min(5.0, 0.1 * 2**tries)))  # noqa: S311
        sent += len(batch)
    return sent


def batches(messages: Iterable[Message]) -> Iterator[list[Message]]:
    """As many as one request takes, by number and by bytes."""
    batch: list[Message] = []
    size = 0
    for message in messages:
        own = len(message.text()) + ATTRIBUTE_BYTES
        if batch and (len(batch) == BATCH or size + own > MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += own
    if batch:
        yield batch


class SqsTarget:
    """A queue; in order for each record if it is FIFO."""

    def __init__(self, url: str, region: str) -> None:
        self.where = url
        self._client = client("sqs", queue_region(url, region))

    def put(self, messages: Sequence[Message]) -> list[tuple[str, str, bool]]:
        entries = [
            {
                "Id": str(number),
                "MessageBody": message.text(),
                "MessageAttributes": _attributes(message),
                **_ordered(self.where, message),
            }
            for number, message in enumerate(messages)
        ]
        answer = self._client.send_message_batch(QueueUrl=self.where, Entries=entries)
        return _faults(answer, len(messages))

    def look(self) -> str:
        with speaking(self.where, SETTING):
            answer = self._client.get_queue_attributes(
                QueueUrl=self.where, AttributeNames=["ApproximateNumberOfMessages"]
            )
        waiting = answer["Attributes"]["ApproximateNumberOfMessages"]
        return f"{self.where} answers: {waiting} messages wait for their reader"


class SnsTarget:
    """A topic; in order for each record if it is FIFO."""

    def __init__(self, arn: str) -> None:
        self.where = arn
        self._client = client("sns", arn.split(":")[3])

    def put(self, messages: Sequence[Message]) -> list[tuple[str, str, bool]]:
        entries = [
            {
                "Id": str(number),
                "Message": message.text(),
                "MessageAttributes": _attributes(message),
                **_ordered(self.where, message),
            }
            for number, message in enumerate(messages)
        ]
        answer = self._client.publish_batch(TopicArn=self.where, PublishBatchRequestEntries=entries)
        return _faults(answer, len(messages))

    def look(self) -> str:
        with speaking(self.where, SETTING):
            answer = self._client.get_topic_attributes(TopicArn=self.where)
        return f"{self.where} answers: {answer['Attributes']['SubscriptionsConfirmed']} subscribers"


class BusTarget:
    """An EventBridge bus, by name or ARN. It keeps no order: subscribers compare `sequence`."""

    def __init__(self, bus: str, region: str) -> None:
        self.where = bus
        own = bus.split(":")[3] if bus.startswith("arn:") else region
        self._client = client("events", own)

    def put(self, messages: Sequence[Message]) -> list[tuple[str, str, bool]]:
        entries = [
            {
                "EventBusName": self.where,
                "Source": message.body["source"],
                "DetailType": message.body["detail-type"],
                "Time": message.body["time"],
                "Detail": json.dumps(message.body["detail"], separators=(",", ":")),
            }
            for message in messages
        ]
        answer = self._client.put_events(Entries=entries)
        again = ("ThrottlingException", "InternalFailure", "InternalException")
        told = [
            (one.get("ErrorCode", ""), one.get("ErrorMessage", "")) for one in answer["Entries"]
        ]
        return [(code, words, bool(code) and code not in again) for code, words in told]

    def look(self) -> str:
        with speaking(self.where, SETTING):
            answer = self._client.describe_event_bus(Name=self.where)
        return f"{answer['Arn']} answers"


def _attributes(message: Message) -> dict[str, Any]:
    return {
        name: {"DataType": "String", "StringValue": value}
        for name, value in message.attributes.items()
    }


def _ordered(where: str, message: Message) -> dict[str, str]:
    if not where.endswith(".fifo"):
        return {}
    return {"MessageGroupId": message.group, "MessageDeduplicationId": message.once}


def _faults(answer: dict[str, Any], number: int) -> list[tuple[str, str, bool]]:
    """Of each entry of a batch its fault; SQS and SNS say it in the same form."""
    faults = [("", "", False)] * number
    for one in answer.get("Failed", []):
        code = one["Code"]
        hopeless = bool(one.get("SenderFault")) and "Throttl" not in code
        faults[int(one["Id"])] = (code, one.get("Message", ""), hopeless)
    return faults


def _refused(target: Target, fault: tuple[str, str, bool]) -> LakeError:
    code, words, hopeless = fault
    return LakeError(
        code="results_refused" if hopeless else "queue_unreachable",
        what=f"{code}: {words}"[:300],
        where=target.where,
        todo=f"Check {SETTING} and the policy there; what is to be told stays in the outbox.",
    )
