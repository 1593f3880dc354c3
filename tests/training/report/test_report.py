"""The report of real small models: what it says is so, and the page is safe to send."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.errors import ModelError
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.registry.store import ModelStore
from mm_assets.tables.open import open_store
from mm_assets.training.report.compared import certainty
from mm_assets.training.report.gather import Findings, gather
from mm_assets.training.report.judged import judge
from mm_assets.training.report.page import page_of
from mm_assets.training.train import train_model
from mm_assets.training.training_set import build_training_set
from tests.make import csv_table, dataset, drop_zip, plain_image, processed

WITH, WITHOUT = Modality.WITH_IMAGE, Modality.WITHOUT_IMAGE
SCRIPT, BROKEN, ACTING = "<script>alert(1)</script>", '"><img src=x onerror=y>', "\u202eevil\x1b[2J"
DOG = f"dog {BROKEN}"
BOOSTING = {"engine": "gradient_boosting", "hyperparameters": {"n_estimators": 40}}
ENSEMBLE = {
    "engine": "automatic", "time_limit_seconds": 60,
    "hyperparameters": {"members": ["linear", "trees"], "folds": 3},
}  # fmt: skip


class World:
    """A lake with trained models, and the report of each."""

    def __init__(self, folder: Path, spec: DatasetSpec, files: dict[str, bytes]) -> None:
        settings = Settings(
            root=folder, data=Path("data"), lake=str(folder / "lake"),
            table=f"duckdb:///{folder / 'table.duckdb'}", events="",
        )  # fmt: skip
        self.spec, self.lake = spec, Lake(settings)
        self.table, self.models = open_store(settings), ModelStore(self.lake, spec.dataset)
        self.send("labelled.zip", files)
        self.versions = {
            one: train_model(
                self.lake, self.models, spec, one, run_id="run", progress=lambda _: None
            ).version
            for one in reversed(spec.modalities)
        }  # fmt: skip
        self.found = {one: self.report(one) for one in spec.modalities}
        self.pages = {one: page_of(found) for one, found in self.found.items()}

    def send(self, name: str, files: dict[str, bytes]) -> None:
        drop_zip(self.lake, name, files, self.spec.dataset)
        processed(self.lake, self.table, self.spec, name)
        build_training_set(self.lake, self.table, self.spec, run_id="run")

    def report(self, modality: Modality) -> Findings:
        version = self.versions[modality]
        return gather(self.lake, self.models, self.spec, modality, version)

    def manifest(self, modality: Modality) -> dict[str, Any]:
        return self.models.manifest(modality, self.versions[modality])


def pet_files(count: int = 300, seed: int = 0, far: int = 0) -> dict[str, bytes]:
    """The age often tells, the image tells more, the colour nothing. far: of so many cats the age
    is one that no pet has."""
    draw = np.random.default_rng(seed)
    dog = draw.random(count) < 0.5
    age = np.where(dog, draw.normal(6, 3, count), draw.normal(3, 3, count)).round(3)
    age[np.flatnonzero(~dog)[:far]] += 5000
    light = np.where(dog, 150, 90) + draw.normal(0, 25, count)
    rows, files = [], {}
    for n in range(count):
        name = f"{BROKEN}p{seed}-{n}"
        colour = draw.choice(["red", SCRIPT, ACTING])
        rows.append([name, str(age[n]), colour, DOG if dog[n] else "cat"])
        shade = int(np.clip(light[n], 0, 255))
        files[f"{name}.png"] = plain_image((shade, shade, shade))
    header = ["id", "age", f"colour{BROKEN}", "label"]
    return {"t.csv": csv_table(header, rows), **files}


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> World:
    spec = dataset(
        classes=["cat", DOG], columns={"age": "number", f"colour{BROKEN}": "category"},
        image_features=["brightness"], model_with_image=BOOSTING,
        model_without_image=BOOSTING, description=f"Pets {SCRIPT} {{{{ 7 * 7 }}}}",
        review={"target_accuracy": 0.9},
    )  # fmt: skip
    return World(tmp_path_factory.mktemp("pets"), spec, pet_files())


@pytest.fixture(scope="module")
def flats(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Large flats are dear, and how dear is harder to tell; the door says nothing."""
    spec = dataset(
        dataset="flats", problem_type="regression", classes=None, image_name=None,
        columns={"door": "number", "size": "number"}, model_without_image=ENSEMBLE,
    )  # fmt: skip
    draw = np.random.default_rng(0)
    size, door = draw.uniform(20, 200, (2, 500)).round(2)
    price = (size * 1000 * np.exp(draw.normal(0, 0.15, 500))).round()
    rows = [[f"f{n}", str(door[n]), str(size[n]), str(price[n])] for n in range(500)]
    files = {"t.csv": csv_table(["id", "door", "size", "label"], rows)}
    return World(tmp_path_factory.mktemp("flats"), spec, files)


