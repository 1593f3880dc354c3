"""A small whole flow, each part of it in the role that it has on AWS.

The roles are those of deploy/aws/app.yaml. Each signs with an access key of its own name.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import dagster as dg
import pytest
from fastapi.testclient import TestClient

import mm_assets as mm
from mm_assets.api.doctor import examine
from mm_assets.contract.settings import Settings, read_once
from mm_assets.contract.spec_file import load_spec
from mm_assets.lake import moves
from mm_assets.lake.lake import Lake
from mm_assets.orchestration import scope
from mm_assets.orchestration.component import resources
from mm_assets.orchestration.run import Runner
from mm_assets.orchestration.triggers.events import events_queue
from mm_assets.orchestration.triggers.queues import build_queue_sensors
from mm_assets.queues import sqs
from mm_assets.registry.signing import key_pair
from mm_assets.tables.dynamodb import requests
from mm_assets.tables.dynamodb.store import _Greater
from mm_assets.tables.open import create_table, inspect_table, open_store
from tests.deploy.recorder import ACCOUNT, NOBODY, REGION
from tests.make import plain_image, table
from tests.tables.offers import images, offer, refusals, rows

BUCKET, PREFIX, TABLE, QUEUE = "mm-lake", "lake", "mm-table", "mm-events"
DATASET = "pets"
LABELLED, PETS = 24, 8
YAML = """
type: mm_assets.pipeline.DatasetPipeline
attributes:
  dataset: pets
  id_column: id
  label_column: label
  problem_type: binary
  classes: [cat, dog]
  columns: {age: number}
  image_name: "{id}"
  image_longest_side: 16
  minimum_training_records: 10
  review_threshold: 1.0
  model_with_image: {engine: "tests.kill.engine:NearestMean"}
  model_without_image: {engine: "tests.kill.engine:NearestMean"}
