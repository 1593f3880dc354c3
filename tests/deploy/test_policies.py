"""Least privilege, from both sides: each role of deploy/aws/app.yaml may do what the code asks of
AWS in that role, and nothing that it does not ask.

A whole flow runs against a server that writes down every request and who signed it. What the
server cannot see is listed here, each with its reason.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.compute_log_manager import ComputeIOType

import mm_assets as mm
from mm_assets.orchestration.history import held_open
from mm_assets.orchestration.run import Runner
from tests.deploy.flow import BUCKET, Flow
from tests.deploy.recorder import Recorded, recording_server
from tests.deploy.templates import grants_of

SENSORS = {"s3_events": "", "uploads": "upload", "training": "train", "repredict": "predict",
           "monitoring": "monitor"}  # fmt: skip
PEOPLE = ("Sender", "Operator")
TASKS = ("CodeServer", "Run", "Serve")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    patch = pytest.MonkeyPatch()
    with recording_server() as (endpoint, seen):
        flow = Flow(tmp_path_factory.mktemp("aws") / "project", endpoint, patch)
        logs = {"module": "dagster_aws.s3.compute_log_manager", "class": "S3ComputeLogManager",
                "config": {"bucket": BUCKET, "prefix": "logs",
                           "local_dir": str(flow.root / "logs"),
                           "endpoint_url": endpoint}}  # fmt: skip
        home = str(flow.root / "home")
        made = dg.instance_for_test(temp_dir=home, overrides={"compute_logs": logs})
        with made as instance, held_open(instance):
            tell(flow, instance)
        yield seen
        patch.undo()


def instance_logs(instance: dg.DagsterInstance) -> Any:
    """The logs of Dagster in S3, with a client of its own: a role is chosen when one is made."""
    logs = dg.DagsterInstance.from_ref(instance.get_ref()).compute_log_manager
    # `local_dir` above, or this is the machine's whole /tmp: it emptied everybody's.
    own = Path(logs.local_manager._base_dir)
    assert own.name == "logs"  # noqa: S101
    shutil.rmtree(own, ignore_errors=True)  # what S3 has, not this disk
    return logs


TICK = ["sensors", "s3_events", "1"]


def tell(flow: Flow, instance: dg.DagsterInstance) -> None:
    """The story: somebody sends, it is taken through, served, and looked at."""
    with flow.acting("CodeServer"):
        runner = Runner(flow.spec, instance, lambda _: None)
        flow.hold_a_message()
    with flow.acting("Sender"):
        flow.send("first")
        mm.open("pets").upload(flow.root / "first", quiet=True)  # is it all there?
        flow.send_what_breaks_off("inbox/pets/big.zip")
    assert flow.take_through(runner, SENSORS) >= 4
    with flow.acting("Run"):
        flow.send_what_breaks_off("datasets/pets/big")
        flow.write_what_another_has_written()
        flow.refuse_and_take_in()
    with (
        flow.acting("CodeServer"),
        instance_logs(instance).open_log_stream(TICK, ComputeIOType.STDERR) as stream,
    ):
        stream.write("what a sensor says")
    with flow.acting("Webserver"):
        logs = instance_logs(instance)
        assert logs.get_log_keys_for_log_key_prefix(TICK[:-1], ComputeIOType.STDERR)
        assert logs.get_log_data(TICK).stderr == b"what a sensor says"
    with flow.acting("Serve"):
        flow.serve()
    with flow.acting("Operator"):
        flow.look_after()
    flow.take_through(runner, SENSORS)  # what was taken back


ASKED_BY_CODE = (*TASKS, *PEOPLE)


@pytest.mark.parametrize("role", [*ASKED_BY_CODE, "Webserver"])
def test_nothing_that_the_code_asks_is_refused(recorded: Recorded, role: str) -> None:
    grants = grants_of(role)
    refused = {need for need in recorded.needs[role] if not any(g.covers(need) for g in grants)}
    assert not refused, sorted(refused)


@pytest.mark.parametrize("role", ASKED_BY_CODE)
def test_nothing_is_allowed_that_the_code_does_not_ask(recorded: Recorded, role: str) -> None:
    needs = recorded.needs[role]
    unused = {grant for grant in grants_of(role) if not any(grant.covers(n) for n in needs)}
    assert not unused, sorted(unused)
