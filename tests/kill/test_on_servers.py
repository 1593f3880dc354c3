"""The whole flow as the image runs it, on servers that are processes of their own.

Dagster's history is in PostgreSQL, the lake on S3, the table in DynamoDB; S3 tells a queue what
came, and another queue is told of results. PostgreSQL crashes, and then everything that runs is
killed. Promotions are signed. The end is what a quiet run on a folder and DuckDB makes of the same
uploads.

Nightly three of a hundred requests go wrong as well. A message of a queue that was handed out and
whose answer was lost stays hidden for two minutes, which is why not always.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from mm_assets.registry.signing import key_pair
from tests.aws_server import Servers, running_servers
from tests.kill.harness import Victim
from tests.kill.project import Project, Upload, differences, is_quiet, make_waves, run_quietly
from tests.postgres import Postgres
from tests.queues.subscriber import Subscriber
from tests.storm import storm_before

WAIT = 450  # seconds; a machine that does nothing else takes a fifth
COMPOSE = Path(__file__).parents[2] / "deploy" / "compose" / "compose.yaml"
STORM = 0.03 if os.environ.get("MM_NIGHTLY") == "1" else 0.0
Uploads = list[Upload]
SECRETS = (
    "DAGSTER_PG_PASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "MM_SIGNING_KEY",
)  # fmt: skip


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with running_servers() as running:
        yield running


@dataclass
class Containers(Victim):
    """The code server and the daemon, each by the image's entry point, told of each other."""

    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    def start(self) -> None:
        place = ["--host", "127.0.0.1", "--port", str(self.port)]
        for role, more in (("code-server", place), ("daemon", [])):
            if role not in self.running or _is_over(self.running[role]):
                command = ["-m", "mm_assets.cli.container", role, *more]
                self.running[role] = self.launch(role, command, self.environment(role))
        self.daemon = self.running["daemon"]

    def environment(self, role: str) -> dict[str, str]:
        """As in a container: secrets in files, and a /tmp of its own."""
        told = self.project.environment
        scratch = self.project.root / f"tmp-{role}"
        scratch.mkdir(exist_ok=True)
        for name in SECRETS:
            secret = scratch / name
            secret.write_text(told.pop(name) + "\n")
            told[f"{name}_FILE"] = str(secret)
        code_server = {"MM_CODE_SERVER": f"127.0.0.1:{self.port}"}
        return {**told, **code_server, "TMPDIR": str(scratch)}


def _is_over(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has ended; one that was killed this moment takes a moment."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1)
    return process.poll() is not None


def wait_until(condition: Callable[[], Any], what: str, pause: float = 0.3) -> None:
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(pause)


def is_at_work(project: Project, victim: Victim) -> bool:
    """Whether a run is in the middle of its steps."""
    if not victim.processes()["worker"]:
        return False
    with dg.DagsterInstance.from_config(str(project.root / "dagster")) as instance:
        begun = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]), limit=1)
    return bool(begun)


def restart(postgres: Postgres) -> None:
    postgres.crash()
    time.sleep(1)
    postgres.start()


def _killed(
    victim: Containers, servers: Servers, postgres: Postgres, first: Uploads, second: Uploads
) -> None:
    """Let it run, with the strikes, until nothing is left to do."""
    project = victim.project
    project.enter()
    project.drop(0, first)
    victim.start()
    try:
        wait_until(lambda: is_at_work(project, victim), "no run began")
        project.drop(1, second)  # the inbox was listed: now the queue alone tells of it
        restart(postgres)
        wait_until(lambda: is_at_work(project, victim), "no run began after the crash")
        victim.kill_one()
        wait_until(lambda: is_quiet(project, 1, 2), "it did not get quiet", 2)
        wait_until(lambda: servers.waiting(project.place["MM_EVENTS"]) == 0, "events are left")
    finally:
        victim.end()


def test_the_flow_goes_through_a_crash_of_the_database_and_a_kill_of_everything(
    tmp_path: Path, servers: Servers, postgres: Postgres
) -> None:
    labelled, second, _ = make_waves(0)
    first, unlabelled = labelled, [second[2]]  # 60 to learn from; 10 others, 5 with an image
    quiet = run_quietly(Project(tmp_path / "quiet"), [first, unlabelled], trained=[0])

    more = {**postgres.environment, "MM_SIGNING_KEY": key_pair()[0]}
    project = Project(tmp_path / "killed", servers, more)
    victim = Containers(project, random.Random(0), next_kinds=["everything"])
    told = victim.environment("daemon").keys()
    assert yaml.safe_load(COMPOSE.read_text())["x-signs"]["environment"].keys() <= told
    with storm_before(project, seed=0, share=STORM) as storm:
        _killed(victim, servers, postgres, first, unlabelled)
    assert bool(storm.met) == bool(STORM)
    assert victim.kills["everything"] == 1
    end = project.end_state()
    assert not any(differences(quiet, end).values()), differences(quiet, end)
    assert len(end["rows"]) == 10
    assert sum(row["modality"] == "with_image" for row in end["rows"].values()) == 5

    reader = Subscriber(servers.client("sqs"), project.place["MM_RESULTS"].removeprefix("sqs://"))
    reader.read()
    assert reader.holds() == {name: row["prediction"] for name, row in end["rows"].items()}
    home = project.root / "dagster"
    assert postgres.password not in (home / "dagster.yaml").read_text()
    assert not list(home.rglob("*.db"))
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert instance.get_runs_count() >= 3
