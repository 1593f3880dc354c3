"""Images of training, as points; an image far from all of them is foreign.

A point is what the embedded backbone makes of an image, at length 1, beside a few numbers about its
light and sharpness, which tell noise and flat areas that the backbone is not made for. An image is
foreign if its nearest point is further away than nearly all points of training are from their own
nearest one (k nearest neighbours, Sun et al. 2022, with k = 1).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mm_assets.contract.errors import ModelError
from mm_assets.contract.image_feature import ImageFeature
from mm_assets.engines.protocol import Progress, Vectors
from mm_assets.engines.shared.decoded import decoded
from mm_assets.engines.shared.eyes import Eyes, kept_eyes
from mm_assets.engines.shared.several import Cell, images_in
from mm_assets.engines.shared.together import few_in_one_thread
from mm_assets.reading.image_features import image_features

Points = npt.NDArray[np.float32]

FILE = "familiar.npz"  # in the model's folder
MOST = 5_000  # images of training that are kept
FEWEST = 30  # that can tell what is foreign
ORDINARY = 0.0075  # of ordinary images may be further away than the limit
ROOM = 0.25  # for each power of ten by which images are too few to show what is rare
AT_A_TIME = 64
NUMBERS = (
    ImageFeature.BRIGHTNESS, ImageFeature.CONTRAST, ImageFeature.SATURATION,
    ImageFeature.LAPLACIAN_VARIANCE, ImageFeature.SOBEL_MEAN, ImageFeature.SOBEL_VARIANCE,
)  # fmt: skip
LOGARITHMIC = [1, 3, 4, 5]  # places in NUMBERS
WEIGHT = 0.3  # of a number, by its standard deviation in training
DIGITS = 4  # of a distance; the last ones depend on a batch's size


@dataclass(frozen=True)
class FamiliarImages:
    """points: [images, width] of training. mean, scale: of the numbers. limit: of a distance."""

    points: npt.NDArray[np.float16]
    mean: Points
    scale: Points
    limit: float
    eyes: Eyes

    @classmethod
    def learn(
        cls,
        images: Mapping[bytes, str],
        vectors: Vectors | None,
        seconds: float,
        progress: Progress,
    ) -> tuple[FamiliarImages | None, str]:
        """From normalised images; their order makes no difference. Or None, and why.

        images: each with the name of its group. Images of one group, such as the same one once
        more, or one house from two sides, do not tell how far apart others are.
        vectors: what is known of images. seconds: to look at those that nobody has seen.
        """
        try:
            eyes = Eyes(vectors=vectors)
            some, seen = _looked_at(eyes, list(images), time.monotonic() + seconds, progress)
        except (ImportError, OSError, ModelError) as error:
            return None, f"no image is foreign to this model: {error}"
        if len(some) < FEWEST:
            return None, (
                f"no image is foreign to this model: {len(some):,} images could be looked at in "
                f"{seconds:.0f} seconds, and it takes {FEWEST}"
            )
        numbers = _numbers(some)
        mean = numbers.mean(axis=0)
        scale = np.maximum(numbers.std(axis=0), 1e-3)
        points = _points(seen, numbers, mean, scale).astype(np.float16)
        limit = _limit(points.astype(np.float32), [images[image] for image in some])
        return cls(points, mean, scale, limit, eyes), ""

    def foreign(self, images: Sequence[Cell]) -> dict[int, str]:
        """Why an image is foreign, by its place. Of several in one place, the furthest decides."""
        there = [
            (place, number, image)
            for place, cell in enumerate(images)
            for number, image in enumerate(images_in(cell), 1)
        ]
        if not there:
            return {}
        some = [image for _, _, image in there]
        numbers = _numbers(some)
        asked = _points(self.eyes.embed(some), numbers, self.mean, self.scale)
        with few_in_one_thread(len(asked)):
            away = _nearest(self._points, self._squares, asked).round(DIGITS).tolist()
        furthest: dict[int, tuple[float, int]] = {}
        for (place, number, _), distance in zip(there, away, strict=True):
            if distance > max(self.limit, furthest.get(place, (0.0, 0))[0]):
                furthest[place] = distance, number
        return {
            place: _which(images[place], number)
            + f"unlike all {len(self.points):,} images of training that it was compared with: "
            f"{distance:.2f} from the nearest, and {self.limit:.2f} is far"
            for place, (distance, number) in furthest.items()
        }

    @cached_property
    def _points(self) -> Points:
        return self.points.astype(np.float32)

    @cached_property
    def _squares(self) -> Points:
        return _squares(self._points)

    # -- what a model keeps -------------------------------------------------------------------

    def write(self, folder: Path) -> dict[str, Any]:
        """The points into the model's folder; returns what its manifest keeps."""
        np.savez(folder / FILE, points=self.points)
        return {
            "eyes": self.eyes.identity,
            "n": len(self.points),
            "limit": self.limit,
            "mean": [float(one) for one in self.mean],
            "scale": [float(one) for one in self.scale],
        }

    @classmethod
    def read(
        cls, document: Mapping[str, Any], folder: Path, vectors: Vectors | None
    ) -> FamiliarImages:
        """From a folder whose files were verified. Raises ModelError (backbone_differs, …), and
        KeyError, TypeError, OSError or ValueError where it is none of `write`."""
        # Of another backbone than the embedded one there would be a copy in this folder.
        eyes = kept_eyes(document["eyes"], folder / "familiar_eyes", vectors)
        with np.load(folder / FILE, allow_pickle=False) as kept:
            points = kept["points"]
        if points.dtype != np.float16 or points.shape[1:] != (eyes.width + len(NUMBERS),):
            raise ValueError(f"the points of images have the shape {points.shape}")
        mean, scale = (np.array(document[name], dtype=np.float32) for name in ("mean", "scale"))
        return cls(points, mean, scale, float(document["limit"]), eyes)


