"""Making, mending and looking at the table: `mm table`, and what `mm doctor` says of it."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from typer.testing import CliRunner

from mm_assets.api.doctor import _table
from mm_assets.cli.main import app
from mm_assets.contract.errors import StoreError
from mm_assets.contract.facts import Fact
from mm_assets.contract.settings import Settings
from mm_assets.tables.dynamodb.items import INDEXES
from mm_assets.tables.dynamodb.requests import Requests
from mm_assets.tables.dynamodb.store import DynamoDBStore
from mm_assets.tables.dynamodb.table import create, look_at
from mm_assets.tables.open import create_table, inspect_table, open_store
from tests.tables.faults import refuse, watched
from tests.tables.offers import offer, offered


@pytest.fixture(scope="session")
def aws_like(s3_endpoint: str) -> Any:
    """A client of moto, which knows recovery, deletion protection and billing."""
    import boto3

    return boto3.client(
        "dynamodb",
        endpoint_url=s3_endpoint,
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )


@pytest.fixture
def requests(aws_like: Any) -> Requests:
    """Of a table that is not there yet."""
    return Requests(aws_like, f"test-{uuid.uuid4().hex}", 5.0)


def facts(requests: Requests) -> dict[str, Fact]:
    return {fact.what: fact for fact in look_at(requests)}


def test_a_table_is_made_on_demand_recoverable_protected_and_with_every_index(
    requests: Requests,
) -> None:
    said: list[str] = []
    create(requests, said.append)
    table = requests.call("describe_table")["Table"]
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert table["DeletionProtectionEnabled"] is True
    backups = requests.call("describe_continuous_backups")["ContinuousBackupsDescription"]
    assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"
    assert {i["IndexName"] for i in table["GlobalSecondaryIndexes"]} == {i.name for i in INDEXES}
    assert said == [f"creating {requests.table}", "turning on point-in-time recovery"]
    found = facts(requests)
    assert all(fact.good for fact in found.values())
    assert found["billing"].found == "on demand"
    assert found["deletion protection"].found == "on"
    assert found["point-in-time recovery"].found == "on"
    assert found["writing"].found == "allowed"


def test_making_it_again_changes_nothing(requests: Requests) -> None:
    create(requests, lambda _: None)
    DynamoDBStore(requests.client, requests.table).merge("pets", offered(offer("a")))
    said: list[str] = []
    create(requests, said.append)
    assert said == []
    assert DynamoDBStore(requests.client, requests.table).read("pets").num_rows == 1


def test_what_is_missing_is_said_and_mended(requests: Requests) -> None:
    create(requests, lambda _: None)
    requests.call("update_table", DeletionProtectionEnabled=False)
    requests.call(
        "update_continuous_backups",
        PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": False},
    )
    for name in ("changed", "labels"):
        requests.call("update_table", GlobalSecondaryIndexUpdates=[{"Delete": {"IndexName": name}}])
    wrong = {fact.what: fact for fact in facts(requests).values() if not fact.good}
    assert set(wrong) == {
        "index changed", "index labels", "deletion protection", "point-in-time recovery",
    }  # fmt: skip
    assert {fact.todo for fact in wrong.values()} == {"Run `mm table --create`."}
    said: list[str] = []
    create(requests, said.append)
    assert len(said) == 4
    assert all(fact.good for fact in facts(requests).values())


def test_a_table_of_somebody_else_is_left_alone(requests: Requests) -> None:
    requests.call(
        "create_table",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    assert facts(requests)["keys"].good is False
    with pytest.raises(StoreError) as caught:
        create(requests, lambda _: None)
    assert caught.value.code == "table_differs"
    assert not requests.call("describe_table")["Table"].get("GlobalSecondaryIndexes")


def test_recovery_that_is_not_ready_yet_is_waited_for(
    requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)
    with watched(requests.client) as wire:
        calls = iter([True, True])

        def not_yet(operation: str, request: Any) -> Any:
            if operation == "UpdateContinuousBackups" and next(calls, False):
                return refuse("ContinuousBackupsUnavailableException")(operation, request)
            return None

        wire.rule = not_yet
        create(requests, lambda _: None)
        assert wire.seen["UpdateContinuousBackups"] == 3
    assert facts(requests)["point-in-time recovery"].found == "on"


def test_somebody_else_may_make_it_at_the_same_moment(requests: Requests) -> None:
    other = Requests(requests.client, requests.table, 5.0)
    with watched(requests.client) as wire:

        def faster(operation: str, request: Any) -> None:
            if operation == "CreateTable":
                wire.rule = lambda operation, request: None
                create(other, lambda _: None)

        wire.rule = faster
        create(requests, lambda _: None)
    assert all(fact.good for fact in facts(requests).values())


def test_a_role_that_may_not_write_is_found_out(requests: Requests) -> None:
    create(requests, lambda _: None)
    with watched(requests.client) as wire:
        wire.every(1, refuse("AccessDeniedException"), "PutItem", "DescribeContinuousBackups")
        found = facts(requests)
    assert found["writing"].good is False
    assert "dynamodb:Query" in found["writing"].todo
    assert found["point-in-time recovery"].good


def test_an_index_that_is_missing_is_said_when_it_is_needed(requests: Requests) -> None:
    create(requests, lambda _: None)
    store = DynamoDBStore(requests.client, requests.table, 5.0)
    with watched(requests.client) as wire:
        wire.rule = refuse(
            "ValidationException", message="The table does not have the specified index: changed"
        )
        with pytest.raises(StoreError) as caught:
            store.read("pets")
    assert caught.value.code == "table_incomplete"
    assert "mm table --create" in caught.value.todo


# -- the command ----------------------------------------------------------------------------------


@pytest.fixture
def no_table(dynamodb_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings that name a table which is not there."""
    monkeypatch.setenv("MM_TABLE", f"dynamodb://test-{uuid.uuid4().hex}")
    return Settings.from_environment()


