"""`mm dev`: Dagster's UI and daemon on the project, until someone ends them.

What belongs here: starting Dagster's own processes on a project, and ending all of them. What does
not: what they serve (`code_location.py`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml

from mm_assets.contract.errors import MMError, SettingsError
from mm_assets.contract.listening import cannot_listen
from mm_assets.contract.settings import Settings
from mm_assets.orchestration.home import prepare_home
from mm_assets.orchestration.run import open_instance

MODULE = "mm_assets.orchestration.code_location"
LOCATION = "mm_assets"  # Dagster keeps the state of sensors under this name
PATIENCE = 20  # seconds that processes have to end by themselves
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  to reach a server that listens so


def run_dev(
    settings: Settings,
    host: str,
    port: int,
    on_ready: Callable[[], None] = lambda: None,
    on_end: Callable[[], None] = lambda: None,
) -> None:
    """Serve the project in Dagster's UI and run its daemon, until Ctrl-C or a signal to end.

    on_ready is called once the UI answers, on_end when it was told to end. Before anything is
    started it raises SettingsError (port_taken, address_unusable, dev_running) and SpecError for a
    mistake in a YAML; later MMError (dev_ended) if Dagster ends by itself.
    """
    from mm_assets.orchestration.workflow import load_definitions

    check_address(host, port)
    load_definitions(settings)
    with only_one(prepare_home(settings)), _signals_interrupt():
        with open_instance(settings):  # the first of two that make it at once would spoil it
            pass
        command = [sys.executable, "-m", "dagster", "dev", "--host", host, "--port", str(port)]
        command += ["--log-level", "warning", "--workspace", str(workspace_file(settings))]
        process = subprocess.Popen(  # noqa: S603
            command, cwd=settings.root, env=environment(settings), start_new_session=True
        )
        try:
            _watch(process, host, port, on_ready)
        except KeyboardInterrupt:
            on_end()
        finally:
            end_group(process)


def check_address(host: str, port: int) -> None:
    """Raises SettingsError (port_taken, address_unusable) if nothing can listen there."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(found[0], socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(found[4])
    except OSError as error:
        raise cannot_listen(error, host, port, f": --port {port + 1}.") from None


@contextmanager
def only_one(home: Path) -> Iterator[None]:
    """One Dagster at a time on an instance: two daemons would start every run twice.

    Raises SettingsError (dev_running).
    """
    with (home / "mm-dev.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SettingsError(
                code="dev_running",
                what="Dagster's daemon runs on this project already",
                where=str(home),
                todo="End the other `mm dev`, or give this one a DAGSTER_HOME of its own.",
            ) from None
        yield


def workspace_file(settings: Settings) -> Path:
    """The project's workspace.yaml, or one that serves its defs folder, in DAGSTER_HOME."""
    own = settings.root / "workspace.yaml"
    if own.exists():
        return own
    module = {
        "module_name": MODULE,
        "working_directory": str(settings.root.resolve()),
        "location_name": LOCATION,
    }
    file = prepare_home(settings) / "mm-workspace.yaml"
    file.write_text(yaml.safe_dump({"load_from": [{"python_module": module}]}), encoding="utf-8")
    return file


def environment(settings: Settings) -> Mapping[str, str]:
    """What Dagster's processes are told of this project, beside what this one was told."""
    return {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONWARNINGS": "ignore",
        **os.environ,
        "DAGSTER_HOME": str(settings.home.resolve()),
        "MM_ROOT": str(settings.root.resolve()),
    }


def _watch(
    process: subprocess.Popen[bytes], host: str, port: int, on_ready: Callable[[], None]
) -> None:
    """Wait for the end of Dagster; say when it answers. Raises MMError when it ends by itself."""
    ready = False
    while process.poll() is None:
        if not ready and _answers(host, port):
            ready = True
            on_ready()
        time.sleep(0.2)
    raise MMError(
        code="dev_ended",
        what=f"Dagster ended by itself, with exit code {process.returncode}",
        where="mm dev",
        todo="What it said stands above. `mm doctor` looks for what is misconfigured.",
    )


def _answers(host: str, port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection((EVERYWHERE.get(host, host), port), timeout=1).close()
        return True
    return False


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """A request to end, or a terminal that closes, is like Ctrl-C."""

    def interrupt(_number: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    heard = [sign for sign in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
             if signal.getsignal(sign) is not signal.SIG_IGN]  # fmt: skip
    before = {sign: signal.signal(sign, interrupt) for sign in heard}
    try:
        yield
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and whatever it started; they share a process group of their own.

    First the process itself, which ends its children in their order; then those that it left (the
    code servers of `dagster dev` would stay for half a minute), first asked and then killed.
    A second Ctrl-C kills at once.
    """
    with contextlib.suppress(KeyboardInterrupt):
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
        _signal(process.pid, signal.SIGTERM)
        psutil.wait_procs(_members(process.pid), PATIENCE)
    _signal(process.pid, signal.SIGKILL)
    psutil.wait_procs(_members(process.pid), PATIENCE)
    process.wait()


def _signal(group: int, sign: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, sign)


def _members(group: int) -> list[psutil.Process]:
    """The processes of a group that still run."""
    members = []
    for process in psutil.process_iter(["status"]):
        with contextlib.suppress(ProcessLookupError):
            alive = process.info["status"] != psutil.STATUS_ZOMBIE
            if alive and os.getpgid(process.pid) == group:
                members.append(process)
    return members
