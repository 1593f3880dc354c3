"""S3 events through a real queue: duplicated, late, unordered or broken, they end in one ledger,
and no message is deleted before what it tells of is noted.
"""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mm_assets.contract.errors import LakeError
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import MARKER, inbox
from mm_assets.orchestration.triggers import events
from mm_assets.orchestration.triggers.events import (
    CannotHandle,
    Place,
    events_queue,
    places_of,
    pump,
)
from mm_assets.queues import sqs
from mm_assets.queues.sqs import queue_region
from mm_assets.uploads import ledger
from tests.make import announcement, drop_folder, drop_zip
from tests.orchestration.daemon import Daemon, counted, fill, forget

PETS = frozenset({"pets"})
VISIBLE_AGAIN = 1  # second
MOST_RECEIPTS = 3


class Line:
    """A bucket that tells a queue of everything below it, and a dead-letter queue behind."""

    def __init__(self, settings: Settings, s3_client: Any, patch: pytest.MonkeyPatch) -> None:
        import boto3

        self.lake = Lake(settings, s3_client)
        self.sqs = boto3.client(
            "sqs", endpoint_url=settings.aws_endpoint_url, region_name="us-east-1"
        )
        name = uuid.uuid4().hex
        self.dead = self.sqs.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
        redrive = {"deadLetterTargetArn": self.arn(self.dead), "maxReceiveCount": MOST_RECEIPTS}
        self.url = self.sqs.create_queue(
            QueueName=name, Attributes={"RedrivePolicy": json.dumps(redrive)}
        )["QueueUrl"]
        patch.setenv("MM_EVENTS", f"sqs://{self.url}")
        patch.setattr(sqs, "WAIT_SECONDS", 0)
        patch.setattr(sqs, "VISIBILITY_SECONDS", VISIBLE_AGAIN)
        sqs.client.cache_clear()
        self.bucket = settings.bucket_and_prefix[0]
        self.tell(True)
        self.queue = events_queue(Settings.from_environment())

    def tell(self, of_everything: bool) -> None:
        """Whether the bucket tells the queue of what is created in the inbox."""
        of_inbox = {"Key": {"FilterRules": [{"Name": "prefix", "Value": "lake/inbox/"}]}}
        all_of_it = {
            "QueueArn": self.arn(self.url), "Events": ["s3:ObjectCreated:*"], "Filter": of_inbox
        }  # fmt: skip
        self.lake.s3_client.put_bucket_notification_configuration(
            Bucket=self.bucket,
            NotificationConfiguration={"QueueConfigurations": [all_of_it] * of_everything},
        )

    def arn(self, url: str) -> str:
        answer = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        arn: str = answer["Attributes"]["QueueArn"]
        return arn

    def send(self, *bodies: Any) -> None:
        for body in bodies:
            text = body if isinstance(body, str) else json.dumps(body)
            self.sqs.send_message(QueueUrl=self.url, MessageBody=text)

    def waiting(self, url: str = "") -> int:
        """Messages that were not deleted, whether somebody has them now or not."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self.sqs.get_queue_attributes(QueueUrl=url or self.url, AttributeNames=names)
        return sum(map(int, answer["Attributes"].values()))

    def empty(self) -> None:
        while messages := list(self.queue.receive()):
            self.queue.delete(messages)

    def pump(self) -> events.Pumped:
        return pump(self.lake, self.queue, PETS)

    def noted(self) -> list[str]:
        """The names of the uploads that are noted."""
        uploads = ledger.pending_uploads(self.lake, "pets")
        read = (ledger.read_pending(self.lake, "pets", upload) for upload in uploads)
        return sorted(pending.source.name for pending in read if pending)


@pytest.fixture
def line(s3_settings: Settings, s3_client: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    made = Line(s3_settings, s3_client, monkeypatch)
    made.empty()  # the test event that S3 sends first
    yield made
    for url in (made.url, made.dead):
        made.sqs.delete_queue(QueueUrl=url)
    sqs.client.cache_clear()


def created(bucket: str, *keys: str, kind: str = "ObjectCreated:Put") -> dict[str, Any]:
    """An S3 notification, its keys encoded as S3 does."""
    records = [
        {"eventName": kind, "s3": {"bucket": {"name": bucket}, "object": {"key": quote_plus(key)}}}
        for key in keys
    ]
    return {"Records": records}


# -- what a message says --------------------------------------------------------------------------


def test_a_zip_that_is_sent_is_noted_from_its_event(line: Line) -> None:
    drop_zip(line.lake, "a.zip", {"t.csv": b"id\n"})
    assert line.waiting() == 1
    assert line.pump().done == 1
    assert line.noted() == ["a.zip"]
    assert line.waiting() == 0


@pytest.mark.parametrize("name", ["two words.zip", "a+b.zip", "käse & 猫.zip", "100%25.zip"])
def test_a_key_comes_through_as_it_is(line: Line, name: str) -> None:
    drop_zip(line.lake, name, {"t.csv": b"id\n"})
    line.pump()
    line.send(created(line.bucket, f"lake/inbox/pets/{name}"))
    assert line.pump().left == []
    assert line.noted() == [name]


def wrapped_by_sns(body: dict[str, Any]) -> dict[str, Any]:
    return {"Type": "Notification", "Message": json.dumps(body)}


def from_event_bridge(bucket: str, key: str, kind: str = "Object Created") -> dict[str, Any]:
    return {"source": "aws.s3", "detail-type": kind,
            "detail": {"bucket": {"name": bucket}, "object": {"key": key}}}  # fmt: skip


def test_sns_and_event_bridge_say_the_same_in_other_forms(line: Line) -> None:
    drop_zip(line.lake, "a b.zip", {})
    drop_folder(line.lake, "f+g", {"t.csv": b"id\n"})
    line.empty()
    line.send(
        wrapped_by_sns(created(line.bucket, "lake/inbox/pets/a b.zip")),
        from_event_bridge(line.bucket, f"lake/inbox/pets/f+g/{MARKER}"),
        wrapped_by_sns(from_event_bridge(line.bucket, "lake/inbox/pets/a b.zip")),
    )
    assert line.pump().done == 3
    assert line.noted() == ["a b.zip", "f+g"]


def test_what_tells_of_nothing_new_in_the_inbox_is_done_with(line: Line) -> None:
    line.send(
        {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": line.bucket},
        created(line.bucket, "lake/inbox/pets/gone.zip"),
        created(line.bucket, "lake/inbox/pets/a.zip", kind="ObjectRemoved:Delete"),
        created(line.bucket, "lake/received/pets/a.zip/x/a.zip", "lake/datasets/pets/x.json"),
        created(line.bucket, "lake/inbox/pets/folder/"),
        from_event_bridge(line.bucket, "lake/inbox/pets/a.zip", "Object Deleted"),
        {"Records": []},
    )
    pumped = line.pump()
    assert (pumped.done, pumped.noted, pumped.left) == (7, [], [])
    assert line.waiting() == 0


BROKEN = [
    "no JSON", "[]", "null", "5", "{}", '{"Records": 5}', '{"Records": [{}]}', '{"Message": "x"}',
    '{"detail": {}}', '{"detail": 5, "detail-type": "Object Created"}', "[" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("body", BROKEN)
def test_what_is_no_notification_is_refused(s3_settings: Settings, body: str) -> None:
    with pytest.raises(CannotHandle, match="no S3 event"):
        places_of(body, s3_settings, PETS)


@examples(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["Records", "eventName", "s3", "bucket", "object", "key", "name",
                         "Message", "detail", "detail-type", "Event"]), inner, max_size=4),
    max_leaves=12))  # fmt: skip
def test_no_message_breaks_the_reading(s3_settings: Settings, body: Any) -> None:
    with contextlib.suppress(CannotHandle):
        assert isinstance(places_of(json.dumps(body), s3_settings, PETS), list)


def test_a_zip_and_the_files_of_a_folder_lead_to_their_places(s3_settings: Settings) -> None:
    bucket = s3_settings.bucket_and_prefix[0]
    keys = ("a.zip", "f/x.png", "f/deep/y.png", "f/")
    body = json.dumps(created(bucket, *(f"lake/inbox/pets/{key}" for key in keys)))
    found = places_of(body, s3_settings, PETS)
    assert set(found) == {Place("pets", "a.zip", False), Place("pets", "f", True)}


# -- nothing is lost ------------------------------------------------------------------------------


def test_what_cannot_be_handled_ends_in_the_dead_letter_queue(line: Line) -> None:
    other = created("another-bucket", "lake/inbox/pets/a.zip")
    unknown = created(line.bucket, "lake/inbox/cars/a.zip")
    line.send("no JSON", other, unknown)
    drop_zip(line.lake, "a.zip", {})
    first = line.pump()
    assert first.noted != []
    assert len(first.left) == 3
    assert any("another-bucket" in reason for reason in first.left)
    for _ in range(MOST_RECEIPTS):
        assert line.waiting() + line.waiting(line.dead) == 3
        time.sleep(VISIBLE_AGAIN + 0.1)
        assert line.pump().done == 0
    assert line.waiting(line.dead) == 3


def test_a_message_is_deleted_only_after_its_upload_is_noted(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop_zip(line.lake, "a.zip", {"t.csv": b"a"})
    drop_zip(line.lake, "b.zip", {"t.csv": b"b"})
    note = ledger.note

    def fail(lake: Lake, source: Any) -> None:
        if source.name == "a.zip":
            raise LakeError(code="lake_unreachable", what="the lake is away")
        note(lake, source)

    monkeypatch.setattr(ledger, "note", fail)
    with pytest.raises(LakeError, match="the lake is away"):
        line.pump()
    assert line.noted() == ["b.zip"]  # one that fails holds no other back
    assert line.waiting() == 1
    monkeypatch.setattr(ledger, "note", note)
    time.sleep(VISIBLE_AGAIN + 0.1)
    line.pump()
    assert line.noted() == ["a.zip", "b.zip"]
    assert line.waiting() == 0


def test_while_the_lake_is_away_no_message_is_taken(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop_zip(line.lake, "a.zip", {})

    def away(_: str) -> None:
        raise LakeError(code="lake_unreachable", what="the lake is away")

    monkeypatch.setattr(line.lake, "stat", away)
    for _ in range(MOST_RECEIPTS + 1):
        with pytest.raises(LakeError):
            line.pump()
    monkeypatch.undo()
    assert line.waiting(line.dead) == 0
    assert pump(line.lake, line.queue, PETS).done == 1


def test_a_tick_that_takes_too_long_leaves_the_rest_in_the_queue(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        drop_zip(line.lake, f"{number}.zip", {})
    monkeypatch.setattr(events, "LOOKING_SECONDS", -1.0)
    assert line.pump().done == 0
    assert line.waiting() == 3
    monkeypatch.undo()
    monkeypatch.setattr(sqs, "WAIT_SECONDS", 0)
    monkeypatch.setattr(sqs, "VISIBILITY_SECONDS", VISIBLE_AGAIN)
    time.sleep(VISIBLE_AGAIN + 0.1)
    pump(line.lake, line.queue, PETS)
    assert line.noted() == ["0.zip", "1.zip", "2.zip"]


def test_a_queue_that_cannot_be_reached_is_said_in_words(line: Line) -> None:
    line.queue.url += "-gone"
    with pytest.raises(LakeError) as caught:
        line.pump()
    assert caught.value.code == "queue_unreachable"


def test_a_folder_whose_marker_comes_before_its_last_file_is_noted_when_that_is_there(
    line: Line,
) -> None:
    files = {"t.csv": b"id\n1\n", "1.png": b"an image"}
    folder = f"{inbox('pets')}f/"
    line.lake.write(folder + "t.csv", files["t.csv"])
    line.lake.write(folder + MARKER, json.dumps(announcement(files)).encode())
    assert line.pump().noted == []
    assert line.waiting() == 0
    line.lake.write(folder + "1.png", files["1.png"])
    assert line.pump().noted != []
    assert line.noted() == ["f"]


def test_a_message_of_what_was_set_aside_does_not_bring_it_back(line: Line) -> None:
    drop_zip(line.lake, "a.zip", {})
    line.pump()
    [upload] = ledger.pending_uploads(line.lake, "pets")
    pending = ledger.read_pending(line.lake, "pets", upload)
    assert pending is not None
    ledger.set_aside(line.lake, pending, "it always fails", 5, "run")
    line.send(created(line.bucket, "lake/inbox/pets/a.zip"))
    assert line.pump().done == 1
    assert line.noted() == []


def test_a_message_of_what_is_finished_makes_no_second_run(
    line: Line, daemon_of: Callable[..., Daemon]
) -> None:
    daemon = daemon_of(line.lake, dataset="pets", keep_inbox=True)
    drop_zip(line.lake, "a.zip", {})
    line.pump()
    assert len(daemon.take_all()) == 1
    line.send(created(line.bucket, "lake/inbox/pets/a.zip"))
    line.pump()
    assert daemon.take_all() == []
    assert ledger.pending_uploads(line.lake, "pets") == []


def test_what_events_missed_is_found_by_the_slow_listing(
    line: Line, daemon_of: Callable[..., Daemon]
) -> None:
    daemon = daemon_of(line.lake)
    drop_zip(line.lake, "missed.zip", {}, daemon.scope.dataset)
    line.empty()
    assert len(daemon.take_all()) == 1


# -- how much it costs ----------------------------------------------------------------------------


def test_the_cost_does_not_depend_on_what_the_bucket_holds(line: Line, s3_client: Any) -> None:
    def cost(name: str) -> dict[str, int]:
        drop_zip(line.lake, name, {})
        line.lake.write(f"{inbox('pets')}unfinished/{name}.png", b"x")
        with counted(s3_client) as requests, counted(line.queue.client) as messages:
            assert line.pump().done == 2
        messages.pop("ChangeMessageVisibilityBatch", None)  # one for each 40 s that a tick takes
        return {**requests, **messages}

    few = cost("a.zip")
    line.tell(False)  # the server would take minutes for so many messages
    for number in range(20):
        fill(line.lake.settings, f"{inbox('pets')}{number}", 1000)
    line.tell(True)
    line.empty()
    try:
        assert cost("b.zip") == few
        assert sum(few.values()) < 12
    finally:
        forget(line.lake.settings)


# -- whatever comes, in whatever order ------------------------------------------------------------

KEYS = ("a.zip", "b.zip", "f/t.csv", f"f/{MARKER}", "half/t.csv")


@examples(max_examples=40, deadline=None, derandomize=True,
          suppress_health_check=list(HealthCheck))  # fmt: skip
@given(st.permutations(KEYS), st.lists(st.sampled_from(KEYS), max_size=8), st.data())
def test_any_order_and_number_of_events_ends_in_the_same_ledger(
    folder_settings: Settings, first: list[str], again: list[str], data: st.DataObject
) -> None:
    """Each event comes at least once, after its object; each look is at what is there then."""
    folder_settings = folder_settings.model_copy(update={"lake": f"data/{uuid.uuid4().hex}"})
    lake = Lake(folder_settings)
    files = {"t.csv": b"id\n"}
    contents = {f"f/{MARKER}": json.dumps(announcement(files)).encode(), "f/t.csv": b"id\n"}
    queue = Heap()
    for key in first:
        lake.write(f"{inbox('pets')}{key}", contents.get(key, key.encode()))
        queue.put(key)
        if data.draw(st.booleans()):
            queue.shuffle(data.draw(st.randoms()))
            pump_folder(lake, queue)
    for key in again:
        queue.put(key)
    queue.shuffle(data.draw(st.randoms()))
    while queue.messages:
        pump_folder(lake, queue)
    uploads = ledger.pending_uploads(lake, "pets")
    sources = [ledger.read_pending(lake, "pets", upload) for upload in uploads]
    assert sorted(p.source.name for p in sources if p) == ["a.zip", "b.zip", "f"]


class Heap:
    """Messages in any order, some at a time."""

    url = "a list"

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.given = 1

    def put(self, key: str) -> None:
        body = json.dumps(created("bucket", f"inbox/pets/{key}"))
        self.messages.append({"MessageId": str(len(self.messages)), "Body": body})

    def shuffle(self, random: Any) -> None:
        random.shuffle(self.messages)
        self.given = random.randint(1, 5)

    def receive(self) -> list[dict[str, Any]]:
        return self.messages[: self.given]

    def holding(self, _: Any) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def bury(self, failed: list[Any]) -> None:
        assert failed == []

    def delete(self, messages: list[dict[str, Any]]) -> None:
        self.messages = [m for m in self.messages if all(m is not done for done in messages)]


def pump_folder(lake: Lake, queue: Heap) -> None:
    """A pump whose events name a bucket while the bytes lie in a folder, which is faster."""
    bucket = lake.settings.model_copy(update={"lake": "s3://bucket"})
    real = lake.settings
    patch = pytest.MonkeyPatch()
    patch.setattr(events, "places_of", lambda body, _, names: places_of(body, bucket, names))
    assert lake.settings is real
    pump(lake, queue, PETS)
    patch.undo()


def test_the_region_of_a_queue_is_the_one_in_its_url() -> None:
    assert queue_region("https://sqs.eu-central-1.amazonaws.com/1/q", "us-east-1") == "eu-central-1"
    assert queue_region("https://eu-west-1.queue.amazonaws.com/1/q", "us-east-1") == "eu-west-1"
    assert queue_region("http://127.0.0.1:5000/1/q", "us-east-1") == "us-east-1"
