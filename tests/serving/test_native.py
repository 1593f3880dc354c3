"""/v1 over HTTP: what comes in, what is answered, and what is said where nothing can be."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from mm_assets.contract.dataset import Modality
from mm_assets.serving.app import make_app
from mm_assets.serving.options import Options
from mm_assets.serving.predictor import Predictor
from tests.serving.conftest import World


def client_of(world: World, **options: Any) -> TestClient:
    """The application in this process, with one dataset."""
    predictor = Predictor(world.ds._models, world.ds.spec)
    app = make_app(Options(**options), {world.ds.name: lambda: predictor}, world.ds.settings)
    return TestClient(app, base_url="http://127.0.0.1:8080")


def png(array: Any) -> bytes | None:
    if array is None:
        return None
    written = io.BytesIO()
    Image.fromarray(array).save(written, "PNG")
    return written.getvalue()


@pytest.fixture(scope="module")
def client(trained_pets: World) -> Iterator[TestClient]:
    with client_of(trained_pets) as made:
        yield made


PREDICTIONS = "/v1/datasets/pets_like/predictions"


def test_a_record_is_answered_with_the_columns_of_the_table(
    client: TestClient, pets_like: World
) -> None:
    record = pets_like.record()
    answer = client.post(PREDICTIONS, json=record)
    assert answer.status_code == 200
    (row,) = answer.json()["predictions"]
    assert row["record_id"] == record["pet"]
    assert row["prediction"] in ("yes", "no")
    assert row["probabilities"][row["prediction"]] == pytest.approx(row["confidence"], abs=1e-6)
    assert row["modality"] == "without_image"
    version = pets_like.ds.predictor().champions.version(Modality.WITHOUT_IMAGE)
    assert row["model_version"] == version


def test_images_come_as_base64_in_a_form_or_not_at_all(
    client: TestClient, pets_like: World
) -> None:
    records = [pets_like.record(place) for place in range(12)]
    images = [png(pets_like.images[record["pet"]]) for record in records]
    told = [
        {**record, "image": {"base64": base64.b64encode(image).decode()} if image else None}
        for record, image in zip(records, images, strict=True)
    ]
    first = client.post(PREDICTIONS, json={"records": told}).json()["predictions"]
    files = [
        ("images", (f"{record['pet']}-1.png", image))
        for record, image in zip(records, images, strict=True) if image
    ]  # fmt: skip
    form = [("records", ("r.json", json.dumps(records), "application/json")), *files]
    second = client.post(PREDICTIONS, files=[*form, ("images", ("nobody.png", b"x"))]).json()
    assert second["predictions"] == first
    assert second["images_not_used"] == ["nobody.png"]
    assert [row["modality"] for row in first] == [
        "with_image" if image else "without_image" for image in images
    ]


def test_a_table_is_answered_row_by_row(client: TestClient, pets_like: World) -> None:
    frame = pets_like.new.iloc[:5].reset_index()
    frame["age"] = [*frame["age"][:2], "old", *frame["age"][3:]]
    body = frame.to_csv(index=False)
    found = client.post(PREDICTIONS, content=body, headers={"content-type": "text/csv"}).json()
    rows = found["predictions"]
    assert [row["record_id"] for row in rows] == list(frame["pet"])
    assert [row["code"] for row in rows] == [None, None, "number_invalid", None, None]
    one = client.post(PREDICTIONS, json=pets_like.record()).json()["predictions"]
    assert rows[:1] == one


def test_a_broken_image_is_told_beside_the_answer_without_it(
    client: TestClient, pets_like: World
) -> None:
    record = {**pets_like.record(), "image": base64.b64encode(b"\x89PNG\r\n").decode()}
    (row,) = client.post(PREDICTIONS, json=record).json()["predictions"]
    assert (row["modality"], row["code"]) == ("without_image", "image_unreadable")
    assert row["prediction"] is not None


PROBLEMS: list[tuple[dict[str, Any], int, str]] = [
    ({"json": {"age": 3}}, 422, "table_columns"),
    ({"json": []}, 422, "records_expected"),
    ({"json": [1, 2]}, 422, "records_expected"),
    ({"json": {"pet": "a", "age": "5 kg", "colour": "red", "note": "x"}}, 422, "number_invalid"),
    ({"json": [{"age": 3}, {"colour": 4}]}, 422, "nothing_answered"),
    ({"json": {"records": [{}] * 1001}}, 413, "too_many_records"),
    ({"content": b"a,b\n1,2\n", "headers": {"content-type": "text/csv"}}, 422, "table_no_id"),
    ({"content": b"x", "headers": {"content-type": "text/plain"}}, 415, "media_type"),
    ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "form_unreadable"),
]


@pytest.mark.parametrize(("request_", "status", "code"), PROBLEMS)
def test_where_nothing_can_be_answered_a_problem_says_why(
    client: TestClient, request_: dict[str, Any], status: int, code: str
) -> None:
    answer = client.post(PREDICTIONS, **request_)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]


def test_other_addresses_and_datasets_are_named(client: TestClient) -> None:
    assert client.get("/nothing").json()["code"] == "not_found"
    assert client.get(PREDICTIONS).json()["code"] == "method_not_allowed"
    found = client.get("/v1/datasets/cats")
    assert (found.status_code, found.json()["todo"]) == (404, "Served: pets_like.")


def test_a_dataset_says_what_a_record_holds(client: TestClient) -> None:
    told = client.get("/v1/datasets/pets_like").json()
    assert told["id"] == "pet"
    assert told["columns"]["age"] == {"kind": "number", "required": False}
    assert (told["image"], told["problem_type"]) == ("optional", "binary")
    assert set(told["models"]) == {"with_image", "without_image"}


def test_numbers_come_with_their_interval(prices: World) -> None:
    with client_of(prices) as client:
        path = "/v1/datasets/prices/predictions"
        rows = client.post(path, json=[prices.record(place) for place in range(20)]).json()[
            "predictions"
        ]
    assert all(row["lower"] < row["prediction"] < row["upper"] for row in rows)
    assert all(row["probabilities"] is None for row in rows)
