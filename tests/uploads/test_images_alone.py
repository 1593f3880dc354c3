"""Datasets without a table: each image is a record, and its path says its label."""

from __future__ import annotations

from typing import Any

import pytest

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.lake.lake import Lake
from mm_assets.tables.open import open_store
from tests.make import draw_image, drop_zip, processed, received, rows_of


def vehicles(**changes: Any) -> DatasetSpec:
    keys = {
        "dataset": "vehicles", "records": "images", "problem_type": "binary",
        "classes": ["car", "truck"], "image_name": "{label}/{id}", "image_longest_side": 16,
    }  # fmt: skip
    return DatasetSpec.model_validate({**keys, **changes})


def manifest(lake: Lake, spec: DatasetSpec, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The manifest's document, and its rows by ID."""
    document = processed(lake, open_store(lake.settings), spec, name)
    rows = {row["record_id"]: row for row in rows_of(lake, document, "manifest.parquet")}
    return document, rows


def rejects(lake: Lake, document: dict[str, Any]) -> dict[str, str]:
    return {one["file"]: one["code"] for one in rows_of(lake, document, "rejects.parquet")}


def test_the_folder_is_the_label_and_an_image_in_no_folder_is_to_be_predicted(lake: Lake) -> None:
    files = {"car/a.png": draw_image(1), "x/truck/b.png": draw_image(2), "c.png": draw_image(3)}
    drop_zip(lake, "u.zip", files, "vehicles")
    document, rows = manifest(lake, vehicles(), "u.zip")
    told = {key: (row["purpose"], row["label"]) for key, row in rows.items()}
    assert told == {"a": ("train", "car"), "b": ("train", "truck"), "c": ("predict", None)}
    assert {row["row_file"] for row in rows.values()} == set(files)
    assert document["counts"]["rows"] == 3 == document["counts"]["with_image"]
    assert document["counts"]["images_used"] == 3


@pytest.mark.parametrize(
    ("name", "file", "expected"),
    [
        ("{label}_{id}", "truck_17.png", ("17", 0, "truck")),
        ("{label}_{id}", "in/any/folder/truck_17.png", ("17", 0, "truck")),
        ("{id}.{label}", "17.truck.png", ("17", 0, "truck")),
        ("{label}/{id}-{n}", "truck/17-2.png", ("17", 2, "truck")),
        ("{label}/{id}", "17.png", ("17", 0, None)),
        ("{label}_{id}", "17.png", None),
        ("{label}/*", "truck/whatever.png", ("c0ffee", 0, "truck")),
        ("{label}/*", "whatever.png", ("c0ffee", 0, None)),
    ],
)
def test_a_path_yields_id_number_and_label(name: str, file: str, expected: Any) -> None:
    assert vehicles(image_name=name).named_image(file, "c0ffee") == expected


def test_a_folder_that_is_no_class_is_refused_with_the_image_that_lies_in_it(lake: Lake) -> None:
    drop_zip(lake, "u.zip", {"cra/a.png": draw_image(1), "car/b.png": draw_image(2)}, "vehicles")
    document, rows = manifest(lake, vehicles(), "u.zip")
    assert rejects(lake, document) == {"cra/a.png": "label_invalid"}
    assert set(rows) == {"b"}
    assert document["counts"]["images_orphaned"] == 1


def test_a_folder_can_stand_for_no_label(lake: Lake) -> None:
    drop_zip(lake, "u.zip", {"new/a.png": draw_image(1)}, "vehicles")
    _, rows = manifest(lake, vehicles(missing_values=["", "new"]), "u.zip")
    assert rows["a"]["purpose"] == "predict"


def test_one_id_in_two_folders_is_a_duplicate_that_names_the_first(lake: Lake) -> None:
    drop_zip(lake, "u.zip", {"car/1.png": draw_image(1), "truck/1.png": draw_image(2)}, "vehicles")
    document, rows = manifest(lake, vehicles(), "u.zip")
    [reject] = rows_of(lake, document, "rejects.parquet")
    assert (reject["code"], reject["file"]) == ("duplicate_id", "truck/1.png")
    assert reject["reason"] == "the ID stands first in car/1.png"
    assert rows["1"]["label"] == "car"
    kept = document["counts"]
    assert kept["rows"] == kept["records"] + kept["rejected"] == 2


def test_ids_made_of_the_bytes_tell_equal_names_apart_and_equal_images_not(lake: Lake) -> None:
    files = {
        "car/1.png": draw_image(1), "truck/1.png": draw_image(2), "car/again.png": draw_image(1),
        "truck/not.png": draw_image(1),
    }  # fmt: skip
    drop_zip(lake, "u.zip", files, "vehicles")
    document, rows = manifest(lake, vehicles(image_name="{label}/*"), "u.zip")
    assert sorted(row["label"] for row in rows.values()) == ["car", "truck"]
    assert all(len(key) == 16 for key in rows)
    # The same image in the same class is one record; in another class it is a contradiction.
    assert rejects(lake, document) == {"truck/not.png": "duplicate_id"}


def test_several_images_of_one_record_make_one_row(lake: Lake) -> None:
    files = {"car/a-2.png": draw_image(1), "car/a-1.png": draw_image(2)}
    drop_zip(lake, "u.zip", files, "vehicles")
    document, rows = manifest(lake, vehicles(image_name="{label}/{id}-{n}"), "u.zip")
    assert document["counts"]["rows"] == 1
    assert rows["a"]["row_file"] == rows["a"]["image_file"] == "car/a-1.png"


def test_a_broken_image_is_quarantined_and_makes_no_row(lake: Lake) -> None:
    drop_zip(
        lake, "u.zip", {"car/a.png": draw_image(1)[:60], "car/b.png": draw_image(2)}, "vehicles"
    )
    receipt = received(lake, vehicles(), "u.zip")
    assert receipt["quarantined_by_code"] == {"image_unreadable": 1}
    assert receipt["counts"]["rows"] == 1


def test_a_label_can_come_later_in_a_table(lake: Lake) -> None:
    drop_zip(lake, "u.zip", {"a.png": draw_image(1)}, "vehicles")
    drop_zip(lake, "labels.zip", {"labels.csv": b"id,label\na,truck\n"}, "vehicles")
    store = open_store(lake.settings)
    for name in ("u.zip", "labels.zip"):
        processed(lake, store, vehicles(), name)
    [known] = store.look_up("vehicles", None).to_pylist()
    assert (known["record_id"], known["label"]) == ("a", "truck")


def test_only_the_model_with_images_is_made() -> None:
    assert vehicles().modalities == (Modality.WITH_IMAGE,)
