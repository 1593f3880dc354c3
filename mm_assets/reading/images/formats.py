"""What kind of image a file is, by its bytes and never by its name; which kinds are used."""

from __future__ import annotations

import re
import struct
import zlib

LONGEST_POSSIBLE_SIDE = 65_535  # what JPEG can express; longer images are bombs
HEAD = 4096  # bytes that are enough to tell a kind

# Decoded by libraries that browsers show to strangers' files every day: in threads of this process.
IN_THREADS = ("JPEG", "PNG", "WEBP")
# Decoded in a process of their own, see apart.py.
APART = ("TIFF", "HEIC", "AVIF", "GIF", "BMP", "Netpbm")
USED = (*IN_THREADS, *APART)
SUFFIX = {
    "JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "TIFF": ".tif", "HEIC": ".heic",
    "AVIF": ".avif", "GIF": ".gif", "BMP": ".bmp", "Netpbm": ".pnm",
}  # fmt: skip
# How files of the kinds that are used are called. What counts is what is in them.
SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".tif", ".tiff", ".heic", ".heif",
    ".hif", ".avif", ".gif", ".bmp", ".dib", ".pbm", ".pgm", ".ppm", ".pnm",
)  # fmt: skip
# What to do about the others, where it is more than to save them as something else.
WAYS = {
    "camera raw": "Only its maker's program knows its colours: develop it, and send the JPEG or "
    "TIFF (exiftool -b -JpgFromRaw takes out the JPEG that most cameras put inside).",
    "DICOM": "Which grey is white is for the one who looks at it to say: export it with its "
    "window as PNG or TIFF, without the patient's data (dcm2img of DCMTK, or pydicom).",
    "SVG": "It is a drawing without pixels: render it as PNG, in the size that matters.",
    "JPEG XL": "djxl makes the JPEG of it again that it often was.",
    "lossless JPEG": "Save it as PNG or TIFF (dcmdjpeg of DCMTK, if it comes from a DICOM file).",
    "12-bit JPEG": "Save it as PNG or TIFF with 16 bits.",
}

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_MAGICS: tuple[tuple[str, int, bytes], ...] = (
    ("JPEG", 0, b"\xff\xd8\xff"),
    ("PNG", 0, _PNG_MAGIC),
    ("GIF", 0, b"GIF87a"),
    ("GIF", 0, b"GIF89a"),
    ("camera raw", 8, b"CR\x02\0"),  # Canon's is a TIFF else
    ("TIFF", 0, b"II*\0"),
    ("TIFF", 0, b"MM\0*"),
    ("TIFF", 0, b"II+\0"),
    ("TIFF", 0, b"MM\0+"),
    ("Photoshop", 0, b"8BPS\0"),
    ("icon", 0, b"icns\0"),
    ("JPEG 2000", 0, b"\0\0\0\x0cjP  "),
    ("JPEG 2000", 0, b"\xff\x4f\xff\x51"),
    ("JPEG XL", 0, b"\0\0\0\x0cJXL "),
    ("JPEG XL", 0, b"\xff\x0a"),
    ("OpenEXR", 0, b"\x76\x2f\x31\x01"),
    ("Radiance", 0, b"#?RADIANCE"),
    ("DirectDraw", 0, b"DDS \x7c\0"),
    ("QOI", 0, b"qoif\0"),
    ("JPEG XR", 0, b"II\xbc\1"),
    ("PostScript", 0, b"%!PS-Adobe-"),
    ("camera raw", 0, b"FUJIFILMCCD-RAW"),
    ("camera raw", 0, b"IIRO"),
    ("camera raw", 0, b"IIU\0"),
    ("DICOM", 128, b"DICM"),
)
_ISO_BRANDS = {
    b"heic": "HEIC", b"heix": "HEIC", b"heim": "HEIC", b"heis": "HEIC", b"hevc": "HEIC",
    b"hevx": "HEIC", b"avif": "AVIF", b"avis": "AVIF", b"crx ": "camera raw", b"jxl ": "JPEG XL",
}  # fmt: skip
# Kinds that no few bytes tell.
_PATTERNS: tuple[tuple[str, re.Pattern[bytes]], ...] = (
    ("icon", re.compile(rb"\x00\x00\x01\x00(?!\x00\x00)")),
    ("cursor", re.compile(rb"\x00\x00\x02\x00(?!\x00\x00)")),
    ("Targa", re.compile(rb"\x00\x00[\x02\x03\n\x0b]\x00{5}.{8}[\x08\x0f\x10\x18\x20]", re.DOTALL)),
    ("PCX", re.compile(rb"\n[\x00\x02-\x05]\x01[\x01\x02\x04\x08]")),
    ("SGI", re.compile(rb"\x01\xda[\x00\x01][\x01\x02]")),
    ("portable float map", re.compile(rb"P[Ff]\n\d+ \d+\n-?\d")),
    # Without the preamble: the first element's group, and its kind of value.
    ("DICOM", re.compile(rb"[\x02\x08]\x00.\x00(UL|CS|UI|OB|DA|SH)", re.DOTALL)),
    ("Netpbm", re.compile(rb"P[4-6][ \r\n]\s*(#[^\n]*\n\s*)*\d+\s+\d+\s")),
    ("Netpbm text or PAM", re.compile(rb"P[1-37][ \r\n]\s*(#[^\n]*\n\s*)*(\d+\s+\d+\s|WIDTH )")),
)
_ANY_CODEC = (b"mif1", b"mif2", b"msf1")  # the brands that follow tell
_SVG = re.compile(
    rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*|<!--.*?-->\s*|<!DOCTYPE\s+svg[^>]*>\s*)*<svg[\s>]",
    re.IGNORECASE | re.DOTALL,
)
# What decoders raise on hostile bytes. MemoryError is not among them on purpose.
DECODER_FAULTS = (
    OSError, ValueError, SyntaxError, TypeError, AttributeError, LookupError, ArithmeticError,
    EOFError, AssertionError, RuntimeError, BufferError, Warning, struct.error, zlib.error,
)  # fmt: skip


