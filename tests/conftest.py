"""What all tests share: settings over a fresh folder and over a fresh bucket of a real S3 server.

`settings` runs a test twice, once over each. The environment is set as well, so that code which
reads `Settings.from_environment()` (the CLI, the code location) sees the same lake.
"""

from __future__ import annotations

import functools
import os
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.testing
from alembic.config import Config
from alembic.script import ScriptDirectory
from hypothesis import HealthCheck
from hypothesis import settings as examples
from sqlalchemy import event
from sqlalchemy.engine import Engine

from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from tests.aws_server import moto_here
from tests.tables.dynamo_server import dynalite, find_dynalite, moto

# How tests are marked and shared out among processes.
pytest_plugins = ["tests.side_by_side"]

_OF_THE_TESTS = ("MM_NIGHTLY", "MM_DYNALITE")
# No test may see where the person who runs it keeps data (make exports MM_DATA).
for _name in list(os.environ):
    if (
        _name.startswith(("MM_", "AWS_", "LABEL_STUDIO_"))
        and _name not in _OF_THE_TESTS
        or _name == "DAGSTER_HOME"
    ):
        del os.environ[_name]

# A terminal's colours begin with an escape, which tests look for in what we print.
os.environ.pop("FORCE_COLOR", None)
os.environ["TERM"] = "dumb"

# Threads cost models as small as those of tests more than they give, most of all side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Typer's runner makes all commands anew for each call, from the signatures of their functions.
typer.testing._get_command = functools.cache(typer.testing._get_command)  # type: ignore[attr-defined]

# Dagster has Alembic read all its migrations for each database that it makes, and for each look
# at one; they are in files that stay the same.
_read_migrations = ScriptDirectory.from_config.__func__  # type: ignore[attr-defined]
_migrations: dict[Any, ScriptDirectory] = {}


def _read_once(kind: type[ScriptDirectory], config: Config) -> ScriptDirectory:
    where = config.config_file_name, config.get_main_option("script_location")
    if where not in _migrations:
        _migrations[where] = _read_migrations(kind, config)
    return _migrations[where]


ScriptDirectory.from_config = classmethod(_read_once)  # type: ignore[assignment,method-assign]


@event.listens_for(Engine, "connect")
def _never_wait_for_the_disk(connection: Any, _record: Any) -> None:
    """Dagster's history in these processes outlives them without: no test cuts the power."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous=OFF")


# Hypothesis' own limits of time hold for a machine that does nothing else. The same examples each
# time, so that nothing fails by chance that has nothing to do with a change; at night new ones.
examples.register_profile(
    "busy", deadline=None, derandomize=os.environ.get("MM_NIGHTLY") != "1",
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
examples.load_profile("busy")

AWS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/nowhere/config",
    "AWS_SHARED_CREDENTIALS_FILE": "/nowhere/credentials",
}
_UNSET = (
    "AWS_PROFILE", "AWS_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN",
    "AWS_ENDPOINT_URL_DYNAMODB", "MM_TABLE", "MM_DEFS", "MM_EVENTS", "MM_WORK", "MM_RESULTS",
    "MM_RESULTS_SEND", "DAGSTER_HOME",
)  # fmt: skip


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The address of a server that speaks S3; one for the whole session."""
    with moto_here() as address:
        yield address


@pytest.fixture(scope="session")
def s3_client(s3_endpoint: str) -> Any:
    """A boto3 client of the test server, to look at the bucket from outside."""
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=s3_endpoint,
        region_name=AWS["AWS_DEFAULT_REGION"],
        aws_access_key_id=AWS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=AWS["AWS_SECRET_ACCESS_KEY"],
    )


@pytest.fixture
def s3_settings(
    s3_endpoint: str, s3_client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Settings]:
    """Settings whose lake is a prefix of a fresh bucket; the bucket is gone after the test."""
    bucket = f"test-{uuid.uuid4().hex}"
    s3_client.create_bucket(Bucket=bucket)
    environment = {**AWS, "AWS_ENDPOINT_URL": s3_endpoint, "MM_LAKE": f"s3://{bucket}/lake"}
    yield _settings(environment, tmp_path / "s3-project", monkeypatch)
    for page in s3_client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        keys = [{"Key": item["Key"]} for item in page.get("Contents", [])]
        if keys:
            s3_client.delete_objects(Bucket=bucket, Delete={"Objects": keys})
    s3_client.delete_bucket(Bucket=bucket)


