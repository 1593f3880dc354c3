"""Rows that name their images in a column, through receipt and manifest, in any order."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.tables.open import open_store
from mm_assets.uploads.received import read_images, read_receipt
from tests.make import dataset, draw_image, received, rows_of, table
from tests.manifest.test_join import Flow

HEADER = "id,age,colour,photo"
SPEC = dataset(image_column="photo", image_separator="|")


@pytest.fixture
def flow(folder_settings: Settings) -> Flow:
    return Flow(Lake(folder_settings), open_store(folder_settings), SPEC)


def images_of(flow: Flow, name: str) -> dict[str, str | None]:
    return {record: row["image_file"] for record, row in flow.records(name).items()}


def test_a_row_has_the_image_that_its_cell_names(flow: Flow) -> None:
    flow.drop("one.zip", {
        "data/pets.csv": table(HEADER, "a,1,red,img_1.JPG", "b,2,red,pics\\2.png", "c,3,red,",
                               "d,4,red,gone.png"),
        "data/pics/IMG_1.jpg": draw_image(1, "JPEG"), "data/pics/2.png": draw_image(2),
        "data/pics/3.png": draw_image(3),
    })  # fmt: skip
    flow.take("one.zip")
    assert images_of(flow, "one.zip") == {
        "a": "data/pics/IMG_1.jpg", "b": "data/pics/2.png", "c": None, "d": None,
    }  # fmt: skip
    receipt = read_receipt(flow.lake, "pets", flow.keys["one.zip"])
    assert receipt["quarantined_by_code"] == {}
    assert receipt["tables"][0]["read_as"]["images_not_found"] == "gone.png"
    assert flow.fates("one.zip") == {
        "data/pics/IMG_1.jpg": "used", "data/pics/2.png": "used", "data/pics/3.png": "orphaned",
    }  # fmt: skip


def test_of_several_named_the_first_that_is_an_image_is_used(flow: Flow) -> None:
    flow.drop("one.zip", {
        "pets.csv": table(HEADER, "a,1,red,broken.png|1.png|2.png", "b,1,red,2.png"),
        "1.png": draw_image(1), "2.png": draw_image(2), "broken.png": draw_image(3)[:-9],
    })  # fmt: skip
    flow.take("one.zip")
    assert images_of(flow, "one.zip") == {"a": "1.png", "b": "2.png"}
    files = rows_of(
        flow.lake, read_receipt(flow.lake, "pets", flow.keys["one.zip"]), "files.parquet"
    )
    refused = {one["file"]: (one["code"], one["record_id"]) for one in files if one["code"]}
    assert refused == {"broken.png": ("image_unreadable", "a")}


def test_one_image_of_many_records_is_stored_once(flow: Flow) -> None:
    rows = [f"r{n},1,red,default.png" for n in range(50)]
    flow.drop("one.zip", {"pets.csv": table(HEADER, *rows), "default.png": draw_image(1, side=64)})
    flow.take("one.zip")
    assert set(images_of(flow, "one.zip").values()) == {"default.png"}
    receipt = read_receipt(flow.lake, "pets", flow.keys["one.zip"])
    packed = rows_of(flow.lake, receipt, "images.parquet")
    assert (len(packed), sum(row["image"] is not None for row in packed)) == (50, 1)
    wanted = {packed[-1]["sha256"]}
    (found,) = read_images(flow.lake, "pets", flow.keys["one.zip"], wanted)
    assert found[packed[-1]["sha256"]] is not None


def test_a_cell_that_could_mean_two_files_refuses_its_row_with_both(flow: Flow) -> None:
    flow.drop("one.zip", {
        "t/pets.csv": table(HEADER, "a,1,red,1.png", "b,2,red,x/1.png"),
        "x/1.png": draw_image(1), "y/1.png": draw_image(2),
    })  # fmt: skip
    flow.take("one.zip")
    assert images_of(flow, "one.zip") == {"b": "x/1.png"}
    rejects = rows_of(
        flow.lake, read_receipt(flow.lake, "pets", flow.keys["one.zip"]), "rejects.parquet"
    )
    (reject,) = rejects
    assert (reject["code"], reject["line"], reject["record_id"]) == ("image_ambiguous", 2, "a")
    assert reject["reason"] == "column 'photo': '1.png' may be x/1.png or y/1.png"


UPLOADS: dict[str, dict[str, Any]] = {
    "rows": {"pets.csv": table(HEADER, "a,1,red,1.png", "b,2,red,2.png")},
    "images": {"photos.csv": table("id,photo", "a,1.png", "b,2.png"),
               "1.png": draw_image(1), "2.png": draw_image(2)},
    "labels": {"labels.csv": table("id,label,photo", "a,cat,new.png"), "new.png": draw_image(3)},
}  # fmt: skip


@pytest.mark.parametrize("order", itertools.permutations(UPLOADS))
def test_images_come_late_or_early_with_a_table_that_says_whose_they_are(
    flow: Flow, order: tuple[str, ...]
) -> None:
    for name in order:
        flow.drop(f"{name}.zip", UPLOADS[name])
        flow.take(f"{name}.zip")
    found = flow.records("rows.zip")
    newest = "new.png" if order.index("labels") > order.index("images") else "1.png"
    assert {name: row["image_file"] for name, row in found.items()} == {
        "a": newest, "b": "2.png",
    }  # fmt: skip
    assert found["b"]["label"] is None
    assert received(flow.lake, SPEC, "images.zip")["tables"][0]["images_only"]


def test_names_yield_ids_as_well_if_the_yaml_says_how(folder_settings: Settings) -> None:
    spec = dataset(image_column="photo", image_name="{id}")
    flow = Flow(Lake(folder_settings), open_store(folder_settings), spec)
    flow.drop("one.zip", {
        "pets.csv": table(HEADER, "a,1,red,b.png", "b,2,red,"),
        "b.png": draw_image(1), "c.png": draw_image(2),
    })  # fmt: skip
    flow.drop("two.zip", {"b.png": draw_image(3)})
    for name in ("one", "two"):
        flow.take(f"{name}.zip")
    found = {record: (row["image_file"], row["image_upload"]) for record, row in
             flow.records("one.zip").items()}  # fmt: skip
    assert found == {"a": ("b.png", flow.keys["one.zip"]), "b": ("b.png", flow.keys["two.zip"])}
    assert flow.fates("one.zip")["c.png"] == "orphaned"
