"""`images: all`: every image of a record stands in the manifest, in any order of arrival."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

import pytest

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.errors import LakeError
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.manifest.image_sets import images_of
from mm_assets.tables.open import open_store
from mm_assets.training.training_set import grouped_rows
from mm_assets.uploads import image_file
from mm_assets.uploads import received as uploads_received
from mm_assets.uploads.received import read_image_sets
from tests.make import dataset, draw_image, plain_image, table
from tests.manifest.test_join import Flow
from tests.training.test_splits import photo, saved

HEADER = "id,age,colour,photo"
BY_COLUMN = {"image_column": "photo", "image_separator": "|", "images": "all"}


def flow_of(settings: Settings, spec: DatasetSpec) -> Flow:
    return Flow(Lake(settings), open_store(settings), spec)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sets_of(flow: Flow, name: str) -> dict[str, list[str] | None]:
    return {record: row["images"] for record, row in flow.records(name).items()}


ONE, TWO, THREE = (draw_image(n) for n in (1, 2, 3))


@pytest.fixture(params=["folder_settings", "dynamodb_settings"])
def either_table(request: pytest.FixtureRequest) -> Settings:
    """The same over DuckDB and over DynamoDB."""
    chosen: Settings = request.getfixturevalue(request.param)
    return chosen


def test_the_row_says_in_which_order_and_a_copy_counts_once(folder_settings: Settings) -> None:
    flow = flow_of(folder_settings, dataset(**BY_COLUMN))
    flow.drop("one.zip", {
        "pets.csv": table(HEADER, "a,1,red,2.png|broken.png|1.png|again.png", "b,2,red,3.png",
                          "c,3,red,"),
        "1.png": ONE, "2.png": TWO, "3.png": THREE, "again.png": TWO,
        "broken.png": draw_image(4)[:-9],
    })  # fmt: skip
    flow.take("one.zip")
    assert sets_of(flow, "one.zip") == {"a": [sha(TWO), sha(ONE)], "b": [sha(THREE)], "c": None}
    assert flow.fates("one.zip") == {
        "1.png": "used", "2.png": "used", "3.png": "used", "again.png": "duplicate",
    }  # fmt: skip
    records = flow.records("one.zip")
    assert (records["a"]["image_sha256"], records["a"]["image_file"]) == (sha(TWO), "2.png")
    assert records["b"]["input_hash"].endswith(sha(THREE))  # as with one image


def test_names_say_in_which_order_where_no_column_does(folder_settings: Settings) -> None:
    flow = flow_of(folder_settings, dataset(image_name="{id}-{n}", images="all"))
    flow.drop("one.zip", {
        "pets.csv": table("id,age,colour", "a,1,red"),
        "x/a-10.png": ONE, "a-9.png": TWO, "a-2.png": THREE,
    })  # fmt: skip
    counts = flow.take("one.zip")["counts"]
    assert sets_of(flow, "one.zip") == {"a": [sha(THREE), sha(TWO), sha(ONE)]}
    assert (counts["with_image"], counts["images_used"], counts["images_duplicate"]) == (1, 3, 0)


UPLOADS: dict[str, dict[str, Any]] = {
    "rows": {"pets.csv": table(HEADER, "a,1,red,1.png|2.png", "b,2,red,"), "1.png": ONE,
             "2.png": TWO},
    "more": {"photos.csv": table("id,photo", "a,3.png", "b,1.png|3.png"), "1.png": ONE,
             "3.png": THREE},
    "labels": {"labels.csv": table("id,label", "b,cat")},
}  # fmt: skip


@pytest.mark.parametrize("order", itertools.permutations(UPLOADS))
def test_the_newest_upload_with_an_image_says_all_of_them_in_whatever_order_it_is_handled(
    folder_settings: Settings, order: tuple[str, ...]
) -> None:
    flow = flow_of(folder_settings, dataset(**BY_COLUMN))
    for name, files in UPLOADS.items():
        flow.drop(f"{name}.zip", files)
    for name in order:
        flow.take(f"{name}.zip")
    found = flow.records("rows.zip")
    assert {name: row["images"] for name, row in found.items()} == {
        "a": [sha(THREE)], "b": [sha(ONE), sha(THREE)],
    }  # fmt: skip
    assert {row["image_upload"] for row in found.values()} == {flow.keys["more.zip"]}
    assert flow.records("more.zip")["a"] == found["a"]


def test_numbers_about_images_are_the_mean_of_all(folder_settings: Settings) -> None:
    spec = dataset(image_name="{id}-{n}", images="all", image_features=["brightness", "width"])
    flow = flow_of(folder_settings, spec)
    flow.drop("one.zip", {
        "pets.csv": table("id,age,colour", "a,1,red", "b,1,red", "c,1,red"),
        "a-1.png": plain_image((0, 0, 0), 10, 10), "a-2.png": plain_image((90, 90, 90), 40, 10),
        "b-1.png": plain_image((90, 90, 90), 40, 10),
    })  # fmt: skip
    flow.take("one.zip")
    found = {name: row["image_features"] for name, row in flow.records("one.zip").items()}
    assert found == {
        "a": {"image_brightness": 45.0, "image_width": 25.0},
        "b": {"image_brightness": 90.0, "image_width": 40.0}, "c": None,
    }  # fmt: skip


def test_with_the_first_alone_nothing_is_written_about_the_others(
    folder_settings: Settings,
) -> None:
    flow = flow_of(folder_settings, dataset(image_name="{id}-{n}", images="first"))
    flow.drop("one.zip", {
        "pets.csv": table("id,age,colour", "a,1,red"), "a-1.png": ONE, "a-2.png": TWO,
    })  # fmt: skip
    flow.take("one.zip")
    row = flow.records("one.zip")["a"]
    assert (row["image_sha256"], "images" in row) == (sha(ONE), False)
    assert flow.fates("one.zip") == {"a-1.png": "used", "a-2.png": "duplicate"}


def test_a_yaml_that_asks_for_all_later_finds_those_that_came_before(
    folder_settings: Settings,
) -> None:
    flow = flow_of(folder_settings, dataset(image_name="{id}-{n}"))
    flow.drop("one.zip", {"a-1.png": ONE, "a-2.png": TWO})
    flow.take("one.zip")
    flow.spec = dataset(image_name="{id}-{n}", images="all")
    flow.drop("two.zip", {"pets.csv": table("id,age,colour", "a,1,red")})
    flow.take("two.zip")
    assert sets_of(flow, "two.zip") == {"a": [sha(ONE), sha(TWO)]}


def test_people_are_shown_all_that_models_see(folder_settings: Settings) -> None:
    flow = flow_of(folder_settings, dataset(image_name="{id}-{n}", images="all"))
    flow.drop("one.zip", {"a-1.png": ONE, "a-2.png": TWO, "b-1.png": THREE})
    flow.take("one.zip")
    upload = flow.keys["one.zip"]
    places = {"a": (upload, sha(ONE)), "b": (upload, sha(THREE)), "gone": (upload, sha(b"no"))}
    found = images_of(flow.lake, flow.spec, places)
    assert {name: len(own) for name, own in found.items()} == {"a": 2, "b": 1}
    first = images_of(flow.lake, dataset(image_name="{id}-{n}"), places)
    assert first == {name: own[:1] for name, own in found.items()}


def test_an_image_that_the_index_knows_and_the_upload_has_no_more_is_an_error(
    folder_settings: Settings,
) -> None:
    flow = flow_of(folder_settings, dataset(image_name="{id}-{n}", images="all"))
    flow.drop("one.zip", {"a-1.png": ONE, "a-2.png": TWO})
    flow.take("one.zip")
    known = flow.store.look_up("pets", None)
    assert known.num_rows == 0
    import pyarrow as pa

    from mm_assets.manifest.image_sets import ImageSets

    asked = pa.table(
        {
            "record_id": ["a"],
            "image_upload": [flow.keys["one.zip"]],
            "image_sha256": [sha(THREE)],
            "named_files": pa.nulls(1, pa.list_(pa.string())),
        }
    )
    with pytest.raises(LakeError) as caught:
        ImageSets.read(flow.lake, flow.spec, asked)
    assert caught.value.code == "image_lost"


def test_rows_of_one_id_bring_their_images_together(folder_settings: Settings) -> None:
    flow = flow_of(folder_settings, dataset(image_column="photo", images="all"))
    flow.drop("one.zip", {
        "pets.csv": table(HEADER, "a,1,red,2.png", "a,1,red,1.png", "b,2,red,3.png"),
        "1.png": ONE, "2.png": TWO, "3.png": THREE,
    })  # fmt: skip
    document = flow.take("one.zip")
    assert document["rejected_by_code"] == {"duplicate_row": 1}
    assert sets_of(flow, "one.zip") == {"a": [sha(ONE), sha(TWO)], "b": [sha(THREE)]}


def test_a_withdrawn_upload_gives_the_older_set_back(either_table: Settings) -> None:
    flow = flow_of(either_table, dataset(**BY_COLUMN))
    for name in ("rows", "more"):
        flow.drop(f"{name}.zip", UPLOADS[name])
        flow.take(f"{name}.zip")
    assert sets_of(flow, "rows.zip")["a"] == [sha(THREE)]
    flow.store.withdraw("pets", [flow.keys["more.zip"]])
    assert sets_of(flow, "rows.zip") == {"a": [sha(ONE), sha(TWO)], "b": None}


def test_images_that_only_a_cell_names_are_a_set_in_either_table(either_table: Settings) -> None:
    """The row comes first; of its two images one is also another's, and one is sent again."""
    flow = flow_of(either_table, dataset(**BY_COLUMN))
    uploads = {
        "rows": {"pets.csv": table(HEADER, "a,1,red,x/2.png|1.png", "b,2,red,1.png")},
        "images": {"x/2.png": TWO, "1.png": ONE}, "again": {"x/2.png": THREE, "1.png": ONE},
    }  # fmt: skip
    for name, files in uploads.items():
        flow.drop(f"{name}.zip", files)
    for name in ("rows", "images"):
        flow.take(f"{name}.zip")
    assert sets_of(flow, "rows.zip") == {"a": [sha(TWO), sha(ONE)], "b": [sha(ONE)]}
    flow.take("again.zip")
    assert sets_of(flow, "rows.zip") == {"a": [sha(THREE), sha(ONE)], "b": [sha(ONE)]}
    flow.store.withdraw("pets", [flow.keys["again.zip"]])
    assert sets_of(flow, "rows.zip") == {"a": [sha(TWO), sha(ONE)], "b": [sha(ONE)]}


