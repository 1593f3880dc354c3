"""What people are given: the queue, and the folder with tasks, sheet and images."""

from __future__ import annotations

import csv
import io
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mm_assets.contract.errors import ModelError, UploadError
from mm_assets.contract.review import Review
from mm_assets.review.export import NO_IMAGE, export_review, image_name
from mm_assets.review.queue import review_classes, review_queue
from mm_assets.review.sheet import guard, header, unguard
from tests.make import dataset, draw_image, table
from tests.review.conftest import IMAGED, RECORDS, World

TO_REVIEW = [name for name, sure in RECORDS.items() if sure < 0.6]


def export(world: World, folder: Path, **more) -> tuple[list[dict], list[dict]]:
    """Export; returns the tasks and the rows of the sheet."""
    export_review(world.lake, world.store, world.spec, folder, **more)
    with (folder / "tasks.csv").open(encoding="utf-8-sig", newline="") as file:
        return json.loads((folder / "tasks.json").read_text("utf-8")), list(csv.DictReader(file))


def test_the_queue_is_what_needs_review_least_confident_first(world: World) -> None:
    items = review_queue(world.store, world.spec)
    assert [item.record_id for item in items] == TO_REVIEW
    first = items[0]
    assert (first.prediction, first.second) == ("cat", "dog")
    assert first.second_probability == pytest.approx(0.49)
    assert (first.image_upload, first.image_file) == (world.upload, "p/plain.png")
    assert items[-1].image_file is None
    assert {(item.why, item.doubts, item.lower) for item in items} == {
        ("low confidence", None, None)
    }


def test_what_its_model_never_saw_comes_first_however_sure_and_is_why_a_person_is_asked(
    world: World, folder: Path
) -> None:
    doubt = "unseen_category (breed): '=owl()'; the model knows 'pug'"
    world.doubt("sure", doubt)
    items = review_queue(world.store, world.spec)
    assert [item.record_id for item in items] == ["sure", *TO_REVIEW]
    assert [item.why for item in items[:2]] == [doubt, "low confidence"]
    assert items[0].as_row()["doubts"] == doubt
    assert [item.record_id for item in review_queue(world.store, world.spec, 1)] == ["sure"]
    tasks, rows = export(world, folder, limit=2)
    assert [row["why"] for row in rows] == [doubt, "low confidence"]
    assert [task["data"]["why"] for task in tasks] == [doubt, "low confidence"]
    assert tasks[0]["data"]["columns"]["why"] == doubt


def test_a_record_leaves_the_queue_when_its_label_comes_and_the_limit_does_not_count_it(
    world: World,
) -> None:
    world.deliver("labels.zip", {"l.csv": table("id,label", "plain,dog")})
    items = review_queue(world.store, world.spec, 2)
    assert [item.record_id for item in items] == TO_REVIEW[1:3]


def test_tasks_carry_the_record_its_columns_and_the_prediction(world: World, folder: Path) -> None:
    tasks, _ = export(world, folder)
    assert [task["data"]["record_id"] for task in tasks] == TO_REVIEW
    first = tasks[0]
    assert first["data"]["columns"]["age"] == "0.0"
    assert first["data"]["columns"]["note"] == "=HYPERLINK(1)"
    [prediction] = first["predictions"]
    assert prediction["score"] == 0.51
    assert prediction["result"] == [
        {"from_name": "label", "to_name": "record", "type": "choices",
         "value": {"choices": ["cat"]}}
    ]  # fmt: skip


def test_images_have_safe_names_of_their_own_and_are_the_record_s(
    world: World, folder: Path
) -> None:
    tasks, rows = export(world, folder, image_prefix="/data/local-files/?d=pets/images/")
    files = {path.name for path in (folder / "images").iterdir()} - {NO_IMAGE}
    assert len({name.lower() for name in files}) == len(IMAGED)
    assert all(name.isascii() and " " not in name and "=" not in name for name in files)
    by_record = {row["record_id"]: row["image"] for row in rows}
    for n, name in enumerate(IMAGED):
        written = Image.open(folder / by_record[guard(name)])
        sent = Image.open(io.BytesIO(draw_image(n)))
        assert written.getpixel((0, written.height - 1)) == sent.getpixel((1, 22))
    urls = [task["data"]["image"] for task in tasks]
    names = [url.removeprefix("/data/local-files/?d=pets/images/") for url in urls]
    assert set(names[:4]) == files
    assert set(names[4:]) == {NO_IMAGE}


