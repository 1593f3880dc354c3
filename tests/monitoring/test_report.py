"""The monitoring of a dataset, over a real lake and a real store, from nothing to drifting."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import answers_prefix, inbox, of_dataset, of_upload
from mm_assets.manifest.join import build_manifest
from mm_assets.monitoring import report
from mm_assets.monitoring.report import PICTURES, build_monitoring
from mm_assets.predictions.predict import empty_predictions
from mm_assets.tables.answers import ANSWERS
from mm_assets.tables.open import open_store
from mm_assets.tables.store import Query, Store
from mm_assets.training.training_set import build_training_set
from mm_assets.uploads.find import find_uploads
from mm_assets.uploads.receive import receive
from mm_assets.uploads.received import RAW
from tests.make import plain_image

Parts = tuple[Lake, Store, DatasetSpec]


def make_spec(problem_type: str = "binary", **more: Any) -> DatasetSpec:
    return DatasetSpec.model_validate(
        {"dataset": "pets", "id_column": "id", "label_column": "kind",
         "problem_type": problem_type, "columns": {"age": "number", "breed": "category"}, **more}
    )  # fmt: skip


@pytest.fixture
def parts(folder_settings: Settings) -> Parts:
    return Lake(folder_settings), open_store(folder_settings), make_spec()


def upload(parts: Parts, name: str, rows: list[tuple[Any, ...]], images: dict[str, bytes]) -> str:
    """Deliver a zip and let the rooms before this one do their work; returns the upload's key."""
    lake, store, spec = parts
    table = "id,age,breed,kind\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        if rows:
            archive.writestr("table.csv", table)
        for file, data in images.items():
            archive.writestr(file, data)
    lake.write(f"{inbox(spec.dataset)}{name}.zip", buffer.getvalue())
    source = next(s for s in find_uploads(lake, spec.dataset).finished if s.name == f"{name}.zip")
    receive(lake, spec, source, run_id="run", progress=lambda _: None)
    build_manifest(lake, store, spec, source.upload, run_id="run")
    return source.upload


def predict(parts: Parts, upload: str, said: dict[str, str], with_image: set[str]) -> None:
    _, store, spec = parts
    known = [
        {
            "record_id": record_id, "prediction": prediction, "probabilities": None,
            "confidence": 0.5 + 0.4 * (i / len(said)), "needs_review": i < len(said) / 4,
            "modality": "with_image" if record_id in with_image else "without_image",
            "model_version": "v1", "upload": upload, "input_hash": record_id, "run_id": "run",
            "predicted_at": "2026-11-21T10:00:00.000000+00:00",
            "reasons": None,
            "modality_rank": int(record_id in with_image),
            "image_upload": upload if record_id in with_image else "",
            "image_order": upload if record_id in with_image else "",
            "model_generation": 1, "spec_generation": 1, "content_hash": record_id,
        }
        for i, (record_id, prediction) in enumerate(said.items())
    ]  # fmt: skip
    store.merge(spec.dataset, pa.Table.from_pylist(known, schema=empty_predictions().schema))


def train_and_predict(parts: Parts, age_now: float) -> str:
    """100 labelled records, then 60 to predict: half with an image, one row and one file bad."""
    lake, store, spec = parts
    draw = np.random.default_rng(0)
    rows = [(f"t{i}", draw.normal(5, 1), "ab"[i % 2], ["cat", "dog"][i % 2]) for i in range(100)]
    upload(parts, "first", rows, {})
    build_training_set(lake, store, spec, run_id="run")
    new = [(f"p{i}", draw.normal(age_now, 1), "ab"[i % 2], "") for i in range(60)]
    images = {f"p{i}.png": plain_image((i, 0, 0), 20, 12) for i in range(30)}
    bad = {"p40.png": plain_image((40, 0, 0), 20, 12)[:-20]}
    key = upload(parts, "second", [*new, ("p99", "old", "a", "")], {**images, **bad})
    said = {f"p{i}": ["cat", "dog"][i % 2] for i in range(60)}
    predict(parts, key, said, {f"p{i}" for i in range(30)})
    return key


