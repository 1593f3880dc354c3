"""The pictures hold for every number of classes and uploads; the figures are right."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mm_assets.display.pictures import contact_sheet
from mm_assets.monitoring import charts
from mm_assets.monitoring.timeline import (
    MOST_BINS,
    seconds_of,
    time_bins,
    time_of,
)
from mm_assets.uploads.find import upload_key
from tests.make import plain_image

START = datetime(2026, 11, 18, 8, 15, tzinfo=UTC)
LONG = tuple(f"a very long class name, number {i} of the plant" for i in range(12))


def predictions(
    classes: tuple[str, ...], *, uploads: int, n: int, step: timedelta = timedelta(minutes=7)
) -> pa.Table:
    draw = np.random.default_rng(0)
    keys = [upload_key(START + step * i, i) for i in range(uploads)]
    said = [classes[i] for i in draw.integers(0, len(classes), n)]
    return pa.table(
        {
            "prediction": pa.array(said, pa.string()),
            "confidence": pa.array(draw.beta(6, 2, n), pa.float64()),
            "needs_review": pa.array(draw.random(n) < 0.2, pa.bool_()),
            "modality": pa.array(["with_image", "without_image"] * n, pa.string())[:n],
            "upload": pa.array([keys[i % uploads] for i in range(n)], pa.string()),
            "label": pa.array([s if i % 2 else None for i, s in enumerate(said)], pa.string()),
        }
    )


def opened(png: bytes | None) -> Image.Image:
    assert png is not None
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        return image.convert("RGB")


CASES: list[Any] = [
    (("cat",), 1, 1, timedelta(0)),
    (("no", "yes"), 3, 300, timedelta(minutes=7)),
    (LONG, 9, 900, timedelta(hours=8)),
    (("$x$", "b"), 40, 400, timedelta(days=1.1)),
    (("a", "b"), 2, 0, timedelta(days=1)),
]


@pytest.mark.parametrize(("classes", "uploads", "n", "step"), CASES)
def test_every_picture_can_be_drawn(
    classes: tuple[str, ...], uploads: int, n: int, step: timedelta
) -> None:
    table = predictions(classes, uploads=uploads, n=n, step=step)
    for png in (
        charts.confidence_over_time(table, time_bins(table), 0.6),
        charts.class_balance(
            table, time_bins(table), dict.fromkeys((*classes, "never predicted"), 5)
        ),
        charts.class_balance(table, time_bins(table), None),
        charts.image_share(table, time_bins(table)),
    ):
        assert opened(png).width > 500


def test_the_same_predictions_give_the_same_bytes_in_any_order() -> None:
    table = predictions(("a", "b", "c"), uploads=3, n=60)
    turned = table.take(list(reversed(range(60))))
    assert charts.class_balance(table, time_bins(table), None) == charts.class_balance(
        turned, time_bins(turned), None
    )
    assert charts.confidence_over_time(table, time_bins(table), 0.5) == charts.confidence_over_time(
        turned, time_bins(turned), 0.5
    )


def test_an_upload_key_tells_the_time_of_arrival() -> None:
    moment = datetime(2026, 11, 21, 10, 15, 30, 123_000, tzinfo=UTC)
    assert time_of(upload_key(moment, "x")) == moment


def test_few_uploads_of_one_day_each_get_a_bin() -> None:
    bins = time_bins(predictions(("a",), uploads=3, n=9))
    assert bins.labels == ["08:15", "08:22", "08:29"]
    assert bins.meaning == "uploads, 18 Nov 2026 (UTC)"
    assert np.bincount(bins.codes).tolist() == [3, 3, 3]


def test_uploads_within_one_minute_are_told_apart_by_their_seconds() -> None:
    bins = time_bins(predictions(("a",), uploads=3, n=3, step=timedelta(seconds=20)))
    assert bins.labels == ["08:15:00", "08:15:20", "08:15:40"]


def test_days_without_an_upload_stay_as_gaps() -> None:
    bins = time_bins(predictions(("a",), uploads=30, n=30, step=timedelta(days=1.5)))
    assert len(bins.labels) == 44
    assert 0 in np.bincount(bins.codes, minlength=44)


@settings(max_examples=40, deadline=None)
@given(
    uploads=st.integers(1, 90),
    minutes=st.floats(0.001, 5_000_000, allow_nan=False),
)
def test_every_record_falls_in_exactly_one_of_few_bins(uploads: int, minutes: float) -> None:
    step = timedelta(minutes=min(minutes, 2_000_000_000 / uploads))
    bins = time_bins(predictions(("a",), uploads=uploads, n=uploads, step=step))
    assert len(bins.codes) == uploads
    assert 0 < len(bins.labels) <= MOST_BINS
    assert bins.codes.min() >= 0
    assert bins.codes.max() < len(bins.labels)
    assert (np.diff(bins.codes) >= 0).all()  # uploads come in the order of time here


def test_long_names_that_begin_alike_are_told_apart() -> None:
    labels = charts.told_apart([*LONG, "short"])
    assert len(set(labels)) == 13
    assert max(map(len, labels)) <= charts.LONGEST_LABEL
    assert labels[-1] == "short"
    assert all(label.startswith("a very …umber ") for label in labels[:-1])


def test_more_classes_than_colours_share_grey() -> None:
    shown, others = charts._classes_shown({name: i for i, name in enumerate(LONG)}, {})
    assert shown[0] == LONG[11]
    assert len(shown) + others == 12
    assert len(shown) < charts.MOST_CLASSES


def test_classes_are_counted_by_time_and_set_against_the_training_labels() -> None:
    table = pa.table({"prediction": ["b", "a", "b", "b"], "upload": ["u2", "u1", "u1", "u2"]})
    found = charts.class_amounts(table, {"a": 3, "c": 1}, time_bins(table))
    assert found.names == ["a", "b", "c", "0 other classes"]
    assert found.amounts.tolist() == [[1, 0], [1, 2], [0, 0], [0, 0]]
    assert found.expected is not None
    assert found.expected.tolist() == [0.75, 0, 0.25, 0]
    assert found.there == [True, True, True, False]


def test_without_training_labels_nothing_is_expected() -> None:
    table = pa.table({"prediction": ["b"], "upload": ["u"]})
    for nothing in (None, {}):
        found = charts.class_amounts(table, nothing, time_bins(table))
        assert found.expected is None
        assert found.there == [True, False]


def test_no_record_is_left_out_when_classes_share_grey() -> None:
    table = predictions(LONG, uploads=3, n=500)
    found = charts.class_amounts(table, dict.fromkeys(LONG, 1), time_bins(table))
    assert found.amounts.sum() == 500
    assert len(found.names) == charts.MOST_CLASSES
    assert found.expected is not None
    assert found.expected.sum() == pytest.approx(1)
    assert found.expected[-1] == pytest.approx(6 / 12)


def test_quartiles_are_those_of_each_bin_and_an_empty_bin_has_none() -> None:
    table = predictions(("a",), uploads=30, n=300, step=timedelta(days=1.5))
    bins = time_bins(table)
    confidence = charts.as_floats(table["confidence"])
    found = charts._quartiles(confidence, bins)
    for place in range(len(bins.labels)):
        inside = confidence[bins.codes == place]
        expected = np.quantile(inside, [0.25, 0.5, 0.75]) if len(inside) else [np.nan] * 3
        assert found[place] == pytest.approx(expected, nan_ok=True)
    assert np.isnan(found).any()


def test_predicted_values_are_drawn_for_one_record_and_for_many() -> None:
    for n in (1, 5000):
        table = predictions(("1.5", "-2e6", "0"), uploads=min(n, 40), n=n)
        assert opened(
            charts.value_distribution(
                table, time_bins(table), "price in euros, of a very long name"
            )
        )


def test_refusals_are_drawn_unless_there_are_none() -> None:
    refused = {"duplicate_id": 1200, "row_width": 1}
    assert opened(charts.rejects_by_code(refused, "Rejected", "rows"))
    assert charts.rejects_by_code({}, "Rejected", "rows") is None
    assert charts.rejects_by_code({"row_width": 0}, "Rejected", "rows") is None


# -- the contact sheet ----------------------------------------------------------------------------

RED = (255, 0, 0)


def red_box(png: bytes | None) -> tuple[int, int]:
    pixels = np.asarray(opened(png)).astype(int)
    red = (pixels[..., 0] > 200) & (pixels[..., 1] < 60)
    rows, columns = np.where(red)
    return int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize(("width", "height"), [(3, 1), (300, 100), (8, 24), (1000, 3000)])
def test_pictures_large_and_small_fill_their_place_and_keep_their_shape(
    width: int, height: int, kind: str
) -> None:
    shown = red_box(contact_sheet([(plain_image(RED, width, height, kind), ["one"])]))
    assert max(shown) == pytest.approx(137, abs=3)
    assert shown[0] / shown[1] == pytest.approx(width / height, rel=0.06)


def test_enlarged_pixels_stay_sharp() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8)).save(buffer, "PNG")
    pixels = np.asarray(opened(contact_sheet([(buffer.getvalue(), [])])))
    between = (pixels[..., 0] > 60) & (pixels[..., 0] < 200) & (pixels[..., 2] > 60)
    assert not (between & (pixels[..., 1] < 40)).any()


def test_bytes_that_are_no_picture_leave_an_empty_frame() -> None:
    for data in (b"", b"GIF89a", plain_image(RED, 9, 9)[:-30]):
        assert opened(contact_sheet([(data, ["lost"])]))


def test_no_more_than_24_pictures_are_shown() -> None:
    items = [
        (plain_image(RED, 4, 4), [str(i), "\x00 and a long line, a very long line"])
        for i in range(30)
    ]
    assert contact_sheet(items, "Many") == contact_sheet(items[:24], "Many")


def test_nothing_to_show_is_no_picture() -> None:
    assert contact_sheet([]) is None


def test_the_times_of_many_uploads_are_those_of_each() -> None:
    keys = ["20261121-101530999-1f0c9a2b3c", "19691231-235959000-0", "u1", "20240229-000000000-x"]
    each = [int(time_of(key).timestamp()) for key in keys]
    assert seconds_of(pa.array(keys, pa.string())).tolist() == each
    assert seconds_of(pa.array(["u1"], pa.string())).tolist() == [0]