def _which(cell: Cell, number: int) -> str:
    count = len(images_in(cell))
    return f"image {number} of {count} is " if count > 1 else ""


def _looked_at(
    eyes: Eyes, images: Sequence[bytes], until: float, progress: Progress
) -> tuple[list[bytes], Points]:
    """The images, in an order of chance that is always the same, and what the eyes saw in time."""
    named = {hashlib.sha256(image).digest(): image for image in images}
    some = [named[name] for name in sorted(named)[:MOST]]
    parts: list[Points] = [np.empty((0, eyes.width), dtype=np.float32)]
    for start in range(0, len(some), AT_A_TIME):
        if time.monotonic() > until:
            break
        parts.append(eyes.embed(some[start : start + AT_A_TIME], progress))
    seen = np.concatenate(parts)
    return some[: len(seen)], seen


def _numbers(images: Sequence[bytes]) -> Points:
    """[images, NUMBERS] about light and sharpness; those of long tails as logarithms."""
    found = np.empty((len(images), len(NUMBERS)), dtype=np.float64)
    for place, data in enumerate(images):
        image = decoded(data)
        said = image_features(image, width=image.width, height=image.height)
        found[place] = [said[name.value] for name in NUMBERS]
    found[:, LOGARITHMIC] = np.log1p(found[:, LOGARITHMIC])
    return found.astype(np.float32)


def _points(seen: Points, numbers: Points, mean: Points, scale: Points) -> Points:
    length = np.maximum(np.linalg.norm(seen, axis=1, keepdims=True), 1e-6)
    points: Points = np.hstack([seen / length, WEIGHT * (numbers - mean) / scale])
    return points.clip(-1e4, 1e4).astype(np.float32)


def _limit(points: Points, groups: Sequence[str]) -> float:
    """How far nearly all points are from their nearest one of another group."""
    away = _nearest(points, _squares(points), points, np.unique(groups, return_inverse=True)[1])
    away = away[np.isfinite(away)]
    if not len(away):
        return float("inf")
    limit = float(np.quantile(away, 1 - ORDINARY, method="higher"))
    # The furthest of few is nearer than one in 1 / ORDINARY would be.
    few = max(0.0, -float(np.log10(len(away) * ORDINARY)))
    return round(limit * (1 + ROOM * few), DIGITS)


def _squares(points: Points) -> Points:
    found: Points = (points**2).sum(axis=1)
    return found


def _nearest(
    points: Points, squares: Points, asked: Points, groups: npt.NDArray[np.intp] | None = None
) -> npt.NDArray[np.float64]:
    """The distance of each asked one to its nearest point.

    squares: [points] of their lengths. groups: where the points are asked themselves, only those of
    another group count.
    """
    found = np.empty(len(asked))
    for start in range(0, len(asked), 256):
        some = asked[start : start + 256]
        squared = _squares(some)[:, None] + squares - 2 * some @ points.T
        if groups is not None:
            squared[groups[start : start + 256, None] == groups] = np.inf
        found[start : start + 256] = squared.min(axis=1)
    return np.sqrt(np.maximum(found, 0.0))