class Page(HTMLParser):
    """Every element with its attributes; each must be closed where it was opened."""

    VOID = ("meta", "img", "br", "hr", "link", "input")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def pages(*worlds: World) -> list[str]:
    return [page for world in worlds for page in world.pages.values()]


def test_the_page_is_whole_and_asks_for_nothing_from_elsewhere(pets: World, flats: World) -> None:
    for html in pages(pets, flats):
        page = Page(html)
        assert page.open == []
        tags = {tag for tag, _ in page.elements}
        assert not tags & {"script", "link", "iframe", "object", "base", "form", "a", "svg"}
        assert not re.search(r"url\(|@import|https?:", html)
        for tag, attributes in page.elements:
            assert not [name for name in attributes if name.startswith("on")], tag
            if tag == "img":
                head, _, encoded = (attributes["src"] or "").partition(";base64,")
                assert head in ("data:image/png", "data:image/jpeg")
                Image.open(io.BytesIO(base64.b64decode(encoded))).verify()
                assert attributes["alt"]
        policies = [a["content"] or "" for _, a in page.elements if "http-equiv" in a]
        assert [policy.split(";")[0] for policy in policies] == ["default-src 'none'"]
        assert "None" not in page.text
        assert "nan" not in page.text.split()


def test_text_from_the_data_is_shown_and_does_nothing(pets: World) -> None:
    for page in pages(pets):
        assert SCRIPT not in page
        assert BROKEN not in page
        text = Page(page).text
        assert DOG in text  # a class
        assert f"colour{BROKEN}" in text  # a column
        assert f"{SCRIPT} {{{{ 7 * 7 }}}}" in text  # the description
        assert re.search(re.escape(BROKEN) + r"p0-\d+", text)  # an ID among the mistakes
        assert not set(text) & {"\u202e", "\x1b"}


def test_figures_of_the_training_are_met_again(pets: World, flats: World) -> None:
    for world in (pets, flats):
        for modality, found in world.found.items():
            figures, manifest = found.figures, world.manifest(modality)
            headline = figures["headline"]
            assert not figures["records"]["is_new"]
            assert headline["metric"] == manifest["metric"]
            assert headline["metrics"] == pytest.approx(manifest["metrics"])
            assert headline["baselines"] == pytest.approx(manifest["baseline"])
            assert headline["low"] < headline["figure"] < headline["high"]
            promise = manifest["promise"]
            assert figures["review"]["words"] == promise["words"]
            assert figures["review"]["held_out"] == pytest.approx(promise["held_out"])
            assert promise["words"][1:] in Page(world.pages[modality]).text.replace("\n", " ")


def test_how_certain_a_share_is_follows_from_the_number_of_records(pets: World) -> None:
    headline = pets.found[WITHOUT].figures["headline"]
    assert headline["metric"] == "accuracy"
    share, n = headline["figure"], headline["n"]
    expected = 2 * 1.96 * (share * (1 - share) / n) ** 0.5
    assert headline["high"] - headline["low"] == pytest.approx(expected, rel=0.2)


