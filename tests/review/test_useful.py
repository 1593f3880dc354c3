"""Most useful first: doubtful, and not twenty times the same."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow as pa
import pytest

from mm_assets.contract.settings import Settings
from mm_assets.engines.shared.eyes import Eyes
from mm_assets.lake.lake import Lake
from mm_assets.predictions.predict import empty_predictions
from mm_assets.review.export import export_review
from mm_assets.review.order import Order
from mm_assets.review.queue import Item, review_queue
from mm_assets.review.useful import POOL, most_useful, ordered_queue
from mm_assets.tables.open import open_store
from mm_assets.uploads.received import read_images
from mm_assets.uploads.vectors import LakeVectors
from tests.make import csv_table, dataset, draw_image, drop_zip, processed
from tests.tables.offers import offer

SPEC = dataset(columns={"age": "number", "colour": "category"})


def queue_of(
    settings: Settings, rows: dict[str, tuple[float, str, float]], images: dict[str, int]
) -> tuple[Lake, list[Item]]:
    """rows: record to age, colour and confidence. images: record to what is drawn."""
    lake, store = Lake(settings), open_store(settings)
    told = [[name, str(age), colour, ""] for name, (age, colour, _) in rows.items()]
    files = {"rows.csv": csv_table(["id", "age", "colour", SPEC.label_column], told)}
    files |= {f"p/{name}.png": draw_image(number) for name, number in images.items()}
    drop_zip(lake, "first.zip", files)
    upload = processed(lake, store, SPEC, "first.zip")["upload"]
    offered = [
        offer(name, upload=upload, prediction="cat", confidence=sure, needs_review=True,
              content_hash=name, probabilities=json.dumps({"cat": sure, "dog": 1 - sure}))
        for name, (_, _, sure) in rows.items()
    ]  # fmt: skip
    store.merge(SPEC.dataset, pa.Table.from_pylist(offered, schema=empty_predictions().schema))
    return lake, review_queue(store, SPEC)


@pytest.fixture
def alike_first(folder_settings: Settings) -> tuple[Lake, list[Item]]:
    """Thirty that are nearly the same and least sure, then four others."""
    rows = {f"same{n:02d}": (30.0 + n / 100, "red", 0.51) for n in range(30)}
    rows |= {
        "old": (90.0, "red", 0.56), "blue": (31.0, "blue", 0.56), "both": (2.0, "green", 0.57),
        "sure": (60.0, "white", 0.9),
    }  # fmt: skip
    return queue_of(folder_settings, rows, {})


def test_a_batch_is_not_the_same_case_again_and_again(
    alike_first: tuple[Lake, list[Item]],
) -> None:
    lake, items = alike_first
    assert all(item.record_id.startswith("same") for item in items[:20])
    found = [item.record_id for item in most_useful(lake, SPEC, items)]
    assert sorted(found) == sorted(item.record_id for item in items)
    assert found[0].startswith("same")  # the least confident is the first still
    assert {"old", "blue", "both"} <= set(found[:5])
    assert found.index("sure") > found.index("both")  # doubt counts as well
    assert found == [item.record_id for item in most_useful(lake, SPEC, items)]


def test_list_and_export_have_the_order_of_the_page(
    alike_first: tuple[Lake, list[Item]], folder_settings: Settings, tmp_path: Path
) -> None:
    lake, items = alike_first
    store = open_store(folder_settings)
    told = [one.record_id for one in most_useful(lake, SPEC, items)][:5]
    for order, wanted in (("useful", told), ("doubtful", [i.record_id for i in items[:5]])):
        found = ordered_queue(lake, store, SPEC, Order(order), 5)
        assert [item.record_id for item in found] == wanted
        folder = tmp_path / order
        export_review(lake, store, SPEC, folder, limit=5, order=Order(order))
        sheet = csv.reader(io.StringIO((folder / "tasks.csv").read_text(encoding="utf-8-sig")))
        assert [row[0] for row in list(sheet)[1:]] == wanted


def test_images_tell_records_apart_whose_columns_are_the_same(folder_settings: Settings) -> None:
    rows = {f"r{n}": (30.0, "red", 0.51 + n / 1000) for n in range(8)}
    lake, items = queue_of(folder_settings, rows, dict.fromkeys(rows, 1) | {"r7": 2})
    vectors = LakeVectors(lake, SPEC.dataset)
    [item] = [one for one in items if one.record_id == "r7"]
    wanted = {one.image_sha256 for one in items if one.image_sha256}
    for some in read_images(lake, SPEC.dataset, item.image_upload or "", wanted):
        vectors.lie(item.image_upload, some)
        Eyes(vectors=vectors).embed(list(some.values()))
    assert [one.record_id for one in most_useful(lake, SPEC, items)][:2] == ["r0", "r7"]


def test_of_a_long_queue_only_the_most_doubtful_are_put_in_order(
    alike_first: tuple[Lake, list[Item]], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, items = alike_first
    monkeypatch.setattr("mm_assets.review.useful.POOL", 10)
    assert most_useful(lake, SPEC, items)[10:] == items[10:]
    assert most_useful(lake, SPEC, []) == []
    assert POOL >= 20
