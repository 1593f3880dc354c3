"""Processes that stay: what they carry out, when they begin anew, and when they end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest
from dagster._core.code_pointer import FileCodePointer
from dagster._core.errors import DagsterInvariantViolationError
from dagster._core.launcher import LaunchRunContext, WorkerStatus
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import (
    CodeLocationOrigin,
    GrpcServerCodeLocationOrigin,
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.test_utils import create_run_for_test
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from mm_assets.orchestration.launcher import WarmRunLauncher
from mm_assets.orchestration.scope import WORKER
from mm_assets.orchestration.triggers.runs import end_dead_runs

CODE = """
import os
import time
from pathlib import Path

import dagster as dg

HERE = Path(__file__).parent

def told(name):
    @dg.op(name=f"op_{name}")
    def op():
        from beside import VALUE
        (HERE / f"{name}.txt").write_text(f"{os.getpid()} {VALUE}")
        if name == "breaks":
            raise ValueError("it broke")
        if name == "waits":
            time.sleep(60)
    @dg.job(name=name, executor_def=dg.in_process_executor)
    def job():
        op()
    return job

defs = dg.Definitions(jobs=[told(name) for name in ("says", "breaks", "waits")])
"""


@dataclass
class Place:
    """A Dagster instance, and code whose jobs write down which process they run in."""

    folder: Path
    instance: dg.DagsterInstance
    launcher: WarmRunLauncher = field(init=False)

    def __post_init__(self) -> None:
        launcher = self.instance.run_launcher
        assert isinstance(launcher, WarmRunLauncher)
        self.launcher = launcher

    def run_of(
        self, job: str, location: CodeLocationOrigin | None = None, **more: Any
    ) -> dg.DagsterRun:
        file = str(self.folder / "its_jobs.py")
        target = LoadableTargetOrigin(executable_path=sys.executable, python_file=file)
        repository = RepositoryPythonOrigin(
            sys.executable, FileCodePointer(file, "defs", str(self.folder))
        )
        origin = location or ManagedGrpcPythonEnvCodeLocationOrigin(target, "code")
        return create_run_for_test(
            self.instance,
            job_name=job,
            remote_job_origin=RemoteJobOrigin(
                RemoteRepositoryOrigin(origin, "__repository__"), job
            ),
            job_code_origin=JobPythonOrigin(job, repository),
            **{"status": dg.DagsterRunStatus.STARTING, **more},
        )

    def launch(self, run: dg.DagsterRun) -> dg.DagsterRun:
        (self.folder / f"{run.job_name}.txt").unlink(missing_ok=True)
        self.launcher.launch_run(LaunchRunContext(run, None))
        return self.now(run)

    def now(self, run: dg.DagsterRun) -> dg.DagsterRun:
        found = self.instance.get_run_by_id(run.run_id)
        assert found is not None
        return found

    def carry_out(self, job: str) -> list[str]:
        """The process that a run had, and the value that it found."""
        run = self.launch(self.run_of(job))
        until(lambda: self.now(run).is_finished)
        said = (self.folder / f"{job}.txt").read_text().split()
        assert self.now(run).tags[WORKER].split("/")[1] == said[0]
        [worker] = self.launcher._workers
        until(lambda: worker.process.poll() is not None or worker.is_free())
        return said

    def start(self, job: str) -> tuple[dg.DagsterRun, int]:
        """A run in the middle of its step, and its process."""
        run = self.launch(self.run_of(job))
        until((self.folder / f"{job}.txt").exists)
        return run, int(self.now(run).tags[WORKER].split("/")[1])


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


@contextmanager
def place_in(folder: Path, monkeypatch: pytest.MonkeyPatch, **config: int) -> Iterator[Place]:
    (folder / "its_jobs.py").write_text(CODE)
    (folder / "beside.py").write_text("VALUE = 1\n")
    (folder / "home").mkdir()
    launcher = {
        "module": "mm_assets.orchestration.launcher", "class": "WarmRunLauncher",
        "config": {"processes": 1, **config},
    }  # fmt: skip
    monkeypatch.chdir(folder)  # as the daemon: in the project
    with dg.instance_for_test(
        temp_dir=str(folder / "home"), overrides={"run_launcher": launcher}
    ) as instance:
        yield Place(folder, instance)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with (
        pytest.MonkeyPatch.context() as patch,
        place_in(tmp_path_factory.mktemp("code"), patch) as made,
    ):
        yield made


def test_the_next_run_has_the_same_process_until_one_fails_or_code_changes(place: Place) -> None:
    process, value = place.carry_out("says")
    assert place.carry_out("says") == [process, value]
    (place.folder / "beside.py").write_text("VALUE = 22\n")
    assert place.carry_out("says") == [process, "22"]  # the same, begun anew
    late = place.launch(place.run_of("says", status=dg.DagsterRunStatus.FAILURE))
    [worker] = place.launcher._workers
    until(worker.is_free)
    assert place.now(late).status is dg.DagsterRunStatus.FAILURE
    assert not (place.folder / "says.txt").exists()  # it was given up before it began
    assert place.carry_out("breaks")[0] == process
    assert place.carry_out("says")[0] != process


def test_one_that_is_killed_is_missed_at_its_work_and_replaced_when_it_has_none(
    place: Place,
) -> None:
    run, process = place.start("waits")
    assert place.launcher.check_run_worker_health(place.now(run)).status is WorkerStatus.RUNNING
    assert end_dead_runs(place.instance) == []
    psutil.Process(process).kill()
    until(lambda: end_dead_runs(place.instance) == [run.run_id])
    assert place.launcher.check_run_worker_health(place.now(run)).status is WorkerStatus.FAILED
    second = place.carry_out("says")[0]
    psutil.Process(int(second)).kill()
    place.launcher._workers[0].process.wait()
    assert place.carry_out("says")[0] not in (process, second)


def test_a_run_is_stopped_by_whoever_asks_for_it(place: Place) -> None:
    run, process = place.start("waits")
    of_web = dg.DagsterInstance.from_ref(place.instance.get_ref())
    assert of_web.run_launcher.terminate(run.run_id)
    until(lambda: place.now(run).status is dg.DagsterRunStatus.CANCELED)
    until(lambda: place.launcher._workers[0].process.poll() is not None)
    assert not of_web.run_launcher.terminate(run.run_id)


def test_a_run_that_was_handed_over_and_never_began_is_missed(place: Place) -> None:
    run = place.run_of("says")
    worker = place.launcher._take()
    assert worker is not None
    place.instance.add_run_tags(run.run_id, {WORKER: worker.name})
    worker.process.kill()  # the daemon dies here, and its processes with it
    until(lambda: run.run_id in end_dead_runs(place.instance))
    worker.process.wait()


@pytest.mark.parametrize("why", ["another machine", "a repeated run", "all are busy"])
def test_other_runs_go_the_way_of_dagster(place: Place, why: str) -> None:
    more: dict[str, Any] = {}
    if why == "another machine":
        more["location"] = GrpcServerCodeLocationOrigin("code-server", 4000, location_name="code")
    elif why == "a repeated run":
        parent = place.run_of("says")
        more = {"parent_run_id": parent.run_id, "root_run_id": parent.run_id}
    else:
        run, _ = place.start("waits")
    try:
        with pytest.raises(DagsterInvariantViolationError, match="DefaultRunLauncher"):
            place.launch(place.run_of("says", **more))
    finally:
        if why == "all are busy":
            place.instance.run_launcher.terminate(run.run_id)
            until(lambda: place.launcher._workers[0].process.poll() is not None)


def test_they_end_with_the_daemon_or_when_they_hold_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with place_in(tmp_path, monkeypatch, memory_mb=1) as place:
        run = place.launch(place.run_of("says"))
        [first] = place.launcher._workers
        until(lambda: first.process.poll() == 0)
        assert place.now(run).is_success
        place.launch(place.run_of("says"))
        [second] = place.launcher._workers
        place.launcher.dispose()
        until(lambda: second.process.poll() == 0)
