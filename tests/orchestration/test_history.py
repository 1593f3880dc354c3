"""Dagster's history, held open while a process writes: the same events, for everybody, at once."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from mm_assets.contract.errors import LakeError
from mm_assets.orchestration.history import held_open, told_at_once
from mm_assets.orchestration.home import speaking_of_home


@dg.asset
def eggs(context) -> int:
    context.log.info("fresh")
    return 3


@dg.asset_check(asset=eggs)
def enough(eggs: int) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=eggs > 2)


JOB = dg.Definitions(
    [eggs], asset_checks=[enough], jobs=[dg.define_asset_job("breakfast")]
).resolve_job_def("breakfast")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}")
    return tmp_path


def opened(home: Path) -> dg.DagsterInstance:
    return dg.DagsterInstance.from_config(str(home))


def told(instance: dg.DagsterInstance, run_id: str) -> list[tuple[str, str]]:
    """The events of a run: what happened, and in which step."""
    return [
        (entry.dagster_event.event_type_value, entry.step_key or "")
        if entry.dagster_event
        else ("said", entry.user_message)
        for entry in instance.all_logs(run_id)
    ]


def test_what_is_held_open_is_told_as_dagster_tells_it_and_others_see_it_at_once(
    home: Path,
) -> None:
    with opened(home) as instance:
        alone = told(instance, JOB.execute_in_process(instance=instance).run_id)
        assert ("ASSET_CHECK_EVALUATION", "eggs_enough") in alone
        assert ("said", "fresh") in alone
        with held_open(instance), opened(home) as another:
            # The first sets up a database, the later ones copy it.
            runs = [JOB.execute_in_process(instance=instance).run_id for _ in range(3)]
            for run_id in runs:
                assert told(another, run_id) == alone
                assert another.get_run_by_id(run_id).status is dg.DagsterRunStatus.SUCCESS
            assert another.get_latest_materialization_event(eggs.key).run_id == runs[-1]
            ends = dg.RunStatusChangeRecordsFilter(dg.DagsterEventType.RUN_SUCCESS)
            found = another.fetch_run_status_changes(ends, limit=10).records
            assert {record.run_id for record in found} > set(runs)
        # Afterwards it is as Dagster has it, and no file stays open or is left beside.
        assert told(instance, JOB.execute_in_process(instance=instance).run_id) == alone
    with opened(home) as instance:
        assert [told(instance, run_id) for run_id in runs] == [alone] * 3
    assert not [path for path in home.rglob(".*") if path.is_file()]


def test_what_is_told_at_once_is_there_whole_or_not_at_all(home: Path) -> None:
    def tell(instance: dg.DagsterInstance, partition: str) -> None:
        made = dg.AssetMaterialization(eggs.key, partition=partition)
        instance.report_runless_asset_event(made)

    with opened(home) as instance, opened(home) as another:
        with told_at_once(instance):  # not held open: as Dagster has it
            tell(instance, "first")
        with held_open(instance):
            with held_open(instance), told_at_once(instance):
                for name in ("a", "b"):
                    tell(instance, name)
                assert another.get_materialized_partitions(eggs.key) == {"first"}
            assert another.get_materialized_partitions(eggs.key) == {"first", "a", "b"}
            with pytest.raises(ZeroDivisionError), told_at_once(instance):
                tell(instance, "c")
                raise ZeroDivisionError
            tell(instance, "d")
        assert another.get_materialized_partitions(eggs.key) == {"first", "a", "b", "d"}


@dg.op(out={})
def several(context) -> Iterator[Any]:
    """As a run of several uploads tells of them."""
    at_once = told_at_once(context.instance) if context.run.tags.get("at once") else nullcontext()
    with at_once:
        for partition in ("a", "b"):
            tags = {"fresh": partition}
            yield dg.AssetMaterialization(eggs.key, partition=partition, tags=tags)
            context.log.info(f"boiled {partition}")
            for name, passed in (("enough", True), ("large", False)):
                yield dg.AssetCheckEvaluation(
                    asset_key=eggs.key, check_name=name, passed=passed, partition=partition,
                    metadata={"share": 0.5}, description="looked at", blocking=passed,
                )  # fmt: skip


@dg.job(executor_def=dg.in_process_executor)
def brunch() -> None:
    several()


# What is another in each run, or each moment: its ID, when, how long, where it writes its output.
_ITS_OWN = re.compile(
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{4}-\d\d-\d\d [\d:.]+|\d+\.\d+(e-\d+)?|"
    r"in \d+(\.\d+)?m?s|(?<=\"log_key\": \")\w+"
)


def rows_of(home: Path) -> dict[str, list[str]]:
    """Every row of what Dagster keeps of events, by database and table."""
    found = {}
    tables = ("event_logs", "asset_keys", "asset_event_tags", "asset_check_executions")
    for path in sorted((home / "history" / "runs").glob("*.db")):
        with sqlite3.connect(path) as connection:
            for table in tables:
                rows = connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()  # noqa: S608
                place = _ITS_OWN.sub("?", f"{path.name} {table}")
                found[place] = [_ITS_OWN.sub("?", str(row)) for row in rows]
    return found


def test_what_is_told_at_once_leaves_the_rows_that_dagster_leaves(tmp_path: Path) -> None:
    homes = {}
    for name in ("", "yes"):
        home = tmp_path / f"home{name}"
        home.mkdir()
        (home / "dagster.yaml").write_text("telemetry: {enabled: false}")
        with opened(home) as instance, held_open(instance):
            for _ in range(2):
                assert brunch.execute_in_process(instance=instance, tags={"at once": name}).success
        homes[name] = rows_of(home)
    assert homes["yes"] == homes[""]
    assert len(homes["yes"]["index.db asset_check_executions"]) == 8


def test_a_database_that_was_copied_is_as_one_that_dagster_set_up(home: Path) -> None:
    with opened(home) as instance, held_open(instance):
        runs = [JOB.execute_in_process(instance=instance).run_id for _ in range(2)]
    facts = []
    for run_id in runs:
        [path] = home.rglob(f"{run_id}.db")
        with sqlite3.connect(path) as connection:
            schema = connection.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall()
            mode = connection.execute("PRAGMA journal_mode").fetchone()
            revision = connection.execute("SELECT * FROM alembic_version").fetchall()
            ids = connection.execute("SELECT min(id), count(*) FROM event_logs").fetchone()
        facts.append((schema, mode, revision, ids))
    assert facts[0] == facts[1]
    assert facts[0][1] == ("wal",)


DIES = """
import os, sys, signal
import dagster as dg
from mm_assets.contract.errors import LakeError
from mm_assets.orchestration.history import held_open, told_at_once
from mm_assets.orchestration.home import speaking_of_home
from tests.orchestration.test_history import JOB, opened
with opened(sys.argv[1]) as instance, held_open(instance):
    for _ in range(2):
        print(JOB.execute_in_process(instance=instance).run_id, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_process_has_told_is_there_after_it_was_killed(home: Path) -> None:
    died = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DIES, str(home)],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert died.returncode == -signal.SIGKILL, died.stderr
    with opened(home) as instance:
        for run_id in died.stdout.split():
            assert told(instance, run_id)[-1][0] == "PIPELINE_SUCCESS"
        assert told(instance, JOB.execute_in_process(instance=instance).run_id)


