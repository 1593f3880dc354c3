"""An SQS queue that we read: receive, keep hidden meanwhile, delete, and bury with the reason."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from mm_assets.contract.errors import LakeError

BATCH = 10  # messages in one request, the most that SQS takes and gives
REQUESTS = 20  # in one tick
WAIT_SECONDS = 1  # for the first message; without it SQS asks only some of its servers
VISIBILITY_SECONDS = 120  # a message that was not deleted comes again after this
MOST_ATTRIBUTES = 10  # of one message


class Queue:
    """The queue at `url`. setting: the environment variable that names it."""

    def __init__(self, url: str, region: str, setting: str) -> None:
        self.url, self.setting = url, setting
        self.client = client("sqs", queue_region(url, region))

    def receive(self) -> Iterator[dict[str, Any]]:
        """Messages, until there are none or a tick has had its share."""
        for _ in range(REQUESTS):
            with speaking(self.url, self.setting):
                answer = self.client.receive_message(
                    QueueUrl=self.url,
                    MaxNumberOfMessages=BATCH,
                    VisibilityTimeout=VISIBILITY_SECONDS,
                    WaitTimeSeconds=WAIT_SECONDS,
                    MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
                    MessageAttributeNames=["All"],
                )
            if not (messages := answer.get("Messages", [])):
                return
            yield from messages

    def delete(self, messages: Iterable[dict[str, Any]]) -> None:
        """Delete messages. One that is not deleted comes again, which does no harm."""
        entries = _entries(messages)
        for start in range(0, len(entries), BATCH):
            some = entries[start : start + BATCH]
            with speaking(self.url, self.setting):
                self.client.delete_message_batch(QueueUrl=self.url, Entries=some)

    @contextmanager
    def holding(self, messages: Sequence[dict[str, Any]]) -> Iterator[None]:
        """Keep messages hidden from other readers as long as the block takes."""
        done = threading.Event()

        def extend() -> None:
            while not done.wait(VISIBILITY_SECONDS / 3):
                entries = [
                    {**one, "VisibilityTimeout": VISIBILITY_SECONDS} for one in _entries(messages)
                ]
                try:
                    for start in range(0, len(entries), BATCH):
                        some = entries[start : start + BATCH]
                        self.client.change_message_visibility_batch(QueueUrl=self.url, Entries=some)
                except Exception:  # noqa: BLE001, S110  it comes again: harmless, it is only slow
                    pass

        thread = threading.Thread(target=extend, name="queue-holding", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def bury(self, left: Sequence[tuple[dict[str, Any], str, str]]) -> int:
        """Send messages that are here for the last time to the dead-letter queue; how many.

        left: message, code and reason. SQS itself would move them, but cannot say why: the body
        stays as it is, `code` and `reason` come as attributes. Without a redrive policy they stay.
        """
        if not left or (redrive := self.redrive()) is None:
            return 0
        url, most = redrive
        last = [one for one in left if receipts(one[0]) >= most]
        for message, code, reason in last:
            said = {"code": code, "reason": reason[:1000], "message_id": message["MessageId"]}
            own = message.get("MessageAttributes", {})
            kept = dict(list(own.items())[: MOST_ATTRIBUTES - len(said)])
            told = {n: {"DataType": "String", "StringValue": _plain(t)} for n, t in said.items()}
            with speaking(url, self.setting):
                self.client.send_message(
                    QueueUrl=url, MessageBody=message["Body"], MessageAttributes={**kept, **told}
                )
            self.delete([message])
        return len(last)

    def redrive(self) -> tuple[str, int] | None:
        """The URL of the dead-letter queue, and after how many receipts a message goes there."""
        try:
            policy = json.loads(self.attributes().get("RedrivePolicy", "{}"))
            most, arn = int(policy["maxReceiveCount"]), str(policy["deadLetterTargetArn"])
        except (ValueError, KeyError, TypeError):
            return None
        account, name = arn.split(":")[-2:]  # always of the same account and region
        return "/".join([*self.url.split("/")[:-2], account, name]), most

    def attributes(self) -> dict[str, str]:
        """The queue's attributes."""
        with speaking(self.url, self.setting):
            answer = self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=["All"])
        attributes: dict[str, str] = answer["Attributes"]
        return attributes


def receipts(message: dict[str, Any]) -> int:
    """How often a message was received, this time included."""
    return int(message.get("Attributes", {}).get("ApproximateReceiveCount", 1))


def queue_region(url: str, default: str) -> str:
    """The region in the URL of a queue at AWS; elsewhere the default."""
    found = re.match(r"https://(?:sqs\.([a-z0-9-]+)|([a-z0-9-]+)\.queue)\.amazonaws\.com", url)
    return (found[1] or found[2]) if found else default


@lru_cache(maxsize=8)
def client(service: str, region: str) -> Any:
    """The client of one service, made once in a process."""
    import boto3
    from botocore.config import Config

    timeouts = Config(connect_timeout=5, read_timeout=20, retries={"mode": "standard"})
    make: Any = boto3.client
    return make(service, region_name=region, config=timeouts)


@contextmanager
def speaking(where: str, setting: str) -> Iterator[None]:
    """Turn what boto3 raises into LakeError."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise LakeError(
            code="queue_unreachable",
            what=str(error).split("\n")[0][:300],
            where=where,
            todo=f"Check {setting}, the credentials and the policy there; run `mm doctor`.",
        ) from error


def _entries(messages: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
        for number, message in enumerate(messages)
    ]


def _plain(text: str) -> str:
    """Text with only the characters that SQS takes; it takes no empty one."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", text) or "?"