def test_a_figure_without_any_error_is_no_more_certain_than_the_number_of_records_makes_it(
    pets: World,
) -> None:
    n = 30
    judged = judge(pets.lake, pets.models, pets.spec, WITHOUT, pets.versions[WITHOUT])
    truth = judged.data.truth.iloc[:n]
    all_right = pd.DataFrame({name: (truth == name).astype(float) for name in ("cat", DOG)})
    data = replace(judged.data, truth=truth)
    few = replace(judged, data=data, predicted=all_right)
    found = certainty(replace(few, evaluation=few.evaluated(all_right, None)))
    assert (found.figure, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.025 ** (1 / n))


def test_importance_finds_what_the_label_follows_from(pets: World, flats: World) -> None:
    for world, modality, name in ((pets, WITH, "image"), (pets, WITHOUT, "age"),
                                  (flats, WITHOUT, "size")):  # fmt: skip
        rows = world.found[modality].figures["importance"]["rows"]
        assert rows[0]["column"] == name
        useless = next(row for row in rows if row["column"] in ("door", f"colour{BROKEN}"))
        assert rows[0]["low"] > useless["high"]
        assert useless["worse"] < rows[0]["worse"] / 4
        assert world.found[modality].figures["importance"]["left_out"] == []


def test_what_the_image_adds_is_told_by_the_same_records(pets: World) -> None:
    image = pets.found[WITH].figures["image"]
    assert image["blind"]["name"] == pets.versions[WITHOUT]
    assert image["blind"]["verdict"] == "better"
    assert image["blind"]["gain"]["figure"] == pytest.approx(
        image["figure"] - image["blind"]["figure"]
    )
    assert "What does the image add?" in pets.pages[WITH]
    assert pets.found[WITHOUT].figures["image"]["blind"] is None
    assert "What does the image add?" not in pets.pages[WITHOUT]


def test_the_worst_mistakes_are_wrong_and_the_surest_come_first(pets: World, flats: World) -> None:
    for modality, pictured in ((WITH, True), (WITHOUT, False)):
        figures = pets.found[modality].figures
        rows = figures["mistakes"]
        assert len(rows) == min(20, figures["review"]["held_out"]["errors"]) > 0
        assert all(row["truth"] != row["answer"] for row in rows)
        confidence = [row["confidence"] for row in rows]
        assert confidence == sorted(confidence, reverse=True)
        assert [row["image"] is not None for row in rows] == [pictured] * len(rows)
    rows = flats.found[WITHOUT].figures["mistakes"]
    assert len(rows) == 20
    off = [abs(row["off"]) for row in rows]
    assert off == sorted(off, reverse=True)
    assert all(row["off"] == pytest.approx(row["answer"] - row["truth"]) for row in rows)


def test_classes_and_intervals_agree_with_the_held_out_records(pets: World, flats: World) -> None:
    figures = pets.found[WITH].figures
    n = figures["headline"]["n"]
    assert sum(row["records"] for row in figures["classes"]) == n
    assert sum(row["said"] for row in figures["classes"]) == n
    right = sum(row["found"] * row["records"] for row in figures["classes"])
    assert right / n == pytest.approx(figures["headline"]["metrics"]["accuracy"])
    assert figures["intervals"] is None

    figures = flats.found[WITHOUT].figures
    intervals = figures["intervals"]
    held_out = flats.manifest(WITHOUT)["promise"]["held_out"]
    assert intervals["coverage"] == pytest.approx(held_out["coverage"])
    assert sum(row["records"] for row in intervals["rows"]) == figures["headline"]["n"]
    assert intervals["low"] < intervals["coverage"] < intervals["high"]
    assert intervals["rows"][-1]["width"] > 2 * intervals["rows"][0]["width"]
    assert figures["classes"] == []
    assert figures["members"][0]["name"] == "ensemble"


def test_each_report_has_the_pictures_of_its_kind(pets: World, flats: World) -> None:
    both = {"importance", "review"}
    assert set(pets.found[WITH].pictures) == {*both, "confusion", "calibration"}
    assert set(flats.found[WITHOUT].pictures) == {*both, "residuals", "intervals", "leaderboard"}
    for world in (pets, flats):
        for modality, found in world.found.items():
            for png in found.pictures.values():
                assert base64.b64encode(png).decode() in world.pages[modality]


