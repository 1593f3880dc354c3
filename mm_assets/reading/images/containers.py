"""Whether a TIFF, HEIC, AVIF, GIF, BMP or Netpbm file is whole, and how many images are in it.

Told from the file's own structure, in Python, before a decoder sees a byte:

- TIFF: every page of the chain, every value of its tags, every strip and tile lies in the file.
- HEIC, AVIF: every box and every part of every item lies in the file.
- GIF: every block up to and with the end sign is there.
- BMP, Netpbm: there are as many bytes as the pixels take (a compressed BMP says so in decoding).

Bytes after the end are ignored, as in a JPEG.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from mm_assets.reading.images.formats import check_size, not_used

MOST_PAGES = 100_000
CUT = "the file is cut short"


@dataclass(slots=True)
class Found:
    """What the structure says. pixels: of the largest image that may be decoded; 0: not said.

    frames: the images in it, thumbnails not counted; 0: the decoder says.
    """

    pixels: int = 0
    frames: int = 0
    tags: dict[int, tuple[int, ...]] = field(default_factory=dict)


def look(kind: str, data: bytes, maximum_pixels: int) -> Found:
    """Walk the file's structure. Raises ImageRefused (too large, a camera's raw image), and
    ValueError and its like where something is missing.
    """
    looks = {"TIFF": _tiff, "HEIC": _boxes, "AVIF": _boxes, "GIF": _gif, "BMP": _bmp}
    return looks.get(kind, _netpbm)(data, maximum_pixels)


# -- TIFF -----------------------------------------------------------------------------------------

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
LEAST, MOST, SAMPLES, SAMPLE_FORMAT = 280, 281, 277, 339
_SUBFILE, _STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES, _SUB_IFDS = 254, 273, 279, 324, 325, 330
_DNG_VERSION = 50706
_KEPT = {WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, LEAST, MOST, SAMPLES, SAMPLE_FORMAT,
         _SUBFILE, _STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES, _SUB_IFDS, _DNG_VERSION}  # fmt: skip
_TYPES = {1: "B", 2: "s", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q",
          18: "Q"}  # fmt: skip
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4,
               16: 8, 17: 8, 18: 8}  # fmt: skip
_OF_SENSOR = {32803, 34892}  # photometric: values of a sensor, not of a screen
_OF_RAW = {32767, 32770, 34713, 65000, 65535}  # compressions of cameras
_REDUCED, _MASK = 1, 4  # bits of what a page is


def _tiff(data: bytes, maximum_pixels: int) -> Found:
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    start = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
    first: dict[int, tuple[int, ...]] = {}
    frames, seen = 0, set[int]()
    while start:
        if start in seen or len(seen) > MOST_PAGES:
            raise ValueError("its pages go round in a circle, or there are too many")
        seen.add(start)
        tags, following = _page(data, order, big, start)
        if not first:
            first = tags
            _refuse_raw(data, order, big, tags)
            width, height = tags.get(WIDTH, (0,))[0], tags.get(HEIGHT, (0,))[0]
            check_size(width, height, maximum_pixels)
        _check_parts(tags, len(data))
        frames += not tags.get(_SUBFILE, (0,))[0] & (_REDUCED | _MASK) or tags is first
        start = following
    if not first:
        raise ValueError("there is no page in it")
    return Found(first[WIDTH][0] * first[HEIGHT][0], frames, first)


def _page(data: bytes, order: str, big: bool, at: int) -> tuple[dict[int, tuple[int, ...]], int]:
    """The tags of one page that matter here, and where the next page is; 0: there is none."""
    counted, offset, entry = ("Q", "Q", "HHQ8s") if big else ("H", "I", "HHI4s")
    step = struct.calcsize(order + entry)
    try:
        (number,) = struct.unpack_from(order + counted, data, at)
        at += struct.calcsize(order + counted)
        (following,) = struct.unpack_from(order + offset, data, at + number * step)
    except struct.error:
        raise ValueError(f"{CUT}: a page is missing") from None
    tags = {}
    for tag, kind, count, value in struct.iter_unpack(order + entry, data[at : at + number * step]):
        size = _TYPE_BYTES.get(kind, 0) * count
        where, source = 0, value
        if size > len(value):
            (where,), source = struct.unpack(order + offset, value), data
        if where + size > len(source):
            raise ValueError(f"{CUT}: the value of tag {tag} is missing")
        if tag in _KEPT and kind in _TYPES and count:
            tags[tag] = struct.unpack_from(f"{order}{count}{_TYPES[kind]}", source, where)
    return tags, following


def _check_parts(tags: dict[int, tuple[int, ...]], length: int) -> None:
    """Whether every strip or tile of a page lies in the file."""
    starts = tags.get(_STRIPS) or tags.get(_TILES)
    sizes = tags.get(_STRIP_BYTES) or tags.get(_TILE_BYTES)
    if not starts:
        raise ValueError("a page has no pixels")
    if sizes is None or len(sizes) < len(starts):
        raise ValueError("a page does not say how long its pixels are")
    if any(start + size > length for start, size in zip(starts, sizes, strict=False)):
        raise ValueError(f"{CUT}: pixels are missing")


def _refuse_raw(data: bytes, order: str, big: bool, first: dict[int, tuple[int, ...]]) -> None:
    """Refuse a camera's raw image, of which Pillow would take the thumbnail."""
    below = [_page(data, order, big, start)[0] for start in first.get(_SUB_IFDS, ())[:20]]
    if _DNG_VERSION in first or any(
        tags.get(PHOTOMETRIC, (0,))[0] in _OF_SENSOR or tags.get(COMPRESSION, (0,))[0] in _OF_RAW
        for tags in (first, *below)
    ):
        raise not_used("camera raw")


