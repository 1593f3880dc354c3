"""What a demo runs on: its folder, a server on this machine that speaks S3, Dagster's daemon."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mm_assets.contract.errors import SettingsError
from mm_assets.contract.packages import optional
from mm_assets.contract.settings import Settings
from mm_assets.drafting.templates import templates_folder
from mm_assets.lake.lake import Lake
from mm_assets.orchestration import dev
from mm_assets.orchestration.home import prepare_home

BUCKET = "mm-demo"


def empty(folder: Path) -> None:
    """An empty folder that a demo may write to. Raises SettingsError if it holds other things."""
    marker = folder / ".mm-demo"
    if folder.exists() and any(folder.iterdir()) and not marker.exists():
        raise SettingsError(
            code="demo_folder",
            what="the folder holds something that no demo made",
            where=str(folder),
            todo="Name an empty folder with --folder.",
        )
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    marker.touch()


def environment(folder: Path, lake: str, dataset: str) -> dict[str, str]:
    """The template's YAML, all state in `folder` but for the lake, no other dataset's sensors."""
    return {
        "MM_DATASETS": dataset,
        "MM_DEFS": str(templates_folder()),
        "MM_DATA": str(folder),
        "MM_LAKE": lake,
        "MM_TABLE": f"duckdb:///{folder / 'predictions.duckdb'}",
        "DAGSTER_HOME": str(folder / "dagster"),
    }


def local_settings(folder: Path, dataset: str) -> Settings:
    """Settings with the lake as a folder; the environment is set as well."""
    os.environ.update(environment(folder, str(folder / "lake"), dataset))
    return Settings.from_environment()


def server_package() -> Any:
    """What speaks S3 on this machine. Raises ModelError (package_missing)."""
    return optional("moto.server", "demo", "mm demo")


@contextmanager
def local_s3(folder: Path, dataset: str) -> Iterator[Settings]:
    """A server on this machine that speaks S3, with an empty bucket; the settings to use it."""
    moto = server_package()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    # These are no secrets: the server takes any.
    os.environ.update(
        AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}",
        AWS_ACCESS_KEY_ID="demo",
        AWS_SECRET_ACCESS_KEY="demo",  # noqa: S106
        AWS_REGION="us-east-1",
        **environment(folder, f"s3://{BUCKET}/lake", dataset),
    )
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        os.environ.pop(name, None)
    try:
        settings = Settings.from_environment()
        Lake(settings).s3_client.create_bucket(Bucket=BUCKET)
        yield settings
    finally:
        server.stop()


@contextmanager
def daemon(settings: Settings, folder: Path) -> Iterator[None]:
    """Dagster's daemon with the project's code location; its output goes to daemon.log."""
    prepare_home(settings)
    workspace = str(dev.workspace_file(settings))
    command = [sys.executable, "-m", "dagster._daemon", "run", "-w", workspace]
    with (folder / "daemon.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603
            command,
            cwd=settings.root,
            env=dev.environment(settings),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield
        finally:
            dev.end_group(process)


def keep_lake(lake: Lake, folder: Path) -> None:
    """Copy what the pipeline made into a folder, since the local server forgets it."""
    for item in lake.list("datasets/"):
        path = folder / item.key
        path.parent.mkdir(parents=True, exist_ok=True)
        lake.fetch(item.key, path)
