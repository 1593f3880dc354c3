"""Work messages through a real queue: however often they come, each is one upload, and what cannot
be handled ends in the dead-letter queue with the reason.
"""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import jsonschema
import pytest

from mm_assets.contract.errors import LakeError
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import MANIFEST, inbox
from mm_assets.orchestration.component import resources
from mm_assets.orchestration.run import Runner, open_instance
from mm_assets.orchestration.triggers import events
from mm_assets.orchestration.triggers.events import pump, work_queue
from mm_assets.orchestration.triggers.queues import build_queue_sensors
from mm_assets.predictions.outbox import left_behind, note
from mm_assets.queues import sqs
from mm_assets.queues.schemas import path_of, text_of
from mm_assets.tables.duckdb.store import DuckDBStore
from mm_assets.tables.open import open_store
from mm_assets.uploads import ledger, message
from mm_assets.uploads.find import read_source
from mm_assets.uploads.message import SCHEMA, CannotHandle, read_work, schema
from mm_assets.uploads.take_in import take_in
from tests.make import dataset, draw_image, drop_zip, rows_of, table
from tests.orchestration.daemon import Daemon
from tests.orchestration.test_events import MOST_RECEIPTS, PETS, VISIBLE_AGAIN, Line, created
from tests.queues.subscriber import subscribed
from tests.tables.offers import offer, offered


