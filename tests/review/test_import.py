"""What people answered, in each form that they may bring it, and what becomes of it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.errors import UploadError
from mm_assets.lake.lake import Lake
from mm_assets.review.answers import Judged, judge, send_labels
from mm_assets.review.export import export_review
from mm_assets.review.queue import review_classes, review_queue
from mm_assets.review.read import read_answers
from mm_assets.tables.open import open_store
from mm_assets.training.training_set import build_training_set
from mm_assets.uploads.received import read_parquet
from tests.make import draw_image, drop_zip, processed
from tests.review.conftest import SPEC, World

HERE = Path(__file__).parent


def judged(world: World, path: Path) -> Judged:
    classes = review_classes(world.lake, world.spec)
    return judge(read_answers(path, world.spec), world.store, world.spec, classes)


def exported(*answers: tuple[str, list[dict]]) -> str:
    """Label Studio's JSON export of these tasks, by record and its annotations."""
    return json.dumps(
        [
            {"id": n, "data": {"record_id": record_id, "image": "x"}, "annotations": annotations}
            for n, (record_id, annotations) in enumerate(answers, 1)
        ]
    )


def chose(*names: str, **more) -> dict:
    result = {"from_name": "label", "to_name": "record", "type": "choices"}
    return {"result": [{**result, "value": {"choices": list(names)}}], **more}


def filled_in(folder: Path, label_column: str, **labels: str) -> Path:
    """tasks.csv as a person leaves it: records by the letters of their ID."""
    path = folder / "tasks.csv"
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row[label_column] = labels.get(row["record_id"], "")
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=";")
        writer.writeheader()
        writer.writerows(rows)
    return path


def labels_of_training_set(world: World) -> dict[str, str]:
    document = build_training_set(world.lake, world.store, world.spec, run_id="run")
    rows = read_parquet(world.lake, document, "training_set.parquet").to_pylist()
    return {row["record_id"]: row["label"] for row in rows}


def test_a_sheet_goes_out_and_its_labels_come_back_into_the_next_training_set(
    world: World, folder: Path
) -> None:
    export_review(world.lake, world.store, world.spec, folder)
    path = filled_in(folder, "label", **{"plain": "dog", "'=1+2": " cat ", "''=1+2": "dog"})
    found = judged(world, path)
    assert found.labels == {"plain": "dog", "=1+2": "cat", "'=1+2": "dog"}
    assert (found.left_out.total(), found.refused) == (5, [])
    sent = send_labels(world.lake, world.spec, found)
    world.take_in(sent.name)
    assert labels_of_training_set(world) == {"plain": "dog", "=1+2": "cat", "'=1+2": "dog"}
    left = {item.record_id for item in review_queue(world.store, world.spec)}
    assert left.isdisjoint(found.labels)
    assert len(left) == 5


UNSURE_MIN = """[
    {"id": 1, "record_id": "plain", "label": "dog", "unsure": "can't tell"},
    {"id": 2, "record_id": "007", "label": "cat"}
]"""
UNSURE_CSV = """annotation_id,annotator,lead_time,record_id,label,unsure
1,1,2.0,plain,dog,can't tell
2,1,2.0,007,cat,
"""


@pytest.mark.parametrize("export", [UNSURE_MIN, UNSURE_CSV])
def test_who_cannot_tell_gives_no_label_in_the_smaller_exports_either(
    world: World, tmp_path: Path, export: str
) -> None:
    path = tmp_path / "export"
    path.write_text(export)
    found = judged(world, path)
    assert (found.labels, found.left_out) == ({"007": "cat"}, {"can't tell": 1})


def test_a_sheet_that_was_exported_before_there_were_reasons_to_ask_is_still_read(
    world: World, tmp_path: Path
) -> None:
    path = tmp_path / "tasks.csv"
    path.write_text(
        "record_id,prediction,confidence,reasons,image,age,note,label\n"
        "plain,cat,0.51,age is high,images/plain.jpg,0.0,'=HYPERLINK(1),dog\n"
    )
    assert judged(world, path).labels == {"plain": "dog"}