@pytest.mark.parametrize("images", ["first", "all"])
def test_records_with_any_image_in_common_stay_together(
    folder_settings: Settings, images: str
) -> None:
    flow = flow_of(folder_settings, dataset(image_name="{id}-{n}", images=images))
    view, again = photo(5), photo(5).resize((60, 60))
    flow.drop("one.zip", {
        "pets.csv": table("id,age,colour,label", "a,1,red,cat", "b,22,blue,dog", "c,9,red,cat"),
        "a-1.png": draw_image(1), "a-2.png": saved(view), "b-1.png": draw_image(2),
        "b-2.jpg": saved(again, "JPEG", quality=80), "c-1.png": draw_image(3),
    })  # fmt: skip
    flow.take("one.zip")
    rows, groups = grouped_rows(flow.lake, flow.store, flow.spec)
    names = dict(zip(rows["record_id"].to_pylist(), groups.names, strict=True))
    assert (names["a"] == names["b"]) == (images == "all")
    assert names["c"] == "c"


def test_images_that_are_the_records_may_be_several_of_each(either_table: Settings) -> None:
    spec = DatasetSpec.model_validate({
        "dataset": "pets", "records": "images", "image_name": "{label}/{id}-{n}", "images": "all",
        "problem_type": "binary", "model_with_image": {"engine": "gradient_boosting"},
    })  # fmt: skip
    flow = flow_of(either_table, spec)
    flow.drop("one.zip", {"cat/a-2.png": TWO, "cat/a-1.png": ONE, "dog/b-1.png": THREE})
    flow.drop("new.zip", {"c-1.png": THREE, "c-2.png": ONE})
    for name in ("one.zip", "new.zip"):
        flow.take(name)
    found = flow.records("one.zip")
    assert {name: (row["label"], row["images"]) for name, row in found.items()} == {
        "a": ("cat", [sha(ONE), sha(TWO)]), "b": ("dog", [sha(THREE)]),
    }  # fmt: skip
    assert sets_of(flow, "new.zip") == {"c": [sha(THREE), sha(ONE)]}


def test_a_few_images_are_in_memory_however_far_apart_a_record_s_lie(
    folder_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_file, "ROW_GROUP_BYTES", 1)  # each image in a group of its own
    monkeypatch.setattr(uploads_received, "MOST_IN_SETS", 3)
    flow = flow_of(folder_settings, dataset(image_name="{id}", images="all"))
    images = {f"{side}/{n}.png": draw_image(10 * n + len(side)) for side in ("left", "right")
              for n in range(5)}  # fmt: skip
    flow.drop("one.zip", {**images, "left/5.png": images["left/0.png"]})
    flow.take("one.zip")
    sets = [[sha(images[f"left/{n}.png"]), sha(images[f"right/{n}.png"])] for n in range(5)]
    sets.append([sha(images["left/0.png"])])
    upload = flow.keys["one.zip"]
    parts = list(read_image_sets(flow.lake, "pets", upload, sets))
    assert sorted(place for places, _ in parts for place in places) == list(range(6))
    for places, found in parts:
        assert set(found) == {one for place in places for one in sets[place]}
        assert len(found) <= 3
    with pytest.raises(LakeError) as caught:
        list(read_image_sets(flow.lake, "pets", upload, [[sha(b"gone")]]))
    assert caught.value.code == "image_lost"
