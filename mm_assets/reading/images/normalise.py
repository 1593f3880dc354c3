"""A file's bytes to the image that models see."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

from PIL import Image, ImageFile, UnidentifiedImageError, WebPImagePlugin

from mm_assets.reading.image_features import image_features
from mm_assets.reading.images import apart, containers, whole
from mm_assets.reading.images.formats import (
    APART,
    DECODER_FAULTS,
    ImageRefused,
    check_size,
    used_format,
)
from mm_assets.reading.images.pixels import (
    Told,
    Upright,
    fitting,
    scale_transparent_colour,
    told_by_tags,
    upright,
)
from mm_assets.reading.likeness import likeness

SMALL_SIDE = 128  # images up to this size stay lossless (PNG)
# Naming the plugin registers it; Pillow would else import all fifty for the first WEBP.
_PLUGINS = (WebPImagePlugin.WebPImageFile,)
_PIXELS_A_CORE = 25_000_000


@dataclass(frozen=True, slots=True)
class NormalisedImage:
    """An 8-bit RGB image as PNG or JPEG bytes; `width`, `height`: the original's, upright.

    `features` are its image features, by name (image_features.py), `likeness` what copies of it
    are found by (likeness.py). `frames`: how many images the file holds; this is the first.
    """

    data: bytes
    width: int
    height: int
    features: dict[str, float]
    likeness: bytes
    frames: int = 1


def normalise(data: bytes, *, longest_side: int, maximum_pixels: int) -> NormalisedImage:
    """Verify an image and make it upright, RGB, 8 bit, at most `longest_side` pixels.

    An image is never enlarged. The same bytes always give the same bytes. Safe in threads: as
    many pixels are decoded at once as 25 megapixels for each core.
    Raises ImageRefused, and nothing else but MemoryError, whatever the bytes are.
    """
    kind = used_format(data)
    try:
        read = _apart if kind in APART else _here
        return _finished(read(kind, data, longest_side, maximum_pixels))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageRefused("image_too_large", str(error)) from None
    except UnidentifiedImageError:  # its words hold an address in memory
        words = f"the {kind} does not decode: its header is damaged, or of a kind that Pillow lacks"
        raise ImageRefused("image_unreadable", words) from None
    except DECODER_FAULTS as error:
        text = str(error).split("\n")[0][:200] or type(error).__name__
        raise ImageRefused("image_unreadable", f"the {kind} does not decode: {text}") from None


def _here(kind: str, data: bytes, longest_side: int, maximum_pixels: int) -> Upright:
    whole.verify(kind, data, maximum_pixels)
    # AutoGluon sets this to True for the whole process; a cut-off image would turn grey.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    with ExitStack() as room:  # left when what was decoded is gone
        return _opened(kind, data, longest_side, maximum_pixels, room)


def _opened(
    kind: str, data: bytes, longest_side: int, maximum_pixels: int, room: ExitStack
) -> Upright:
    # Closing it gives its memory back; `with` alone would leave that to the garbage collector.
    with closing(Image.open(io.BytesIO(data), formats=[kind])) as image:
        width, height = image.size
        check_size(width, height, maximum_pixels)
        told = Told()
        if kind == "PNG":
            scale_transparent_colour(image, depth=data[24])
            told = Told(bits=whole.significant_bits(data))
        # JPEG decodes straight to 1/2, 1/4 or 1/8; elsewhere this does nothing.
        image.draft(None, fitting(width, height, longest_side))
        pixels = image.size[0] * image.size[1]
        if kind == "WEBP":
            pixels *= 2  # libwebp keeps a second canvas
        elif image.info.get("progressive"):  # libjpeg keeps all of it
            pixels = width * height
        room.enter_context(_ROOM.of(pixels))
        return upright(image, (width, height), longest_side, told, apart.to_srgb)


def _apart(kind: str, data: bytes, longest_side: int, maximum_pixels: int) -> Upright:
    found = containers.look(kind, data, maximum_pixels)
    told = told_by_tags(found.tags, found.frames)
    with _ROOM.of(found.pixels or maximum_pixels):
        return apart.decode(kind, data, longest_side, maximum_pixels, told)


def _finished(made: Upright) -> NormalisedImage:
    features = image_features(made.rgb, width=made.width, height=made.height)
    seen = likeness(made.rgb)
    data = _encoded(made.rgb)
    return NormalisedImage(data, made.width, made.height, features, seen, made.frames)


def _encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.info = {}
    if max(image.size) <= SMALL_SIDE:
        image.save(buffer, "PNG")
    else:
        image.save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


class _Room:
    """How many pixels may be in memory at once; one image that needs more waits to be alone."""

    def __init__(self, pixels: int) -> None:
        self._pixels = pixels
        self._used = 0
        self._changed = threading.Condition()

    @contextmanager
    def of(self, pixels: int) -> Iterator[None]:
        wanted = min(pixels, self._pixels)
        with self._changed:
            self._changed.wait_for(lambda: self._used + wanted <= self._pixels)
            self._used += wanted
        try:
            yield
        finally:
            with self._changed:
                self._used -= wanted
                self._changed.notify_all()


# In blocks this large malloc gives memory back at once; of smaller ones each thread keeps an image.
Image.core.set_block_size(64 << 20)  # type: ignore[attr-defined]
_ROOM = _Room(_PIXELS_A_CORE * (os.cpu_count() or 1))
