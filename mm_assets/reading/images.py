"""Bytes to a verified, normalised image: the one way in.

Training, batch prediction and serving all see an image only as `normalise` made it. What counts
as a whole image:

- JPEG: every marker segment up to and with the end marker (EOI) is there and libjpeg decodes it.
  One missing byte is enough to be refused. Bytes after the end marker (a motion photo's film, a
  second frame) are ignored. JPEG has no checksums: damage that leaves the markers in place shows
  in the pixels and cannot be told from a strange photograph.
- PNG: every chunk up to and with IEND is there, every checksum is right and the pixel data fills
  the whole image.
- WEBP: the file is as long as its RIFF header says and libwebp decodes it.

Broken metadata (EXIF, colour profile) does not make an image unreadable: without a legible
orientation the pixels are taken as they lie.
"""

from __future__ import annotations

import io
import math
import re
import struct
import zlib
from dataclasses import dataclass

from PIL import Image, ImageFile, WebPImagePlugin

from mm_assets.reading.image_features import image_features
from mm_assets.reading.likeness import likeness

SMALL_SIDE = 128  # images up to this size stay lossless (PNG)
LONGEST_POSSIBLE_SIDE = 65_535  # what JPEG can express; longer PNGs are bombs, not images
MAXIMUM_SCANS = 100  # a progressive JPEG has about ten; each costs a pass over all pixels
# Naming the plugin registers it; Pillow would else import all fifty for the first WEBP.
_ALLOWED = ("JPEG", "PNG", WebPImagePlugin.WebPImageFile.format)
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"

