"""Laws 2, 4 and 7 with a real ensemble that looks at images: no order and no neighbour matters, and
what the model never saw is in review.

What happens where a member can't be loaded is told in tests/cli/test_missing_here.py.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterable, Mapping
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import inbox
from mm_assets.manifest.split import split_records
from mm_assets.predictions import ask
from mm_assets.predictions.at_once import predict_at_once
from mm_assets.predictions.merge import merge_predictions
from mm_assets.predictions.predict import predict_records
from mm_assets.registry.store import ModelStore
from mm_assets.tables.open import open_store
from mm_assets.training.train import train_model
from mm_assets.training.training_set import build_training_set
from tests.make import dataset, drop_zip, plain_image, processed, table

START = 1_790_000_000
SPEC: DatasetSpec = dataset(
    columns={"age": "number", "note": "text"},
    minimum_training_records=10,
    model_with_image={"engine": "automatic", "hyperparameters": {
        "members": ["linear", "trees", "linear with image", "trees with image"], "folds": 3}},
    model_without_image={"engine": "automatic", "hyperparameters": {
        "members": ["linear", "trees"], "folds": 3}},
)  # fmt: skip
IMAGES = [plain_image((10 + 30 * n, 90, 90), 16, 16) for n in range(8)]
Files = Mapping[str, bytes]
Answer = tuple[tuple[str, str, str | None], dict[str, float]]


class World:
    """A lake with its table, and what runs do in it."""

    def __init__(self, root: Path) -> None:
        settings = Settings(
            root=root, data=Path("data"), lake=str(root / "lake"),
            table=f"duckdb:///{root / 'table.duckdb'}", events="",
        )  # fmt: skip
        self.settings, self.lake = settings, Lake(settings)
        self.store, self.models = open_store(settings), ModelStore(self.lake, "pets")

    def train(self) -> None:
        build_training_set(self.lake, self.store, SPEC, run_id="run")
        for modality in Modality:
            train_model(
                self.lake, self.models, SPEC, modality, run_id="run", progress=lambda _: None
            )
            assert self.models.champion(modality)

    def deliver(self, uploads: Mapping[str, Files]) -> None:
        """One a second, whenever they are taken through."""
        for moment, (name, files) in enumerate(uploads.items()):
            drop_zip(self.lake, name, files)
            path = self.settings.lake_folder / inbox("pets") / name
            os.utime(path, (START + moment, START + moment))

    def run(self, name: str) -> None:
        upload = processed(self.lake, self.store, SPEC, name)["upload"]
        for modality in Modality:
            split_records(self.lake, SPEC, upload, modality)
        champions = {modality: self.models.champion(modality) for modality in Modality}
        for modality in Modality:
            predict_records(
                self.lake, self.models, SPEC, upload, modality,
                champions=champions, run_id="run", progress=lambda _: None,
            )  # fmt: skip
        merge_predictions(self.lake, self.store, SPEC, upload)

    def answers(self) -> dict[str, Answer]:
        return as_answers(self.store.read("pets").to_pylist())


def as_answers(rows: Iterable[dict[str, Any]]) -> dict[str, Answer]:
    """For each record: which kind of model, what it said, its doubts, and how probable that is."""
    return {
        row["record_id"]: (
            (row["modality"], row["prediction"], row["doubts"]),
            json.loads(row["probabilities"]),
        )
        for row in rows
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two champions, to copy. Each of age, note and image tells something."""
    world = World(tmp_path_factory.mktemp("ensembles") / "project")
    draw, rows, files = random.Random(1), [], {}
    for n in range(120):
        kind = n % 2
        note = draw.choice(["purrs", "sleeps"] if kind else ["barks", "sleeps"])
        rows.append(f"k{n},{draw.gauss(4 * kind, 2):.2f},{note},{'cat' if kind else 'dog'}")
        files[f"k{n}.png"] = IMAGES[draw.randrange(3, 8) if kind else draw.randrange(5)]
    world.deliver({"known.zip": {"t.csv": table("id,age,note,label", *rows), **files}})
    processed(world.lake, world.store, SPEC, "known.zip")
    world.train()
    champion = world.models.champion(Modality.WITH_IMAGE)
    assert champion is not None
    board = world.models.manifest(Modality.WITH_IMAGE, champion.version)["leaderboard"]
    assert len([row for row in board if row["weight"]]) > 2  # it is an ensemble
    assert any(row["weight"] and row["sees_image"] for row in board[1:])
    return world.settings.root


HEADER = "id,age,note"
UPLOADS: dict[str, Files] = {
    "rows.zip": {"t.csv": table(HEADER, *[f"r{n},{n - 2},{'purrs' if n % 2 else 'barks'}"
                                          for n in range(6)], "r6,900,purrs")},
    "images.zip": {f"r{n}.png": IMAGES[n] for n in range(3)},
    "corrected.zip": {"t.csv": table(HEADER, "r1,9,sleeps", "r4,-3,"), "r4.png": IMAGES[7]},
}  # fmt: skip
LAST = {"r0": (-2, "barks", 0), "r1": (9, "sleeps", 1), "r2": (0, "barks", 2),
        "r3": (1, "purrs", None), "r4": (-3, "", 7), "r5": (3, "purrs", None),
        "r6": (900, "purrs", None)}  # fmt: skip


def taken_through(trained: Path, folder: Path, order: Iterable[str]) -> World:
    world = World(Path(shutil.copytree(trained, folder)))
    world.deliver(UPLOADS)
    ask._in_memory.clear()
    for name in order:
        world.run(name)
    return world


def test_in_whatever_order_uploads_are_taken_through_the_answers_are_the_same(
    trained: Path, tmp_path: Path
) -> None:
    found = [
        taken_through(trained, tmp_path / str(place), order).answers()
        for place, order in enumerate(permutations(UPLOADS))
    ]
    assert {record: said[0] for record, (said, _) in found[0].items()} == {
        record: "without_image" if image is None else "with_image"
        for record, (_, _, image) in LAST.items()
    }
    for other in found[1:]:
        assert_equal(other, found[0])


def test_a_record_alone_is_answered_as_among_its_neighbours(trained: Path, tmp_path: Path) -> None:
    world = taken_through(trained, tmp_path / "together", UPLOADS)
    together, alone = world.answers(), {}
    for record, (age, note, image) in LAST.items():
        files = [("t.csv", table(HEADER, f"{record},{age},{note}"))]
        files += [] if image is None else [(f"{record}.png", IMAGES[image])]
        ask._in_memory.clear()
        alone |= as_answers(predict_at_once(world.models, SPEC, files).predictions.to_pylist())
    assert_equal(alone, together)


def test_what_the_ensemble_never_saw_is_in_review_with_its_reason(
    trained: Path, tmp_path: Path
) -> None:
    world = taken_through(trained, tmp_path / "doubts", UPLOADS)
    rows = {row["record_id"]: row for row in world.store.read("pets").to_pylist()}
    doubts = {record: row["doubts"] for record, row in rows.items() if row["doubts"]}
    assert doubts["r4"] == "missing_value (note): missing; training has it in every record"
    assert doubts["r6"].startswith("far_number (age): 900; training has ")
    assert doubts.keys() == {"r4", "r6"}
    assert all(rows[record]["needs_review"] for record in doubts)


def assert_equal(
    one: Mapping[str, Answer],
    other: Mapping[str, Answer],
) -> None:
    assert one.keys() == other.keys()
    for record, (said, probabilities) in one.items():
        assert said == other[record][0]
        assert probabilities == pytest.approx(other[record][1], abs=1e-6)
