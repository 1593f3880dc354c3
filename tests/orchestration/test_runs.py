"""What Dagster knows of runs, on a real instance with real processes that die."""

from __future__ import annotations

import subprocess
import sys
import time
from types import SimpleNamespace

import dagster as dg
import pytest

from mm_assets.contract.settings import Settings
from mm_assets.orchestration.run import Runner
from mm_assets.orchestration.scope import WORKER, worker_name
from mm_assets.orchestration.triggers import runs
from mm_assets.orchestration.triggers.decide import Try
from mm_assets.orchestration.triggers.runs import (
    TRY,
    end_dead_runs,
    is_alive,
    why_it_failed,
    words_of,
)
from tests.orchestration.daemon import Daemon

STATUS = dg.DagsterRunStatus
UPLOAD = "20261121-101530123-1f0c9a2b3c"


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)


def started(daemon: Daemon, worker: str, **more: str) -> dg.DagsterRun:
    return daemon.run("upload", {WORKER: worker, **more} if worker else more, STATUS.STARTED)


def status_of(daemon: Daemon, run: dg.DagsterRun) -> dg.DagsterRunStatus:
    found = daemon.instance.get_run_by_id(run.run_id)
    assert found is not None
    return found.status


@pytest.fixture
def daemon(folder_daemon: Daemon):
    """Without the runs that other tests left under way."""
    for record in folder_daemon.instance.get_run_records():
        folder_daemon.instance.delete_run(record.dagster_run.run_id)
    return folder_daemon


def test_a_run_lives_as_long_as_its_process(daemon: Daemon) -> None:
    with sleeper() as process:
        run = started(daemon, worker_name(process.pid))
        assert end_dead_runs(daemon.instance) == []
        process.kill()
    assert end_dead_runs(daemon.instance) == [run.run_id]
    assert status_of(daemon, run) is STATUS.FAILURE
    assert f"its process {process.pid} is gone" in why_it_failed(daemon.instance, run.run_id)
    assert end_dead_runs(daemon.instance) == []


