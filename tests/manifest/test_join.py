"""Rows and images meet by ID, whichever upload brought them and whichever came first."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.errors import LakeError
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import records_name
from mm_assets.manifest.join import MANIFEST_COLUMNS, build_manifest, with_row_upload
from mm_assets.manifest.split import split_records
from mm_assets.tables.open import open_store
from mm_assets.tables.store import Store
from mm_assets.training.training_set import build_training_set
from tests.make import dataset, draw_image, drop_zip, found, processed, received, rows_of, table

HEADER = "id,age,colour"
LABELLED = "id,age,colour,label"


class Flow:
    """A lake and a store, and what each upload's manifest said last."""

    def __init__(self, lake: Lake, store: Store, spec: DatasetSpec) -> None:
        self.lake, self.store, self.spec = lake, store, spec
        self.keys: dict[str, str] = {}

    def drop(self, name: str, files: dict[str, bytes]) -> None:
        """Let an upload come in; the keys of later ones are greater."""
        drop_zip(self.lake, name, files)
        self.keys[name] = found(self.lake, name).upload
        # A key tells milliseconds apart, but a file's time only ticks of the kernel: 4 to 10 ms.
        time.sleep(0.012)

    def take(self, name: str) -> dict[str, Any]:
        """Receive an upload and build its manifest."""
        return processed(self.lake, self.store, self.spec, name)

    def records(self, name: str) -> dict[str, dict[str, Any]]:
        """An upload's manifest, built again, by ID."""
        document = build_manifest(self.lake, self.store, self.spec, self.keys[name], run_id="run")
        return {r["record_id"]: r for r in rows_of(self.lake, document, "manifest.parquet")}

    def fates(self, name: str) -> dict[str, str]:
        document = build_manifest(self.lake, self.store, self.spec, self.keys[name], run_id="run")
        return {r["file"]: r["fate"] for r in rows_of(self.lake, document, "images.parquet")}


@pytest.fixture
def flow(folder_settings: Settings) -> Flow:
    return Flow(Lake(folder_settings), open_store(folder_settings), dataset(image_name="{id}"))


@pytest.mark.parametrize("order", [("rows", "image"), ("image", "rows")])
def test_a_row_and_an_image_of_two_uploads_meet_in_the_second_one(
    flow: Flow, order: tuple[str, str]
) -> None:
    files = {
        "rows": {"t.csv": table(HEADER, "1,2,red", "2,3,blue")},
        "image": {"1.png": draw_image(1)},
    }
    for name in order:
        flow.drop(name + ".zip", files[name])
    flow.take(order[0] + ".zip")
    document = flow.take(order[1] + ".zip")
    (record,) = [
        r for r in rows_of(flow.lake, document, "manifest.parquet") if r["record_id"] == "1"
    ]
    assert record["row_upload"] == flow.keys["rows.zip"]
    assert record["image_upload"] == flow.keys["image.zip"]
    assert record["image_file"] == "1.png"
    assert record["features"] == {"age": 2.0, "colour": "red"}
    assert record["purpose"] == "predict"
    assert record["input_hash"].endswith(record["image_sha256"])


def test_a_row_and_an_image_of_one_upload_meet_there(flow: Flow) -> None:
    flow.drop("a.zip", {"t.csv": table(HEADER, "1,2,red", "2,3,blue"), "p/1.png": draw_image(1)})
    counts = flow.take("a.zip")["counts"]
    assert (counts["with_image"], counts["without_image"], counts["images_used"]) == (1, 1, 1)
    assert counts["rows_from_other_uploads"] == 0
    without = flow.records("a.zip")["2"]
    assert (without["image_sha256"], without["image_upload"]) == (None, None)


def test_the_newest_row_and_the_newest_image_win_wherever_they_are(flow: Flow) -> None:
    flow.drop("1.zip", {"t.csv": table(HEADER, "x,1,red"), "x.png": draw_image(1)})
    flow.drop("2.zip", {"x.png": draw_image(2)})
    flow.drop("3.zip", {"t.csv": table(HEADER, "x,3,red")})
    for name in ("3.zip", "1.zip", "2.zip"):
        flow.take(name)
    for name in ("1.zip", "2.zip", "3.zip"):
        record = flow.records(name)["x"]
        assert record["features"]["age"] == 3.0
        assert record["row_upload"] == flow.keys["3.zip"]
        assert record["image_upload"] == flow.keys["2.zip"]
    assert flow.fates("1.zip") == {"x.png": "superseded"}
    assert flow.fates("2.zip") == {"x.png": "used"}


