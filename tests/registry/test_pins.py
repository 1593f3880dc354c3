"""Which champions a run predicts with: one pin a run, one pin a backfill, nothing mixed.

The flow is that of Dagster's own jobs, with an engine whose models are plain functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import dagster as dg
import pytest

from mm_assets.contract.dataset import Modality
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.orchestration.run import Runner
from mm_assets.registry import pins
from mm_assets.registry.pins import (
    CHAMPIONS,
    Generations,
    generations,
    parse_pin,
    pin_of_backfill,
    pin_text,
    pinned_champions,
)
from mm_assets.registry.store import ModelStore
from mm_assets.tables.duckdb.store import DuckDBStore
from mm_assets.uploads import ledger
from mm_assets.uploads.received import read_document
from tests.laws.champion import ENGINE, Champion, save
from tests.make import dataset, draw_image, drop_zip, found, table

SPEC = dataset(
    columns={"age": "number"},
    model_with_image={"engine": ENGINE},
    model_without_image={"engine": ENGINE},
)
FILES = {"rows.csv": table("id,age", "a,1", "b,2"), "a.png": draw_image(1)}
BACKFILL = {"dagster/backfill": "backfill"}


def promote(models: ModelStore, number: int, *modalities: Modality) -> None:
    """Store and promote a model with this number, of both modalities if none is named."""
    for modality in modalities or Modality:
        models.promote(modality, save(models, SPEC, modality, number), "because")


def pinned(with_image: int, without_image: int) -> Generations:
    return {Modality.WITH_IMAGE: with_image, Modality.WITHOUT_IMAGE: without_image}


# -- the pin itself -------------------------------------------------------------------------------


@pytest.fixture
def models(lake: Lake, tmp_path: Path) -> ModelStore:
    return ModelStore(lake, "pets", tmp_path / "cache")


def test_a_pin_names_the_generation_of_each_modality(models: ModelStore) -> None:
    assert generations(models) == pinned(0, 0)
    promote(models, 1, Modality.WITHOUT_IMAGE)
    assert generations(models) == pinned(0, 1)
    promote(models, 2)
    assert generations(models) == pinned(1, 2)
    assert pin_text(pinned(1, 2)) == "1-2"
    assert parse_pin("1-2") == pinned(1, 2)


def test_a_pin_finds_the_promotion_it_names_however_many_came_since(models: ModelStore) -> None:
    promote(models, 1)
    pin, before = generations(models), models.champion("with_image")
    promote(models, 2)
    assert pinned_champions(models, pin)[Modality.WITH_IMAGE] == before
    assert pinned_champions(models, pinned(0, 1))[Modality.WITH_IMAGE] is None


def test_a_backfill_is_pinned_by_whichever_run_comes_first(models: ModelStore) -> None:
    promote(models, 1)
    assert pin_of_backfill(models.lake, models, "one") == pinned(1, 1)
    promote(models, 2, Modality.WITH_IMAGE)
    assert pin_of_backfill(models.lake, models, "one") == pinned(1, 1)
    assert pin_of_backfill(models.lake, models, "two") == pinned(2, 1)


def test_runs_of_one_backfill_that_come_at_once_get_one_pin(
    models: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have found no pin yet, and each has looked for the champions at another moment."""
    found_none = Barrier(2, timeout=60)
    different = iter([pinned(1, 1), pinned(2, 1)])

    def look_late(_: ModelStore) -> Generations:
        found_none.wait()
        return next(different)

    monkeypatch.setattr(pins, "generations", look_late)
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: pin_of_backfill(models.lake, models, "one"), range(2))
    assert one == other


# -- the runs -------------------------------------------------------------------------------------