@pytest.fixture
def line(s3_settings: Settings, s3_client: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """A queue of work messages, which is that of S3 events as well."""
    made = Line(s3_settings, s3_client, monkeypatch)
    monkeypatch.setenv("MM_WORK", f"sqs://{made.url}")
    made.lake.settings = Settings.from_environment()
    made.queue = work_queue(made.lake.settings)
    made.empty()
    yield made
    for url in (made.url, made.dead):
        made.sqs.delete_queue(QueueUrl=url)
    sqs.client.cache_clear()


def work(**more: Any) -> dict[str, Any]:
    return {"schema": SCHEMA, "dataset": "pets", **more}


ROWS = [{"id": "p1", "age": 3, "colour": "black"}, {"id": "p2", "age": None, "colour": "red"}]


def taken_in(lake: Lake, upload: str) -> dict[str, Any]:
    source = read_source(lake, "pets", upload)
    return take_in(lake, dataset(), source, run_id="run", progress=lambda _: None)[0]


def joined(lake: Lake, upload: str, tmp_path: Any) -> list[dict[str, Any]]:
    from mm_assets.manifest.join import build_manifest

    store = DuckDBStore(tmp_path / "t.duckdb")
    document = build_manifest(lake, store, dataset(), upload, run_id="run")
    return rows_of(lake, document, f"{MANIFEST}.parquet")


# -- what a message becomes -----------------------------------------------------------------------


def test_records_and_images_in_a_message_become_an_upload(line: Line, tmp_path: Any) -> None:
    line.lake.write("cameras/2.png", draw_image(2))
    images = {
        "p1.png": base64.b64encode(draw_image(1)).decode(),
        "p2.png": f"{line.lake.settings.lake}/cameras/2.png",
    }
    line.send(work(records=ROWS, images=images))
    pumped = line.pump()
    [upload] = pumped.noted
    assert (pumped.done, line.waiting()) == (1, 0)
    assert taken_in(line.lake, upload)["counts"]["images"] == 2
    rows = joined(line.lake, upload, tmp_path)
    assert [(row["record_id"], bool(row["image_sha256"])) for row in rows] == [
        ("p1", True), ("p2", True)
    ]  # fmt: skip


def test_a_message_can_name_an_upload_that_lies_in_the_inbox(line: Line) -> None:
    drop_zip(line.lake, "a.zip", {"t.csv": b"id\n"})
    line.empty()  # its event
    line.send(
        work(upload="a.zip"), {"Type": "Notification", "Message": json.dumps(work(upload="a.zip"))}
    )
    assert line.pump().done == 2
    assert line.noted() == ["a.zip"]


def test_a_message_that_comes_again_after_its_upload_was_moved_is_done_with(line: Line) -> None:
    drop_zip(line.lake, "a.zip", {"t.csv": table("id,age", "1,2")})
    line.empty()
    line.send(work(upload="a.zip"))
    [upload] = line.pump().noted
    taken_in(line.lake, upload)
    ledger.settle(line.lake, "pets", upload)
    line.lake.delete(f"{inbox('pets')}a.zip")  # as the move does, on a store that can
    line.lake.write(f"received/pets/a.zip/{upload}/a.zip", b"moved")
    line.send(work(upload="a.zip"))
    assert line.pump().left == []
    assert ledger.pending_uploads(line.lake, "pets") == []


def test_the_same_content_is_one_upload_and_another_id_makes_it_another(line: Line) -> None:
    again = {"records": ROWS, "dataset": "pets", "schema": SCHEMA}  # in another order
    line.send(work(records=ROWS), again)
    assert line.pump().done == 2
    [upload] = ledger.pending_uploads(line.lake, "pets")
    taken_in(line.lake, upload)
    ledger.settle(line.lake, "pets", upload)
    line.send(work(records=ROWS))
    assert line.pump().done == 1
    assert ledger.pending_uploads(line.lake, "pets") == []  # it was done
    line.send(work(records=ROWS, id="once more"))
    assert line.pump().done == 1
    assert len(ledger.known_uploads(line.lake, "pets")) == 2


def test_of_two_messages_about_a_record_the_one_that_was_sent_later_counts(line: Line) -> None:
    for number, moment in enumerate((200, 100)):
        sent = message.Envelope(str(number), datetime.fromtimestamp(1.8e9 + moment, UTC))
        one = read_work(json.dumps(work(records=[{"id": "p1", "age": number}])), PETS)
        assert one is not None
        message.note_work(line.lake, one, sent)
    newest = ledger.known_uploads(line.lake, "pets")[-1]
    assert read_source(line.lake, "pets", newest).message == "0"


def test_uploads_that_came_by_message_are_shown_with_its_id(
    line: Line, daemon_of: Callable[..., Daemon]
) -> None:
    daemon = daemon_of(line.lake, dataset="pets")
    sent = line.sqs.send_message(QueueUrl=line.url, MessageBody=json.dumps(work(records=ROWS)))
    line.pump()
    [standing] = ledger.newest_uploads(line.lake, "pets", 5)
    assert (standing.message, standing.state) == (sent["MessageId"], "pending")
    tick = daemon.evaluate("uploads")
    assert tick.run_requests[0].tags["mm/message"] == sent["MessageId"]


@pytest.mark.parametrize("after", ["claim", "bytes", "note"])
def test_whatever_dies_while_an_upload_is_made_the_message_makes_it_whole(
    line: Line, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    def die(*_: Any) -> None:
        raise LakeError(code="lake_unreachable", what="it died here")

    target, name = {
        "claim": (line.lake, "write"), "bytes": (ledger, "note"), "note": (line.queue, "delete")
    }[after]  # fmt: skip
    line.send(work(records=ROWS))
    with monkeypatch.context() as patch:
        patch.setattr(target, name, die)
        with pytest.raises(LakeError):
            line.pump()
    assert line.waiting() == 1
    time.sleep(VISIBLE_AGAIN + 0.1)
    assert line.pump().done == 1
    [upload] = ledger.pending_uploads(line.lake, "pets")
    assert taken_in(line.lake, upload)["counts"]["rows"] == 2


def test_a_message_stays_hidden_while_it_is_handled(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    note, seen = events.note_work, []

    def slowly(*arguments: Any) -> str:
        time.sleep(2.5 * VISIBLE_AGAIN)
        seen.extend(line.queue.receive())
        return note(*arguments)

    monkeypatch.setattr(events, "note_work", slowly)
    line.send(work(records=ROWS))
    assert line.pump().done == 1
    assert seen == []


# -- what cannot be handled -----------------------------------------------------------------------

BAD: list[tuple[dict[str, Any] | str, str]] = [
    (work(), "message_invalid"),
    (work(upload="a.zip", records=ROWS), "message_invalid"),
    (work(records=[{"id": {"nested": 1}}]), "message_invalid"),
    (work(records=ROWS, more=1), "message_invalid"),
    (work(images={"a.png": "no base64!"}), "message_invalid"),
    ({**work(records=ROWS), "schema": "mm-assets.work.v9"}, "message_invalid"),
    ({**work(records=ROWS), "dataset": "cars"}, "dataset_unknown"),
    (work(upload="gone.zip"), "upload_unknown"),
    (work(upload="../x"), "upload_unfinished"),
    (work(images={"a.png": "s3://another-bucket/a.png"}), "message_address"),
    (work(images={"a.png": "s3://{lake}/gone.png"}), "message_image"),
    ("no JSON", "message_unknown"),
]


def test_poison_ends_in_the_dead_letter_queue_with_the_reason_and_holds_nothing_back(
    line: Line,
) -> None:
    lake = line.lake.settings.lake.removeprefix("s3://")
    bodies = [
        (body if isinstance(body, str) else json.dumps(body)).replace("{lake}", lake)
        for body, _ in BAD
    ]
    line.send(*bodies)
    line.send(work(records=ROWS))
    assert line.pump().done == 1
    for _ in range(MOST_RECEIPTS - 1):
        time.sleep(VISIBLE_AGAIN + 0.1)
        line.pump()
    assert (line.waiting(), line.waiting(line.dead)) == (0, len(BAD))
    dead = {}
    while found := line.sqs.receive_message(
        QueueUrl=line.dead, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
    ).get("Messages"):
        for one in found:
            told = {n: v["StringValue"] for n, v in one["MessageAttributes"].items()}
            assert told["reason"]
            assert told["message_id"]
            dead[one["Body"]] = told["code"]
    assert dead == dict(zip(bodies, (code for _, code in BAD), strict=True))


def test_records_are_taken_only_from_the_queue_that_the_setting_names(line: Line) -> None:
    line.lake.settings = line.lake.settings.model_copy(update={"work": ""})
    line.send(work(records=ROWS))
    [left] = line.pump().left
    assert "message_unknown" in left
    assert ledger.known_uploads(line.lake, "pets") == []


def test_one_queue_can_carry_events_and_work(line: Line) -> None:
    drop_zip(line.lake, "a.zip", {})
    line.send(work(records=ROWS), created(line.bucket, "lake/inbox/pets/a.zip"))
    assert line.pump().done == 3
    assert [name[:8] for name in line.noted()] == ["a.zip", "message-"]
    sensors = build_queue_sensors(line.lake.settings, PETS)
    assert [sensor.name for sensor in sensors] == ["s3_events"]


def test_a_lake_in_a_folder_takes_work_as_well(
    line: Line, folder_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MM_EVENTS", "")
    monkeypatch.setenv("MM_WORK", f"sqs://{line.url}")
    settings = Settings.from_environment()
    lake = Lake(settings)
    line.send(work(records=ROWS))
    assert pump(lake, work_queue(settings), PETS).done == 1
    [upload] = ledger.pending_uploads(lake, "pets")
    assert taken_in(lake, upload)["counts"]["rows"] == 2
    assert [sensor.name for sensor in build_queue_sensors(settings, PETS)] == ["work"]


def test_the_schema_that_is_shipped_is_that_of_the_class_and_refuses_what_it_refuses() -> None:
    shipped = path_of(SCHEMA).read_text()
    assert shipped == text_of(schema())
    jsonschema.validate(work(records=ROWS), json.loads(shipped))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(work(records=[{"id": []}]), json.loads(shipped))
    with pytest.raises(CannotHandle):
        read_work(json.dumps(work(records=[{"id": []}])), PETS)


# -- the sensors ----------------------------------------------------------------------------------


def test_the_sensors_read_the_queue_and_tell_what_was_not_told(
    line: Line, instance: dg.DagsterInstance, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MM_EVENTS", "")
    with subscribed(s3_endpoint, monkeypatch) as reader:
        settings = Settings.from_environment()
        lake, store = Lake(settings), open_store(settings)
        sensors = {one.name: one for one in build_queue_sensors(settings, PETS)}
        assert set(sensors) == {"work", "results"}

        def tick(name: str) -> str:
            with dg.build_sensor_context(instance, resources=resources()) as context:
                return sensors[name].evaluate_tick(context).skip_message or ""

        line.send(work(records=ROWS), "no JSON")
        assert tick("work") == ("1 messages told of 1 finished uploads; 1 could not be handled.")
        assert tick("results") == "Everything was told."
        note(lake, store, "pets", offered(offer("a"))["record_id"], "u", "")
        store.merge("pets", offered(offer("a")))
        assert tick("results") == "pets: 1 events were sent late"
        assert [one["record_id"] for one in reader.read()] == ["a"]
        note(lake, store, "pets", offered(offer("b"))["record_id"], "u", "")
        store.merge("pets", offered(offer("b")))
        line.sqs.delete_queue(QueueUrl=reader.url)
        assert tick("results").startswith("pets: 1 notes are left: [queue_unreachable]")
        line.sqs.create_queue(QueueName=reader.url.rpartition("/")[2])


# -- from a message to an event -------------------------------------------------------------------

GRADES = dataset(
    dataset="grades",
    columns={"grade": "category", "size": "number"},
    classes=["odd", "even"],
    image_name=None,
    model_without_image={
        "engine": "rules",
        "hyperparameters": {
            "rules": [{"when": "grade IN ('1', '3')", "then": "odd"}],
            "otherwise": "even",
        },
    },
)
# A `mm sync` that is killed when all is merged and nothing is told.
KILLED = """
import os, signal
from mm_assets.contract.settings import Settings
from mm_assets.predictions import merge
from mm_assets.orchestration.component import resources
from mm_assets.orchestration.run import Runner, open_instance
from tests.orchestration.test_work import GRADES

merge.publish_changes = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
with open_instance(Settings.from_environment()) as instance:
    list(Runner(GRADES, instance, print).sync())
"""


def test_from_a_work_message_to_an_event_although_the_run_is_killed_in_between(
    line: Line, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = line.lake.settings.root / "dagster"
    monkeypatch.setenv("DAGSTER_HOME", str(home))

    def synced(*, train: bool = False) -> list[bool]:
        """Whether each run was good, of `mm sync` and perhaps `mm train`."""
        with open_instance(Settings.from_environment()) as instance:
            runner = Runner(GRADES, instance, print)
            outcomes = [*runner.sync(), *(runner.train() if train else ())]
        return [outcome.is_good for outcome in outcomes]

    with subscribed(s3_endpoint, monkeypatch) as reader:
        truth = [
            {"id": f"r{n}", "grade": str(n % 4 + 1), "size": 1, "label": ["odd", "even"][n % 2]}
            for n in range(100)
        ]
        line.send({**work(records=truth), "dataset": "grades"})
        assert all(synced(train=True))
        assert reader.read() == []  # whatever has a label needs no answer
        asked = [{"id": "a1", "grade": "1", "size": 1}, {"id": "a2", "grade": "2", "size": 1}]
        line.send({**work(records=asked), "dataset": "grades"})
        killed = subprocess.run(
            [sys.executable, "-c", KILLED], check=False, capture_output=True, text=True
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert reader.read() == []
        assert synced() == [True, True]
        assert sorted(one["kind"] for one in reader.read()) == ["new", "new"]
        assert reader.holds() == {"a1": "odd", "a2": "even"}
        assert left_behind(line.lake, "grades") == []
