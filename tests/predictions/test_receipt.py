"""The receipt of an upload: every file and its fate today, every rejected row and why."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa
import pytest

from mm_assets.contract.errors import LakeError, UploadError
from mm_assets.lake.lake import Lake
from mm_assets.predictions.predict import empty_predictions
from mm_assets.predictions.receipt import build_receipt
from mm_assets.tables.open import open_store
from mm_assets.tables.store import Store
from mm_assets.uploads.find import register
from tests.make import dataset, draw_image, drop_zip, found, processed, received, table

SPEC = dataset(image_name="{id}-{n}")
FILES = {
    "rows.csv": table(
        "id,age,colour,label", "1,2,red,", "1,2,red,", "2,x,red,", "3,1,red,cat", "4"
    ),
    "1-1.png": draw_image(1),
    "1-2.png": draw_image(2),
    "9-1.png": draw_image(3),
    "8-1.png": b"\x89PNG\r\n\x1a\n",
    "front.png": draw_image(4),
}


@pytest.fixture
def store(lake: Lake) -> Store:
    return open_store(lake.settings)


def sent(lake: Lake, name: str, files: dict[str, bytes]) -> str:
    """Drop an upload and note its source, as the sensor does; returns its key."""
    drop_zip(lake, name, files)
    source = found(lake, name)
    register(lake, source)
    return source.upload


def fates(receipt: dict[str, Any]) -> dict[str, str]:
    return {file["file"]: file["fate"] for file in receipt["files"]}


def test_every_file_and_every_row_has_its_fate(lake: Lake, store: Store) -> None:
    upload = sent(lake, "a.zip", FILES)
    processed(lake, store, SPEC, "a.zip")
    receipt = build_receipt(lake, store, SPEC, upload)
    assert fates(receipt) == {
        "rows.csv": "used", "1-1.png": "used", "1-2.png": "duplicate", "9-1.png": "orphaned",
        "8-1.png": "quarantined", "front.png": "quarantined",
    }  # fmt: skip
    by_fate = Counter(fates(receipt).values())
    assert {k: v for k, v in receipt["counts"].items() if k.startswith("files ")} == {
        f"files {fate}": number for fate, number in by_fate.items()
    }
    assert (receipt["counts"]["files"], receipt["counts"]["rows"]) == (6, 5)
    assert receipt["counts"]["records"] == 2
    assert receipt["counts"]["rows rejected"] == 3
    assert {(r["line"], r["code"]) for r in receipt["rejects"]} == {
        (3, "duplicate_row"), (4, "number_invalid"), (6, "row_width"),
    }  # fmt: skip
    assert receipt["counts"]["records with a label"] == 1
    assert (receipt["name"], receipt["upload"], receipt["refused"]) == ("a.zip", upload, None)


def test_whatever_is_not_used_says_why_and_what_to_do(lake: Lake, store: Store) -> None:
    upload = sent(lake, "a.zip", FILES)
    processed(lake, store, SPEC, "a.zip")
    receipt = build_receipt(lake, store, SPEC, upload)
    for file in receipt["files"]:
        used = file["fate"] == "used"
        assert bool(file["reason"]) is bool(file["todo"]) is (not used)
        assert bool(file["code"]) is (file["fate"] == "quarantined")
    assert all(reject["reason"] and reject["todo"] for reject in receipt["rejects"])
    reasons = {file["file"]: file["reason"] for file in receipt["files"]}
    assert reasons["9-1.png"] == "no row with its ID '9' has come yet"


def test_an_image_of_several_records_is_used_if_one_of_them_has_it(
    lake: Lake, store: Store
) -> None:
    spec = dataset(image_column="photo", image_separator=";")
    rows = table("id,age,colour,label,photo", "1,2,red,,a.png", "2,2,red,,b.png;a.png")
    upload = sent(lake, "a.zip", {"t.csv": rows, "a.png": draw_image(1), "b.png": draw_image(2)})
    processed(lake, store, spec, "a.zip")
    found = fates(build_receipt(lake, store, spec, upload))
    assert found == {"t.csv": "used", "a.png": "used", "b.png": "used"}


def test_an_orphan_is_used_once_its_row_has_come(lake: Lake, store: Store) -> None:
    upload = sent(lake, "a.zip", FILES)
    processed(lake, store, SPEC, "a.zip")
    sent(lake, "later.zip", {"t.csv": table("id,age,colour", "9,1,red")})
    processed(lake, store, SPEC, "later.zip")
    assert fates(build_receipt(lake, store, SPEC, upload))["9-1.png"] == "used"


def test_an_upload_may_be_named_as_it_was_sent(lake: Lake, store: Store) -> None:
    upload = sent(lake, "a.zip", FILES)
    processed(lake, store, SPEC, "a.zip")
    for name in ("a.zip", "a", upload):
        assert build_receipt(lake, store, SPEC, name)["upload"] == upload


def test_of_uploads_with_one_name_the_newest_is_meant(lake: Lake, store: Store) -> None:
    first = sent(lake, "a.zip", FILES)
    processed(lake, store, SPEC, "a.zip")
    second = sent(lake, "a.zip", {"1-1.png": draw_image(1)})
    processed(lake, store, SPEC, "a.zip")
    assert first != second
    assert build_receipt(lake, store, SPEC, "a")["upload"] == max(first, second)
    assert build_receipt(lake, store, SPEC, first)["upload"] == first


def test_before_its_manifest_an_upload_has_a_receipt_of_its_files(lake: Lake, store: Store) -> None:
    upload = sent(lake, "a.zip", FILES)
    received(lake, SPEC, "a.zip")
    receipt = build_receipt(lake, store, SPEC, upload)
    assert receipt["counts"]["records"] is None
    assert [reject["code"] for reject in receipt["rejects"]] == ["row_width"]
    assert fates(receipt)["1-1.png"] == "orphaned"


def test_a_refused_upload_has_a_receipt_that_says_why(lake: Lake, store: Store) -> None:
    lake.write("inbox/pets/bad.zip", b"no zip")
    register(lake, found(lake, "bad.zip"))
    processed(lake, store, SPEC, "bad.zip")
    receipt = build_receipt(lake, store, SPEC, "bad")
    assert receipt["refused"]["code"].startswith("archive_")
    assert (receipt["files"], receipt["rejects"]) == ([], [])
    assert receipt["counts"]["files"] == receipt["counts"]["records"] == 0


def test_the_predictions_of_an_upload_are_counted(lake: Lake, store: Store) -> None:
    upload = sent(lake, "a.zip", FILES)
    processed(lake, store, SPEC, "a.zip")
    one = {
        "record_id": "1", "prediction": "cat", "confidence": 0.4, "needs_review": True,
        "modality": "with_image", "model_version": "v1", "upload": upload, "input_hash": "h",
        "run_id": "r", "predicted_at": "now", "modality_rank": 1, "image_upload": upload,
        "image_order": upload,
        "reasons": None,
        "model_generation": 1, "spec_generation": 1, "content_hash": "c",
    }  # fmt: skip
    offered = pa.Table.from_pylist([one], schema=empty_predictions().schema)
    assert store.merge("pets", offered).inserted == 1
    counts = build_receipt(lake, store, SPEC, upload)["counts"]
    assert (counts["predictions"], counts["predictions to review"]) == (1, 1)


def test_an_upload_that_nobody_knows_is_answered_with_what_to_do(lake: Lake, store: Store) -> None:
    lake.write("inbox/pets/half/t.csv", b"id\n")
    with pytest.raises(UploadError) as caught:
        build_receipt(lake, store, SPEC, "half")
    assert "not finished: no upload.json yet" in caught.value.what
    assert "mm sync" in caught.value.todo
    upload = sent(lake, "a.zip", FILES)
    with pytest.raises(UploadError) as caught:
        build_receipt(lake, store, SPEC, "never")
    assert "not known" in caught.value.what
    assert upload in caught.value.todo


def test_an_upload_that_was_found_but_not_received_is_said_to_be_so(
    lake: Lake, store: Store
) -> None:
    upload = sent(lake, "a.zip", FILES)
    with pytest.raises(LakeError) as caught:
        build_receipt(lake, store, SPEC, upload)
    assert caught.value.code == "not_materialised"
