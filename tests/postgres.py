"""A PostgreSQL server of one's own for a test: Debian's, on a free port, never as root.

`.ci/run` installs it where it may; a test says what is missing where it is not.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROGRAMS = ("initdb", "postgres")
USERS = ("postgres", "nobody")  # who runs it where the tests are root's: it refuses root
PATIENCE = 30


def find_postgres() -> tuple[Path | None, str]:
    """The folder of PostgreSQL's programs; or None and why not."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    on_path = shutil.which("initdb")
    for folder in [*installed, *([Path(on_path).resolve().parent] if on_path else [])]:
        if all((folder / name).exists() for name in PROGRAMS):
            return folder, ""
    return None, "PostgreSQL is not installed: `apt-get install postgresql`"


@dataclass
class Postgres:
    """One server; it can be killed as by a power cut and started again on the same port."""

    programs: Path
    folder: Path
    port: int
    password: str = field(default_factory=lambda: secrets.token_urlsafe(12) + "@:/ %")

    @property
    def environment(self) -> dict[str, str]:
        """What our image and Dagster are told of it."""
        return {
            "DAGSTER_PG_HOST": "127.0.0.1", "DAGSTER_PG_PORT": str(self.port),
            "DAGSTER_PG_USERNAME": "dagster", "DAGSTER_PG_PASSWORD": self.password,
            "DAGSTER_PG_DB": "postgres",
        }  # fmt: skip

    def make(self) -> None:
        """An empty database, its password asked for."""
        secret = self.folder / "password"
        secret.write_text(self.password)
        self._own(secret)
        command = [
            self.programs / "initdb", "--pgdata", self.folder / "data", "--username", "dagster",
            # Not scram-sha-256: Dagster connects anew for each event, and that takes its time.
            "--auth", "password", "--pwfile", secret, "--encoding", "UTF8", "--no-sync",
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, text=True, **self._as_user())
        secret.unlink()

    def start(self) -> None:
        command = [
            str(self.programs / "postgres"), "-D", str(self.folder / "data"),
            "-c", f"port={self.port}", "-c", "listen_addresses=127.0.0.1",
            "-c", f"unix_socket_directories={self.folder}", "-c", "fsync=off",
        ]  # fmt: skip
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, **self._as_user())
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self.process.poll() is None:
            if self._answers():
                return
            time.sleep(0.1)
        raise RuntimeError((self.folder / "log").read_text())

    def crash(self) -> None:
        """Every connection is cut and nothing is put in order; the next start recovers."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(PATIENCE)

    def _answers(self) -> bool:
        import psycopg2

        told = self.environment
        try:
            psycopg2.connect(
                host="127.0.0.1", port=self.port, user="dagster", dbname="postgres",
                password=told["DAGSTER_PG_PASSWORD"], connect_timeout=2,
            ).close()  # fmt: skip
        except psycopg2.OperationalError:
            return False
        return True

    def _as_user(self) -> dict[str, Any]:
        return {"user": _user(), "group": pwd.getpwnam(_user()).pw_gid} if _is_root() else {}

    def _own(self, path: Path) -> None:
        if _is_root():
            shutil.chown(path, _user())


def _is_root() -> bool:
    return os.geteuid() == 0


def _user() -> str:
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in USERS if name in known)


@contextmanager
def running_postgres(programs: Path) -> Iterator[Postgres]:
    """A server with an empty database, until the end."""
    # Not in pytest's folder, into which only its own user may look.
    with tempfile.TemporaryDirectory(prefix="mm-postgres-") as folder:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            server = Postgres(programs, Path(folder), probe.getsockname()[1])
        server._own(server.folder)
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.crash()
