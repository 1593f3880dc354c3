"""Decoding in a process of its own, for what a hostile file could take down.

A server, started when it is first needed, forks once for each file: what a file does to memory, to
processor time or to the decoder itself ends with its fork, and costs that file alone. Only plain
pixels come back. A server without work ends after a minute; none outlives the process that
started it. The other side is apart_server.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import struct
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from mm_assets.reading.images.formats import ImageRefused
from mm_assets.reading.images.pixels import Told, Upright

LENGTHS = struct.Struct(">II")  # of a message: its JSON, and the bytes after it
NO_MEMORY = 77  # exit status of a fork
COMMAND = [sys.executable, "-P", "-m", "mm_assets.reading.images.apart_server"]
_MOST_PROFILES = 1_000


def decode(kind: str, data: bytes, longest_side: int, maximum_pixels: int, told: Told) -> Upright:
    """Decode a whole file. Raises ImageRefused and, with what the decoder says, ValueError."""
    asked = {
        "do": "decode", "kind": kind, "longest_side": longest_side,
        "maximum_pixels": maximum_pixels, "told": asdict(told),
    }  # fmt: skip
    said, pixels = _decoded(asked, data)
    return Upright(_image(said, pixels), said["width"], said["height"], said["frames"])


def glimpse(kind: str, data: bytes, longest_side: int, maximum_pixels: int) -> Image.Image:
    """As much as can be decoded of a file that is refused, small. Raises ImageRefused, ValueError.

    What a file does to its decoder ends with the fork, whatever its kind.
    """
    asked = {
        "do": "glimpse", "kind": kind, "longest_side": longest_side,
        "maximum_pixels": maximum_pixels,
    }  # fmt: skip
    said, pixels = _decoded(asked, data)
    return _image(said, pixels)


def _decoded(asked: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    said, pixels = _SERVERS.ask(asked, data)
    if "refused" in said:
        raise ImageRefused(*said["refused"])
    if "fault" in said:
        raise ValueError(said["fault"])
    return said, pixels


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image | None:
    """As colour.to_srgb; None as well where the profile takes its reader down."""
    if profile is None or profile in _SRGB:
        return None
    asked = {"do": "colour", "mode": image.mode, "size": image.size, "profile": len(profile),
             "maximum_pixels": 0}  # fmt: skip
    said, pixels = _SERVERS.ask(asked, profile + image.tobytes())
    if "size" in said:
        return _image(said, pixels)
    if "taken_as_it_is" in said and len(_SRGB) < _MOST_PROFILES and image.mode == "RGB":
        _SRGB.add(profile)
    return None


_SRGB: set[bytes] = set()  # profiles that change nothing


def _image(said: dict[str, Any], pixels: bytes) -> Image.Image:
    return Image.frombytes("RGB", tuple(said["size"]), pixels)


class _Server:
    """One process that forks."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603  our own module
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(part or str(Path.cwd()) for part in sys.path),
            },
        )

    def ask(self, asked: bytes, data: bytes) -> tuple[dict[str, Any], bytes]:
        """One question and its answer. Raises OSError when the server has ended."""
        assert self._process.stdin is not None  # noqa: S101
        assert self._process.stdout is not None  # noqa: S101
        self._process.stdin.write(LENGTHS.pack(len(asked), len(data)))
        self._process.stdin.write(asked)
        self._process.stdin.write(data)
        self._process.stdin.flush()
        said_bytes, more = LENGTHS.unpack(self._read(LENGTHS.size))
        return json.loads(self._read(said_bytes)), self._read(more)

    def _read(self, size: int) -> bytes:
        assert self._process.stdout is not None  # noqa: S101
        data = self._process.stdout.read(size)
        if len(data) < size:
            raise ConnectionError("the server has ended")
        return data

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):  # of what was not sent yet
                pipe.close()  # type: ignore[union-attr]


class _Servers:
    """As many servers as there are cores, at most; each is used by one thread at a time."""

    def __init__(self) -> None:
        self._idle: queue.LifoQueue[_Server] = queue.LifoQueue()
        self._free = threading.BoundedSemaphore(os.cpu_count() or 1)

    def ask(self, asked: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """One question and its answer; `fault` says that its fork has ended before it answered."""
        question = json.dumps(asked).encode()
        with self._free:
            try:
                server = self._idle.get_nowait()
            except queue.Empty:
                server = _Server()
            try:
                said, pixels = server.ask(question, data)
            except OSError:  # it had ended, for want of work
                server.end()
                server = _Server()
                try:
                    said, pixels = server.ask(question, data)
                except OSError:
                    server.end()
                    return {"fault": "the process that decodes it was ended"}, b""
            except BaseException:
                server.end()
                raise
            self._idle.put(server)
        if (status := said.get("status")) is not None:
            return _of_ended(status), b""
        return said, pixels


def _of_ended(status: int) -> dict[str, Any]:
    """What the status of a fork that gave no answer means for its file."""
    if -status == signal.SIGXCPU:
        return {"fault": "it takes too much processor time"}
    if status == NO_MEMORY or -status == signal.SIGKILL:
        return {"refused": ["image_too_large", "decoding it takes more memory than it may"]}
    name = signal.Signals(-status).name if status < 0 else f"status {status}"
    return {"fault": f"its decoder broke down in the middle of it ({name})"}


_SERVERS = _Servers()


def _start_anew() -> None:
    """In a fork of this process: two that ask the same server would get each other's answers."""
    global _SERVERS  # noqa: PLW0603
    _SERVERS = _Servers()


os.register_at_fork(after_in_child=_start_anew)
