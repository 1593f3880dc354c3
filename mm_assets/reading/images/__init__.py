"""Bytes to a verified, normalised image: the one way in.

Training, batch prediction and serving all see an image only as `normalise` made it.

What belongs here: telling a format by its bytes (formats.py), whether every byte of a file is there
(whole.py, containers.py), its pixels upright in 8 bits (pixels.py, depth.py), its colours in sRGB
(colour.py), and decoding what could take a process down in one of its own (apart.py).
"""

from mm_assets.reading.images.formats import ImageRefused, is_image
from mm_assets.reading.images.normalise import NormalisedImage, normalise

__all__ = ["ImageRefused", "NormalisedImage", "is_image", "normalise"]
