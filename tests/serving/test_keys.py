"""Who may ask: keys and their scopes, and without them only programs on this machine."""

from __future__ import annotations

import hashlib
import json
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from mm_assets.cli.main import app as mm_app
from mm_assets.contract.errors import SettingsError, UsageError
from mm_assets.serving.app import make_app
from mm_assets.serving.keys import Keys, add_key, read_keys, remove_key
from mm_assets.serving.options import Options
from mm_assets.serving.server import check
from tests.serving.conftest import World


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "private" / "keys.json"


def test_a_key_is_shown_once_and_only_its_hash_is_kept(file: Path) -> None:
    key = add_key(file, "ci", ["pets"])
    text = file.read_text()
    assert key not in text
    assert hashlib.sha256(key.encode()).hexdigest() in text
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    found = Keys(file).key_of(key)
    assert found is not None
    assert (found.name, found.datasets) == ("ci", ("pets",))
    assert Keys(file).key_of(key[:-1]) is None
    assert Keys(file).key_of("") is None


def test_a_key_expires(file: Path) -> None:
    key = add_key(file, "short", days=0)
    assert Keys(file).key_of(key) is None
    key = add_key(file, "long", days=1)
    assert Keys(file).key_of(key) is not None


def test_a_running_service_sees_new_keys_and_forgets_those_taken_away(file: Path) -> None:
    first = add_key(file, "a")
    keys = Keys(file)
    second = add_key(file, "b")
    remove_key(file, "a")
    time.sleep(1.05)
    assert (keys.key_of(first), keys.key_of(second) is not None) == (None, True)
    file.write_text("no keys")
    time.sleep(1.05)
    assert keys.key_of(second) is None


def test_names_are_taken_once_and_files_are_told(file: Path) -> None:
    add_key(file, "a")
    with pytest.raises(UsageError, match="there is a key called 'a'"):
        add_key(file, "a")
    with pytest.raises(UsageError, match="there is no key 'b'; there is a"):
        remove_key(file, "b")
    file.write_text('{"keys": [{"name": 1}]}')
    with pytest.raises(SettingsError, match="keys_unreadable"):
        read_keys(file)


def test_the_command_makes_lists_and_removes_keys(file: Path) -> None:
    run = CliRunner().invoke
    made = run(mm_app, ["serve-keys", "add", "ci", "-d", "pets", "--file", str(file)])
    key = made.stdout.strip()
    assert made.exit_code == 0
    assert Keys(file).key_of(key)
    listed = run(mm_app, ["serve-keys", "list", "--file", str(file), "--format", "json"])
    (one,) = json.loads(listed.stdout)
    assert (one["name"], one["datasets"], one["expires"]) == ("ci", "pets", "never")
    assert run(mm_app, ["serve-keys", "remove", "ci", "--file", str(file)]).exit_code == 0
    assert (
        "for this machine alone" in run(mm_app, ["serve-keys", "list", "--file", str(file)]).stderr
    )


def client_of(worlds: list[World], **options: Any) -> TestClient:
    sources = {world.ds.name: world.ds.predictor for world in worlds}
    app = make_app(Options(**options), sources, worlds[0].ds.settings)
    return TestClient(app, base_url="http://127.0.0.1:8080")


@pytest.fixture
def keyed(
    trained_pets: World, trained_prices: World, file: Path
) -> Iterator[tuple[TestClient, str, str]]:
    """A service of two datasets, a key for both, and one for the prices alone."""
    whole, scoped = add_key(file, "whole"), add_key(file, "scoped", ["prices"])
    with client_of([trained_pets, trained_prices], keys=file) as client:
        for dataset in ("pets_like", "prices"):  # until they are loaded
            client.get(f"/v1/datasets/{dataset}", headers={"X-API-Key": whole})
        yield client, whole, scoped


def test_without_a_valid_key_nothing_is_answered(keyed: tuple[TestClient, str, str]) -> None:
    client, whole, _ = keyed
    for path in ("/v1/datasets", "/docs", "/openapi.json", "/v2/models/pets_like", "/invocations"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (401, "key_missing"), path
        assert answer.headers["www-authenticate"] == "Bearer"
    wrong = {"Authorization": f"Bearer {whole}x"}
    assert client.get("/v1/datasets", headers=wrong).json()["code"] == "key_invalid"
    assert client.get("/live", headers=wrong).status_code == 401
    right = {"Authorization": f"bearer {whole}"}
    assert set(client.get("/v1/datasets", headers=right).json()["datasets"]) == {
        "pets_like", "prices",
    }  # fmt: skip


def test_health_says_yes_or_no_to_everybody_and_details_to_keys(
    keyed: tuple[TestClient, str, str],
) -> None:
    client, whole, _ = keyed
    assert client.get("/ready").json() == {"ready": True, "draining": False, "datasets": {}}
    assert client.get("/ping").status_code == client.get("/live").status_code == 200
    told = client.get("/ready", headers={"X-API-Key": whole}).json()["datasets"]
    assert set(told) == {"pets_like", "prices"}


def test_a_dataset_beyond_a_keys_scope_does_not_exist(
    keyed: tuple[TestClient, str, str], trained_pets: World, trained_prices: World
) -> None:
    client, _, scoped = keyed
    headers = {"X-API-Key": scoped}
    path = "/v1/datasets/{}/predictions"
    good = client.post(path.format("prices"), json=trained_prices.record(), headers=headers)
    assert good.status_code == 200
    asked = {"json": trained_pets.record(), "headers": headers}
    hidden, unknown = (client.post(path.format(n), **asked) for n in ("pets_like", "nothing"))
    assert (hidden.status_code, hidden.json()["code"]) == (404, "dataset_not_served")
    assert hidden.json()["detail"].replace("pets_like", "nothing") == unknown.json()["detail"]
    for page in ("/v1/datasets", "/docs", "/openapi.json", "/ready"):
        assert "pets_like" not in client.get(page, headers=headers).text, page
    assert client.get("/v2/models/pets_like", headers=headers).status_code == 404


def test_without_keys_only_programs_on_this_machine_are_answered(trained_prices: World) -> None:
    with client_of([trained_prices]) as client:
        asked: dict[str, Any] = {"json": trained_prices.record()}
        path = "/v1/datasets/prices/predictions"
        assert client.post(path, **asked).status_code == 200
        for headers, code in (
            ({"Host": "evil.example"}, "host_unknown"),
            ({"Host": "127.0.0.1.evil.example:8080"}, "host_unknown"),
            ({"Host": "[::1"}, "host_unknown"),
            ({"Origin": "https://evil.example"}, "origin_unknown"),
            ({"Origin": "null"}, "origin_unknown"),
            ({"Origin": "http://127.0.0.1:3000"}, "origin_unknown"),
        ):
            answer = client.post(path, headers=headers, **asked)
            assert (answer.status_code, answer.json()["code"]) == (403, code)
        for headers in ({"Host": "localhost:9"}, {"Host": "[::1]:8080"},
                        {"Origin": "http://127.0.0.1:8080"}):  # fmt: skip
            assert client.post(path, headers=headers, **asked).status_code == 200


def test_others_may_only_reach_it_with_keys_or_where_somebody_said_so(file: Path) -> None:
    with pytest.raises(UsageError, match="whoever reaches 0.0.0.0"):
        check(Options(host="0.0.0.0"), own=(None, {}))  # type: ignore[arg-type]
    check(Options(host="0.0.0.0", open=True), own=(None, {}))  # type: ignore[arg-type]
    check(Options(host="0.0.0.0", keys=file), own=(None, {}))  # type: ignore[arg-type]
