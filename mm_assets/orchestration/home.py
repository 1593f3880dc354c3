"""DAGSTER_HOME, and where Dagster's own history lies: SQLite in it, or PostgreSQL.

What belongs here: the settings of Dagster's instance, and words for a history that cannot be
reached. What does not: opening an instance (`run.py`, `history.py`).
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from mm_assets.contract.errors import LakeError
from mm_assets.contract.packages import optional
from mm_assets.contract.settings import Settings
from mm_assets.contract.shipped import shipped

LITTLE = 1 << 20  # bytes; with less, a database of Dagster cannot grow
FILE = "dagster.yaml"
HOST = "DAGSTER_PG_HOST"
# What PostgreSQL is told, the variable that says it, and what it is where the variable is not set.
POSTGRES = {
    "hostname": (HOST, ""),
    "port": ("DAGSTER_PG_PORT", "5432"),
    "username": ("DAGSTER_PG_USERNAME", "dagster"),
    "password": ("DAGSTER_PG_PASSWORD", ""),
    "db_name": ("DAGSTER_PG_DB", "dagster"),
}


def prepare_home(settings: Settings, *, renew: bool = False) -> Path:
    """DAGSTER_HOME with its dagster.yaml: the project's own, or the one that comes along.

    renew: write it again, where it is there. With DAGSTER_PG_HOST the history lies in PostgreSQL;
    the file names the variables, and never holds the password.
    """
    home = settings.home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    file = home / FILE
    if renew or not file.exists():
        part = home / f".{FILE}.{os.getpid()}"
        part.write_text(_instance_settings(settings), encoding="utf-8")
        part.replace(file)  # whole: others may read it, or write it, at the same moment
    return home


def _instance_settings(settings: Settings) -> str:
    own = [settings.root / FILE, settings.root / "dagster_project" / FILE]
    text = next((path for path in own if path.exists()), shipped(FILE)).read_text(encoding="utf-8")
    if not os.environ.get(HOST) or "storage" in (yaml.safe_load(text) or {}):
        return text
    told: dict[str, Any] = {
        name: {"env": variable} if os.environ.get(variable) else default
        for name, (variable, default) in POSTGRES.items()
    }
    if isinstance(told["port"], str):
        told["port"] = int(told["port"])
    storage = {"storage": {"postgres": {"postgres_db": told}}}
    return f"{text.rstrip()}\n\n{yaml.safe_dump(storage, sort_keys=False)}"


def storage_of(home: Path) -> str:
    """Where Dagster's history lies, in words: `SQLite`, `PostgreSQL`, or what dagster.yaml says.

    Raises ModelError (package_missing) where the package that speaks to PostgreSQL is not there.
    """
    written = yaml.safe_load((home / FILE).read_text(encoding="utf-8")) or {}
    kinds = written.get("storage") or {"sqlite": {}}
    if "postgres" not in kinds:
        return "SQLite" if "sqlite" in kinds else ", ".join(kinds)
    optional("dagster_postgres", "postgres", f"storage in {home / FILE}")
    return "PostgreSQL"


@contextmanager
def speaking_of_home(home: Path) -> Iterator[None]:
    """Say in words that Dagster's own history cannot be used.

    Raises LakeError: home_unusable, or disk_full for SQLite without room.
    """
    from alembic.util import CommandError
    from sqlalchemy.exc import DBAPIError

    place = storage_of(home)
    try:
        yield
    except CommandError as error:
        raise _spoilt(home, error) from error
    except Exception as error:
        # dagster-postgres tries for a while, and wraps what the database said.
        tried = type(error).__name__ == "DagsterPostgresException"
        cause = error.__cause__ if tried else error
        if not isinstance(cause, DBAPIError):
            raise
        raise _unusable(place, home, cause) from error


def _spoilt(home: Path, error: Exception) -> LakeError:
    """Of databases that two processes of Dagster, not ours, made at the same moment."""
    files = [file for file in sorted(home.rglob("*.db")) if _versions(file) > 1]
    return LakeError(
        code="home_unusable",
        what=f"Dagster's own database cannot be used: {error}"
        + "; two processes have made it at the same moment" * bool(files),
        where=", ".join(map(str, files)) or str(home),
        todo="End what runs on it, remove this file (a new one is made; answers and uploads lie in "
        "the table and the lake), then run the same command again.",
    )


def _versions(file: Path) -> int:
    """How many versions of itself a database names; one is right."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(file)) as db:
        return int(db.execute("SELECT count(*) FROM alembic_version").fetchone()[0])
    return 0


def _unusable(place: str, home: Path, cause: Any) -> LakeError:
    what = f"Dagster's own database cannot be used: {str(cause.orig).strip()}"
    if place != "SQLite":
        todo = (
            f"Check that the server runs and what DAGSTER_PG_* say ({home / FILE} names them), "
            "then run the same command again."
        )
        return LakeError(code="home_unusable", what=what, where=place, todo=todo)
    # Of a full disk SQLite often only says that something went wrong.
    is_full = "full" in str(cause.orig) or shutil.disk_usage(home).free < LITTLE
    todo = (
        "Free some space there, then run the same command again."
        if is_full
        else "Check that this user may write there (DAGSTER_HOME) and that nothing else holds "
        "the database, then run the same command again."
    )
    code = "disk_full" if is_full else "home_unusable"
    return LakeError(code=code, what=what, where=str(home), todo=todo)