def test_a_lost_image_is_counted_and_holds_nobody_back(world: World, folder: Path) -> None:
    world.lake.delete(f"datasets/pets/uploads/{world.upload}/raw_uploads.json")
    written = export_review(world.lake, world.store, world.spec, folder)
    assert (written.records, written.images, written.lost) == (len(TO_REVIEW), 0, 4)


def test_the_sheet_is_safe_to_open_and_has_an_empty_column_for_the_label(
    world: World, folder: Path
) -> None:
    _, rows = export(world, folder, limit=2)
    assert list(rows[0]) == [
        "record_id", "prediction", "confidence", "why", "reasons", "image", "age", "note", "label",
    ]  # fmt: skip
    assert [row["record_id"] for row in rows] == ["plain", "'=1+2"]
    assert {row["note"] for row in rows} == {"'=HYPERLINK(1)"}
    assert {row["label"] for row in rows} == {""}


@given(st.text(max_size=6, alphabet="'=+-@1.e\t\r\nx＝é"))
def test_a_guarded_cell_is_no_formula_and_is_read_back_exactly(text: str) -> None:
    cell = guard(text)
    assert unguard(cell) == text
    # A spreadsheet shows what follows a first apostrophe as it is; a number is none to fear.
    assert cell[:1] not in set("=+@\t\r\n＝") or cell == ""
    if cell[:1] == "-":
        float(cell)


def test_the_labelling_config_offers_the_classes_or_a_number(world: World, folder: Path) -> None:
    export(world, folder)
    view = ET.parse(folder / "labelling.xml").getroot()
    choices = {one.get("name"): one for one in view.iter("Choices")}
    assert [one.get("value") for one in choices["label"]] == ["cat", "dog"]
    assert [one.get("value") for one in choices["unsure"]] == ["can't tell"]
    assert view.find("Image").get("value") == "$image"
    assert view.find("Choices").get("toName") == view.find("Text").get("name")


def test_a_regression_without_images_is_exported_with_numbers(numbers: World, folder: Path) -> None:
    tasks, rows = export(numbers, folder)
    view = ET.parse(folder / "labelling.xml").getroot()
    assert view.find("Number") is not None
    assert view.find("Image") is None
    assert "image" not in tasks[0]["data"]
    assert tasks[0]["predictions"][0]["result"][0]["value"] == {"number": 1.5}
    # The dataset's own column `prediction` keeps its name; ours gives way.
    assert header(numbers.spec)[1] == "_prediction"
    assert (rows[0]["_prediction"], rows[0]["prediction"]) == ("1.5", "")
    assert (rows[0]["lower"], rows[0]["upper"]) == ("1.25", "4.0")
    assert {row["why"] for row in rows} == {"low confidence"}
    assert tasks[0]["data"]["columns"]["upper"] == "4.0"


def test_a_number_is_there_for_its_interval_where_that_decides(numbers: World) -> None:
    spec = numbers.spec.model_copy(update={"review": Review(widest_interval=0.5)})
    assert {item.why for item in review_queue(numbers.store, spec)} == {"wide interval"}


def test_an_earlier_export_is_never_overwritten(world: World, folder: Path) -> None:
    export(world, folder)
    with pytest.raises(UploadError, match="export_exists"):
        export(world, folder)


def test_a_folder_that_cannot_be_written_is_said_in_words(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for at in ("file", "file/below"):
        with pytest.raises(UploadError, match="export_exists|export_unwritable"):
            export_review(world.lake, world.store, world.spec, tmp_path / at)


def test_classes_come_from_the_yaml_else_from_the_training_set(world: World) -> None:
    assert review_classes(world.lake, world.spec) == ("cat", "dog")
    free = dataset(classes=None)
    with pytest.raises(ModelError, match="classes_unknown"):
        review_classes(world.lake, free)
    world.lake.write_json("datasets/pets/training_set.json", {"labels": {"owl": 2, "ant": 9}})
    assert review_classes(world.lake, free) == ("ant", "owl")


@given(st.text(max_size=60), st.text(max_size=60))
def test_two_records_never_share_an_image_s_name(one: str, other: str) -> None:
    names = image_name(one, b"").lower(), image_name(other, b"").lower()
    assert (names[0] == names[1]) == (one == other)
    assert len(names[0]) < 80