class ImageRefused(Exception):  # noqa: N818  not a fault of ours, it speaks of the file
    """These bytes are no image that we use. `code` is one of errors.REFUSALS' image_* codes."""

    def __init__(self, code: str, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(code, reason)

    def __str__(self) -> str:
        return f"[{self.code}] {self.reason}"


def is_image(head: bytes) -> bool:
    """Whether a file that starts with these bytes is an image of any format, used by us or not."""
    return format_of(head) is not None


def format_of(head: bytes) -> str | None:
    """The kind of image that starts with these bytes (HEAD of them tell), or None."""
    for name, offset, magic in _MAGICS:
        if head.startswith(magic, offset):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        return _iso_format(head)
    if head[:2] == b"BM" and head[6:10] == b"\0\0\0\0":
        return "BMP"
    for name, pattern in _PATTERNS:
        if pattern.match(head):
            return name
    return "SVG" if _SVG.match(head[:HEAD]) else None


def _iso_format(head: bytes) -> str | None:
    if head[8:12] not in _ANY_CODEC:
        return _ISO_BRANDS.get(head[8:12])
    stop = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[at : at + 4] for at in range(16, stop, 4)]
    return next((_ISO_BRANDS[brand] for brand in brands if brand in _ISO_BRANDS), "HEIF")


def used_format(data: bytes) -> str:
    """The kind of a whole file, one of USED. Raises ImageRefused."""
    if not data:
        raise ImageRefused("image_empty", "the file has no content")
    kind = format_of(data[:HEAD])
    if kind is None:
        raise ImageRefused("image_type", "the bytes are no image in any known format")
    if kind not in USED:
        raise not_used(kind)
    return kind


def not_used(kind: str) -> ImageRefused:
    """The refusal of a kind of image that is known and not used."""
    article = "an" if kind[0] in "aeioAEIO" or kind in ("SGI", "SVG") else "a"
    way = f". {WAYS[kind]}" if kind in WAYS else ""
    return ImageRefused("image_type", f"{article} {kind} image is not accepted{way}")


def check_size(width: int, height: int, maximum_pixels: int) -> None:
    """Raises ImageRefused for too many pixels, ValueError for none."""
    if width < 1 or height < 1:
        raise ValueError("the image has no pixels")
    if width * height > maximum_pixels or max(width, height) > LONGEST_POSSIBLE_SIDE:
        raise ImageRefused(
            "image_too_large",
            f"{width} x {height} pixels; at most {maximum_pixels / 1e6:g} megapixels "
            f"and {LONGEST_POSSIBLE_SIDE} pixels a side are accepted",
        )
