"""An image that several look at is decoded once, and what is kept of images stays small."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from mm_assets.doubt.familiar_image import _numbers
from mm_assets.engines.automatic.views import thumbnails
from mm_assets.engines.shared import decoded
from mm_assets.engines.shared.backbones import pixels
from tests.make import draw_image, plain_image


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The length of every image that is decoded, and nothing is kept of others before."""
    monkeypatch.setattr(decoded, "_kept", decoded._Kept())
    lengths: list[int] = []
    real = Image.open

    def noted(file: io.BytesIO) -> Image.Image:
        lengths.append(len(file.getvalue()))
        return real(file)

    monkeypatch.setattr(Image, "open", noted)
    return lengths


def test_a_thumbnail_the_backbones_pixels_and_the_numbers_decode_an_image_once(
    opened: list[int],
) -> None:
    images = [draw_image(n, side=40) for n in range(5)]
    for _ in range(2):
        thumbnails(images)
        [pixels(image, (224, 224)) for image in images]
        _numbers(images)
    assert len(opened) == 5


def test_who_looks_at_an_image_does_not_change_it_for_others(opened: list[int]) -> None:
    image = draw_image(1, side=40)
    with Image.open(io.BytesIO(image)) as alone:
        before = np.asarray(alone.convert("RGB"))
    thumbnails([image])
    pixels(image, (7, 9))
    _numbers([image])
    np.testing.assert_array_equal(np.asarray(decoded.decoded(image)), before)
    assert len(opened) == 2


def test_only_the_last_images_are_kept_and_no_huge_one(
    opened: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoded, "KEPT_BYTES", 100_000)
    images = [plain_image((n, 0, 0), 100, 100) for n in range(6)]  # 30 kB each
    for image in images:
        decoded.decoded(image)
        assert decoded._kept.size <= 100_000
    decoded.decoded(images[-1])
    assert len(opened) == 6
    decoded.decoded(images[0])
    assert len(opened) == 7
    decoded.decoded(plain_image((1, 2, 3), 300, 300))
    assert decoded._kept.size == 0
