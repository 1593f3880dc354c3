"""The images of an upload, normalised side by side."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

from mm_assets.compute import InOrder
from mm_assets.contract.dataset import DatasetSpec
from mm_assets.reading.images import ImageRefused, NormalisedImage, normalise

TOGETHER = 32  # small images that are sent to a worker at once
Normalising = InOrder[Any, bytes, NormalisedImage | ImageRefused]


def normalising(spec: DatasetSpec) -> Normalising:
    """Takes a tag and the bytes of each image; gives the tag back with the image, or with why it is
    refused.
    """
    function = partial(
        _normalised,
        longest_side=spec.image_longest_side,
        maximum_pixels=int(spec.image_maximum_megapixels * 1e6),
    )
    return Normalising(function, threads=os.cpu_count() or 1, together=TOGETHER)


def _normalised(
    data: bytes, *, longest_side: int, maximum_pixels: int
) -> NormalisedImage | ImageRefused:
    """A refusal is a result like any other: it costs one file and no more."""
    try:
        return normalise(data, longest_side=longest_side, maximum_pixels=maximum_pixels)
    except ImageRefused as error:
        return error
