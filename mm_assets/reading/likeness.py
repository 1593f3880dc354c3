"""What an image looks like in 768 bytes, by which images that are nearly the same are found."""

from __future__ import annotations

import io

from PIL import Image

SIDE = 16
BYTES = 3 * SIDE * SIDE


def likeness(image: Image.Image) -> bytes:
    """SIDE x SIDE pixels of RGB, row by row.

    image: RGB. Each pixel is a mean over its neighbourhood, so that a re-encoded, resized or
    slightly cropped copy has almost the same.
    """
    return image.resize((SIDE, SIDE), Image.Resampling.BILINEAR).tobytes()


def likeness_of(data: bytes) -> bytes:
    """The likeness of a normalised image's bytes."""
    with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
        return likeness(image.convert("RGB"))
