"""Label Studio's ML backend protocol: as it asks, and with MM_NIGHTLY=1 asked by itself."""

from __future__ import annotations

import base64
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.review.label_studio import NONE_SHOWN, labelling_config
from mm_assets.serving.app import make_app
from mm_assets.serving.keys import add_key
from mm_assets.serving.options import Options
from tests.review.studios import real
from tests.serving.protocols.served import (
    DARK,
    HOUSES,
    LIGHT,
    PETS,
    RECORD,
    Project,
    ask_json,
    serving,
    status,
)

INTERFACE = labelling_config(DatasetSpec.model_validate(PETS), ["yes", "no"])


def as_url(image: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"


def task(number: int, image: str = NONE_SHOWN + "AAAA", **data: Any) -> dict[str, Any]:
    """A task as `mm review push` makes it and Label Studio sends it."""
    told = {"record_id": f"P{number}", "features": RECORD, "columns": {}, "image": image, **data}
    return {"id": number, "project": 1, "data": told, "meta": {}}


def predicted(url: str, *tasks: dict[str, Any], dataset: str = "pets") -> list[dict[str, Any]]:
    document = {"tasks": list(tasks), "project": "1.2", "label_config": INTERFACE,
                "params": {"login": None, "password": None, "context": None}}  # fmt: skip
    return ask_json(f"{url}/label-studio/{dataset}/predict", document)["results"]


def setup(url: str, schema: str = INTERFACE, dataset: str = "pets") -> dict[str, Any]:
    document = {"project": "1.2", "schema": schema, "hostname": "http://ls", "access_token": "x",
                "extra_params": None}  # fmt: skip
    found: dict[str, Any] = ask_json(f"{url}/label-studio/{dataset}/setup", document)
    return found


def test_a_task_is_answered_as_a_record_in_a_process(url: str, served_project: Project) -> None:
    expected = served_project.predictor("pets").predict([RECORD] * 3, [None, LIGHT, DARK])
    found = predicted(url, task(1), task(2, as_url(LIGHT)), task(3, as_url(DARK)))
    for said, answer in zip(found, expected, strict=True):
        [result] = said["result"]
        assert result["value"] == {"choices": [answer["prediction"]]}
        assert (result["from_name"], result["to_name"]) == ("label", "record")
        assert said["score"] == answer["confidence"]
    assert {one["modality"] for one in expected} == {"with_image", "without_image"}


def test_all_models_are_one_version_so_that_a_task_is_asked_about_once(url: str) -> None:
    version = setup(url)["model_version"]
    found = predicted(url, task(1), task(2, as_url(LIGHT)))
    assert {one["model_version"] for one in found} == {version}
    assert len(version.split(" + ")) == 2
    assert ask_json(f"{url}/label-studio/pets/versions") == {"versions": [version]}


def test_a_task_that_was_not_pushed_is_read_by_its_columns(
    url: str, served_project: Project
) -> None:
    answer = served_project.predictor("houses").predict({"rooms": 3, "town": "north"})[0]
    plain = {"id": 5, "data": {"house": "H1", "rooms": "3", "town": "north", "else": [1]}}
    [said] = predicted(url, plain, dataset="houses")
    [result] = said["result"]
    assert result["type"] == "number"
    assert result["value"]["number"] == pytest.approx(float(answer["prediction"]))


def test_what_cannot_be_answered_is_left_empty_and_its_neighbours_are_answered(url: str) -> None:
    bad = task(2, features={**RECORD, "age_months": "old"})
    found = predicted(url, task(1), bad, task(3))
    assert [len(one["result"]) for one in found] == [1, 0, 1]


def test_it_says_at_once_that_it_is_there_and_that_an_interface_does_not_fit(url: str) -> None:
    assert ask_json(f"{url}/label-studio/pets/health")["status"] == "UP"
    assert ask_json(f"{url}/label-studio/owls/health")["code"] == "dataset_not_served"
    assert setup(url, "<View/>")["code"] == "label_studio_interface"
    assert 'no <Choices name="label">' in setup(url, "<View/>")["detail"]
    assert setup(url, "no xml")["code"] == "label_studio_interface"
    numbers = labelling_config(DatasetSpec.model_validate(HOUSES), [])
    assert "model_version" in setup(url, numbers, dataset="houses")
    assert ask_json(f"{url}/label-studio/pets/webhook", {"action": "ANNOTATION_CREATED"}) == {}


def test_what_it_asks_about_is_not_recorded_as_news(served_project: Project) -> None:
    """Its tasks came from the lake; each look at one would send it there again."""
    kept: list[int] = []

    class Records:
        def keep(self, *_: Any) -> None:
            kept.append(1)

    source = partial(served_project.predictor, "pets")
    app = make_app(Options(datasets=("pets",)), {"pets": source}, served_project.settings)
    app.state.answering.recorder = Records()
    with TestClient(app, base_url="http://127.0.0.1") as client:
        asked = client.post("/label-studio/pets/predict", json={"tasks": [task(1)]})
        assert (asked.status_code, kept) == (200, [])
        assert client.post("/v1/datasets/pets/predictions", json=RECORD).status_code == 200
        assert kept == [1]


@pytest.mark.parametrize(
    "body",
    [[], {}, {"tasks": 1}, {"tasks": [1]}, {"tasks": [{"data": []}]}, {"tasks": []},
     {"tasks": [{"data": {"features": 5}}]}],
)  # fmt: skip
def test_what_is_no_request_of_it_is_refused_in_words(url: str, body: Any) -> None:
    said = ask_json(f"{url}/label-studio/pets/predict", body)
    assert said["code"] == "records_expected"


def test_a_key_is_the_password_of_any_user(served_project: Project, tmp_path: Path) -> None:
    key = add_key(tmp_path / "keys.json", "label studio", ["pets"])
    keys = str(tmp_path / "keys.json")
    (tmp_path / "here").mkdir()
    told = served_project.environment
    with serving(tmp_path / "here", "--port", "0", "--keys", keys, environment=told) as url:
        health = f"{url}/label-studio/pets/health"
        for password, code in ((key, 200), ("wrong", 401), ("", 401)):
            basic = base64.b64encode(f"anybody:{password}".encode()).decode()
            assert ask_status(health, f"Basic {basic}") == code
        assert ask_status(health, "Basic %%%") == 401
        assert status(health) == 401
        houses = health.replace("pets", "houses")
        assert ask_status(houses, f"Basic {base64.b64encode(f':{key}'.encode()).decode()}") == 404


def ask_status(url: str, authorization: str) -> int:
    from tests.serving.protocols.served import ask

    return ask(url, Authorization=authorization)[0]


@pytest.mark.skipif(os.environ.get("MM_NIGHTLY") != "1", reason="installs Label Studio")
@pytest.mark.timeout(1200)
def test_label_studio_shows_what_the_service_says(
    url: str, served_project: Project, tmp_path: Path
) -> None:
    expected = served_project.predictor("pets").predict([RECORD] * 2, [LIGHT, DARK])
    with real(tmp_path) as studio:
        asks = studio.asks
        project = asks.post(
            "/api/projects/", json={"title": "live", "label_config": INTERFACE}
        ).json()["id"]
        backend = {"project": project, "url": f"{url}/label-studio/pets", "title": "live"}
        added = asks.post("/api/ml/", json=backend)
        assert added.status_code == 201, added.text
        assert added.json()["readable_state"] == "Connected"
        some = [{"data": task(n, as_url(image))["data"]} for n, image in ((1, LIGHT), (2, DARK))]
        asks.post(f"/api/projects/{project}/import", json=some)
        for answer in expected:  # each next task as a person's browser asks for it
            shown = asks.get(f"/api/projects/{project}/next").json()
            [said] = shown["predictions"]
            assert said["result"][0]["value"] == {"choices": [answer["prediction"]]}
            assert said["score"] == pytest.approx(answer["confidence"])
            studio.person("ada@example.org").answer(shown["id"], said["result"])
        assert {json.dumps(one["prediction"]) for one in expected} == {'"yes"', '"no"'}
