"""Whether a JPEG, PNG or WEBP is whole, told from its own structure before anything is decoded.

- JPEG: every marker segment up to and with the end marker (EOI) is there. One missing byte is
  enough to be refused. Bytes after the end marker (a motion photo's film, a second frame) are
  ignored. Some phones of Samsung leave the end marker out and write a directory of their own
  behind the pixels (SEFH to SEFT): where that ends the file, nothing was cut off. JPEG has no
  checksums: damage that leaves the markers in place shows in the pixels and cannot be told from a
  strange photograph. What browsers and Pillow do not show (lossless, more than 8 bits) is named.
- PNG: every chunk up to and with IEND is there, every checksum is right and the pixel data fills
  the whole image.
- WEBP: the file is as long as its RIFF header says.
"""

from __future__ import annotations

import math
import re
import struct
import zlib

from mm_assets.reading.images.formats import check_size, not_used

MAXIMUM_SCANS = 100  # a progressive JPEG has about ten; each costs a pass over all pixels


def verify(kind: str, data: bytes, maximum_pixels: int) -> None:
    """Walk the file's own structure: complete, and of a size that may be decoded.

    Raises ImageRefused for a size that is too large, ValueError and its like for what is missing.
    """
    if kind == "PNG":
        _verify_png(data, maximum_pixels)
    elif kind == "WEBP":
        _verify_webp(data, maximum_pixels)
    else:
        _verify_jpeg(data)


_USUAL_FRAMES = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}  # baseline, extended, progressive, arithmetic
_LS_FRAME = 0xF7
_FRAMES = {*_USUAL_FRAMES, 0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF, _LS_FRAME}
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
# In a scan, 0xFF is data when 00 follows, or a restart marker (D0 to D7); FF is a fill byte.
_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def _verify_jpeg(data: bytes) -> None:
    """Follow the markers to the end marker. Raises ValueError where the file stops before it."""
    try:
        _follow_markers(data)
    except ValueError:
        if not _ends_as_samsung_writes(data):
            raise


def _ends_as_samsung_writes(data: bytes) -> bool:
    """Whether a directory of Samsung's ends the file, and no end marker stands before it."""
    scan = data.find(b"\xff\xda")
    directory = data.rfind(b"SEFH", scan) if data.endswith(b"SEFT") and scan > 0 else -1
    # Where the markers could not be followed nobody counted the scans.
    few = data.count(b"\xff\xda") <= MAXIMUM_SCANS
    return directory > 0 and few and b"\xff\xd9" not in data[scan:directory]


def _follow_markers(data: bytes) -> None:
    at, scans = 2, 0
    while (step := _jpeg_marker(data, at)) is not None:
        marker, following = step
        if marker in _FRAMES:
            _refuse_rare(marker, bits=data[at + 4])
        at = following
        if marker == _START_OF_SCAN:
            scans += 1
            if scans > MAXIMUM_SCANS:
                raise ValueError(f"more than {MAXIMUM_SCANS} scans")
            found = _MARKER_IN_SCAN.search(data, at)
            at = found.start() if found else len(data)
    if not scans:
        raise ValueError("the file holds no pixels")


def _refuse_rare(frame: int, bits: int) -> None:
    """Refuse a JPEG of a kind that only medicine and archives use."""
    if frame == _LS_FRAME:
        raise not_used("JPEG-LS")
    if frame not in _USUAL_FRAMES:
        raise not_used("lossless JPEG")
    if bits != 8:
        raise not_used(f"{bits}-bit JPEG")


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
    check_size(width, height, maximum_pixels)
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
    check_size(width, height, maximum_pixels)


def significant_bits(data: bytes) -> int:
    """How many bits of a 16-bit grey PNG carry something, as its sBIT chunk says; else 0."""
    at = 33
    while data[24] == 16 and data[25] in (0, 4) and data[at + 4 : at + 8] not in (b"IDAT", b""):
        length = int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == b"sBIT" and length:
            return data[at + 8]
        at += 12 + length
    return 0
