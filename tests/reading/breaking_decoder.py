"""The server of apart.py with a decoder that does what the file's last word says."""

from __future__ import annotations

import ctypes
import os
import time
from typing import Any

from mm_assets.reading.images import apart_server

_decoded = apart_server.decoded


def decoded(asked: dict[str, Any], data: bytes) -> bytes:
    word = data.rpartition(b" ")[2]
    if word == b"SEGFAULT":
        ctypes.string_at(0)
    if word == b"ABORT":
        os.abort()
    if word == b"MEMORY":
        return b"".join(bytes(1 << 26) for _ in range(1000))
    if word == b"FOREVER":
        while True:
            pass
    if word == b"SERVER":  # someone ends the server itself
        os.kill(os.getppid(), 9)
        time.sleep(5)
    return _decoded(asked, data)


if __name__ == "__main__":
    apart_server.decoded = decoded
    apart_server.SECONDS = 1
    apart_server.MEMORY, apart_server.MEMORY_A_PIXEL = 512 << 20, 1
    apart_server.main()
