"""`images: all`, from an upload to its answer: models see every image, whichever way it comes."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

import mm_assets as mm
from mm_assets.api.exported import load_exported
from mm_assets.contract.spec_file import COMPONENT
from mm_assets.predictions.at_once import predict_at_once
from mm_assets.registry.store import ModelStore
from mm_assets.tables.answer import COLUMNS, as_answer
from tests.make import plain_image
from tests.serving.worlds import Answer, answers_of, ask, differences, serving

ENGINES: dict[str, Any] = {
    "automatic": {"engine": "automatic",
                  "hyperparameters": {"members": ["linear", "linear with image"], "folds": 3}},
    "boosted": {"engine": "gradient_boosting", "image_backbone": "embedded"},
    "pixels": {"engine": "sklearn", "hyperparameters": {
        "steps": ["sklearn.linear_model.LogisticRegression"], "image_pixels": 4}},
    "ruled": {"engine": "rules", "hyperparameters": {
        "rules": [{"when": "image_brightness > 100", "then": "yes"}], "otherwise": "no"}},
}  # fmt: skip
WHITE, BLACK = (plain_image((level,) * 3) for level in (220, 20))
GREY = [plain_image((100 + n % 16,) * 3, 40 + n // 16) for n in range(400)]
_trained: dict[str, mm.Dataset] = {}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("several")
        patch.setenv("MM_ROOT", str(folder))
        yield folder
    _trained.clear()


def several(count: int, seed: int) -> tuple[pd.DataFrame, dict[str, list[bytes]]]:
    """The first image of each pet is grey and tells nothing; the later ones tell all."""
    chance = np.random.default_rng(seed)
    light = chance.integers(0, 2, count)
    frame = pd.DataFrame(
        {
            "pet": [f"P{seed}{i:03d}" for i in range(count)],
            "age": np.where(light, chance.uniform(0, 8, count), chance.uniform(4, 12, count)),
            "adopted": np.where(light, "yes", "no"),
        }
    )
    images = {}
    for n, (name, is_light) in enumerate(zip(frame["pet"], light, strict=True)):
        shade = int(180 * is_light + 10 + chance.integers(0, 30))
        telling = [plain_image((shade, shade, shade + k), 30 + n % 40) for k in range(1 + n % 2)]
        images[name] = [GREY[chance.integers(0, 400)], *telling]
    return frame, images


def write_dataset(root: Path, kind: str, **more: Any) -> mm.Dataset:
    attributes = {
        "dataset": kind, "id_column": "pet", "label_column": "adopted", "problem_type": "binary",
        "classes": ["yes", "no"], "columns": {"age": "number"}, "image_name": "{id}-{n}",
        "images": "all", "image_longest_side": 32, "image_features": ["brightness"],
        "model_with_image": ENGINES.get(kind, ENGINES["pixels"]),
        "model_without_image": {"engine": "sklearn", "hyperparameters": {
            "steps": ["sklearn.linear_model.LogisticRegression"]}},
        "minimum_training_records": 20, **more,
    }  # fmt: skip
    folder = root / "dagster_project" / "defs" / kind
    folder.mkdir(parents=True)
    text = yaml.safe_dump({"type": COMPONENT, "attributes": attributes}, sort_keys=False)
    (folder / "defs.yaml").write_text(text)
    return mm.open(kind)


@pytest.fixture(params=list(ENGINES))
def ds(request: pytest.FixtureRequest, root: Path) -> mm.Dataset:
    kind = request.param
    if kind not in _trained:
        ds = write_dataset(root, kind)
        frame, images = several(160, 1)
        ds.upload(frame, images, quiet=True)
        ds.sync(quiet=True)
        ds.train(quiet=True)
        _trained[kind] = ds
    return _trained[kind]


def cases() -> list[tuple[dict[str, Any], list[bytes]]]:
    frame, images = several(6, 2)
    found = [
        ({"pet": row["pet"], "age": row["age"]}, images[row["pet"]])
        for row in frame.to_dict("records")
    ]
    own = {"age": 3.0}
    found += [
        ({"pet": "one", **own}, [GREY[7]]),
        ({"pet": "none", **own}, []),
        ({"pet": "twice", **own}, [GREY[0], WHITE, GREY[0], GREY[0]]),
        ({"pet": "broken", **own}, [GREY[0], WHITE[:40], BLACK]),
        ({"pet": "no-whole", **own}, [WHITE[:40]]),
    ]
    return found


def uploaded(ds: mm.Dataset, record: dict[str, Any], images: list[bytes]) -> Answer:
    """What becomes of an upload with this record alone."""
    files = [("record.jsonl", json.dumps(record).encode() + b"\n")]
    files += [(f"{record['pet']}-{n}.png", data) for n, data in enumerate(images, 1)]
    found = predict_at_once(ModelStore(ds.lake, ds.name), ds.spec, files)
    answer: Answer = dict.fromkeys(COLUMNS)
    (row,) = found.predictions.to_pylist()
    answer |= as_answer(ds.spec, row)
    for file in found.files:
        if file["code"]:
            answer |= {"code": file["code"], "reason": file["reason"]}
    return answer


def test_what_only_a_later_image_tells_is_learnt(ds: mm.Dataset) -> None:
    frame, images = several(60, 3)
    said = ds.predict(frame, images, quiet=True)
    assert (said["prediction"] == frame["adopted"]).mean() > 0.95
    first = ds.predict(frame, {name: own[:1] for name, own in images.items()}, quiet=True)
    assert (first["prediction"] == frame["adopted"]).mean() < 0.9
    assert set(said["modality"]) == {"with_image"}


def test_the_service_says_what_an_upload_with_the_record_would_lead_to(ds: mm.Dataset) -> None:
    asked = [
        {**record, "image": [base64.b64encode(one).decode() for one in images]}
        for record, images in cases()
    ]

    async def served() -> list[list[Answer]]:
        async with serving(ds.name) as client:
            alone = [(await ask(client, ds.name, one))[0] for one in asked]
            return [alone, await ask(client, ds.name, asked)]

    for answers in asyncio.run(served()):
        wrong = {
            record["pet"]: found
            for (record, images), answer in zip(cases(), answers, strict=True)
            if (found := _differences(answer, uploaded(ds, record, images)))
        }
        assert not wrong


def _differences(one: Answer, other: Answer) -> dict[str, Any]:
    return {name: pair for name, pair in differences(one, other).items() if name != "todo"}


def test_the_order_of_images_makes_no_difference(ds: mm.Dataset) -> None:
    frame, images = several(10, 4)
    turned = {name: own[::-1] for name, own in images.items()}
    one, other = (ds.predict(frame, some, quiet=True) for some in (images, turned))
    pd.testing.assert_series_equal(one["probabilities"], other["probabilities"])


def test_the_most_unfamiliar_image_decides(ds: mm.Dataset) -> None:
    if ds.name == "ruled":
        pytest.skip("nothing is foreign to rules that a person wrote")
    noise = np.random.default_rng(5).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    frame = pd.DataFrame({"pet": ["a", "b"], "age": [3.0, 3.0]})
    usual = several(2, 6)[1].popitem()[1]
    said = ds.predict(frame, {"a": usual, "b": [*usual, noise]}, quiet=True)
    assert "image" not in (said["doubts"][0] or "")
    assert f"image {len(usual) + 1} of {len(usual) + 1} is unlike" in said["doubts"][1]


@pytest.mark.parametrize("ds", ["pixels"], indirect=True)
def test_files_beside_a_record_are_all_its_images(ds: mm.Dataset) -> None:
    record, images = cases()[0]

    async def sent() -> tuple[Answer, Answer]:
        async with serving(ds.name) as client:
            path = f"/v1/datasets/{ds.name}/predictions"
            files = [("image", (f"{record['pet']}-{n}.png", data, "image/png"))
                     for n, data in reversed(list(enumerate(images, 1)))]  # fmt: skip
            answers = answers_of(
                await client.post(path, data={"records": json.dumps(record)}, files=files)
            )
            (by_list,) = await ask(
                client, ds.name,
                {**record, "image": [base64.b64encode(one).decode() for one in images]},
            )  # fmt: skip
            return answers[0], by_list

    beside, by_list = asyncio.run(sent())
    assert not differences(beside, by_list)


@pytest.mark.parametrize("ds", ["pixels"], indirect=True)
def test_a_record_of_the_lake_stands_for_all_its_images(ds: mm.Dataset) -> None:
    frame, images = several(160, 1)
    name = str(frame["pet"][0])

    async def sent() -> list[Answer]:
        async with serving(ds.name) as client:
            ways: list[Any] = [
                [base64.b64encode(one).decode() for one in images[name]],
                {"name": name},
                [{"name": f"{name}-{n}.png"} for n in range(1, len(images[name]) + 1)],
            ]
            return await ask(
                client, ds.name, [{"pet": "x", "age": 3.0, "image": way} for way in ways]
            )

    by_list, by_id, by_files = asyncio.run(sent())
    assert by_list["modality"] == "with_image"
    assert not differences(by_id, by_list)
    assert not differences(by_files, by_list)


def test_with_the_first_alone_a_list_is_refused_in_words(root: Path) -> None:
    ds = write_dataset(root, "firsts", images="first")
    frame, images = several(80, 1)
    ds.upload(frame, images, quiet=True)
    ds.sync(quiet=True)
    ds.train(quiet=True)

    async def sent() -> Answer:
        async with serving(ds.name) as client:
            listed = [base64.b64encode(one).decode() for one in (WHITE, BLACK)]
            return (await ask(client, ds.name, {"pet": "a", "age": 1, "image": listed}))[0]

    answer = asyncio.run(sent())
    assert (answer["code"], answer["modality"]) == ("image_reference", "without_image")
    assert "images: all" in answer["reason"]


@pytest.mark.parametrize("ds", ["pixels"], indirect=True)
def test_an_exported_model_says_the_same_of_lists(ds: mm.Dataset, tmp_path: Path) -> None:
    from mlflow.pyfunc import load_model

    frame, images = several(12, 9)
    frame = frame.drop(columns="adopted")
    several_ways: list[Any] = [images[name] for name in frame["pet"]]
    several_ways[1] = [base64.b64encode(one).decode() for one in several_ways[1]]
    several_ways[2] = np.array(several_ways[2], dtype=object)  # as Parquet comes into pandas
    several_ways[3] = several_ways[3][0]
    several_ways[4] = None
    images[frame["pet"][3]], images[frame["pet"][4]] = [several_ways[3]], []
    expected = ds.predict(frame, images, quiet=True)
    assert set(expected["modality"]) == {"with_image", "without_image"}
    folder = ds.export_model(tmp_path / "elsewhere").folder
    for loaded in (load_exported(folder), load_model(str(folder))):
        said = loaded.predict(frame.assign(image=several_ways))
        pd.testing.assert_frame_equal(said, expected)