_MAGICS: tuple[tuple[str, int, bytes], ...] = (
    ("JPEG", 0, b"\xff\xd8\xff"),
    ("PNG", 0, _PNG_MAGIC),
    ("GIF", 0, b"GIF87a"),
    ("GIF", 0, b"GIF89a"),
    ("TIFF", 0, b"II*\0"),
    ("TIFF", 0, b"MM\0*"),
    ("TIFF", 0, b"II+\0"),
    ("TIFF", 0, b"MM\0+"),
    ("Photoshop", 0, b"8BPS\0"),
    ("icon", 0, b"\0\0\1\0"),
    ("cursor", 0, b"\0\0\2\0"),
    ("icon", 0, b"icns\0"),
    ("JPEG 2000", 0, b"\0\0\0\x0cjP  "),
    ("JPEG 2000", 0, b"\xff\x4f\xff\x51"),
    ("JPEG XL", 0, b"\0\0\0\x0cJXL "),
    ("JPEG XL", 0, b"\xff\x0a"),
    ("OpenEXR", 0, b"\x76\x2f\x31\x01"),
    ("Radiance", 0, b"#?RADIANCE"),
    ("DirectDraw", 0, b"DDS \x7c\0"),
    ("QOI", 0, b"qoif\0"),
    ("camera raw", 0, b"FUJIFILMCCD-RAW"),
    ("camera raw", 0, b"IIRO"),
    ("camera raw", 0, b"IIU\0"),
    ("DICOM", 128, b"DICM"),
)
_ISO_BRANDS = {
    b"heic": "HEIC", b"heix": "HEIC", b"heim": "HEIC", b"heis": "HEIC", b"hevc": "HEIC",
    b"hevx": "HEIC", b"mif1": "HEIF", b"mif2": "HEIF", b"msf1": "HEIF", b"avif": "AVIF",
    b"avis": "AVIF", b"crx ": "camera raw", b"jxl ": "JPEG XL",
}  # fmt: skip
_NETPBM = re.compile(rb"P[1-7][ \r\n]\s*(#[^\n]*\n\s*)*(\d+\s+\d+\s|WIDTH )")
_SVG = re.compile(
    rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*|<!--.*?-->\s*|<!DOCTYPE\s+svg[^>]*>\s*)*<svg[\s>]",
    re.IGNORECASE | re.DOTALL,
)
# What decoders raise on hostile bytes. MemoryError is not among them on purpose.
_DECODER_FAULTS = (
    OSError, ValueError, SyntaxError, TypeError, AttributeError, LookupError, ArithmeticError,
    EOFError, AssertionError, RuntimeError, BufferError, Warning, struct.error, zlib.error,
)  # fmt: skip
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageRefused(Exception):  # noqa: N818  not a fault of ours, it speaks of the file
    """These bytes are no image that we use. `code` is one of errors.REFUSALS' image_* codes."""

    def __init__(self, code: str, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(code, reason)

    def __str__(self) -> str:
        return f"[{self.code}] {self.reason}"


@dataclass(frozen=True, slots=True)
class NormalisedImage:
    """An 8-bit RGB image as PNG or JPEG bytes; `width`, `height`: the original's, upright.

    `features` are its image features, by name (image_features.py), `likeness` what copies of it
    are found by (likeness.py).
    """

    data: bytes
    width: int
    height: int
    features: dict[str, float]
    likeness: bytes


def is_image(head: bytes) -> bool:
    """Whether a file that starts with these bytes is an image of any format, used by us or not."""
    return _format_of(head) is not None


def normalise(data: bytes, *, longest_side: int, maximum_pixels: int) -> NormalisedImage:
    """Verify a JPEG, PNG or WEBP and make it upright, RGB, 8 bit, at most `longest_side` pixels.

    An image is never enlarged. The same bytes always give the same bytes. Safe in threads.
    Raises ImageRefused, and nothing else but MemoryError, whatever the bytes are.
    """
    kind = _allowed_format(data)
    try:
        _verify_structure(kind, data, maximum_pixels)
        # AutoGluon sets this to True for the whole process; a cut-off image would turn grey.
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        with Image.open(io.BytesIO(data), formats=[kind]) as image:
            _check_size(*image.size, maximum_pixels)
            _check_still(kind, image)
            if kind == "PNG":
                _scale_transparent_colour(image, depth=data[24])
            return _normalised(image, longest_side)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageRefused("image_too_large", str(error)) from None
    except _DECODER_FAULTS as error:
        text = str(error).split("\n")[0][:200] or type(error).__name__
        raise ImageRefused("image_unreadable", f"the {kind} does not decode: {text}") from None


# -- what kind of file it is ----------------------------------------------------------------------


def _format_of(head: bytes) -> str | None:
    for name, offset, magic in _MAGICS:
        if head.startswith(magic, offset):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        return _ISO_BRANDS.get(head[8:12])
    if head[:2] == b"BM" and head[6:10] == b"\0\0\0\0":
        return "BMP"
    if _NETPBM.match(head):
        return "Netpbm"
    return "SVG" if _SVG.match(head[:4096]) else None


def _allowed_format(data: bytes) -> str:
    if not data:
        raise ImageRefused("image_empty", "the file has no content")
    kind = _format_of(data[:4096])
    if kind is None:
        raise ImageRefused("image_type", "the bytes are no image in any known format")
    if kind not in _ALLOWED:
        raise ImageRefused("image_type", f"a {kind} image is not accepted")
    return kind


def _check_size(width: int, height: int, maximum_pixels: int) -> None:
    if width < 1 or height < 1:
        raise ValueError("the image has no pixels")
    if width * height > maximum_pixels or max(width, height) > LONGEST_POSSIBLE_SIDE:
        raise ImageRefused(
            "image_too_large",
            f"{width} x {height} pixels; at most {maximum_pixels / 1e6:g} megapixels "
            f"and {LONGEST_POSSIBLE_SIDE} pixels a side are accepted",
        )


def _check_still(kind: str, image: Image.Image) -> None:
    """Refuse animations. Further frames in a JPEG (MPO) are other views: the first one is used."""
    if kind != "JPEG" and getattr(image, "n_frames", 1) > 1:
        raise ImageRefused("image_type", f"an animated {kind} is not accepted, send one image")


# -- whether it is all there ----------------------------------------------------------------------


def _verify_structure(kind: str, data: bytes, maximum_pixels: int) -> None:
    """Walk the file's own structure: complete, and of a size that may be decoded."""
    if kind == "PNG":
        _verify_png(data, maximum_pixels)
    elif kind == "WEBP":
        _verify_webp(data, maximum_pixels)
    else:
        _verify_jpeg(data)


_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
# In a scan, 0xFF is data when 00 follows, or a restart marker (D0 to D7); FF is a fill byte.
_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def _verify_jpeg(data: bytes) -> None:
    """Follow the markers to the end marker. Raises ValueError where the file stops before it."""
    at, scans = 2, 0
    while (step := _jpeg_marker(data, at)) is not None:
        marker, at = step
        if marker == _START_OF_SCAN:
            scans += 1
            if scans > MAXIMUM_SCANS:
                raise ValueError(f"more than {MAXIMUM_SCANS} scans")
            found = _MARKER_IN_SCAN.search(data, at)
            at = found.start() if found else len(data)
    if not scans:
        raise ValueError("the file holds no pixels")


def _jpeg_marker(data: bytes, at: int) -> tuple[int, int] | None:
    """The marker at a position and where its segment ends; None for the end marker."""
    while data[at : at + 2] == b"\xff\xff":  # fill bytes
        at += 1
    if at + 2 > len(data):
        raise ValueError("the file is cut short: no end marker")
    if data[at] != 0xFF:
        raise ValueError(f"no marker at byte {at}")
    marker = data[at + 1]
    if marker == _END_OF_IMAGE:
        return None
    if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers that stand alone
        return marker, at + 2
    return marker, at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")


_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def _verify_png(data: bytes, maximum_pixels: int) -> None:
    """Check each chunk's checksum up to IEND, and that the pixel data is whole."""
    if data[8:16] != b"\0\0\0\rIHDR" or len(data) < 33:
        raise ValueError("the header is missing")
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    _check_size(width, height, maximum_pixels)
    view = memoryview(data)
    pixels: list[memoryview] = []
    at, name = 8, b""
    while name != b"IEND":
        if at + 12 > len(data):
            raise ValueError("the file is cut short: no IEND chunk")
        (length,) = struct.unpack_from(">I", data, at)
        name, stop = data[at + 4 : at + 8], at + 8 + length
        if stop + 4 > len(data):
            raise ValueError(f"the file is cut short in chunk {name!r}")
        if zlib.crc32(view[at + 4 : stop]) != struct.unpack_from(">I", data, stop)[0]:
            raise ValueError(f"wrong checksum in chunk {name!r}")
        if name == b"IDAT":
            pixels.append(view[at + 8 : stop])
        at = stop + 4
    bits = depth * _PNG_CHANNELS[colour]
    passes = [(width, height)] if not interlaced else _interlaced_passes(width, height)
    _check_inflated(pixels, sum((1 + math.ceil(w * bits / 8)) * h for w, h in passes if w))


def _interlaced_passes(width: int, height: int) -> list[tuple[int, int]]:
    """The sizes of the seven images that an Adam7 PNG is stored as."""
    starts_steps = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4),
                    (1, 0, 2, 2), (0, 1, 1, 2))  # fmt: skip
    return [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in starts_steps]