def test_an_older_upload_that_is_handled_late_changes_nothing(flow: Flow) -> None:
    flow.drop("old.zip", {"t.csv": table(HEADER, "x,1,red"), "x.png": draw_image(1)})
    flow.drop("new.zip", {"t.csv": table(HEADER, "x,2,red"), "x.png": draw_image(2)})
    flow.take("new.zip")
    before = flow.records("new.zip")
    flow.take("old.zip")
    assert flow.records("new.zip") == flow.records("old.zip") == before


def test_a_label_that_comes_later_stands_beside_the_row_to_predict(flow: Flow) -> None:
    flow.drop("rows.zip", {"t.csv": table(HEADER, "x,1,red", "y,1,red")})
    flow.drop("labels.zip", {"t.csv": table("id,label", "x,cat", "z,dog")})
    flow.take("rows.zip")
    document = flow.take("labels.zip")
    record = flow.records("labels.zip")["x"]
    assert (record["purpose"], record["label"]) == ("predict", "cat")
    assert record["label_upload"] == flow.keys["labels.zip"]
    assert record["row_upload"] == flow.keys["rows.zip"]
    assert set(flow.records("labels.zip")) == {"x"}
    assert document["counts"]["records"] == 2


def test_a_labelled_row_is_for_training_until_an_unlabelled_one_comes(flow: Flow) -> None:
    flow.drop("train.zip", {"t.csv": table(LABELLED, "x,1,red,cat")})
    flow.take("train.zip")
    assert flow.records("train.zip")["x"]["purpose"] == "train"
    flow.drop("predict.zip", {"t.csv": table(HEADER, "x,2,red")})
    flow.take("predict.zip")
    record = flow.records("predict.zip")["x"]
    assert (record["purpose"], record["label"], record["features"]["age"]) == (
        "predict",
        "cat",
        2.0,
    )


def test_an_unlabelled_row_stays_the_one_to_predict_when_a_labelled_one_comes(flow: Flow) -> None:
    flow.drop("predict.zip", {"t.csv": table(HEADER, "x,1,red")})
    flow.drop("train.zip", {"t.csv": table(LABELLED, "x,2,red,cat")})
    flow.take("predict.zip")
    flow.take("train.zip")
    for name in ("predict.zip", "train.zip"):
        record = flow.records(name)["x"]
        assert (record["purpose"], record["features"]["age"], record["label"]) == (
            "predict", 1.0, "cat",
        )  # fmt: skip


def test_training_sees_the_newest_row_of_all_and_the_newest_label(flow: Flow) -> None:
    flow.drop(
        "1.zip", {"t.csv": table(LABELLED, "x,1,red,cat", "y,1,red,cat"), "x.png": draw_image(1)}
    )
    flow.drop("2.zip", {"t.csv": table(HEADER, "x,2,red", "z,2,red")})
    flow.drop("3.zip", {"t.csv": table("id,label", "x,dog", "only,cat")})
    for name in ("2.zip", "3.zip", "1.zip"):
        flow.take(name)
    document = build_training_set(flow.lake, flow.store, flow.spec, run_id="run")
    told = {
        r["record_id"]: (r["features"]["age"], r["label"], r["image_sha256"] is not None)
        for r in rows_of(flow.lake, document, "training_set.parquet")
    }
    assert told == {"x": (2.0, "dog", True), "y": (1.0, "cat", False)}


def test_of_several_images_of_a_record_the_lowest_number_is_used(folder_settings: Settings) -> None:
    spec = dataset(image_name="{id}-{n}")
    flow = Flow(Lake(folder_settings), open_store(folder_settings), spec)
    names = ["x-10.png", "x-2.png", "b/x-1.png", "a/x-01.png", "y-3.png"]
    rows = {"t.csv": table(HEADER, "x,1,red", "y,1,red")}
    flow.drop("a.zip", {**rows, **{name: draw_image(i) for i, name in enumerate(names)}})
    flow.take("a.zip")
    assert flow.records("a.zip")["x"]["image_file"] == "a/x-01.png"
    assert flow.records("a.zip")["y"]["image_file"] == "y-3.png"
    used = {"a/x-01.png": "used", "y-3.png": "used"}
    assert flow.fates("a.zip") == {name: used.get(name, "duplicate") for name in names}


