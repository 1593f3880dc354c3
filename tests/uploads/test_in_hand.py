"""Records and images in hand become files whose names say their IDs."""

from __future__ import annotations

import pandas as pd
import pytest

from mm_assets.serving.reading import Reader
from mm_assets.uploads.in_hand import in_hand
from tests.make import dataset, draw_image


def test_an_image_is_named_by_its_id_alone_where_the_id_is_the_whole_name() -> None:
    spec = dataset(image_name="{file}")
    frame = pd.DataFrame({spec.id_column: ["IMG_1.jpg", "IMG_2.jpg"]})
    made = in_hand(spec, frame, [draw_image(1, "JPEG"), draw_image(2, "PNG")], labels=False)
    assert [name for name, _ in made.images] == ["IMG_1.jpg", "IMG_2.jpg"]


@pytest.mark.parametrize("decimal", [None, ".", ","])
def test_numbers_are_read_again_as_they_were_whatever_sign_the_yaml_names(
    decimal: str | None,
) -> None:
    spec = dataset(decimal=decimal)
    ages = [1.234, 1234.567, 1.5, 1.5e-7, -0.5, 1e22, 7.0]
    frame = pd.DataFrame({"id": list("abcdefg"), "age": ages, "colour": "red"})
    table = in_hand(spec, frame, labels=False).table
    assert table is not None
    reads = Reader(spec).table(table, "records.csv")
    assert isinstance(reads, list)
    assert [read.features and read.features["age"] for read in reads] == ages