RULES = {
    "engine": "rules",
    "hyperparameters": {"rules": [{"when": "age > 4.5", "then": DOG}], "otherwise": "cat"},
}


@pytest.mark.parametrize(
    "keys",
    [
        {"model_without_image": RULES},
        {"model_without_image": BOOSTING, "costs": {DOG: {"cat": 5}}, "positive_class": DOG},
        {"model_without_image": ENSEMBLE, "metric": "log_loss", "review": {"threshold": 0.7}},
    ],
    ids=["rules", "costs", "log loss and a threshold"],
)
def test_models_of_every_kind_are_reported(tmp_path: Path, keys: dict[str, Any]) -> None:
    columns = {"age": "number", f"colour{BROKEN}": "category"}
    spec = dataset(classes=["cat", DOG], image_name=None, columns=columns, **keys)
    world = World(tmp_path, spec, {"t.csv": pet_files(200)["t.csv"]})
    figures, page = world.found[WITHOUT].figures, Page(world.pages[WITHOUT])
    assert figures["headline"]["metrics"] == pytest.approx(world.manifest(WITHOUT)["metrics"])
    assert figures["headline"]["rival"] is not None
    assert figures["importance"]["rows"][0]["column"] == "age"
    assert {"importance", "confusion", "calibration"} <= set(world.found[WITHOUT].pictures)
    if "costs" in keys:
        costly = [row["answer"] == "cat" for row in figures["mistakes"]]
        assert costly == sorted(costly, reverse=True)
        assert "cost" in page.text
    assert page.open == []


def test_where_images_are_the_records_there_is_no_rival_on_a_table(tmp_path: Path) -> None:
    spec = dataset(
        records="images", id_column="id", label_column="label", classes=["cat", "dog"], columns={},
        image_name="{label}/{id}", image_features=["brightness"], model_with_image=BOOSTING,
    )  # fmt: skip
    draw = np.random.default_rng(0)
    files = {}
    for n in range(160):
        shade = int(np.clip(draw.normal(150 if n % 2 else 90, 30), 0, 255))
        files[f"{'dog' if n % 2 else 'cat'}/{n}.png"] = plain_image((shade, shade, shade))
    world = World(tmp_path, spec, files)
    figures = world.found[WITH].figures
    assert figures["headline"]["rival"] is None
    assert [row["column"] for row in figures["importance"]["rows"]] == ["image"]
    text = Page(world.pages[WITH]).text
    assert "There is no quick rival: the dataset has no table columns" in text
    assert "there are no models without images to compare with" in text


def test_a_report_after_more_records_says_that_it_was_measured_anew(
    pets: World, tmp_path: Path
) -> None:
    world = World(tmp_path, pets.spec, pet_files(120, seed=1))
    then = world.found[WITHOUT].figures["headline"]["n"]
    world.send("more.zip", pet_files(120, seed=2, far=40))
    found = world.report(WITHOUT)
    assert found.figures["records"]["is_new"]
    assert found.figures["records"]["held_out_then"] == then < found.figures["headline"]["n"]
    assert "The training set has changed since this model was trained" in page_of(found)

    # What the model never saw goes to a person, however sure it is.
    doubted = found.figures["review"]["doubted"]
    assert 0 < doubted <= 40
    assert world.found[WITHOUT].figures["review"]["doubted"] <= 1
    assert f"however sure the model is; here {doubted} of " in page_of(found)
    far = [row for row in found.figures["mistakes"] if row["doubts"]]
    assert far
    assert all(row["review"] and "far_number (age)" in row["doubts"] for row in far)

    keys = world.spec.model_dump(exclude_unset=True)
    other = DatasetSpec.model_validate({**keys, "columns": {"age": "number"}})
    with pytest.raises(ModelError) as refused:
        gather(world.lake, world.models, other, WITHOUT, world.versions[WITHOUT])
    assert refused.value.code == "model_other_wording"
