"""Several images as one picture."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from mm_assets.display.side_by_side import GAP, MOST, SIDE, side_by_side
from tests.make import plain_image

RED, BLUE = plain_image((255, 0, 0), 40, 30), plain_image((0, 0, 255), 20, 40)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def test_one_image_stays_what_it_is() -> None:
    assert side_by_side([RED]) is RED


def test_two_images_stand_beside_each_other_each_in_its_shape() -> None:
    made = opened(side_by_side([RED, BLUE]))
    assert made.size == (80 + GAP, 40)
    assert made.getpixel((20, 20)) == (255, 0, 0)
    assert made.getpixel((40 + GAP + 20, 20)) == (0, 0, 255)
    assert made.getpixel((20, 1)) == (255, 255, 255)


@pytest.mark.parametrize("count", [3, 10, MOST, MOST + 1, 400])
def test_however_many_there_are_the_picture_stays_small(count: int) -> None:
    large = plain_image((9, 9, 9), 600, 600)
    made = opened(side_by_side([large] * count))
    assert max(made.size) <= SIDE + MOST * GAP