def test_what_is_not_in_files_of_sqlite_stays_as_it_is() -> None:
    with dg.DagsterInstance.ephemeral() as instance, held_open(instance):
        run_id = JOB.execute_in_process(instance=instance).run_id
        assert told(instance, run_id)


def test_several_that_open_a_new_home_at_the_same_moment_do_not_spoil_it(home: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mm_assets.orchestration.history import opened;"
        "import dagster; print('ready', flush=True); sys.stdin.readline();"
        "opened(Path(sys.argv[1])).__enter__().get_run_records(limit=1)"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code, str(home)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(4)
    ]  # fmt: skip
    for one in processes:
        assert one.stdout is not None
        one.stdout.readline()
    for one in processes:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    assert [(one.communicate()[1], one.returncode) for one in processes] == [("", 0)] * 4


def test_one_that_others_have_spoilt_is_named_with_its_file(home: Path) -> None:
    opened(home).dispose()
    file = home / "schedules" / "schedules.db"
    with sqlite3.connect(file) as db:
        db.execute("INSERT INTO alembic_version VALUES ('5771160a95ad')")
    with (
        pytest.raises(LakeError, match="home_unusable.*more than one head.*same moment") as caught,
        speaking_of_home(home),
    ):
        opened(home)
    assert caught.value.where == str(file)
    assert "remove this file" in caught.value.todo
    file.unlink()
    with speaking_of_home(home), opened(home) as instance:
        assert instance.get_run_records() == []
