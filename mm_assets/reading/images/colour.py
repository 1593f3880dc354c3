"""Colours through the profile of the file to sRGB.

Runs in a process of its own (apart.py): a profile is bytes from strangers, and littlecms is C.
"""

from __future__ import annotations

import io

from PIL import Image

from mm_assets.reading.images.formats import DECODER_FAULTS

LARGEST_PROFILE = 8 << 20
NEAR = 2  # levels of 255: a profile this near to sRGB everywhere is sRGB
_SPACES = {"RGB": "RGB", "CMYK": "CMYK", "LAB": "Lab"}


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image | None:
    """An RGB, CMYK or LAB image as RGB; None: it is to be taken as it is.

    That is one whose profile is sRGB, cannot be read, or is for other channels. LAB needs none.
    """
    from PIL import ImageCms

    try:
        if image.mode == "LAB":
            source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        elif profile and len(profile) <= LARGEST_PROFILE:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        else:
            return None
        if source.profile.xcolor_space.strip() != _SPACES.get(image.mode):
            return None
        transform = ImageCms.buildTransform(
            source, ImageCms.createProfile("sRGB"), image.mode, "RGB", ImageCms.Intent.PERCEPTUAL
        )
        if image.mode == "RGB" and _is_near(ImageCms.applyTransform(_probe(), transform)):
            return None
        return ImageCms.applyTransform(image, transform)
    except (*DECODER_FAULTS, ImageCms.PyCMSError):
        return None


def _probe() -> Image.Image:
    """Colours from every part of the cube, one pixel each."""
    steps = range(0, 256, 51)
    probe = Image.new("RGB", (216, 1))
    probe.putdata([(r, g, b) for r in steps for g in steps for b in steps])
    return probe


def _is_near(made: Image.Image | None) -> bool:
    if made is None:
        return True
    pairs = zip(made.tobytes(), _probe().tobytes(), strict=True)
    return max(abs(one - other) for one, other in pairs) <= NEAR
