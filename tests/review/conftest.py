"""A small dataset with predictions to review, and IDs that are hard on files and spreadsheets."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.predictions.predict import empty_predictions
from mm_assets.tables.open import open_store
from mm_assets.tables.store import Store
from tests.make import csv_table, dataset, draw_image, drop_zip, processed
from tests.tables.offers import offer

# Record to how sure the model is of "cat"; the first four have an image.
RECORDS = {
    "plain": 0.51, "=1+2": 0.52, "Ünïcode id": 0.53, "A b": 0.55, "a-b": 0.56, "a b": 0.57,
    "'=1+2": 0.58, "007": 0.59, "sure": 0.95,
}  # fmt: skip
IMAGED = list(RECORDS)[:4]
SPEC = dataset(columns={"age": "number", "note": "text"})


class World:
    """A lake and a table in which every record of RECORDS has a prediction."""

    def __init__(self, settings: Settings, spec: DatasetSpec, said: dict[str, str | None]) -> None:
        self.settings, self.spec = settings, spec
        self.lake = Lake(settings)
        self.store: Store = open_store(settings)
        rows = [[name, str(n), "=HYPERLINK(1)", ""] for n, name in enumerate(RECORDS)]
        files = {"rows.csv": csv_table(["id", "age", "note", spec.label_column], rows)}
        if spec.image_name:
            files |= {f"p/{name}.png": draw_image(n) for n, name in enumerate(IMAGED)}
        self.upload = self.deliver("first.zip", files)
        self.store.merge(spec.dataset, self._offered(said))

    def doubt(self, name: str, doubts: str) -> None:
        """A prediction of this record that is sure, of something that its model never saw."""
        sure = offer(name, upload=self.upload, prediction="cat", confidence=0.99, doubts=doubts,
                     content_hash="~newer", probabilities='{"cat": 0.99, "dog": 0.01}')  # fmt: skip
        table = pa.Table.from_pylist([sure], schema=empty_predictions().schema)
        self.store.merge(self.spec.dataset, table)

    def deliver(self, name: str, files: dict[str, bytes]) -> str:
        drop_zip(self.lake, name, files)
        return processed(self.lake, self.store, self.spec, name)["upload"]

    def _offered(self, said: dict[str, str | None]) -> pa.Table:
        offered = [
            offer(
                name, upload=self.upload, prediction=said.get(name) or "cat", confidence=sure,
                needs_review=sure < 0.6, content_hash=name, reasons="age is high",
                probabilities=None if self.spec.is_regression
                else json.dumps({"dog": 1 - sure, "cat": sure}),
                lower=1.25 if self.spec.is_regression else None,
                upper=4.0 if self.spec.is_regression else None,
            )
            for name, sure in RECORDS.items()
        ]  # fmt: skip
        return pa.Table.from_pylist(offered, schema=empty_predictions().schema)

    def take_in(self, name: str) -> None:
        """What a sync does with an upload that was sent."""
        processed(self.lake, self.store, self.spec, name)


@pytest.fixture
def world(folder_settings: Settings) -> World:
    return World(folder_settings, SPEC, {})


@pytest.fixture
def numbers(folder_settings: Settings) -> World:
    """The same records, with a number to predict and no images."""
    spec = dataset(
        columns={"age": "number", "note": "text"}, problem_type="regression", classes=None,
        label_column="prediction", image_name=None,
    )  # fmt: skip
    return World(folder_settings, spec, dict.fromkeys(RECORDS, "1.5"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "to review"