# -- HEIC and AVIF --------------------------------------------------------------------------------


def _boxes(data: bytes, maximum_pixels: int) -> Found:
    """Both are ISO base media files (ISO/IEC 14496-12, 23008-12)."""
    found = Found()
    whole = False
    for kind, start, stop in _each_box(data, 0, len(data)):
        if kind == b"meta":
            whole = True
            found.pixels = max(found.pixels, _meta(data, start + 4, stop, maximum_pixels))
        whole = whole or kind == b"moov"
    if not whole:
        raise ValueError(f"{CUT}: no image is described in it")
    return found


def _each_box(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, begin and end of its content) of each box; ends where no box can be."""
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1:
            if at + 16 > end:
                raise ValueError(f"{CUT} in box {kind!r}")
            (size,), head = struct.unpack_from(">Q", data, at + 8), 16
        elif size == 0:
            size = end - at
        if size < head or not re.fullmatch(rb"[ -~\xa9][ -~]{3}", kind):
            if at == 0 or end != len(data):
                raise ValueError("no box where one should be")
            return  # what follows the last box of the file
        if at + size > end:
            raise ValueError(f"{CUT} in box {kind!r}")
        yield kind, at + head, at + size
        at += size
    if end - at > 0 and end != len(data):
        raise ValueError("no box where one should be")


def _meta(data: bytes, start: int, stop: int, maximum_pixels: int) -> int:
    """The pixels of the largest image that is described; each of its parts is there."""
    pixels = 0
    for kind, begin, end in _each_box(data, start, stop):
        if kind == b"iloc":
            _check_items(data[begin:end], len(data))
        elif kind == b"iprp":
            for inner, at, last in _each_box(data, begin, end):
                if inner == b"ipco":
                    for name, where, _ in _each_box(data, at, last):
                        if name == b"ispe":
                            width, height = struct.unpack_from(">II", data, where + 4)
                            check_size(width, height, maximum_pixels)
                            pixels = max(pixels, width * height)
    return pixels


def _check_items(box: bytes, length: int) -> None:
    """Whether every part of every item lies in the file. box: the content of `iloc`."""
    version, at = box[0], 6
    sizes = box[4] >> 4, box[4] & 15, box[5] >> 4, box[5] & 15 if version else 0
    offset_bytes, length_bytes, base_bytes, index_bytes = sizes

    def number(size: int) -> int:
        nonlocal at
        at += size
        if at > len(box):
            raise ValueError("the places of its items are cut short")
        return int.from_bytes(box[at - size : at], "big")

    wide = 4 if version >= 2 else 2
    for _ in range(number(wide)):
        number(wide)
        in_file = not version or number(2) & 15 == 0
        number(2)
        base = number(base_bytes)
        for _ in range(number(2)):
            number(index_bytes)
            begin = base + number(offset_bytes)
            end = begin + number(length_bytes)
            if in_file and end > length:
                raise ValueError(f"{CUT}: pixels are missing")


# -- GIF, BMP, Netpbm -----------------------------------------------------------------------------

_GIF_IMAGE, _GIF_EXTENSION, _GIF_END = 0x2C, 0x21, 0x3B


def _gif(data: bytes, maximum_pixels: int) -> Found:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    check_size(width, height, maximum_pixels)
    at, frames = 13 + _gif_colours(flags), 0
    while True:
        if at >= len(data):
            raise ValueError(f"{CUT}: no end sign")
        sign = data[at]
        if sign == _GIF_END:
            break
        if sign == _GIF_IMAGE:
            left, top, w, h, flags = struct.unpack_from("<HHHHB", data, at + 1)
            check_size(left + w, top + h, maximum_pixels)
            at += 11 + _gif_colours(flags)
            frames += 1
        elif sign == _GIF_EXTENSION:
            at += 2
        else:
            raise ValueError(f"no block at byte {at}")
        while at < len(data) and data[at]:  # blocks of up to 255 bytes, then an empty one
            at += 1 + data[at]
        at += 1
    if not frames:
        raise ValueError("there is no image in it")
    return Found(width * height, frames)


def _gif_colours(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _bmp(data: bytes, maximum_pixels: int) -> Found:
    start, header = struct.unpack_from("<II", data, 10)
    compression = 0
    if header == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    height = abs(height)  # negative: the first row comes first
    check_size(width, height, maximum_pixels)
    if compression in (0, 3, 6) and start + (width * bits + 31) // 32 * 4 * height > len(data):
        raise ValueError(f"{CUT}: pixels are missing")
    return Found(width * height, 1)


_NETPBM_FIELD = re.compile(rb"(?:\s|#[^\n]*\n)*(\d{1,10})")


def _netpbm(data: bytes, maximum_pixels: int) -> Found:
    at, told = 2, []
    for _ in range(2 if data[1:2] == b"4" else 3):
        if (match := _NETPBM_FIELD.match(data, at)) is None:
            raise ValueError("the header is cut short")
        told.append(int(match[1]))
        at = match.end()
    width, height = told[:2]
    check_size(width, height, maximum_pixels)
    row = (width + 7) // 8
    if data[1:2] != b"4":
        row = width * (3 if data[1:2] == b"6" else 1) * (2 if told[2] > 255 else 1)
    if at + 1 + row * height > len(data):
        raise ValueError(f"{CUT}: pixels are missing")
    # Pillow stretches what is white in the file to 16 bits.
    return Found(width * height, 1, {MOST: (0xFFFF,)} if max(told[2:], default=0) > 255 else {})
