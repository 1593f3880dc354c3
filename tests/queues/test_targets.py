"""A queue, a topic and a bus are told the same; what fails alone is sent again, with an end."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import boto3
import pytest

from mm_assets.contract.errors import LakeError, SettingsError
from mm_assets.contract.settings import Settings
from mm_assets.predictions.event import event
from mm_assets.queues import targets
from mm_assets.queues.targets import Message, batches, open_target, send
from tests.queues.subscriber import Subscriber, subscribed
from tests.tables.offers import offer


def messages(number: int, sequence: int = 1) -> list[Message]:
    """Of so many records."""
    ids = [f"r{n}" for n in range(number)]
    return [event("pets", i, "new", {**offer(i)}, "note", sequence) for i in ids]


@pytest.fixture
def reader(
    folder_settings: Settings, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Subscriber]:
    with subscribed(s3_endpoint, monkeypatch) as made:
        yield made


def named(patch: pytest.MonkeyPatch, results: str) -> targets.Target:
    patch.setenv("MM_RESULTS", results)
    return open_target(Settings.from_environment())


def test_a_queue_is_told_of_all_in_tens(reader: Subscriber) -> None:
    target = open_target(Settings.from_environment())
    assert target.look().endswith("0 messages wait for their reader")
    assert send(target, messages(23)) == 23
    assert len(reader.read()) == 23


def test_a_fifo_queue_keeps_the_order_of_a_record(
    s3_endpoint: str, folder_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with subscribed(s3_endpoint, monkeypatch, fifo=True) as reader:
        target = open_target(Settings.from_environment())
        for sequence in range(1, 6):
            send(target, messages(3, sequence))
        told = reader.read()
    of_one = [one["sequence"] for one in told if one["record_id"] == "r1"]
    assert of_one == [1, 2, 3, 4, 5]


def test_a_topic_passes_on_what_its_filter_lets_through(
    reader: Subscriber, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sns = boto3.client("sns", endpoint_url=s3_endpoint, region_name="us-east-1")
    topic = sns.create_topic(Name=uuid.uuid4().hex)["TopicArn"]
    queue = reader.client.get_queue_attributes(QueueUrl=reader.url, AttributeNames=["QueueArn"])
    sns.subscribe(
        TopicArn=topic, Protocol="sqs", Endpoint=queue["Attributes"]["QueueArn"],
        Attributes={"FilterPolicy": json.dumps({"needs_review": ["true"]})},
    )  # fmt: skip
    target = named(monkeypatch, f"sns://{topic}")
    assert "subscribers" in target.look()
    sure = event("pets", "sure", "new", {**offer("sure"), "needs_review": False}, "note", 1)
    assert send(target, [*messages(2), sure]) == 3
    assert sorted(one["record_id"] for one in reader.read()) == ["r0", "r1"]


def test_a_bus_takes_events(
    reader: Subscriber, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = boto3.client("events", endpoint_url=s3_endpoint, region_name="us-east-1")
    bus, rule = uuid.uuid4().hex, uuid.uuid4().hex
    events.create_event_bus(Name=bus)
    queue = reader.client.get_queue_attributes(QueueUrl=reader.url, AttributeNames=["QueueArn"])
    pattern = json.dumps({"source": ["mm-assets"], "detail": {"kind": ["new"]}})
    events.put_rule(Name=rule, EventBusName=bus, EventPattern=pattern)
    arn = queue["Attributes"]["QueueArn"]
    events.put_targets(Rule=rule, EventBusName=bus, Targets=[{"Id": "q", "Arn": arn}])
    target = named(monkeypatch, f"events://{bus}")
    assert bus in target.look()
    assert send(target, messages(12)) == 12
    assert len(reader.read()) == 12


class Moody:
    """Refuses some of each batch, for as long as it likes."""

    where = "here"

    def __init__(self, faults: list[dict[int, tuple[str, str, bool]]]) -> None:
        self.faults, self.took = faults, list[str]()
        self.asked = 0

    def put(self, messages: Sequence[Message]) -> list[tuple[str, str, bool]]:
        self.asked += 1
        now = self.faults.pop(0) if self.faults else {}
        told = [now.get(n, ("", "", False)) for n in range(len(messages))]
        took = (m for m, fault in zip(messages, told, strict=True) if not fault[0])
        self.took += [m.body["detail"]["record_id"] for m in took]
        return told

    def look(self) -> str:
        return "well"


def test_what_fails_alone_is_sent_again_and_nothing_twice() -> None:
    throttled = ("ThrottlingException", "slow down", False)
    target = Moody([{1: throttled, 3: throttled}, {0: throttled}])
    assert send(target, messages(5)) == 5
    assert sorted(target.took) == [f"r{n}" for n in range(5)]
    assert target.asked == 3


def test_throttling_without_end_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "PATIENCE", 0.2)
    target = Moody([{0: ("ThrottlingException", "slow down", False)}] * 1000)
    with pytest.raises(LakeError) as caught:
        send(target, messages(1))
    assert caught.value.code == "queue_unreachable"
    assert target.asked < 100


def test_what_is_refused_for_good_is_not_sent_again() -> None:
    target = Moody([{0: ("InvalidMessageContents", "no", True)}])
    with pytest.raises(LakeError) as caught:
        send(target, messages(1))
    assert (caught.value.code, target.asked) == ("results_refused", 1)


def test_a_request_holds_no_more_than_its_bytes() -> None:
    long = [Message({"x": "y" * 100_000}, {}, "g", "o")] * 5
    assert [len(batch) for batch in batches(long)] == [2, 2, 1]
    assert [len(batch) for batch in batches(messages(25))] == [10, 10, 5]


BAD: list[Any] = ["queue", "sqs://host/x", "sns://topic", "kafka://host/x", "events://"]


@pytest.mark.parametrize("value", BAD)
def test_a_setting_that_names_nobody_is_refused(
    folder_settings: Settings, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("MM_RESULTS", value)
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment()
    assert caught.value.code == "results_unknown"