@pytest.fixture
def folder_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings whose lake is an empty local folder."""
    return _settings({"MM_LAKE": "data/lake"}, tmp_path / "project", monkeypatch)


@pytest.fixture(params=["folder", "s3"])
def settings(request: pytest.FixtureRequest) -> Settings:
    """The same test over a folder and over S3."""
    chosen: Settings = request.getfixturevalue(f"{request.param}_settings")
    return chosen


@pytest.fixture
def lake(settings: Settings, request: pytest.FixtureRequest) -> Lake:
    """The lake of `settings`; on S3 it shares one client, which takes a second to make."""
    return Lake(settings, request.getfixturevalue("s3_client") if settings.is_s3 else None)


# -- a browser ------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def chromium(say_at_the_end: Callable[[str], None]) -> dict[str, Any]:
    """How Playwright starts the Chromium of this machine; without one it is said at the end."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        words = "no page was tested in a browser: there is no Chromium (apt-get install chromium)"
        say_at_the_end(f"SKIPPED: {words}")
        pytest.skip(words)
    # As root there is no sandbox; and nothing of its own may go out.
    own = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
    return {"executable_path": path, "args": own}


# -- DynamoDB -------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def dynamodb_endpoint(say_at_the_end: Callable[[str], None]) -> Iterator[str]:
    """The address of a server that speaks DynamoDB; one for the whole session."""
    folder, why_not = find_dynalite()
    name = f"dynalite {folder}" if folder else f"moto, its writes taking turns, because {why_not}"
    say_at_the_end(f"DynamoDB was {name}")  # not all prove the same
    with dynalite(folder) if folder else moto() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def dynamodb_client(dynamodb_endpoint: str) -> Any:
    """A client as the store makes it; one for the whole session, because it takes a second."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "dynamodb",
        endpoint_url=dynamodb_endpoint,
        region_name=AWS["AWS_DEFAULT_REGION"],
        aws_access_key_id=AWS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=AWS["AWS_SECRET_ACCESS_KEY"],
        # botocore's own waits take seconds; the store's are tested here.
        config=Config(
            retries={"mode": "standard", "total_max_attempts": 1}, max_pool_connections=40
        ),
    )


@pytest.fixture
def dynamodb_table(dynamodb_client: Any) -> Iterator[str]:
    """The name of a fresh table with all its indexes; the table is gone after the test."""
    from mm_assets.tables.dynamodb.requests import Requests
    from mm_assets.tables.dynamodb.table import create

    name = f"test-{uuid.uuid4().hex}"
    create(Requests(dynamodb_client, name, 20.0), lambda _: None)
    yield name
    if dynamodb_client.describe_table(TableName=name)["Table"].get("DeletionProtectionEnabled"):
        dynamodb_client.update_table(TableName=name, DeletionProtectionEnabled=False)
    dynamodb_client.delete_table(TableName=name)


@pytest.fixture
def dynamodb_settings(
    dynamodb_endpoint: str, dynamodb_table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """Settings whose lake is a folder and whose table is a fresh one in DynamoDB."""
    environment = {
        **AWS, "AWS_ENDPOINT_URL_DYNAMODB": dynamodb_endpoint, "MM_LAKE": "data/lake",
        "MM_TABLE": f"dynamodb://{dynamodb_table}",
    }  # fmt: skip
    return _settings(environment, tmp_path / "dynamodb-project", monkeypatch)


def _settings(environment: dict[str, str], root: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    root.mkdir()
    for name in _UNSET:
        monkeypatch.delenv(name, raising=False)
    for name, value in {**environment, "MM_ROOT": str(root)}.items():
        monkeypatch.setenv(name, value)
    return Settings.from_environment()