def test_an_image_without_a_row_is_an_orphan_until_its_row_comes(flow: Flow) -> None:
    flow.drop("image.zip", {"x.png": draw_image(1), "y.png": draw_image(2)})
    flow.drop("labels.zip", {"t.csv": table("id,label", "y,cat")})
    flow.drop("rows.zip", {"t.csv": table(HEADER, "x,1,red")})
    counts = flow.take("image.zip")["counts"]
    assert (counts["images_orphaned"], counts["in_manifest"]) == (2, 0)
    flow.take("labels.zip")
    flow.take("rows.zip")
    # A label alone is no row: there is nothing that the image could illustrate.
    assert flow.fates("image.zip") == {"x.png": "used", "y.png": "orphaned"}


def test_ids_meet_only_when_they_are_the_same_text(flow: Flow) -> None:
    flow.drop(
        "a.zip",
        {"t.csv": table(HEADER, "007,1,a", "1E5,1,a", "A,1,a"),
         "7.png": draw_image(1), "100000.png": draw_image(2), "a.png": draw_image(3)},
    )  # fmt: skip
    assert flow.take("a.zip")["counts"]["with_image"] == 0
    assert set(flow.fates("a.zip").values()) == {"orphaned"}


def test_an_image_that_does_not_decode_is_no_image(flow: Flow) -> None:
    good = draw_image(1)
    flow.drop("a.zip", {"t.csv": table(HEADER, "x,1,red"), "x.png": good[: len(good) // 2]})
    counts = flow.take("a.zip")["counts"]
    assert (counts["with_image"], counts["without_image"]) == (0, 1)


def test_every_row_and_every_image_is_accounted_for(lake: Lake) -> None:
    store = open_store(lake.settings)
    rows = table(LABELLED, "1,2,red,", "1,2,red,", "2,x,red,", "3,1,red,cat", "4,1", "5,1,red,cow")
    files = {
        "t.csv": rows,
        "l.csv": table("id,label", "1,dog", "9,cat"),
        "1.png": draw_image(1),
        "b/1.png": draw_image(2),
        "8.png": draw_image(3),
        "bad.png": b"\x89PNG\r\n\x1a\n",
    }
    drop_zip(lake, "a.zip", files)
    document = processed(lake, store, dataset(), "a.zip")
    counts = document["counts"]
    assert counts["rows"] == 8
    assert counts["rows"] == counts["records"] + counts["labels_joined"] + counts["rejected"]
    rejects = rows_of(lake, document, "rejects.parquet")
    assert Counter(r["code"] for r in rejects) == document["rejected_by_code"] == {
        "duplicate_row": 1, "number_invalid": 1, "row_width": 1, "label_invalid": 1,
    }  # fmt: skip
    fates = {r["file"]: r["fate"] for r in rows_of(lake, document, "images.parquet")}
    assert fates == {"1.png": "used", "b/1.png": "duplicate", "8.png": "orphaned"}
    assert counts["in_manifest"] == counts["with_image"] + counts["without_image"]
    assert counts["in_manifest"] == counts["to_predict"] + counts["labelled"] == 2


def test_a_manifest_built_again_has_the_same_files(flow: Flow) -> None:
    flow.drop("a.zip", {"t.csv": table(HEADER, "x,1,red", "y,1,red"), "x.png": draw_image(1)})
    first = flow.take("a.zip")
    again = flow.take("a.zip")
    assert first["files"] == again["files"]
    assert first["counts"] == again["counts"]


def test_a_row_that_an_upload_no_longer_has_is_forgotten(flow: Flow) -> None:
    rows = "id,age,colour,size", "x,1,red,", "y,1,red,3"
    flow.drop("a.zip", {"t.csv": table(*rows)})
    flow.take("a.zip")
    assert set(flow.records("a.zip")) == {"x", "y"}
    columns = {"age": "number", "size": {"kind": "number", "required": True}}
    flow.spec = dataset(columns=columns)
    flow.take("a.zip")
    assert set(flow.records("a.zip")) == {"y"}
    assert flow.store.look_up("pets", None).num_rows == 0


def test_the_split_has_each_record_once_by_whether_it_has_an_image(lake: Lake) -> None:
    store = open_store(lake.settings)
    drop_zip(lake, "a.zip", {
        "t.csv": table(LABELLED, "1,2,red,", "2,2,red,cat", "3,2,red,", "4,2,red,"),
        "1.png": draw_image(1), "2.png": draw_image(2), "4.png": b"no image",
    })  # fmt: skip
    manifest = processed(lake, store, dataset(), "a.zip")
    told = {}
    for modality in Modality:
        document = split_records(lake, dataset(), manifest["upload"], modality)
        rows = rows_of(lake, document, f"{records_name(modality)}.parquet")
        told[modality.value] = [row["record_id"] for row in rows]
        assert document["counts"]["records"] == len(rows)
        assert document["counts"]["labelled"] == sum(row["purpose"] == "train" for row in rows)
        assert set(rows[0]) == {*MANIFEST_COLUMNS, "features"}
    assert told == {"with_image": ["1", "2"], "without_image": ["3", "4"]}


def test_where_all_records_are_of_one_modality_nothing_is_read_or_written_again(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(lake.settings)
    drop_zip(lake, "a.zip", {"t.csv": table(LABELLED, "1,2,red,", "2,2,red,cat")})
    manifest = processed(lake, store, dataset(), "a.zip")
    read: list[str] = []
    with monkeypatch.context() as counting:
        for name in ("fetch_published", "open_published"):
            counting.setattr(Lake, name, lambda _self, _document, file, *_: read.append(file))
        document = split_records(lake, dataset(), manifest["upload"], Modality.WITHOUT_IMAGE)
    assert not read
    assert document["counts"] == {"records": 2, "to_predict": 1, "labelled": 1}
    assert document["files"] == {
        "records_without_image.parquet": manifest["files"]["manifest.parquet"]
    }
    rows = rows_of(lake, document, "records_without_image.parquet")
    assert [row["record_id"] for row in rows] == ["1", "2"]


def test_an_upload_with_no_rows_at_all_has_an_empty_manifest(lake: Lake) -> None:
    store = open_store(lake.settings)
    lake.write("inbox/pets/bad.zip", b"no zip")
    document = processed(lake, store, dataset(), "bad.zip")
    assert set(document["counts"].values()) == {0}
    for modality in Modality:
        assert (
            split_records(lake, dataset(), document["upload"], modality)["counts"]["records"] == 0
        )


def test_a_manifest_needs_its_upload_received(lake: Lake) -> None:
    with pytest.raises(LakeError) as caught:
        build_manifest(lake, open_store(lake.settings), dataset(), "never", run_id="run")
    assert caught.value.code == "not_materialised"


def test_the_row_for_predictions_is_unlabelled_first_and_for_training_the_newest(
    flow: Flow,
) -> None:
    flow.drop("1.zip", {"t.csv": table(HEADER, "x,1,red")})
    flow.drop("2.zip", {"t.csv": table(LABELLED, "x,2,red,cat")})
    flow.take("1.zip")
    flow.take("2.zip")
    known = flow.store.look_up("pets", None)
    assert with_row_upload(known, labelled_too=False)["row_upload"].to_pylist() == [
        flow.keys["1.zip"]
    ]
    assert with_row_upload(known, labelled_too=True)["row_upload"].to_pylist() == [
        flow.keys["2.zip"]
    ]


def test_what_was_received_is_the_same_whether_or_not_its_manifest_was_built(flow: Flow) -> None:
    flow.drop("a.zip", {"t.csv": table(HEADER, "x,1,red"), "x.png": draw_image(1)})
    flow.take("a.zip")
    before = received(flow.lake, flow.spec, "a.zip")["files"]
    flow.take("a.zip")
    assert received(flow.lake, flow.spec, "a.zip")["files"] == before


def test_a_row_that_another_wording_refuses_is_left_out_and_not_counted(flow: Flow) -> None:
    flow.drop("rows.zip", {"t.csv": table(HEADER, "1,old,red", "2,3,blue")})
    flow.drop("images.zip", {"1.png": draw_image(1), "2.png": draw_image(2)})
    flow.spec = dataset(image_name="{id}", columns={"age": "category", "colour": "category"})
    flow.take("rows.zip")
    flow.spec = dataset(image_name="{id}")  # the age is a number again; the index is older
    document = flow.take("images.zip")
    assert set(flow.records("images.zip")) == {"2"}
    counts = document["counts"]
    assert (counts["in_manifest"], counts["with_image"], counts["to_predict"]) == (1, 1, 1)
