"""Runs go to processes that stay, and find loaded what the runs before them needed.

What belongs here: which process a run is given to, and whether it still lives. What does not: how
a run is carried out (`warm_worker.py`).

A process has one run at a time. Which process has a run is written into the run before it is handed
over, so that one that is killed at any moment is missed.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from multiprocessing import Pipe
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._serdes import serialize_value

from mm_assets.orchestration.scope import WORKER, worker_name

if TYPE_CHECKING:
    from dagster._core.launcher import LaunchRunContext
    from dagster._serdes.config_class import ConfigurableClassData

PROGRAM = "mm_assets.orchestration.warm_worker"
HERE = ("localhost", "127.0.0.1")


class WarmRunLauncher(DefaultRunLauncher):
    """Dagster's own launcher, but for runs on this machine while one of the processes is free.

    Dagster's own way go runs of a code server on another machine or of another Python, and those
    that repeat another run: they still carry its tags, and it may have had the same process.
    """

    def __init__(
        self, inst_data: ConfigurableClassData | None = None, *, processes: int, memory_mb: int
    ) -> None:
        self.processes, self.memory_mb = processes, memory_mb
        self._workers: list[_Worker] = []
        self._lock = threading.Lock()
        super().__init__(inst_data)

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        most = "As many processes stay at most; more runs at once start one each."
        memory = "A process that holds more after a run than this ends."
        return {
            "processes": dg.Field(int, default_value=2, description=most),
            "memory_mb": dg.Field(int, default_value=2048, description=memory),
        }

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]
    ) -> WarmRunLauncher:
        return cls(inst_data, **config_value)

    def launch_run(self, context: LaunchRunContext) -> None:
        run = context.dagster_run
        worker = self._take() if _is_here(run) and not run.parent_run_id else None
        if worker is None:
            super().launch_run(context)
            return
        self._instance.add_run_tags(run.run_id, {WORKER: worker.name})
        worker.hand_over(run.run_id, self._instance)

    def _take(self) -> _Worker | None:
        """A free process, now taken: the one that has most loaded, or a new one."""
        with self._lock:
            self._workers = [worker for worker in self._workers if worker.process.poll() is None]
            free = [worker for worker in self._workers if worker.is_free()]
            if not free and len(self._workers) < self.processes:
                free = [_Worker(self.memory_mb)]
                self._workers += free
            worker = max(free, key=lambda one: one.loaded, default=None)
            if worker is not None:
                worker.has_run = True
            return worker

    def terminate(self, run_id: str) -> bool:
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        host, _, process = run.tags.get(WORKER, "").partition("/")
        is_ours = run.remote_job_origin is not None and GRPC_INFO_TAG not in run.tags
        if not is_ours or host != socket.gethostname() or not _lives(process):
            return bool(super().terminate(run_id))  # type: ignore[no-untyped-call]
        self._instance.report_run_canceling(run)
        os.kill(int(process.partition("/")[0]), signal.SIGINT)
        return True

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """What is known of a run's process; where nothing is, it counts as alive."""
        host, _, process = run.tags.get(WORKER, "").partition("/")
        if host == socket.gethostname() and not run.parent_run_id and not _lives(process):
            return CheckRunHealthResult(WorkerStatus.FAILED, f"process {process} is gone")
        return CheckRunHealthResult(WorkerStatus.RUNNING)

    def dispose(self) -> None:
        """The processes end; those that have a run end with it."""
        with self._lock:
            for worker in self._workers:
                worker.channel.close()
            self._workers = []
        super().dispose()


class _Worker:
    """One process that stays, seen from the daemon. It ends by itself when the daemon has."""

    def __init__(self, memory_mb: int) -> None:
        self.channel, theirs = Pipe()
        with theirs:
            place = theirs.fileno()
            self.process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", PROGRAM, str(place), str(memory_mb)],
                stdin=subprocess.DEVNULL, pass_fds=[place],
            )  # fmt: skip
        self.name = worker_name(self.process.pid)
        self.has_run = False
        self.loaded = 0  # modules

    def is_free(self) -> bool:
        """Whether it has told that its last run is over."""
        if self.has_run and self.channel.poll():
            try:
                self.loaded, self.has_run = int(self.channel.recv_bytes()), False
            except (EOFError, OSError):  # it is about to end
                return False
        return not self.has_run

    def hand_over(self, run_id: str, instance: dg.DagsterInstance) -> None:
        self.channel.send_bytes(json.dumps([run_id, serialize_value(instance.get_ref())]).encode())


def _is_here(run: dg.DagsterRun) -> bool:
    """Whether the run's code is that of this machine and this Python."""
    location, code = run.remote_job_origin, run.job_code_origin
    if location is None or code is None:
        return False
    # Of a code server that Dagster started by itself there is no host.
    host = getattr(location.repository_origin.code_location_origin, "host", HERE[0])
    return host in HERE and code.executable_path == sys.executable


def _lives(process: str) -> bool:
    from mm_assets.orchestration.triggers.runs import is_alive

    return is_alive(process)