def test_a_dataset_without_anything_has_no_pictures_and_zeros(parts: Parts) -> None:
    lake, store, spec = parts
    pictures, figures = build_monitoring(lake, store, spec, None)
    assert pictures == {}
    assert figures["records"] == figures["uploads"] == figures["rejected_rows"] == 0
    assert set(figures.values()) == {0}
    published = lake.read_json(of_dataset("pets", "monitoring"))
    assert published is not None
    assert published["files"] == published["feature_drift"] == {}


def test_everything_that_there_is_to_see_is_drawn_and_counted(parts: Parts) -> None:
    lake, store, spec = parts
    train_and_predict(parts, age_now=5)
    pictures, figures = build_monitoring(lake, store, spec, None)
    assert set(pictures) == {
        "confidence", "predicted_classes", "images", "least_confident", "drift", "rejects",
        "quarantines",
    }  # fmt: skip
    assert list(pictures) == [name for name in PICTURES if name in pictures]
    counted = {
        "uploads": 2, "uploads_refused": 0, "records": 60, "with_image": 30, "without_image": 30,
        "needs_review": 15, "rejected_rows": 1, "quarantined_files": 1, "images_lost": 0,
    }  # fmt: skip
    assert {name: figures[name] for name in counted} == counted
    assert figures["largest_drift"] == 0.0
    assert figures["prediction_drift"] == 0.0


def test_over_dynamodb_what_is_new_gives_the_report_that_all_of_it_gives(
    dynamodb_settings: Settings,
) -> None:
    parts = lake, store, spec = Lake(dynamodb_settings), open_store(dynamodb_settings), make_spec()
    train_and_predict(parts, age_now=5)
    build_monitoring(*parts, None)
    late = [(f"p{i}", "5", "a", ["cat", "dog"][i % 3 % 2]) for i in range(40)]
    upload(parts, "labels", late, {})
    key = upload(parts, "third", [(f"q{i}", "5", "b", "") for i in range(5)], {})
    predict(parts, key, {f"q{i}": "cat" for i in range(5)}, set())
    pictures, figures = build_monitoring(*parts, None)
    assert figures["live_n"] == 40
    assert figures["records"] == 65
    for item in [*lake.list(answers_prefix(spec.dataset))]:
        lake.delete(item.key)
    assert build_monitoring(*parts, None) == (pictures, figures)