def _check_inflated(parts: list[memoryview], expected: int) -> None:
    """Pillow leaves rows black when the pixel data ends early, so count what comes out."""
    inflate, total = zlib.decompressobj(), 0
    for part in parts:
        rest: bytes | memoryview = part
        while rest and total < expected and not inflate.eof:
            total += len(inflate.decompress(rest, 1 << 20))
            rest = inflate.unconsumed_tail
    while total < expected and (more := inflate.decompress(inflate.unconsumed_tail, 1 << 20)):
        total += len(more)
    if total < expected:
        raise ValueError("the pixel data ends before the last row")


def _verify_webp(data: bytes, maximum_pixels: int) -> None:
    """Check length and canvas size here: libwebp allocates the canvas when it opens a file."""
    if len(data) < 30:
        raise ValueError("the header is cut short")
    if len(data) < 8 + int.from_bytes(data[4:8], "little"):
        raise ValueError("the file is cut short: it is smaller than its header says")
    chunk = data[12:16]
    if chunk == b"VP8X":
        width = 1 + int.from_bytes(data[24:27], "little")
        height = 1 + int.from_bytes(data[27:30], "little")
    elif chunk == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        width = int.from_bytes(data[26:28], "little") & 0x3FFF
        height = int.from_bytes(data[28:30], "little") & 0x3FFF
    _check_size(width, height, maximum_pixels)


# -- pixels ---------------------------------------------------------------------------------------


def _normalised(image: Image.Image, longest_side: int) -> NormalisedImage:
    width, height = image.size
    target = _fitting(width, height, longest_side)
    # JPEG decodes straight to 1/2, 1/4 or 1/8; elsewhere this does nothing.
    image.draft(None, target)
    image.load()
    orientation = _orientation(image)
    image = _eight_bit(image)
    if image.size != target:
        image = image.resize(target, Image.Resampling.LANCZOS, reducing_gap=2.0)
    image = _on_white(image)
    if orientation in _TURNS:
        image = image.transpose(_TURNS[orientation])
    if orientation >= 5:
        width, height = height, width
    features = image_features(image, width=width, height=height)
    seen = likeness(image)
    return NormalisedImage(_encoded(image), width, height, features, seen)


def _fitting(width: int, height: int, longest_side: int) -> tuple[int, int]:
    longest = max(width, height)
    if longest <= longest_side:
        return width, height
    scale = longest_side / longest
    return max(1, round(width * scale)), max(1, round(height * scale))


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8; 1 when there is none, or none that can be read."""
    try:
        value = image.getexif().get(0x0112, 1)
    except _DECODER_FAULTS:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _scale_transparent_colour(image: Image.Image, depth: int) -> None:
    """Pillow leaves a PNG's transparent colour at the file's depth, but the pixels get 8 bits."""
    colour = image.info.get("transparency")
    if isinstance(colour, int) and depth in (2, 4) and image.mode == "L":
        image.info["transparency"] = colour * 255 // (2**depth - 1)
    elif isinstance(colour, tuple) and depth == 16:
        image.info["transparency"] = tuple(value >> 8 for value in colour)


def _eight_bit(image: Image.Image) -> Image.Image:
    """The pixels as L, RGB or RGBA with 8 bits a channel."""
    transparent = image.info.get("transparency")
    if image.mode.startswith("I;16"):
        import numpy as np

        # convert("L") would clip everything above 255; the high byte is what RGB images keep.
        values = np.asarray(image)
        grey = Image.fromarray((values >> 8).astype(np.uint8))
        if not isinstance(transparent, int):
            return grey
        mask = Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8))
        return Image.merge("RGBA", (grey, grey, grey, mask))
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image.convert("RGB")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white


def _encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.info = {}
    if max(image.size) <= SMALL_SIDE:
        image.save(buffer, "PNG")
    else:
        image.save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()