def test_a_zombie_is_dead(daemon: Daemon) -> None:
    process = sleeper()
    run = started(daemon, worker_name(process.pid))
    process.kill()
    try:  # nobody has waited for it yet
        deadline = time.monotonic() + 10
        while not (ended := end_dead_runs(daemon.instance)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert ended == [run.run_id]
    finally:
        process.wait()


def test_a_later_process_with_the_same_number_is_another_one(daemon: Daemon) -> None:
    with sleeper() as process:
        host, pid, start = worker_name(process.pid).split("/")
        before = started(daemon, f"{host}/{pid}/{float(start) - 60:.0f}")
        assert end_dead_runs(daemon.instance) == [before.run_id]
        process.kill()


def test_a_process_on_another_machine_is_left_alone(daemon: Daemon) -> None:
    started(daemon, "another-machine/1/0")
    started(daemon, "")
    assert end_dead_runs(daemon.instance) == []


@pytest.mark.parametrize("process", ["", "/", "x/1", "1/x", "1", "-5/1"])
def test_a_tag_that_is_not_ours_is_no_reason_to_end_a_run(process: str) -> None:
    assert is_alive(process)


def test_a_run_that_a_person_was_canceling_when_it_died_is_canceled(daemon: Daemon) -> None:
    with sleeper() as process:
        tags = {WORKER: worker_name(process.pid)}
        process.kill()
    run = daemon.run("upload", tags, STATUS.CANCELING)
    assert end_dead_runs(daemon.instance) == [run.run_id]
    assert status_of(daemon, run) is STATUS.CANCELED


def test_a_run_that_ended_well_while_it_was_looked_at_stays_so(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sleeper() as process:
        run = started(daemon, worker_name(process.pid), **{"dagster/partition": UPLOAD})

    def ends_meanwhile(process: str) -> bool:
        daemon.end(run)
        return is_alive(process)

    process.wait()
    monkeypatch.setattr(runs, "is_alive", ends_meanwhile)
    assert end_dead_runs(daemon.instance) == []
    assert status_of(daemon, run) is STATUS.SUCCESS


def test_a_repeated_run_is_not_taken_for_the_one_that_died(daemon: Daemon) -> None:
    with sleeper() as process:
        dead = started(daemon, worker_name(process.pid))
    end_dead_runs(daemon.instance)
    again = dg.DagsterRun(
        job_name=dead.job_name, status=STATUS.STARTED, tags=dead.tags,
        parent_run_id=dead.run_id, root_run_id=dead.run_id,
    )  # fmt: skip
    daemon.instance.add_run(again)
    assert end_dead_runs(daemon.instance) == []


def test_only_own_runs_of_this_round_count_as_tries(daemon: Daemon) -> None:
    def run(status: dg.DagsterRunStatus, **tags: str) -> str:
        return daemon.run("upload", {"dagster/partition": UPLOAD, **tags}, status).run_id

    ids = [
        run(STATUS.FAILURE, **{TRY: "0-1"}), run(STATUS.FAILURE, **{TRY: "1-1"}),
        run(STATUS.SUCCESS), run(STATUS.CANCELED, **{TRY: "1-2"}), run(STATUS.STARTED),
    ]  # fmt: skip
    daemon.run("upload", {"dagster/partition": "another"}, STATUS.FAILURE)
    again = dg.DagsterRun(
        job_name=f"{daemon.scope.dataset}_upload", status=STATUS.FAILURE, parent_run_id=ids[1],
        root_run_id=ids[1], tags={"dagster/partition": UPLOAD, TRY: "1-1"},
    )  # fmt: skip
    daemon.instance.add_run(again)
    tries = runs.tries_of(daemon.instance, daemon.scope, UPLOAD, 1)
    assert [(one.run_id, one.state, one.counts) for one in tries] == [
        (ids[0], "failed", False), (ids[1], "failed", True), (ids[2], "succeeded", False),
        (ids[3], "canceled", True), (ids[4], "running", False), (again.run_id, "failed", False),
    ]  # fmt: skip
    assert all(abs(time.time() - one.ended) < 300 for one in tries)


def test_what_is_finished_is_asked_for_a_few_uploads_or_for_all(daemon: Daemon) -> None:
    instance, scope = daemon.instance, daemon.scope
    assert runs.finished_of(instance, scope, []) == set()
    for upload in ("a", "b", "c"):
        daemon.materialise(upload)
    assert runs.finished_of(instance, scope, ["a", "c", "z"]) == {"a", "c"}
    assert runs.finished_of(instance, scope, []) == set()
    known = runs.Known({"z"}, instance, scope)
    assert ["a" in known, "z" in known, "y" in known] == [True, True, False]


def test_a_failed_run_says_what_broke_in_it(daemon: Daemon, folder_settings: Settings) -> None:
    runner = Runner(daemon.spec, daemon.instance, lambda _: None)
    daemon.instance.add_dynamic_partitions(daemon.scope.partitions.name or "", [UPLOAD])
    outcome = runner.run("upload", UPLOAD, {TRY: "0-1"})
    assert not outcome.success
    reason = why_it_failed(daemon.instance, outcome.run_id)
    assert reason.startswith("[upload_unknown] there is no upload")
    [one] = runs.tries_of(daemon.instance, daemon.scope, UPLOAD, 0)
    assert (one.state, one.counts) == ("failed", True)


def error(message: str, cause: object = None) -> SimpleNamespace:
    return SimpleNamespace(message=message, cause=cause)


def test_an_error_is_said_in_its_own_words() -> None:
    ours = error("mm_assets.contract.errors.LakeError: [lake_unreachable] away: far\n")
    assert words_of(error("dagster.X: wrapped", ours)) == "[lake_unreachable] away: far"
    assert words_of(error("KeyError: 'id'\n")) == "KeyError: 'id'"
    assert words_of(error("a.b.OddError\n")) == "OddError"
    assert words_of(error("OSError: [Errno 28] no space: /a.b")) == (
        "OSError: [Errno 28] no space: /a.b"
    )


def test_tries_since_the_last_success_are_told_oldest_first(daemon: Daemon) -> None:
    made = [daemon.run("train", {}, s) for s in (STATUS.FAILURE, STATUS.SUCCESS, STATUS.FAILURE,
                                                 STATUS.STARTED)]  # fmt: skip
    since = runs.tries_since_success(daemon.instance, f"{daemon.scope.dataset}_train")
    assert [one.run_id for one in since] == [run.run_id for run in made[2:]]
    assert [one.state for one in since] == ["failed", "running"]
    assert all(isinstance(one, Try) for one in since)