"""


def folder_of(root: Path) -> Path:
    """A folder to send: labelled records and some to predict, with images of every second one."""
    root.mkdir()
    lines = []
    for number in range(LABELLED + PETS):
        kind, age = ("cat", 2) if number % 4 in (0, 1) else ("dog", 6)
        lines.append(f"p{number:03d},{age + number % 3},{kind if number < LABELLED else ''}")
        if number % 2 == 0:
            light = 200 * (kind == "cat")
            (root / f"p{number:03d}.png").write_bytes(plain_image((light,) * 3))
    (root / "t.csv").write_bytes(table("id,age,label", *lines))
    return root


class Flow:
    """The project, its instance of Dagster, and what its daemon remembers."""

    def __init__(self, root: Path, endpoint: str, patch: pytest.MonkeyPatch) -> None:
        self.root, self.patch = root, patch
        self.signing, verify = key_pair()
        for name in [name for name in os.environ if name.startswith(("MM_", "AWS_", "DAGSTER_"))]:
            patch.delenv(name)
        for name, value in {
            "MM_ROOT": str(root),
            "MM_LAKE": f"s3://{BUCKET}/{PREFIX}",
            "MM_TABLE": f"dynamodb://{TABLE}",
            "MM_EVENTS": f"sqs://{endpoint}/{ACCOUNT}/{QUEUE}",
            "MM_VERIFY_KEY": verify,
            "DAGSTER_HOME": str(root / "home"),
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            patch.setenv(name, value)
        patch.setattr(sqs, "WAIT_SECONDS", 0)
        (root / "home").mkdir(parents=True)
        file = root / "defs" / DATASET / "defs.yaml"
        file.parent.mkdir(parents=True)
        file.write_text(YAML)
        self.spec = load_spec(file)
        self.cursors: dict[str, str | None] = {}
        with self.acting(NOBODY):
            self._set_up(endpoint)

    @contextmanager
    def acting(self, role: str) -> Iterator[None]:
        """Everything inside is signed by this role: clients of another one are forgotten."""
        self.patch.setenv("AWS_ACCESS_KEY_ID", role)
        self.patch.setenv("MM_SIGNING_KEY", self.signing if role == "Run" else "")
        for cached in (read_once, scope._lake, sqs.client):
            cached.cache_clear()
        boto3.DEFAULT_SESSION = None  # it keeps the credentials that it saw first
        requests._clients.clear()
        moves._conditional.clear()
        yield

    def _set_up(self, endpoint: str) -> None:
        """What the template makes: a bucket that tells a queue, and the table."""
        queue, s3 = boto3.client("sqs"), boto3.client("s3")
        queue.create_queue(QueueName=f"{QUEUE}-dead")
        dead = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{QUEUE}-dead"
        redrive = json.dumps({"deadLetterTargetArn": dead, "maxReceiveCount": 1})
        made = queue.create_queue(QueueName=QUEUE, Attributes={"RedrivePolicy": redrive})
        queue.send_message(QueueUrl=made["QueueUrl"], MessageBody="nobody understands this")
        s3.create_bucket(Bucket=BUCKET)
        told = {"QueueArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{QUEUE}",
                "Events": ["s3:ObjectCreated:*"],
                "Filter": {"Key": {"FilterRules": [{"Name": "prefix",
                                                    "Value": f"{PREFIX}/inbox/"}]}}}  # fmt: skip
        s3.put_bucket_notification_configuration(
            Bucket=BUCKET, NotificationConfiguration={"QueueConfigurations": [told]}
        )
        create_table(Settings.from_environment(), lambda _: None)

    # -- the parts, each called in its role -------------------------------------------------------

    def send(self, name: str) -> None:
        mm.open(DATASET).upload(folder_of(self.root / name), quiet=True)

    def send_what_breaks_off(self, key: str) -> None:
        """A file in parts (over 5 MB), whose source breaks in the middle."""
        import obstore

        def parts() -> Iterator[bytes]:
            yield b"x" * (6 << 20)
            raise OSError("the disk is gone")

        with pytest.raises(Exception, match="the disk is gone"):
            obstore.put(Lake(Settings.from_environment()).store, key, parts())

    def write_what_another_has_written(self) -> None:
        """A prediction that is written between this run's look and its write."""
        store: Any = open_store(Settings.from_environment())
        before = mm.open(DATASET).predictions.rows(limit=1)[0]["record_id"]
        assert store._put(DATASET, _Greater(offer(before), "", True, {})) is None

    def refuse_and_take_in(self) -> None:
        """A row that an upload's first run refused, and the next one, after other YAML, did not."""
        store = open_store(Settings.from_environment())
        refused = refusals(("r1", "row_bad_number"))
        store.publish(DATASET, "u-refusing", rows(), images(), refused)
        store.publish(DATASET, "u-refusing", rows(r1="cat"), images())

    def tick(self, runner: Runner, name: str) -> list[dg.RunRequest]:
        """A tick of a sensor; partitions are added as the daemon would."""
        repository = runner.definitions.get_repository_def()
        settings = Settings.from_environment()
        queues = {one.name: one for one in build_queue_sensors(settings, {DATASET})}
        sensor = queues.get(name) or repository.get_sensor_def(f"{DATASET}_{name}")
        with dg.build_sensor_context(
            runner.instance,
            instance_ref=runner.instance.get_ref(),
            cursor=self.cursors.get(name),
            repository_def=repository,
            resources=resources(),
        ) as context:
            found = sensor.evaluate_tick(context)
        for request in found.dynamic_partitions_requests or []:
            runner.instance.add_dynamic_partitions(
                request.partitions_def_name, request.partition_keys
            )
        self.cursors[name] = found.cursor
        return list(found.run_requests or [])

    def take_through(self, runner: Runner, sensors: dict[str, str]) -> int:
        """Ticks of the code server, and the runs that they ask for, until nothing is asked."""
        done = 0
        for _ in range(4):
            with self.acting("CodeServer"):
                asked = [(job, r) for name, job in sensors.items() for r in self.tick(runner, name)]
            for job, request in asked:
                with self.acting("Run"):
                    named = (request.job_name or job).removeprefix(f"{DATASET}_")
                    outcome = runner.run(named, request.partition_key)
                    assert outcome.success, outcome
                done += 1
            if not asked:
                break
        return done

    def serve(self) -> None:
        """`mm serve --record` answers a record and sends what it answered."""
        from mm_assets.serving.app import make_app
        from mm_assets.serving.options import Options
        from mm_assets.serving.sources import of_environment

        options = Options(datasets=(DATASET,), record=True, open=True)
        settings, found = of_environment(options)
        with TestClient(make_app(options, found, settings)) as client:
            deadline = time.monotonic() + 20
            while client.get("/ready").status_code != 200 and time.monotonic() < deadline:
                time.sleep(0.05)
            body = {"records": [{"id": "s1", "age": 2}]}
            answer = client.post(f"/v1/datasets/{DATASET}/predictions", json=body)
            assert answer.status_code == 200, answer.text
            self._answer_on_the_page(client)

    def _answer_on_the_page(self, client: TestClient) -> None:
        """What a person does who reviews, and looks at what came in."""
        own = {"Origin": str(client.base_url)}
        client.post(f"/review/{DATASET}/name", data={"name": "Ana"}, headers=own)
        page = client.get(f"/review/{DATASET}").text
        record = re.search(r'name="record" value="([^"]+)"', page)
        assert record, page
        for label in ("cat", "dog"):
            form = {"record": record[1], "label": label}
            assert client.post(f"/review/{DATASET}", data=form, headers=own).status_code == 200
            client.post(f"/review/{DATASET}/undo", data=form, headers=own)
        client.post(f"/review/{DATASET}", data=form, headers=own)
        client.get(f"/review/{DATASET}/image", params={"record": record[1]})
        assert client.post(f"/review/{DATASET}/send", headers=own).status_code == 200
        assert client.get(f"/uploads/{DATASET}").status_code == 200
        upload = mm.open(DATASET).uploads()[-1]["upload"]
        assert client.get(f"/uploads/{DATASET}/{upload}").status_code == 200

    def hold_a_message(self) -> None:
        """What a tick does that takes long: its messages stay hidden."""
        queue = events_queue(Settings.from_environment())
        self.patch.setattr(sqs, "VISIBILITY_SECONDS", 1)
        with queue.holding([{"ReceiptHandle": "one"}]):
            time.sleep(0.5)
        self.patch.setattr(sqs, "VISIBILITY_SECONDS", 120)

    def look_after(self) -> None:
        """What a person does who looks after it, at the keyboard."""
        examine()
        pets = mm.open(DATASET)
        assert pets.uploads()[0]["state"] == "done"
        pets.receipt("first")
        assert len(pets.predictions.rows()) == PETS
        pets.champions(), pets.models(), pets.report(modality="with_image")
        pets.review()
        sheet = pets.export_review(self.root / "review")
        assert sheet
        pets.retry("first")
        assert pets.retry() == []
        facts = inspect_table(Settings.from_environment())
        assert all(fact.good for fact in facts), facts
        pets.withdraw("first", "sent by mistake")
