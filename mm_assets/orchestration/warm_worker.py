"""A process that carries out one run after another, as the daemon hands them over.

    python -m mm_assets.orchestration.warm_worker CHANNEL MEMORY_MB

Each run is Dagster's own `execute_run`, as in a process of its own. Before each, the process begins
anew if code, libraries or YAML are no longer what it has loaded. After each that did not succeed,
that left more than MEMORY_MB behind or that used a GPU (whose memory only an end gives back), it
ends. It never forks: libraries that it has loaded run threads.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

PROGRAM = "mm_assets.orchestration.warm_worker"
Stamp = tuple[int, int, int]


def main(channel_number: str, memory_mb: str, handed: str = "") -> None:
    """Carry out runs until the daemon is gone. `handed`: the run to begin with."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # without a run there is nothing to clean up
    channel = Connection(int(channel_number))
    loaded = Loaded()
    while True:
        try:
            message = handed or channel.recv_bytes().decode()
        except (EOFError, OSError):  # the daemon is gone
            return
        if loaded.is_outdated():
            _begin_anew(channel_number, memory_mb, message)
        run_id, instance = json.loads(message)
        handed = ""
        if not carry_out(run_id, instance) or _holds(int(memory_mb)):
            return
        loaded.note()
        try:
            channel.send_bytes(str(len(sys.modules)).encode())
        except OSError:  # the daemon is gone
            return


def carry_out(run_id: str, instance_ref: str) -> bool:
    """Whether the process may go on: the run succeeded, or was over before it began.

    Whatever breaks here is Dagster's, and ends the process.
    """
    import dagster as dg
    from dagster._cli.api import _execute_run_command_body
    from dagster._core.instance.ref import InstanceRef
    from dagster._serdes import deserialize_value
    from dagster._utils.interrupts import capture_interrupts

    from mm_assets.orchestration.history import held_open

    ref = deserialize_value(instance_ref, InstanceRef)
    with capture_interrupts(), dg.DagsterInstance.from_ref(ref) as instance, held_open(instance):
        run = instance.get_run_by_id(run_id)
        if run is None or run.is_finished:  # stopped meanwhile, or it took too long to begin
            return True
        _execute_run_command_body(run_id, instance, lambda _: None, False)
        run = instance.get_run_by_id(run_id)
        return run is not None and run.is_success


def _holds(memory_mb: int) -> bool:
    """Whether it holds more memory than it may keep, or any of a GPU."""
    import psutil

    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return True
    return bool(psutil.Process().memory_info().rss > memory_mb << 20)


def _begin_anew(*arguments: str) -> None:
    """The same process with nothing loaded."""
    os.set_inheritable(int(arguments[0]), True)
    os.execv(sys.executable, [sys.executable, "-m", PROGRAM, *arguments])  # noqa: S606


class Loaded:
    """The files of what this process has loaded, as they were."""

    def __init__(self) -> None:
        self.began = time.time_ns()
        self.code: dict[str, Stamp | None] = {}
        self.yaml: dict[str, Stamp | None] = {}

    def is_outdated(self) -> bool:
        """Whether any of it has changed since."""
        yaml = {str(path): _stamp(path) for path in _yaml_files()}
        before, self.yaml = self.yaml or yaml, yaml
        return before != yaml or any(_stamp(Path(f)) != was for f, was in self.code.items())

    def note(self) -> None:
        """Note what was loaded meanwhile. What was written meanwhile counts as changed."""
        for module in list(sys.modules.values()):
            file = getattr(module, "__file__", None)
            if file and file not in self.code and (stamp := _stamp(Path(file))):
                self.code[file] = stamp if stamp[0] < self.began else None


def _stamp(path: Path) -> Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _yaml_files() -> list[Path]:
    from mm_assets.contract.settings import Settings

    folder = Settings.from_environment().defs_folder
    return sorted(folder.rglob("*.yaml")) if folder.is_dir() else []


if __name__ == "__main__":
    main(*sys.argv[1:])
