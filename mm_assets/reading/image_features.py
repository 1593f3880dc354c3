"""Simple numbers about an image: its size, light, colour and sharpness.

What belongs here: how each `ImageFeature` is computed, and which images lie outside the ranges
that a dataset's YAML calls normal (`limits.image_features`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import fsum
from typing import TYPE_CHECKING, Any, NamedTuple

from mm_assets.contract.image_feature import ImageFeature

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa
    from PIL.Image import Image

    from mm_assets.contract.limits import Range

FEATURE_NAMES: tuple[str, ...] = tuple(feature.value for feature in ImageFeature)

MOST_EXAMPLES = 10


class Unfit(NamedTuple):
    """How many images lie outside what is normal."""

    images: int  # all that were looked at
    unfit: int  # those outside the range of one feature or more
    by_feature: dict[str, int]  # for each feature that has a range
    examples: list[str]  # the first ten: "b.png: brightness 3.1, contrast 0.4"

    @property
    def share(self) -> float:
        """Of the images, 0 to 1; 0 where there are none."""
        return self.unfit / max(1, self.images)


def image_features(image: Image, *, width: int, height: int) -> dict[str, float]:
    """All features of one image, in the order of FEATURE_NAMES; each is finite.

    image: normalised, RGB, of any size from 1 x 1. width, height: of the original, in pixels.
    brightness, contrast: mean and standard deviation of luma (ITU-R BT.601), 0 to 255.
    saturation: mean of (max - min) / max of red, green and blue, as in HSV, times 255; black is 0.
    laplacian_variance: of the 4-neighbour Laplacian of luma, the lower the blurrier (LAPV in
    Pech-Pacheco et al. 2000, "Diatom autofocusing in brightfield microscopy").
    sobel_mean, sobel_variance: of the magnitude of luma's gradient by the 3 x 3 Sobel operator,
    which is 4 times the difference of two neighbours. Both operators mirror the image at its
    border, as OpenCV does, so that thresholds known from there apply.
    """
    import numpy as np

    luma = np.asarray(image.convert("L"))
    laplacian, gradient = _edges(luma)
    values = (
        width, height, luma.mean(), luma.std(), _saturation(np.asarray(image)),
        laplacian.var(dtype=np.float64), gradient.mean(dtype=np.float64),
        gradient.var(dtype=np.float64),
    )  # fmt: skip
    return {name: float(value) for name, value in zip(FEATURE_NAMES, values, strict=True)}


def mean_features(several: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each feature of some images, whatever their order."""
    return {name: fsum(one[name] for one in several) / len(several) for name in several[0]}


def unfit_images(images: pa.Table, ranges: Mapping[ImageFeature, Range]) -> Unfit:
    """Which images lie outside these ranges; their ends are still normal.

    images: `file` and the struct column `features`, one row an image.
    """
    import numpy as np
    import pyarrow.compute as pc

    values = {
        feature: pc.struct_field(images["features"], feature.value).to_numpy() for feature in ranges
    }
    outside = {
        feature: (values[feature] < (-np.inf if normal.minimum is None else normal.minimum))
        | (values[feature] > (np.inf if normal.maximum is None else normal.maximum))
        for feature, normal in ranges.items()
    }
    unfit = np.any(list(outside.values()), axis=0)
    examples = []
    for place in np.flatnonzero(unfit)[:MOST_EXAMPLES].tolist():
        told = [f"{f} {values[f][place]:.4g}" for f in ranges if outside[f][place]]
        examples.append(f"{images['file'][place].as_py()}: {', '.join(told)}")
    counts = {feature.value: int(those.sum()) for feature, those in outside.items()}
    return Unfit(images.num_rows, int(unfit.sum()), counts, examples)


def _saturation(pixels: npt.NDArray[np.uint8]) -> float:
    import numpy as np

    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    high = np.maximum(np.maximum(red, green), blue)
    low = np.minimum(np.minimum(red, green), blue)
    share = (high - low) / np.maximum(high, 1).astype(np.float32)
    return 255 * float(share.mean(dtype=np.float64))


def _edges(luma: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
    """The Laplacian (int16) and the Sobel gradient's magnitude at each pixel.

    Written out because it runs on every image: several times faster than scipy.ndimage, which
    gives the same numbers.
    """
    import numpy as np

    padded = np.pad(luma.astype(np.int16), 1, mode="reflect")
    middle = padded[1:-1, 1:-1]
    laplacian = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    laplacian -= 4 * middle
    rows = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    columns = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    across = (rows[:, 2:] - rows[:, :-2]).astype(np.float32)
    down = (columns[2:] - columns[:-2]).astype(np.float32)
    return laplacian, np.sqrt(across**2 + down**2)