def test_of_all_predictions_only_what_is_drawn_is_read(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, store, spec = parts
    train_and_predict(parts, age_now=2.0)
    asked: list[Query] = []
    read = store.read

    def noted(dataset: str, query: Query) -> Any:
        asked.append(query)
        return read(dataset, query)

    monkeypatch.setattr(store, "read", noted)
    build_monitoring(lake, store, spec, None)
    assert asked == [Query(columns=ANSWERS, in_order=False)]


def test_records_that_are_unlike_the_training_set_show_as_drift(parts: Parts) -> None:
    lake, store, spec = parts
    train_and_predict(parts, age_now=9)
    _, figures = build_monitoring(lake, store, spec, None)
    assert figures["largest_drift"] > spec.limits.maximum_drift
    published = lake.read_json(of_dataset("pets", "monitoring"))
    assert published is not None
    assert published["feature_drift"]["age"] == figures["largest_drift"]
    assert published["feature_drift"]["breed"] == 0.0
    assert published["prediction_drift"] == figures["prediction_drift"]


def test_without_a_training_set_no_drift_is_claimed(parts: Parts) -> None:
    lake, store, spec = parts
    key = upload(parts, "only", [(f"p{i}", i, "a", "") for i in range(40)], {})
    predict(parts, key, {f"p{i}": "cat" for i in range(40)}, set())
    pictures, figures = build_monitoring(lake, store, spec, None)
    assert "drift" not in pictures
    assert "largest_drift" not in figures
    assert "least_confident" not in pictures
    assert figures["median_confidence"] == pytest.approx(0.695)


def test_a_record_in_two_uploads_counts_once_in_the_drift(parts: Parts) -> None:
    lake, store, spec = parts
    rows = [(f"t{i}", 1, "a", "cat") for i in range(50)]
    upload(parts, "first", rows, {})
    build_training_set(lake, store, spec, run_id="run")
    upload(parts, "second", [(f"p{i}", 9, "a", "") for i in range(20)], {})
    upload(parts, "third", [(f"p{i}", 9, "a", "") for i in range(20)], {})
    _, figures = build_monitoring(lake, store, spec, None)
    assert "largest_drift" not in figures  # 20 records are too few


def test_labels_that_came_later_tell_the_accuracy(parts: Parts) -> None:
    lake, store, spec = parts
    train_and_predict(parts, age_now=5)
    upload(parts, "labels", [("p0", 5, "a", "cat"), ("p1", 5, "a", "cat")], {})
    pictures, figures = build_monitoring(lake, store, spec, None)
    assert "live_accuracy" in pictures
    assert (figures["live_n"], figures["live_accuracy"]) == (2, 0.5)


def test_many_later_labels_tell_whether_confidence_can_be_believed(parts: Parts) -> None:
    train_and_predict(parts, age_now=5)
    upload(parts, "labels", [(f"p{i}", 5, "a", "cat") for i in range(40)], {})
    pictures, figures = build_monitoring(*parts, None)
    assert "calibration" in pictures
    assert (figures["live_n"], figures["live_accuracy"]) == (40, 0.5)
    # The first 40 of 60 records are 0.5 to 0.76 sure, in three bins of 0.1; every other is right.
    sure = [0.5 + 0.4 * (i / 60) for i in range(40)]
    off = [
        abs(sum(c - (i % 2 == 0) for i, c in enumerate(sure) if tenth == int(c * 10)))
        for tenth in (5, 6, 7)
    ]
    assert figures["live_calibration_error"] == pytest.approx(sum(off) / 40)


def test_pictures_that_became_dark_show_as_drift_of_that_feature(parts: Parts) -> None:
    lake, store, _ = parts
    spec = make_spec(image_features=["brightness", "width"])
    parts = (lake, store, spec)
    rows = [(f"t{i}", 5, "a", ["cat", "dog"][i % 2]) for i in range(50)]
    upload(
        parts, "first", rows, {f"t{i}.png": plain_image((150 + i, 0, 0), 20, 12) for i in range(40)}
    )
    build_training_set(lake, store, spec, run_id="run")
    new = [(f"p{i}", 5, "a", "") for i in range(60)]
    upload(parts, "second", new, {f"p{i}.png": plain_image((i, 0, 0), 20, 12) for i in range(35)})
    pictures, figures = build_monitoring(lake, store, spec, None)
    published = lake.read_json(of_dataset("pets", "monitoring"))
    assert published is not None
    drifts = published["feature_drift"]
    assert list(drifts) == ["age", "breed", "image_brightness", "image_width"]
    assert drifts["image_brightness"] == figures["largest_drift"] > spec.limits.maximum_drift
    assert drifts["image_width"] == 0.0
    assert "drift" in pictures


@pytest.mark.parametrize(
    ("more", "with_image"),
    [({"image_name": None}, False), ({"records": "images", "columns": {}}, True)],
)
def test_where_all_records_or_none_have_an_image_no_share_is_drawn(
    parts: Parts, more: dict[str, Any], with_image: bool
) -> None:
    lake, store, _ = parts
    parts = (lake, store, make_spec(**more))
    rows = [] if with_image else [(f"p{i}", i, "a", "") for i in range(40)]
    images = {f"p{i}.png": plain_image((i, 0, 0), 20, 12) for i in range(40)} if with_image else {}
    key = upload(parts, "only", rows, images)
    said = {f"p{i}": "cat" for i in range(40)}
    predict(parts, key, said, set(said) if with_image else set())
    pictures, figures = build_monitoring(*parts, None)
    assert "images" not in pictures
    assert "image_share" not in figures
    assert ("least_confident" in pictures) == with_image
    assert {"confidence", "predicted_classes"} <= set(pictures)


def test_the_gallery_shows_the_lowest_confidence_first_and_what_is_to_review(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[list[str]] = []
    draw = report.contact_sheet

    def spy(items: list[tuple[bytes, list[str]]], title: str) -> bytes | None:
        assert all(data for data, _ in items)
        shown.extend(caption for _, caption in items)
        return draw(items, title)

    monkeypatch.setattr(report, "contact_sheet", spy)
    train_and_predict(parts, age_now=5)
    upload(parts, "labels", [("p1", 5, "a", "cat")], {})
    build_monitoring(*parts, None)
    assert len(shown) == report.LEAST_CONFIDENT
    assert shown[0] == ["p0", "0.50 cat", "to review"]
    assert shown[1] == ["p1", "0.51 dog", "to review", "label cat"]
    assert shown[-1][2] == "no review"
    confidences = [float(caption[1].split()[0]) for caption in shown]
    assert confidences == sorted(confidences)


def test_a_regression_shows_values_instead_of_classes(parts: Parts) -> None:
    lake, store, _ = parts
    parts = (lake, store, make_spec("regression"))
    upload(parts, "first", [(f"t{i}", i, "a", i / 2) for i in range(60)], {})
    build_training_set(lake, store, parts[2], run_id="run")
    key = upload(parts, "second", [(f"p{i}", i, "a", "") for i in range(60)], {})
    predict(parts, key, {f"p{i}": str(i / 2) for i in range(60)}, set())
    upload(parts, "labels", [("p4", 5, "a", "3")], {})
    pictures, figures = build_monitoring(lake, store, parts[2], None)
    assert {"predicted_values", "live_accuracy", "drift"} <= set(pictures)
    assert "predicted_classes" not in pictures
    assert (figures["live_n"], figures["live_mean_absolute_error"]) == (1, 1.0)


def test_pictures_are_published_and_written_and_old_ones_go_away(
    parts: Parts, tmp_path: Path
) -> None:
    lake, store, spec = parts
    train_and_predict(parts, age_now=5)
    folder = tmp_path / "monitoring" / "pets"
    folder.mkdir(parents=True)
    for name in ("live_accuracy.png", "mine.png"):
        (folder / name).write_bytes(b"old")
    pictures, _ = build_monitoring(lake, store, spec, folder)
    written = {path.stem: path.read_bytes() for path in folder.glob("*.png")}
    assert written.pop("mine") == b"old"
    assert written == pictures
    published = lake.read_json(of_dataset("pets", "monitoring"))
    assert published is not None
    stored = {n.removesuffix(".png"): lake.read(f["key"]) for n, f in published["files"].items()}
    assert stored == pictures
    assert build_monitoring(lake, store, spec, folder)[0] == pictures  # the same state, the same


def test_a_lost_picture_is_shown_and_counted_as_lost(parts: Parts) -> None:
    lake, store, spec = parts
    key = train_and_predict(parts, age_now=5)
    receipt = lake.read_json(of_upload("pets", key, RAW))
    assert receipt is not None
    lake.delete(of_upload("pets", key, RAW))
    pictures, figures = build_monitoring(lake, store, spec, None)
    assert "least_confident" in pictures
    assert figures["images_lost"] == report.LEAST_CONFIDENT == 18


def test_rejects_are_counted_in_the_newest_uploads_only_and_the_picture_says_so(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, store, spec = parts
    bad = [("p", "old", "a", "")]
    for number in range(4):
        upload(parts, f"u{number}", bad, {})
    titles: list[str] = []
    draw = report.charts.rejects_by_code

    def spy(counts: dict[str, int], title: str, things: str) -> bytes | None:
        titles.append(title)
        return draw(counts, title, things)

    monkeypatch.setattr(report.charts, "rejects_by_code", spy)
    _, figures = build_monitoring(lake, store, spec, None)
    assert figures["rejected_rows"] == 4
    assert titles[0] == "Rejected rows: 4"
    monkeypatch.setattr(report, "REFUSAL_UPLOADS", 2)
    read: list[str] = []
    read_json = lake.read_json
    monkeypatch.setattr(lake, "read_json", lambda key: read.append(key) or read_json(key))
    monkeypatch.setattr(report, "RECENT_UPLOADS", 0)
    _, figures = build_monitoring(lake, store, spec, None)
    assert (figures["uploads"], figures["rejected_rows"]) == (4, 2)
    assert titles[2] == "Rejected rows in the newest 2 uploads: 2"
    assert sum("/uploads/" in key for key in read) == 0  # they were counted before
