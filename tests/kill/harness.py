"""Kill the whole flow at random moments, restart it, and compare the end with a quiet run.

    python -m tests.kill.harness --kills 1000 --seed 7

Uploads come in waves, with labels, without, split over several uploads, broken and sent twice;
two models are trained, promoted and trained again. The daemon, its code server and the workers of
the runs are killed with SIGKILL, one or all at once, and the daemon is started again. Two more
uploads come and are withdrawn meanwhile, one of them as soon as it is received, by processes that
are killed as well. When nothing is left to do, the table, the champions, the receipts and the lake
must be what an undisturbed run in one process made of the other uploads.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from mm_assets.orchestration.warm_worker import PROGRAM
from tests.aws_server import Servers, running_servers
from tests.kill.project import (
    DATASET,
    Project,
    differences,
    has_run,
    is_quiet,
    make_mistakes,
    make_waves,
    run_quietly,
)

LOCATION = "mm_assets.orchestration.code_location"
MM = "from mm_assets.cli.main import main; main()"  # as the command does it
KINDS = ["worker"] * 6 + ["code server", "daemon", "everything"]
MISTAKES = 1  # the wave with which the uploads come that are withdrawn
TRIED_IN_VAIN = 600  # seconds in which nothing got quiet


# -- the killing ----------------------------------------------------------------------------------


@dataclass
class Victim:
    """The daemon and whatever it started, in a session of their own."""

    project: Project
    rng: random.Random
    kills: Counter[str] = field(default_factory=Counter)
    next_kinds: list[str] = field(default_factory=list)
    sessions: list[int] = field(default_factory=list)

    def start(self) -> None:
        command = ["-m", "dagster._daemon", "run", "-m", LOCATION]
        self.daemon = self.launch("daemon", command, self.project.environment)

    def launch(
        self, name: str, arguments: Sequence[str], environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """Python with these arguments in a session of its own; what it says goes to a log."""
        with (self.project.root / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments], cwd=self.project.root, env=environment,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.sessions.append(process.pid)
        return process

    def processes(self) -> dict[str, list[psutil.Process]]:
        """What there is to kill: the daemon, its code servers, the workers of runs."""
        found: dict[str, list[psutil.Process]] = {"daemon": [], "code server": [], "worker": []}
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) not in self.sessions:
                    continue
                words = " ".join(process.cmdline())
                if process.pid == self.daemon.pid:
                    found["daemon"].append(process)
                elif "spawn_main" in words or PROGRAM in words:
                    found["worker"].append(process)
                elif "grpc" in words or "code-server" in words:
                    found["code server"].append(process)
            except (psutil.Error, ProcessLookupError):
                continue
        return found

    def kill_one(self) -> None:
        """Kill something that is there: of nine kills six workers, and each other kind once."""
        there = self.processes()
        whole = {**there, "everything": [process for some in there.values() for process in some]}
        if not any(whole[kind] for kind in self.next_kinds):
            self.next_kinds += self.rng.sample(KINDS, len(KINDS))
        kind = next((kind for kind in self.next_kinds if whole[kind]), "")
        if not kind:
            return
        self.next_kinds.remove(kind)
        chosen = whole[kind] if kind == "everything" else [self.rng.choice(whole[kind])]
        for process in chosen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.kills[kind] += 1
        if self.daemon.poll() is not None or kind in ("daemon", "everything"):
            self.daemon.wait()
            self.start()

    def end(self) -> None:
        for session in self.sessions:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(session, signal.SIGKILL)
        self.daemon.wait()


@dataclass
class Withdrawal:
    """`mm uploads withdraw`, killed while it works, and asked for again until it has worked.

    waits: until the upload is received, else it comes at whatever moment.
    """

    victim: Victim
    upload: str
    waits: bool
    tries: int = 0
    process: subprocess.Popen[bytes] | None = None

    def go_on(self, *, kill: bool) -> bool:
        """Start it, if it is not at work; True once it has worked."""
        if self.process is not None and self.process.poll() == 0:
            return True
        if self.process is None or self.process.poll() is not None:
            if self.waits and not self._is_received():
                return False
            words = ["-c", MM, "uploads", "withdraw", self.upload, "--dataset", DATASET]
            self.process = self.victim.launch("withdraw", words, self.victim.project.environment)
            self.tries += 1
            if kill and self.tries == 1:  # it takes two seconds or so
                time.sleep(self.victim.rng.uniform(0.5, 3))
                self.process.kill()
                self.process.wait()
        return False

    def _is_received(self) -> bool:
        from mm_assets.lake.lake import Lake

        lake = Lake(self.victim.project.enter())
        return any(lake.list(f"received/{DATASET}/{self.upload}/"))

    def finish(self) -> None:
        end = time.monotonic() + TRIED_IN_VAIN
        while not self.go_on(kill=True):
            if time.monotonic() > end:
                raise TimeoutError(f"nothing was withdrawn; see {self.victim.project.root}")
            time.sleep(0.5)


def run_under_fire(
    project: Project, seed: int, kills: int, say: Callable[[str], None]
) -> tuple[dict[str, Any], Counter[str]]:
    """Drop the waves one after another while things are killed; returns the end, and the kills."""
    from mm_assets.orchestration.run import open_instance

    with open_instance(project.enter()):  # as `mm dev`: two that make it at once spoil it
        pass
    waves = make_waves(seed)
    victim = Victim(project, random.Random(seed))
    victim.start()
    try:
        for wave, uploads in enumerate(waves):
            project.drop(wave, uploads)
            withdrawals = []
            if wave == MISTAKES:
                mistakes = make_mistakes(seed)
                project.drop(wave, mistakes, after=len(uploads))
                withdrawals = [
                    Withdrawal(victim, name, waits=bool(n)) for n, (name, _) in enumerate(mistakes)
                ]
            share = kills * (wave + 1) // len(waves)
            began = time.monotonic()
            while sum(victim.kills.values()) < share:
                _pause_until_busy(victim)
                for one in withdrawals:
                    one.go_on(kill=True)
                victim.kill_one()
                say(f"wave {wave + 1}: {sum(victim.kills.values())} kills {dict(victim.kills)}")
            for one in withdrawals:
                one.finish()
                say(f"{one.upload} is withdrawn, at try {one.tries}")
            expected = sum(map(len, waves[: wave + 1]))
            expected += len(make_mistakes(seed)) if wave >= MISTAKES else 0
            while not is_quiet(project, wave, expected):
                if time.monotonic() - began > TRIED_IN_VAIN + 10 * share:
                    raise TimeoutError(
                        f"wave {wave + 1} did not get quiet; see {project.root}/daemon.log"
                    )
                time.sleep(1)
            say(f"wave {wave + 1} is quiet after {time.monotonic() - began:.0f} s")
    finally:
        victim.end()
    return project.end_state(), victim.kills


def _pause_until_busy(victim: Victim) -> None:
    """Wait for a run, then for a random moment of it; its process may also have none by then."""
    deadline = time.monotonic() + 10
    while not has_run(victim.project) and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(victim.rng.uniform(0, 3))


def say(words: str) -> None:
    print(words, flush=True)


def one_round(
    folder: Path, seed: int, kills: int, servers: Servers | None, say: Callable[[str], None]
) -> tuple[Counter[str], dict[str, int]]:
    """Quietly, then under fire: the kills, and what differs at the end."""
    quiet = run_quietly(Project(folder / "quiet"), make_waves(seed))
    killed, done = run_under_fire(Project(folder / "killed", servers), seed, kills, say)
    return done, differences(quiet, killed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--aws", action="store_true", help="on S3, SQS and DynamoDB")
    parser.add_argument("--folder", type=Path, help="keep everything here")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="mm-kill-"))
    began = time.monotonic()
    with running_servers() if arguments.aws else nullcontext() as servers:
        kills, found = one_round(folder, arguments.seed, arguments.kills, servers, say)
    print(f"{sum(kills.values())} kills {dict(kills)} in {time.monotonic() - began:.0f} s: {found}")
    if any(found.values()):
        print(f"Look into {folder}")
        sys.exit(1)
    if arguments.folder is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
