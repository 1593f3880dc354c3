"""Each feature of an image follows from its definition; images outside a range are found."""

from __future__ import annotations

import colorsys

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from mm_assets.contract.image_feature import ImageFeature
from mm_assets.contract.limits import Range
from mm_assets.reading.image_features import FEATURE_NAMES, image_features, unfit_images


def of(pixels: object) -> dict[str, float]:
    """Features of an image of these pixels: grey (rows) or RGB (rows of triples)."""
    array = np.asarray(pixels, dtype=np.uint8)
    grey = array if array.ndim == 3 else np.repeat(array[..., None], 3, axis=2)
    return image_features(Image.fromarray(grey), width=array.shape[1], height=array.shape[0])


def noise(height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_all_features_of_the_yaml_are_there_in_their_order() -> None:
    assert tuple(of([[0]])) == FEATURE_NAMES == tuple(feature.value for feature in ImageFeature)


def test_a_grey_image_has_its_brightness_and_nothing_else() -> None:
    found = image_features(Image.new("RGB", (7, 5), (128, 128, 128)), width=700, height=500)
    nothing = dict.fromkeys(FEATURE_NAMES[3:], 0.0)
    assert found == {"width": 700, "height": 500, "brightness": 128, **nothing}


def test_a_checkerboard_has_the_known_laplacian_and_contrast() -> None:
    """A black pixel has four white neighbours: +4 · 255; a white one four black ones: -4 · 255.
    Left and right neighbours are alike, and so are those above and below: no gradient."""
    found = of(np.indices((8, 8)).sum(axis=0) % 2 * 255)
    assert found["brightness"] == found["contrast"] == 127.5
    assert found["laplacian_variance"] == (4 * 255) ** 2
    assert found["sobel_mean"] == found["sobel_variance"] == 0


def test_a_ramp_has_the_known_gradient() -> None:
    """Each step is 10, so two neighbours differ by 20, times 4; nothing at the mirrored ends."""
    found = of([[0, 10, 20, 30]] * 5)
    assert found["sobel_mean"] == pytest.approx((80 + 80) / 4)
    assert found["sobel_variance"] == pytest.approx(40**2)
    assert found["laplacian_variance"] == pytest.approx((20**2 + 20**2) / 4)


def test_the_edge_operators_are_those_of_scipy() -> None:
    from scipy import ndimage

    luma = np.asarray(Image.fromarray(noise(13, 9)).convert("L"), dtype=float)
    sobel = np.hypot(*(ndimage.sobel(luma, axis, mode="mirror") for axis in (0, 1)))
    found = of(noise(13, 9))
    assert found["laplacian_variance"] == pytest.approx(ndimage.laplace(luma, mode="mirror").var())
    assert found["sobel_mean"] == pytest.approx(sobel.mean())
    assert found["sobel_variance"] == pytest.approx(sobel.var())


def test_saturation_is_that_of_hsv() -> None:
    pixels = noise(6, 6)
    expected = [colorsys.rgb_to_hsv(*(pixel / 255))[1] for pixel in pixels.reshape(-1, 3)]
    assert of(pixels)["saturation"] == pytest.approx(255 * np.mean(expected))
    assert of([[[200, 0, 0], [7, 7, 7]]])["saturation"] == 127.5


def test_a_blurred_image_has_a_lower_laplacian_variance_and_gradient() -> None:
    sharp = Image.fromarray(noise(64, 64))
    before, after = (
        image_features(image, width=64, height=64)
        for image in (sharp, sharp.filter(ImageFilter.GaussianBlur(2)))
    )
    for name in ("laplacian_variance", "sobel_mean", "sobel_variance", "contrast"):
        assert after[name] < before[name] / 2
    assert after["brightness"] == pytest.approx(before["brightness"], abs=2)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 999))
def test_every_size_has_finite_features_that_do_not_change_when_it_is_mirrored(
    height: int, width: int, seed: int
) -> None:
    pixels = noise(height, width, seed)
    found = of(pixels)
    assert np.isfinite(list(found.values())).all()
    assert of(pixels[:, ::-1]) == pytest.approx(found)
    assert of(pixels[::-1]) == pytest.approx(found)


# -- what is normal -------------------------------------------------------------------------------


def listed(*brightness: float) -> pa.Table:
    kind = pa.struct([(name, pa.float64()) for name in FEATURE_NAMES])
    features = [{**dict.fromkeys(FEATURE_NAMES, 1.0), "brightness": value} for value in brightness]
    files = [f"{i}.png" for i in range(len(brightness))]
    return pa.table({"file": pa.array(files, pa.string()), "features": pa.array(features, kind)})


def test_images_outside_a_range_are_counted_and_its_ends_are_normal() -> None:
    ranges = {
        ImageFeature.BRIGHTNESS: Range(minimum=10, maximum=20),
        ImageFeature.WIDTH: Range(minimum=1),
    }
    found = unfit_images(listed(9.5, 10, 15, 20, 20.123456), ranges)
    assert (found.images, found.unfit, found.share) == (5, 2, 0.4)
    assert found.by_feature == {"brightness": 2, "width": 0}
    assert found.examples == ["0.png: brightness 9.5", "4.png: brightness 20.12"]


def test_an_image_that_is_unfit_in_two_ways_counts_once() -> None:
    ranges = {feature: Range(minimum=50) for feature in (ImageFeature.BRIGHTNESS,
                                                         ImageFeature.CONTRAST)}  # fmt: skip
    found = unfit_images(listed(3, 60), ranges)
    assert (found.unfit, found.by_feature) == (2, {"brightness": 1, "contrast": 2})
    assert found.examples[0] == "0.png: brightness 3, contrast 1"


def test_no_more_than_ten_images_are_named_and_none_is_no_trouble() -> None:
    ranges = {ImageFeature.BRIGHTNESS: Range(maximum=0)}
    found = unfit_images(listed(*range(1, 31)), ranges)
    assert (found.unfit, len(found.examples)) == (30, 10)
    assert unfit_images(listed(), ranges).share == 0
