"""One object of the lake as a seekable file, read in ranges."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, BinaryIO

from mm_assets.lake.documents import BLOCK, Blocks


class RangeReader(io.RawIOBase):
    """One object of the lake as a seekable file."""

    def __init__(
        self,
        read: Callable[[int, int], bytes],
        size: int,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        """read: from a start and a length to exactly so many bytes. close: called when closed."""
        self._read, self._size, self._position = read, size, 0
        self._close = close

    def close(self) -> None:
        if not self.closed:
            self._close()
        super().close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readall(self) -> bytes:
        rest = bytearray(max(0, self._size - self._position))
        self.readinto(rest)
        return bytes(rest)

    def readinto(self, buffer: Any) -> int:
        length = min(len(buffer), self._size - self._position)
        if length <= 0:
            return 0
        buffer[:length] = self._read(self._position, length)
        self._position += length
        return length


def verified(
    read: Callable[[int, int], bytes],
    size: int,
    hashes: list[str],
    damaged: Callable[[], Exception],
    close: Callable[[], None] = lambda: None,
) -> BinaryIO:
    """A file whose blocks are verified as they are read; see `documents.Blocks`."""
    blocks = Blocks(read, size, hashes, damaged)
    return io.BufferedReader(RangeReader(blocks.read, size, close), buffer_size=BLOCK // 16)
