"""Normalised images, decoded. The last ones are kept: a backbone, a thumbnail and the numbers about
light look at the same image one after the other.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

KEPT_BYTES = 24 << 20  # in a process: some 100 images of 256 pixels
_BESIDE = 2048  # bytes that an image takes beside its pixels


class _Kept:
    """Images by their bytes, the one that was asked for last at the end."""

    def __init__(self) -> None:
        self._images: OrderedDict[bytes, Image] = OrderedDict()
        self._lock = threading.Lock()
        self.size = 0

    def find(self, data: bytes) -> Image | None:
        with self._lock:
            if data in self._images:
                self._images.move_to_end(data)
            return self._images.get(data)

    def keep(self, data: bytes, image: Image) -> None:
        with self._lock:
            if data in self._images:
                return
            self._images[data] = image
            self.size += _size(data, image)
            while self.size > KEPT_BYTES:
                self.size -= _size(*self._images.popitem(last=False))


_kept = _Kept()


def decoded(data: bytes) -> Image:
    """A normalised image in RGB. Others look at it as well: it must not be changed."""
    from PIL import Image

    if (found := _kept.find(data)) is not None:
        return found
    with Image.open(io.BytesIO(data)) as opened:
        made = opened.convert("RGB")
    _kept.keep(data, made)
    return made


def _size(data: bytes, image: Image) -> int:
    return len(data) + 3 * image.width * image.height + _BESIDE
