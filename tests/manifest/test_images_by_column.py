"""Rows that name their images in a column, through receipt and manifest, in any order."""

from __future__ import annotations

import base64
import itertools
from hashlib import sha256
from typing import Any

import pytest

from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.predictions.receipt import build_receipt
from mm_assets.tables.duckdb.store import DuckDBStore
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


def test_a_cell_that_holds_the_image_itself_or_no_value_in_words_names_no_file(flow: Flow) -> None:
    text = base64.b64encode(draw_image(1, side=64)).decode()
    cells = (text, f'"data:image/png;base64,{text}"', "nan", "None", "<NA>", "gone.png", "na")
    rows = [f"r{n},1,red,{cell}" for n, cell in enumerate(cells)]
    flow.drop("one.zip", {"pets.csv": table(HEADER, *rows), "na.png": draw_image(2)})
    flow.take("one.zip")
    read_as = read_receipt(flow.lake, "pets", flow.keys["one.zip"])["tables"][0]["read_as"]
    assert (read_as["images_as_text"], read_as["images_not_found"]) == (2, "gone.png")
    assert images_of(flow, "one.zip")["r6"] == "na.png"


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
    counts = flow.take("one.zip")["counts"]
    assert (counts["rows"], counts["records"], counts["rejected"]) == (2, 1, 1)


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


LATE: dict[str, dict[str, bytes]] = {
    "rows": {"t/pets.csv": table(HEADER, "a,1,red,photos\\A.JPG|2.png", "b,2,red,none.png")},
    "images": {"all/photos/a.jpg": draw_image(1), "2.png": draw_image(2), "9.png": draw_image(9)},
}


@pytest.mark.parametrize("order", itertools.permutations(LATE))
@pytest.mark.parametrize("images", ["first", "all"])
def test_an_image_that_only_a_row_of_another_upload_names_is_found_in_any_order(
    folder_settings: Settings, order: tuple[str, ...], images: str
) -> None:
    lake = Lake(folder_settings)
    spec = dataset(image_column="photo", image_separator="|", images=images)
    flow = Flow(lake, open_store(folder_settings), spec)
    for name in order:
        flow.drop(f"{name}.zip", LATE[name])
        flow.take(f"{name}.zip")
    own, other = flow.keys["images.zip"], flow.keys["rows.zip"]
    found = flow.records(f"{order[1]}.zip")
    assert (found["a"]["image_file"], found["a"]["image_upload"], found["a"]["image_order"]) == (
        "all/photos/a.jpg", own, f"{other}+{own}",
    )  # fmt: skip
    hashes = [sha256(draw_image(n)).hexdigest() for n in (1, 2)]
    assert found["a"].get("images", hashes) == hashes
    fates = {
        row["file"]: row["fate"] for row in build_receipt(lake, flow.store, spec, own)["files"]
    }
    second = "used" if images == "all" else "duplicate"
    assert fates == {"all/photos/a.jpg": "used", "2.png": second, "9.png": "orphaned"}
    assert flow.fates("images.zip") == fates
    # A table that was lost is made anew from the lake alone.
    anew = Flow(lake, DuckDBStore(folder_settings.root / "anew.duckdb"), spec)
    anew.keys = flow.keys
    for name in order:
        anew.records(f"{name}.zip")
    assert anew.records("rows.zip") == flow.records("rows.zip")


def test_what_may_mean_images_of_two_uploads_is_said_with_both(flow: Flow) -> None:
    uploads = {
        "rows": {"pets.csv": table(HEADER, "a,1,red,1.png")},
        "one": {"x/1.png": draw_image(1)}, "two": {"y/1.png": draw_image(2)},
    }  # fmt: skip
    for name, files in uploads.items():
        flow.drop(f"{name}.zip", files)
        document = flow.take(f"{name}.zip")
    assert document["end"] == "used in part"
    (left,) = document["left_out"]
    one, two = (flow.keys[f"{name}.zip"] for name in ("one", "two"))
    assert left["reason"] == f"'1.png' may be x/1.png (upload {one}) or y/1.png (upload {two})"
    assert "the image of 1 record left out: image_ambiguous 1 (record a)" in document["end_words"]
    assert flow.records("two.zip")["a"]["image_file"] is None


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
