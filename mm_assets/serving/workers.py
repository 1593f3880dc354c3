"""The processes behind one port: this one alone, or several that are kept running.

A worker that dies is started again, and the log says how it died. One that dies soon after its
start is started again later and later; where none can be kept running, the service ends.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from mm_assets.contract.errors import MMError, ModelError
from mm_assets.serving.logs import configure
from mm_assets.serving.metrics import forget, sharing
from mm_assets.serving.options import Options

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from fastapi import FastAPI

logger = logging.getLogger(__name__)
SOON = 10.0  # seconds: who dies within them would die again
MOST_PAUSE = 30.0  # between two starts
MOST_FAILURES = 4  # in a row, of every worker, after which the service ends
BEYOND = 5.0  # seconds after the time for draining, after which a worker is killed
OPEN_FILES = 4_096
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def run_here(
    app: FastAPI,
    options: Options,
    listener: socket.socket,
    *,
    up: Callable[[], None],
    is_worker: bool = False,
) -> None:
    """Serve in this process until it is told to end."""
    from mm_assets.serving.connections import Server, make_config

    _allow_files()
    server = Server(
        make_config(app, options),
        listener,
        going_down=app.state.service.drain,
        up=up,
        is_worker=is_worker,
    )
    server.serve_on_it()


def _allow_files() -> None:
    """Each connection is an open file; many systems begin with 1,024 or 256 for all."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def work(document: dict[str, Any], listener: socket.socket, told: Pipe) -> None:
    """What a worker does; it sends a word once it takes requests, and ends with its parent."""
    from mm_assets.serving.app import make_app
    from mm_assets.serving.sources import of_environment

    options = Options.from_document(document)
    configure(options.log_format)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        settings, found = of_environment(options)
        app = make_app(options, found, settings)
    except MMError as error:
        logger.error("%s", error)
        sys.exit(1)
    run_here(app, options, listener, up=lambda: told.send_bytes(b"up"), is_worker=True)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


@dataclass
class _Worker:
    """One of the processes, whichever it is at the moment. due: when the next one is started."""

    process: SpawnProcess | None = None
    told: Pipe | None = None
    began: float = 0.0
    due: float = 0.0
    failures: int = 0
    is_up: bool = False


class Workers:
    """Keeps `options.workers` processes running. up: called when each takes requests."""

    def __init__(
        self, options: Options, listener: socket.socket, *, up: Callable[[], None]
    ) -> None:
        self.options, self.listener, self._up = options, listener, up
        self._context = multiprocessing.get_context("spawn")
        self._workers = [_Worker() for _ in range(options.workers)]
        self._wake, self._woken = multiprocessing.Pipe(duplex=False)
        self._signals = 0
        self._figures = ""

    def run(self) -> None:
        """Until a signal; raises ModelError (workers_ended) where none can be kept running."""
        with sharing() as self._figures, self._listening_for_signals():
            try:
                while not self._signals:
                    self._start_due()
                    self._look()
            finally:
                self._end()

    # -- while it runs ------------------------------------------------------------------------

    def _start_due(self) -> None:
        for worker in self._workers:
            if worker.process is None and worker.due <= time.monotonic():
                worker.told, told = multiprocessing.Pipe(duplex=False)
                worker.process = self._context.Process(
                    target=work, args=(self.options.as_document(), self.listener, told)
                )
                worker.process.start()
                told.close()
                worker.began, worker.is_up = time.monotonic(), False

    def _look(self) -> None:
        """Wait until something happens: a signal, a worker that is up, one that has died."""
        now = time.monotonic()
        pause = min((one.due - now for one in self._workers if one.process is None), default=60.0)
        watched: list[Any] = [self._wake]
        for worker in self._workers:
            if worker.process is not None and worker.told is not None:
                watched.append(worker.process.sentinel)
                watched += [] if worker.is_up else [worker.told]
        happened = wait(watched, max(pause, 0.0))
        for worker in self._workers:
            if worker.told in happened and worker.told is not None and not worker.is_up:
                self._hear(worker, worker.told)
            if worker.process is not None and worker.process.sentinel in happened:
                self._bury(worker, worker.process)

    def _hear(self, worker: _Worker, told: Pipe) -> None:
        try:
            told.recv_bytes()
        except EOFError:
            return  # it dies; its sentinel says so
        worker.is_up = True
        if all(one.is_up for one in self._workers):
            up, self._up = self._up, lambda: None
            up()

    def _bury(self, worker: _Worker, process: SpawnProcess) -> None:
        process.join()
        if process.pid is not None:
            forget(self._figures, process.pid)
        lived = time.monotonic() - worker.began
        worker.failures = worker.failures + 1 if lived < SOON else 0
        pause = min(2.0 ** (worker.failures - 1), MOST_PAUSE) if worker.failures else 0.0
        worker.process, worker.due = None, time.monotonic() + pause
        logger.error(
            "worker %s ended by itself (%s) after %.0f seconds; another is started%s",
            process.pid, _how(process.exitcode), lived, f" in {pause:g} seconds" if pause else "",
        )  # fmt: skip
        if all(one.failures >= MOST_FAILURES and one.process is None for one in self._workers):
            raise ModelError(
                code="workers_ended",
                what=f"no process keeps running; the last ended with {_how(process.exitcode)}",
                where="mm serve --workers",
                todo="The log above says why; `--workers 1` shows it in one process.",
            )

    # -- the end ------------------------------------------------------------------------------

    @contextmanager
    def _listening_for_signals(self) -> Iterator[None]:
        def heard(_number: int, _frame: Any) -> None:
            self._signals += 1
            self._woken.send_bytes(b"signal")

        before = {number: signal.signal(number, heard) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end(self) -> None:
        """Have each answer what has come. A second signal, or one that takes too long, kills."""
        from mm_assets.serving.connections import DRAIN_SECONDS

        running = [one.process for one in self._workers if one.process is not None]
        # The last of the workers that stops listening is to be the last that listens.
        self.listener.close()
        for process in running:
            process.terminate()
        end = time.monotonic() + DRAIN_SECONDS + BEYOND
        while running and self._signals < 2 and time.monotonic() < end:
            wait([process.sentinel for process in running], 0.2)
            running = [process for process in running if process.is_alive()]
        for process in running:
            logger.error("worker %s did not end in time and is killed", process.pid)
            process.kill()
        for process in running:
            process.join()


def _how(status: int | None) -> str:
    if status is not None and status < 0:
        return signal.Signals(-status).name
    return f"status {status}"
