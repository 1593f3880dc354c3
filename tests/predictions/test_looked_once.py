"""No image is looked at twice: not by another training, not by a prediction, not sent again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mm_assets.api.exported import load_exported
from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.manifest.split import split_records
from mm_assets.predictions import ask
from mm_assets.predictions.at_once import predict_at_once
from mm_assets.predictions.predict import predict_records
from mm_assets.registry.export import write_folder
from mm_assets.registry.store import ModelStore
from mm_assets.tables.open import open_store
from mm_assets.training.train import TrainingResult, train_model
from mm_assets.training.training_set import build_training_set
from mm_assets.uploads import vectors
from tests.make import dataset, draw_image, drop_zip, images_looked_at, processed, rows_of, table

WITH = Modality.WITH_IMAGE
COUNT = 40
ENGINES: dict[str, dict[str, Any]] = {
    "gradient_boosting": {
        "engine": "gradient_boosting",
        "image_backbone": "embedded",
        "hyperparameters": {"n_estimators": 20},
    },
    # Members that look at the table alone would suffice here, and need no image.
    "automatic": {
        "engine": "automatic",
        "hyperparameters": {"members": ["linear with image", "trees with image"], "folds": 2},
    },
}
SEARCHES = {
    "gradient_boosting": {"max_depth": {"low": 1, "high": 3}},
    "automatic": {"folds": {"low": 2, "high": 3}},
}


def new_process() -> None:
    """Forget what is only in memory."""
    ask._in_memory.clear()
    vectors._files.clear()
    vectors._homes.clear()


class World:
    def __init__(self, root: Path, engine: str, looked: list[bytes]) -> None:
        settings = Settings(
            root=root, data=Path("data"), lake=str(root / "lake"),
            table=f"duckdb:///{root / 'table.duckdb'}", events="",
        )  # fmt: skip
        self.lake, self.engine, self._looked = Lake(settings), engine, looked
        self.spec: DatasetSpec = dataset(
            columns={"age": "number"}, model_with_image=ENGINES[engine],
            minimum_training_records=10,
        )  # fmt: skip
        self.store, self.models = open_store(settings), ModelStore(self.lake, "pets")

    def send(self, name: str, images: dict[str, bytes], *, labelled: bool, age: int = 0) -> str:
        """Records with an image each; returns the upload."""
        rows = [
            f"{i},{100 * (n % 2) + age + n % 9},{'cat' if n % 2 else 'dog'}"
            for n, i in enumerate(images)
        ]
        if not labelled:
            rows = [row.rpartition(",")[0] for row in rows]
        header = "id,age,label" if labelled else "id,age"
        files = {"t.csv": table(header, *rows)} | {f"{i}.png": data for i, data in images.items()}
        drop_zip(self.lake, name, files)
        upload: str = processed(self.lake, self.store, self.spec, name)["upload"]
        return upload

    def train(self, spec: DatasetSpec | None = None) -> TrainingResult:
        new_process()
        spec = spec or self.spec
        build_training_set(self.lake, self.store, spec, run_id="run")
        return train_model(
            self.lake, self.models, spec, WITH, run_id="run", progress=lambda _: None
        )

    def predict(self, upload: str) -> dict[str, Any]:
        new_process()
        split_records(self.lake, self.spec, upload, WITH)
        champions = {WITH: self.models.champion(WITH), Modality.WITHOUT_IMAGE: None}
        document = predict_records(
            self.lake, self.models, self.spec, upload, WITH,
            champions=champions, run_id="run", progress=lambda _: None,
        )  # fmt: skip
        assert document["counts"]["waiting"] == 0
        rows = rows_of(self.lake, document, "predictions_with_image.parquet")
        return {row["record_id"]: row["probabilities"] for row in rows}

    def looked(self) -> int:
        """How many images the network was run on since this was last asked."""
        count = len(self._looked)
        self._looked.clear()
        return count

    def kept(self) -> list[str]:
        below = self.lake.list("datasets/pets/uploads/")
        return [item.key for item in below if "/embeddings/" in item.key]


@pytest.fixture(scope="module", params=[*ENGINES])
def trained(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> tuple[Path, str]:
    """A project whose champion sees through the embedded backbone, to copy; and its engine."""
    root = tmp_path_factory.mktemp("looked-once") / "project"
    made = World(root, request.param, [])
    made.send("first.zip", known(), labelled=True)
    made.train()
    assert made.models.champion(WITH)
    vectors_kept = {name for key in made.kept() for name in names_in(made.lake.read(key))}
    assert len(vectors_kept) == COUNT
    return root, request.param


def names_in(data: bytes) -> list[str]:
    return list(vectors._unpacked(data).places)


@pytest.fixture
def world(trained: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    seen = images_looked_at(monkeypatch)
    shutil.copytree(trained[0], tmp_path / "project")
    return World(tmp_path / "project", trained[1], seen)


def known() -> dict[str, bytes]:
    return {f"k{n}": draw_image(n) for n in range(COUNT)}


def test_a_second_training_on_the_same_images_looks_at_none_of_them(world: World) -> None:
    world.train()
    assert world.looked() == 0
    tuning = {"search": SEARCHES[world.engine], "trials": 2, "folds": 2}
    searched = {**ENGINES[world.engine], "tuning": tuning}
    world.train(
        world.spec.model_validate({**world.spec.model_dump(), "model_with_image": searched})
    )
    assert world.looked() == 0


def test_images_that_were_trained_on_are_not_looked_at_to_predict(world: World) -> None:
    again = {f"p{n}": draw_image(n) for n in range(6)}
    world.send("again.zip", again | {"new": draw_image(90)}, labelled=False)
    upload = world.send("more.zip", again | {"new": draw_image(90)}, labelled=False, age=1)
    said = world.predict(upload)
    assert world.looked() == 1  # the new one
    assert world.predict(upload) == said
    assert world.looked() == 0


def test_all_of_it_sent_again_and_again_is_not_looked_at_again(world: World) -> None:
    for turn in (1, 2):
        world.send(f"again-{turn}.zip", known(), labelled=True, age=turn)
        world.train()
        assert world.looked() == 0


def test_an_image_that_was_predicted_first_is_not_looked_at_to_train(world: World) -> None:
    upload = world.send("late.zip", {"late": draw_image(91)}, labelled=False)
    world.predict(upload)
    assert world.looked() == 1
    drop_zip(world.lake, "labels.zip", {"t.csv": table("id,label", "late,cat")})
    processed(world.lake, world.store, world.spec, "labels.zip")
    world.train()
    assert world.looked() == 0


def test_what_was_kept_and_is_damaged_or_gone_is_looked_at_again_and_says_the_same(
    world: World,
) -> None:
    upload = world.send("p.zip", {f"p{n}": draw_image(n) for n in range(6)}, labelled=False)
    said = world.predict(upload)
    assert world.looked() == 0
    kept = world.kept()
    world.lake.write(kept[0], b"PAR1, but no more")
    for key in kept[1:]:
        world.lake.delete(key)
    assert world.predict(upload) == said
    assert world.looked() == 6
    world.train()
    assert world.looked() == COUNT - 6
    world.train()
    assert world.looked() == 0


def test_records_in_hand_are_known_by_their_images_and_leave_nothing_behind(world: World) -> None:
    everything = {item.key: item.etag for item in world.lake.list("")}
    files = [
        ("t.csv", table("id,age", "a,3", "b,4")),
        ("a.png", draw_image(3)),
        ("b.png", draw_image(92)),
    ]
    new_process()
    found = predict_at_once(world.models, world.spec, files)
    assert found.predictions.num_rows == 2
    assert world.looked() == 1  # b
    assert predict_at_once(world.models, world.spec, files).predictions.num_rows == 2
    assert world.looked() == 0  # in memory
    assert {item.key: item.etag for item in world.lake.list("")} == everything


def test_an_exported_model_has_no_lake_and_says_the_same(world: World, tmp_path: Path) -> None:
    champion = world.models.champion(WITH)
    assert champion is not None
    write_folder(world.models, world.spec, [champion], tmp_path / "exported")
    records = pd.DataFrame({"id": ["a", "b"], "age": [3, 110], "image": [draw_image(3)] * 2})
    said = load_exported(tmp_path / "exported").predict(records)
    assert world.looked() == 1
    files = [("t.csv", table("id,age", "a,3", "b,110")), ("a.png", draw_image(3))]
    files.append(("b.png", draw_image(3)))
    here = predict_at_once(world.models, world.spec, files).predictions
    assert said["confidence"].tolist() == here["confidence"].to_pylist()
    assert [*(tmp_path / "exported").rglob("embeddings")] == []