def test_the_json_export_is_read_and_what_nobody_answered_is_left_out(
    world: World, tmp_path: Path
) -> None:
    path = tmp_path / "project-1-at-2026.bin"  # the content decides, not the name
    path.write_text(
        exported(
            ("plain", [chose("dog")]),
            ("A b", [chose("cat"), chose("cat"), chose("dog", was_cancelled=True)]),
            ("a-b", [chose("dog", was_cancelled=True)]),
            ("a b", []),
            ("007", [{"result": []}]),
        )
    )
    found = judged(world, path)
    assert found.labels == {"plain": "dog", "A b": "cat"}
    assert found.left_out == {"skipped": 2, "not answered": 2}
    assert found.refused == []


def test_an_answer_that_cannot_be_used_is_named_and_never_guessed(
    world: World, tmp_path: Path
) -> None:
    path = tmp_path / "export.json"
    broken = {"id": 9, "data": {"image": "x"}, "annotations": [chose("cat")]}
    entries = json.loads(
        exported(
            ("plain", [chose("dog"), chose("cat")]),
            ("A b", [chose("owl")]),
            ("never seen", [chose("cat")]),
            ("a b", [chose("cat", "dog")]),
            ("007", [chose("Cat ")]),
        )
    )
    path.write_text(json.dumps([*entries, broken, "nonsense"]))
    found = judged(world, path)
    assert found.labels == {"007": "cat"}
    assert {(one.record_id, one.code) for one in found.refused} == {
        ("plain", "answers_disagree"), ("A b", "label_invalid"), ("never seen", "record_unknown"),
        ("a b", "answer_unreadable"), ("", "answer_unreadable"),
    }  # fmt: skip
    assert len(found.refused) == 6
    [disagree] = [one for one in found.refused if one.code == "answers_disagree"]
    assert disagree.reason == "'dog' in task 1; 'cat' in task 1"
    assert all(one.as_dict()["todo"] for one in found.refused)


@pytest.mark.parametrize("file", ["choices.min.json", "choices.csv", "choices.tsv"])
def test_the_smaller_exports_say_the_same_as_the_json_export(world: World, file: str) -> None:
    whole = judged(world, HERE / "exports" / "choices.json")
    smaller = judged(world, HERE / "exports" / file)
    assert whole.labels == smaller.labels == {"plain": "dog", "=1+2": "cat", "Ünïcode id": "dog"}
    codes = {(one.record_id, one.code) for one in whole.refused}
    assert {(one.record_id, one.code) for one in smaller.refused} == codes
    assert codes == {("A b", "answers_disagree")}


@pytest.mark.parametrize("file", ["numbers.json", "numbers.min.json", "numbers.csv"])
def test_numbers_come_back_from_every_export(numbers: World, file: str) -> None:
    found = judged(numbers, HERE / "exports" / file)
    assert {name: float(label) for name, label in found.labels.items()} == {
        "plain": 2.5, "=1+2": -3.0, "Ünïcode id": 1e-7,
    }  # fmt: skip


def test_only_finite_numbers_are_labels_of_a_regression(numbers: World, folder: Path) -> None:
    export_review(numbers.lake, numbers.store, numbers.spec, folder)
    answers = {"plain": "nan", "'=1+2": "1,5", "A b": "1e999", "a-b": "-2.5e3", "a b": "7"}
    found = judged(numbers, filled_in(folder, "prediction", **answers))
    assert found.labels == {"a-b": "-2.5e3", "a b": "7"}
    assert [one.code for one in found.refused] == ["label_invalid"] * 3
    sent = send_labels(numbers.lake, numbers.spec, found)
    numbers.take_in(sent.name)
    assert labels_of_training_set(numbers) == {"a-b": "-2.5e3", "a b": "7"}