class Flow:
    """A lake, a DuckDB file and a Dagster instance, with one upload that is known."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        self.lake = Lake(settings)
        self.models = ModelStore(self.lake, "pets")
        self.instance = instance
        self.runner = Runner(SPEC, instance, lambda _: None)
        self.store = DuckDBStore(settings.table_path)
        self.store.path.parent.mkdir(parents=True, exist_ok=True)
        self.upload = self.add("u.zip")

    def add(self, name: str, files: dict[str, bytes] = FILES) -> str:
        drop_zip(self.lake, name, files)
        source = found(self.lake, name)
        ledger.note(self.lake, source)
        ledger.read_pending(self.lake, "pets", source.upload)
        self.instance.add_dynamic_partitions("pets_uploads", [source.upload])
        return source.upload

    def run(self, job: str, tags: dict[str, str] | None = None, upload: str = "") -> str:
        """One run to its good end; returns its pin."""
        outcome = self.runner.run(job, upload or self.upload, tags)
        assert outcome.is_good, outcome
        run = self.instance.get_run_by_id(outcome.run_id)
        assert run is not None
        return run.tags[CHAMPIONS]

    def predicted_by(self) -> dict[str, int]:
        """The generation of the champion that each modality's records were predicted by."""
        return {
            modality: read_document(self.lake, "pets", self.upload, f"predictions_{modality}")[
                "model_generation"
            ]
            for modality in Modality
        }

    def versions(self) -> dict[str, str]:
        """The version of the model behind each record's answer in the table."""
        rows = self.store.read("pets").to_pylist()
        return {row["record_id"]: row["model_version"] for row in rows}

    def version(self, modality: Modality, generation: int) -> str:
        return self.models.promotion(modality, generation).version

    def all_by(self, generation: int) -> dict[str, str]:
        return {
            "a": self.version(Modality.WITH_IMAGE, generation),
            "b": self.version(Modality.WITHOUT_IMAGE, generation),
        }


@pytest.fixture
def flow(folder_settings: Settings) -> Iterator[Flow]:
    with dg.DagsterInstance.ephemeral() as instance:
        flow = Flow(folder_settings, instance)
        promote(flow.models, 1)
        yield flow


def test_a_run_keeps_its_champions_when_a_promotion_happens_in_between(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict, n_calls = Champion.predict, 0

    def promote_meanwhile(self: Champion, frame: Any) -> Any:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 1:
            promote(flow.models, 2)
        return predict(self, frame)

    monkeypatch.setattr(Champion, "predict", promote_meanwhile)
    assert flow.run("upload") == "1-1"
    assert n_calls == 2  # both modalities were predicted
    assert generations(flow.models) == pinned(2, 2)
    assert flow.predicted_by() == pinned(1, 1)
    assert flow.versions() == flow.all_by(1)
    assert flow.run("predict") == "2-2"
    assert flow.versions() == flow.all_by(2)


def test_all_runs_of_a_backfill_predict_with_what_its_first_run_found(flow: Flow) -> None:
    other = flow.add("v.zip")
    flow.run("upload")
    assert flow.run("upload", BACKFILL, other) == "1-1"
    promote(flow.models, 2)
    assert flow.run("predict", BACKFILL) == "1-1"
    assert flow.predicted_by() == pinned(1, 1)
    assert flow.run("predict", {"dagster/backfill": "another"}) == "2-2"


def test_an_older_pin_never_replaces_newer_answers_in_the_table(flow: Flow) -> None:
    assert flow.run("upload", BACKFILL) == "1-1"
    promote(flow.models, 2)
    flow.run("predict", {CHAMPIONS: "2-2"})
    before = flow.store.read("pets").to_pylist()
    assert flow.versions() == flow.all_by(2)
    for late in (BACKFILL, {CHAMPIONS: "1-1"}):
        assert flow.run("predict", late) == "1-1"
        assert flow.predicted_by() == pinned(1, 1)  # it did predict with the old ones
        assert flow.store.read("pets").to_pylist() == before


def test_nothing_is_mixed_within_one_upload_and_modality(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promotions come between the batches of one modality."""
    monkeypatch.setattr("mm_assets.predictions.predict.BATCH", 1)
    monkeypatch.setattr("mm_assets.predictions.predict.IMAGED_BATCH", 1)
    predict, numbers = Champion.predict, iter(range(2, 99))

    def promote_each_time(self: Champion, frame: Any) -> Any:
        promote(flow.models, next(numbers))
        return predict(self, frame)

    monkeypatch.setattr(Champion, "predict", promote_each_time)
    files = {
        "rows.csv": table("id,age", *(f"{i},{n}" for n, i in enumerate("cdefgh"))),
        "c.png": draw_image(1), "d.png": draw_image(2), "e.png": draw_image(3),
    }  # fmt: skip
    upload = flow.add("w.zip", files)
    assert flow.run("upload", upload=upload) == "1-1"
    assert next(numbers) == 8  # six promotions came meanwhile
    with_image = flow.version(Modality.WITH_IMAGE, 1)
    without_image = flow.version(Modality.WITHOUT_IMAGE, 1)
    assert flow.versions() == {
        **dict.fromkeys("cde", with_image), **dict.fromkeys("fgh", without_image),
    }  # fmt: skip
