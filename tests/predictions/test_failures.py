"""An engine that fails on some records: tolerated up to a share, and each one is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.errors import ModelError
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.manifest.split import split_records
from mm_assets.orchestration.checks.predictions import failed_items
from mm_assets.predictions.merge import merge_predictions
from mm_assets.predictions.predict import predict_records
from mm_assets.registry.store import ModelStore
from mm_assets.tables.open import open_store
from mm_assets.tables.store import Store
from tests.make import dataset, draw_image, drop_zip, processed, rows_of, table

WITHOUT = Modality.WITHOUT_IMAGE


class Touchy:
    """Fails on every batch that holds a record aged 99."""

    def __init__(self, **_: Any) -> None:
        pass

    def load(self, directory: Path) -> Touchy:
        return self

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        if (frame["age"] == 99).any():
            raise RuntimeError("bad luck\nand more")
        cat = 1 / (1 + frame["age"])
        return pd.DataFrame({"cat": cat, "dog": 1 - cat}, index=frame.index)

    def reasons(self, frame: pd.DataFrame) -> list[str]:
        return [f"aged {age:g}" for age in frame["age"]]


def spec_of(share: float | None) -> DatasetSpec:
    return dataset(
        model_without_image={"engine": f"{__name__}:Touchy"}, tolerated_failure_share=share
    )


@pytest.fixture
def lake(folder_settings: Settings) -> Lake:
    return Lake(folder_settings)


def predicted(lake: Lake, share: float | None) -> tuple[DatasetSpec, Store, str, dict[str, Any]]:
    """20 records of which two fail, and one row is refused before."""
    spec, store, models = spec_of(share), open_store(lake.settings), ModelStore(lake, "pets")
    ages = [99 if i in (4, 17) else i for i in range(20)]
    rows = [f"r{i:02},{age},red" for i, age in enumerate(ages)]
    drop_zip(
        lake,
        "u.zip",
        {"t.csv": table("id,age,colour", *rows, "x,old,red"), "r01.png": draw_image()[:50]},
    )
    upload = processed(lake, store, spec, "u.zip")["upload"]
    folder = lake.settings.root / "model"
    folder.mkdir()
    (folder / "nothing.txt").write_text("-")
    manifest = {
        "engine": {"engine": f"{__name__}:Touchy"}, "problem_type": "binary",
        "classes": ["cat", "dog"], "columns": spec.features(WITHOUT), "metrics": {},
        "baseline": {}, "n": 1, "training_fingerprint": "1", "training_counts": {},
        "spec_fingerprint": "0",
    }  # fmt: skip
    stored = models.save(WITHOUT, folder, manifest)
    champion = models.promote(WITHOUT, stored.version, "good")
    champions = {Modality.WITH_IMAGE: None, WITHOUT: champion}
    documents = {}
    for modality in Modality:
        split_records(lake, spec, upload, modality)
        documents[modality] = predict_records(
            lake, models, spec, upload, modality,
            champions=champions, run_id="run", progress=lambda _: None,
        )  # fmt: skip
    return spec, store, upload, documents[WITHOUT]


def test_records_that_fail_are_named_and_wait_and_the_others_are_answered(lake: Lake) -> None:
    spec, store, upload, document = predicted(lake, 0.1)
    assert document["counts"]["failed"] == document["counts"]["waiting"] == 2
    failed = {one["record_id"]: one for one in rows_of(lake, document, "failed.parquet")}
    assert set(failed) == {"r04", "r17"}
    assert failed["r04"]["reason"] == "RuntimeError: bad luck"
    assert failed["r04"]["code"] == "prediction_failed"
    _, merged = merge_predictions(lake, store, spec, upload)
    assert merged["counts"]["waiting"] == 2
    assert "r04: RuntimeError: bad luck" in merged["reasons"][0]
    found = {row["record_id"]: row for row in store.read("pets").to_pylist()}
    assert set(found) == {f"r{i:02}" for i in range(20)} - {"r04", "r17"}
    assert found["r07"]["reasons"] == "aged 7"


def test_the_failed_items_of_an_upload_are_files_rows_and_predictions(lake: Lake) -> None:
    spec, store, upload, _ = predicted(lake, 0.5)
    merge_predictions(lake, store, spec, upload)
    failed, items = failed_items(lake, spec, upload)
    assert items == 2 + 21  # a table, an image, and 21 rows
    assert failed == [
        "r01.png: image_unreadable",
        "t.csv line 22: number_invalid",
        "r04: RuntimeError: bad luck",
        "r17: RuntimeError: bad luck",
    ]


def test_more_failures_than_tolerated_fail_the_run_and_name_the_records(lake: Lake) -> None:
    with pytest.raises(ModelError) as caught:
        predicted(lake, 0.05)
    assert caught.value.code == "too_many_failures"
    assert "2 of 20 predictions failed (r04: RuntimeError: bad luck" in caught.value.what
    assert "tolerated_failure_share" in caught.value.todo


def test_without_a_tolerated_share_the_engines_own_error_fails_the_run(lake: Lake) -> None:
    with pytest.raises(RuntimeError, match="bad luck"):
        predicted(lake, None)
