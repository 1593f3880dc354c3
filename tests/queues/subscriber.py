"""A queue or topic with a subscriber: the one of docs/queues.md, as it is written there."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest

from mm_assets.queues import sqs

PAGE = Path(__file__).parents[2] / "docs" / "queues.md"


def written_in_the_docs() -> dict[str, Any]:
    """What the subscriber's code on the page defines."""
    [code] = re.findall(r"```python\n(# subscriber.py\n.*?)```", PAGE.read_text(), re.DOTALL)
    defined: dict[str, Any] = {}
    exec(code, defined)  # noqa: S102  our own page
    return defined


class Subscriber:
    """Reads a queue to its end: what it holds, and everything that came."""

    def __init__(self, client: Any, url: str) -> None:
        self.client, self.url = client, url
        self.came: list[dict[str, Any]] = []
        self.messages: list[dict[str, Any]] = []
        self.answers: dict[tuple[str, str], dict[str, Any]] = {}
        self.keep = written_in_the_docs()["keep"]

    def read(self) -> list[dict[str, Any]]:
        """The details of the events that came since, in their order."""
        new = []
        while messages := self.client.receive_message(
            QueueUrl=self.url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        ).get("Messages"):
            for message in messages:
                event = json.loads(message["Body"])
                event = json.loads(event["Message"]) if "Message" in event else event
                self.keep(self.answers, event)
                self.messages.append(message)
                new.append(event["detail"])
                self.client.delete_message(
                    QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"]
                )
        self.came += new
        return new

    def holds(self) -> dict[str, str]:
        """The newest answer of each record that has one."""
        return {
            record: one["answer"]["prediction"]
            for (_, record), one in self.answers.items()
            if one["answer"] is not None
        }


@contextmanager
def subscribed(
    endpoint: str, patch: pytest.MonkeyPatch, *, fifo: bool = False
) -> Iterator[Subscriber]:
    """MM_RESULTS is a fresh queue on the server, with somebody who reads it."""
    for name in ("SQS", "SNS", "EVENTBRIDGE"):
        patch.setenv(f"AWS_ENDPOINT_URL_{name}", endpoint)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        patch.setenv(name, "testing")
    sqs.client.cache_clear()
    client = boto3.client("sqs", endpoint_url=endpoint, region_name="us-east-1")
    more = {"Attributes": {"FifoQueue": "true"}} if fifo else {}
    name = f"{uuid.uuid4().hex}{'.fifo' * fifo}"
    url = client.create_queue(QueueName=name, **more)["QueueUrl"]
    patch.setenv("MM_RESULTS", f"sqs://{url}")
    yield Subscriber(client, url)
    client.delete_queue(QueueUrl=url)
    sqs.client.cache_clear()