def test_the_same_import_again_makes_no_difference(world: World, tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    path.write_text(exported(("plain", [chose("dog")]), ("007", [chose("cat")])))
    first = send_labels(world.lake, world.spec, judged(world, path))
    again = send_labels(world.lake, world.spec, judged(world, path))
    assert (first.already_there, again.already_there) == (False, True)
    assert first.key == again.key
    world.take_in(first.name)
    after = judged(world, path)
    assert (after.labels, after.left_out) == ({}, {"known already": 2})
    assert send_labels(world.lake, world.spec, after) is None


def test_a_label_that_is_changed_and_changed_back_is_sent_each_time(
    world: World, tmp_path: Path
) -> None:
    path, names = tmp_path / "export.json", []
    for label in ("dog", "cat", "dog"):
        path.write_text(exported(("plain", [chose(label)])))
        sent = send_labels(world.lake, world.spec, judged(world, path))
        assert not sent.already_there
        names.append(sent.name)
        world.take_in(sent.name)
        assert labels_of_training_set(world) == {"plain": label}
    assert len(set(names)) == 3


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[{", "begins as JSON but is none"),
        (b"[" * 100_000, "begins as JSON but is none"),
        (b"", "empty"),
        (b"\x89PNG\r\n\x1a\n\0\0", "no table is inside"),
        (b"record_id,prediction\nplain,cat\n", "no column 'label'"),
        (b"id,label\nplain,cat\n", "no column is named 'record_id'"),
    ],
)
def test_a_file_that_is_none_of_them_is_answered_in_words(
    world: World, tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(UploadError, match=words) as raised:
        read_answers(path, SPEC)
    assert raised.value.code == "answers_unreadable"


def test_a_row_that_cannot_be_read_is_refused_with_its_line(world: World, tmp_path: Path) -> None:
    path = tmp_path / "tasks.csv"
    path.write_text("record_id,label\nplain,dog\n007,cat,more\n")
    found = judged(world, path)
    assert found.labels == {"plain": "dog"}
    [refused] = found.refused
    assert (refused.code, refused.where) == ("answer_unreadable", "line 3")


def test_labels_are_written_in_the_encoding_of_the_dataset(folder_settings) -> None:
    lake = Lake(folder_settings)
    for encoding in ("utf-16", "latin-1"):
        spec = SPEC.model_copy(update={"encoding": encoding})
        sent = send_labels(lake, spec, Judged(labels={"Ü": "cat"}, before={"Ü": encoding}))
        text = lake.read(f"{sent.key}labels.csv").decode(encoding)
        assert text == '"id","label"\n"Ü","cat"\n'
    with pytest.raises(UploadError, match="label_encoding"):
        send_labels(lake, spec, Judged(labels={"日": "cat"}, before={}))


def test_images_that_are_records_of_their_own_are_labelled_the_same_way(
    folder_settings, tmp_path: Path
) -> None:
    spec = DatasetSpec.model_validate(
        {"dataset": "photos", "records": "images", "problem_type": "binary",
         "classes": ["cat", "dog"], "image_longest_side": 16}
    )  # fmt: skip
    lake, store = Lake(folder_settings), open_store(folder_settings)
    drop_zip(lake, "a.zip", {f"p{n}.png": draw_image(n) for n in range(3)}, "photos")
    processed(lake, store, spec, "a.zip")
    path = tmp_path / "export.json"
    path.write_text(exported(("p1", [chose("dog")]), ("p9", [chose("cat")])))
    found = judge(read_answers(path, spec), store, spec, ("cat", "dog"))
    assert found.labels == {"p1": "dog"}
    assert [one.code for one in found.refused] == ["record_unknown"]
    processed(lake, store, spec, send_labels(lake, spec, found).name)
    document = build_training_set(lake, store, spec, run_id="run")
    rows = read_parquet(lake, document, "training_set.parquet").to_pylist()
    assert [(row["record_id"], row["label"]) for row in rows] == [("p1", "dog")]
    assert rows[0]["image_sha256"] is not None