def run(*arguments: str) -> tuple[int, Any, str]:
    result = CliRunner().invoke(app, ["table", "--format", "json", *arguments])
    assert "Traceback" not in result.stderr, result.stderr
    found = {fact["what"]: fact for fact in json.loads(result.stdout)} if result.stdout else {}
    return result.exit_code, found, result.stderr


def test_mm_table_makes_and_shows_the_table(no_table: Settings) -> None:
    code, found, _ = run()
    assert (code, found["exists"]["good"]) == (1, False)
    assert found["exists"]["todo"] == "Run `mm table --create`."
    assert _table(no_table).good is False
    code, found, said = run("--create")
    assert code == 0, found
    assert "creating" in said
    assert found["kind"]["found"].startswith("DynamoDB")
    assert no_table.dynamodb_table in found["where"]["found"]
    assert found["index review-by-confidence"]["found"] == "active"
    assert _table(no_table).good
    assert run("--create")[0] == 0


def test_what_a_server_for_development_does_not_know_is_no_fault(
    dynamodb_settings: Settings,
) -> None:
    found = {fact.what: fact for fact in inspect_table(dynamodb_settings)}
    assert all(fact.good for fact in found.values())
    assert found["point-in-time recovery"].found in ("this server does not know it", "on")


def test_mm_table_says_what_a_duckdb_file_holds(folder_settings: Settings) -> None:
    code, found, _ = run()
    assert (code, found["exists"]["found"][:7]) == (0, "not yet")
    assert not folder_settings.table_path.exists()
    open_store(folder_settings).merge("pets", offered(offer("a"), offer("b")))
    code, found, _ = run()
    assert code == 0
    assert found["where"]["found"] == str(folder_settings.table_path)
    assert found["records"]["found"] == "pets: 2"
    assert found["size"]["found"].endswith("MB")


def test_mm_table_create_makes_the_duckdb_file(folder_settings: Settings) -> None:
    create_table(folder_settings, lambda _: None)
    assert folder_settings.table_path.exists()


def test_a_table_that_cannot_be_reached_is_a_finding(
    dynamodb_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mm_assets.tables.open.PATIENCE", 0.2)
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:9")
    code, found, _ = run()
    assert code == 1
    assert "table_unreachable" in found["reached"]["found"]
    assert _table(Settings.from_environment()).good is False
