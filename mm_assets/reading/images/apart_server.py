"""The other side of apart.py: forks for each question, limits the fork, and hands its answer on.

Memory of a fork is limited on Linux, its processor time everywhere.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import signal
import sys
from typing import Any

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
    ImageFile,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
)

from mm_assets.reading.images.apart import LENGTHS, NO_MEMORY
from mm_assets.reading.images.colour import to_srgb
from mm_assets.reading.images.formats import DECODER_FAULTS, ImageRefused, check_size
from mm_assets.reading.images.pixels import Told, upright

MEMORY = 512 << 20  # bytes that a fork may allocate,
MEMORY_A_PIXEL = 24  # and for each pixel of the largest image that is accepted
SECONDS = 60  # of processor time
IDLE = 60  # seconds without a question, after which the server ends
# Named, so that they are loaded before the first fork.
_LOADED = (AvifImagePlugin, BmpImagePlugin, GifImagePlugin, ImageCms, PpmImagePlugin,
           TiffImagePlugin)  # fmt: skip
_PILLOW = {"HEIC": "HEIF", "Netpbm": "PPM"}  # what Pillow calls them


def main() -> None:
    """Answer until nobody asks any more."""
    out = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints is no part of an answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who is asked to stop is the one who asks
    _load()
    while select.select([0], [], [], IDLE)[0] and _answer_one(out):
        pass


def _answer_one(out: int) -> bool:
    """False when there is nobody any more who asks."""
    lengths = _read(LENGTHS.size)
    if len(lengths) < LENGTHS.size:
        return False
    question, data = (_read(size) for size in LENGTHS.unpack(lengths))
    _write(out, _in_a_fork(json.loads(question), data))
    return True


def _load() -> None:
    import numpy as np  # noqa: F401

    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # the files are many
    Image.preinit()
    with contextlib.suppress(ImportError):
        from pi_heif import register_heif_opener

        register_heif_opener(decode_threads=1)


def _in_a_fork(asked: dict[str, Any], data: bytes) -> bytes:
    """The fork's answer, or with which status it ended without one."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.close(reader)
        status = 1
        with contextlib.suppress(BaseException):
            try:
                _limit(asked["maximum_pixels"])
                _write(writer, _answer(asked, data))
                status = 0
            except MemoryError:
                status = NO_MEMORY
        os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return answer if status == 0 else packed({"status": status})


def _limit(maximum_pixels: int) -> None:
    import resource

    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))  # SIGXCPU, then SIGKILL
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(20 * SECONDS)  # for a decoder that waits and does not compute
    if sys.platform == "linux":  # elsewhere this limit means something else
        memory = MEMORY + MEMORY_A_PIXEL * maximum_pixels
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))


def _answer(asked: dict[str, Any], data: bytes) -> bytes:
    if asked["do"] == "colour":
        profile, pixels = data[: asked["profile"]], data[asked["profile"] :]
        image = Image.frombytes(asked["mode"], tuple(asked["size"]), pixels)
        made = to_srgb(image, profile)
        if made is None:
            return packed({"taken_as_it_is": True})
        return packed({"size": made.size}, made.tobytes())
    try:
        return (glimpsed if asked["do"] == "glimpse" else decoded)(asked, data)
    except ImageRefused as refused:
        return packed({"refused": [refused.code, refused.reason]})
    except DECODER_FAULTS as error:
        return packed({"fault": str(error) or type(error).__name__})


def decoded(asked: dict[str, Any], data: bytes) -> bytes:
    """The answer to a file: its pixels."""
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    Image.MAX_IMAGE_PIXELS = None  # the size is checked here
    kind = _PILLOW.get(asked["kind"], asked["kind"])
    if kind not in Image.OPEN:
        raise ImageRefused(
            "image_type",
            "a HEIC image needs the package pi-heif, which is not installed here"
            if kind == "HEIF"
            else f"Pillow is built without {kind} here",
        )
    told = Told(**asked["told"])
    try:
        opened = Image.open(io.BytesIO(data), formats=[kind])
    except UnidentifiedImageError:
        raise _not_read(told) from None
    with opened as image:
        check_size(*image.size, asked["maximum_pixels"])
        try:
            made = upright(image, image.size, asked["longest_side"], told, to_srgb)
        except OSError as error:
            if str(error).startswith("decoder error"):  # libtiff's own words go to stderr
                raise _not_read(told) from None
            raise
    said = {"size": made.rgb.size, "width": made.width, "height": made.height,
            "frames": made.frames}  # fmt: skip
    return packed(said, made.rgb.tobytes())


def _not_read(told: Told) -> ValueError:
    kind = f" ({told.kind})" if told.kind else ""
    return ValueError(f"it is damaged, or of a kind that Pillow does not read{kind}")


def glimpsed(asked: dict[str, Any], data: bytes) -> bytes:
    """As much as can be seen of a file that was refused; what is missing is grey."""
    ImageFile.LOAD_TRUNCATED_IMAGES = True  # of this fork alone
    Image.MAX_IMAGE_PIXELS = None
    kind = _PILLOW.get(asked["kind"], asked["kind"])
    with Image.open(io.BytesIO(data), formats=[kind]) as image:
        side = asked["longest_side"]
        check_size(*image.size, asked["maximum_pixels"])
        image.draft(None, (side, side))
        image.thumbnail((side, side))
        rgb = image.convert("RGB")
    return packed({"size": rgb.size}, rgb.tobytes())


def packed(said: dict[str, Any], data: bytes = b"") -> bytes:
    """A message: what is said, and the bytes after it."""
    text = json.dumps(said).encode()
    return LENGTHS.pack(len(text), len(data)) + text + data


def _read(size: int) -> bytes:
    """As many bytes from the one who asks, fewer when that one has ended."""
    parts = bytearray()
    while len(parts) < size and (part := os.read(0, min(size - len(parts), 1 << 20))):
        parts += part
    return bytes(parts)


def _write(to: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(to, view) :]


if __name__ == "__main__":
    main()
