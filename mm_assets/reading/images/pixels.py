"""The pixels of an open image: upright, RGB, 8 bits a channel, and no larger than wanted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from mm_assets.reading.images.containers import (
    BITS,
    COMPRESSION,
    MOST,
    PHOTOMETRIC,
    SAMPLE_FORMAT,
    SAMPLES,
)
from mm_assets.reading.images.depth import eight_bits
from mm_assets.reading.images.formats import DECODER_FAULTS

ToSRGB = Callable[[Image.Image, bytes | None], Image.Image | None]
# Views of a scene in a JPEG; its other parts (previews, maps of depth or light) are no images.
_VIEWS = {
    "Multi-Frame Image (Disparity)", "Multi-Frame Image (Panorama)",
    "Multi-Frame Image (Multi-Angle)",
}  # fmt: skip
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


_UNSIGNED, _FLOAT = 1, 3  # kinds of values in a TIFF
_RARE_COMPRESSIONS = {
    22610: "JPEG XR", 33003: "JPEG 2000", 33005: "JPEG 2000", 34661: "JBIG", 34712: "JPEG 2000",
    34887: "LERC", 34925: "LZMA", 34927: "WEBP", 50000: "Zstandard", 50001: "WEBP",
    50002: "JPEG XL", 52546: "JPEG XL",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Upright:
    """rgb: the image as models see it, before it is encoded. width, height: the original's.

    frames: how many images the file holds; this is the first.
    """

    rgb: Image.Image
    width: int
    height: int
    frames: int


@dataclass(frozen=True, slots=True)
class Told:
    """What a file tells of itself beside its pixels. 0: nothing.

    bits, most: of its greyscale, see depth.py. inverted: the lowest value is white. unsigned: its
    values of 32 bits are never below 0. frames: the images in it. kind: of TIFF, in words.
    """

    bits: int = 0
    most: int = 0
    inverted: bool = False
    unsigned: bool = False
    frames: int = 0
    kind: str = ""


def told_by_tags(tags: dict[int, tuple[int, ...]], frames: int) -> Told:
    """What a TIFF tells; of another file there are no tags."""
    bits, samples = tags.get(BITS, (0,))[0], tags.get(SAMPLES, (1,))[0]
    form = tags.get(SAMPLE_FORMAT, (_UNSIGNED,))[0]
    compression = _RARE_COMPRESSIONS.get(tags.get(COMPRESSION, (1,))[0])
    kind = [f"{bits} bits a value"] if bits else []
    kind += [f"{samples} values a pixel"] if samples != 1 else []
    kind += ["floats"] if form == _FLOAT else []
    kind += [f"{compression} inside"] if compression else []
    return Told(
        bits=bits if bits < 16 else 0,
        most=tags.get(MOST, (0,))[0],
        inverted=tags.get(PHOTOMETRIC, (1,))[0] == 0,
        unsigned=bits == 32 and form == _UNSIGNED,
        frames=frames,
        kind=", ".join(kind),
    )


def upright(
    image: Image.Image, size: tuple[int, int], longest_side: int, told: Told, to_srgb: ToSRGB
) -> Upright:
    """Decode the first image of an open file. size: in the file; a JPEG may be reduced already."""
    width, height = size
    frames = told.frames or _frames(image)
    target = fitting(width, height, longest_side)
    image.load()
    orientation = _orientation(image)
    profile = _profile(image)
    image = _eight_bit(image, told, keeps_ink=bool(profile))
    if image.size != target:
        image = image.resize(target, Image.Resampling.LANCZOS, reducing_gap=2.0)
    image = _in_srgb(image, profile, to_srgb)
    if orientation in _TURNS:
        image = image.transpose(_TURNS[orientation])
    if orientation >= 5:
        width, height = height, width
    return Upright(image, width, height, frames)


def _profile(image: Image.Image) -> bytes | None:
    """The profile of its colours; None if there is none, or one for other channels."""
    profile = image.info.get("icc_profile")
    channels = {"CMYK": b"CMYK", "RGB": b"RGB ", "RGBA": b"RGB ", "P": b"RGB ", "PA": b"RGB "}
    fits = isinstance(profile, bytes) and profile[16:20] == channels.get(image.mode)
    return profile if fits else None


def _frames(image: Image.Image) -> int:
    if image.format in ("JPEG", "MPO"):
        listed = getattr(image, "mpinfo", None) or {}
        kinds = [one.get("Attribute", {}).get("MPType") for one in listed.get(0xB002, ())]
        return max(1, sum(kind in _VIEWS for kind in kinds))
    return int(getattr(image, "n_frames", 1))


def _in_srgb(image: Image.Image, profile: bytes | None, to_srgb: ToSRGB) -> Image.Image:
    if image.mode in ("CMYK", "LAB"):
        return to_srgb(image, profile) or image.convert("RGB")
    image = _on_white(image)
    return (to_srgb(image, profile) if profile else None) or image


def fitting(width: int, height: int, longest_side: int) -> tuple[int, int]:
    longest = max(width, height)
    if longest <= longest_side:
        return width, height
    scale = longest_side / longest
    return max(1, round(width * scale)), max(1, round(height * scale))


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8; 1 when there is none, or none that can be read."""
    try:
        value = image.getexif().get(0x0112, 1)
    except DECODER_FAULTS:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def scale_transparent_colour(image: Image.Image, depth: int) -> None:
    """Pillow leaves a PNG's transparent colour at the file's depth, but the pixels get 8 bits."""
    colour = image.info.get("transparency")
    if isinstance(colour, int) and depth in (2, 4) and image.mode == "L":
        image.info["transparency"] = colour * 255 // (2**depth - 1)
    elif isinstance(colour, tuple) and depth == 16:
        image.info["transparency"] = tuple(value >> 8 for value in colour)


def _eight_bit(image: Image.Image, told: Told, *, keeps_ink: bool) -> Image.Image:
    """The pixels as L, RGB or RGBA with 8 bits a channel; as CMYK or LAB for their profile."""
    transparent = image.info.get("transparency")
    if image.mode == "F" or image.mode.startswith("I"):
        import numpy as np

        # convert("L") would clip everything above 255.
        values = np.asarray(image)
        if told.unsigned and values.dtype == np.int32:  # as Pillow has them
            values = values.view(np.uint32)
        made = eight_bits(values, bits=told.bits, most=told.most)
        grey = Image.fromarray(255 - made if told.inverted else made)
        if not isinstance(transparent, int):
            return grey
        mask = Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8))
        return Image.merge("RGBA", (grey, grey, grey, mask))
    if image.mode == "LAB" or (image.mode == "CMYK" and keeps_ink):
        return image
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image.convert("RGB")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white
