"""What tells that bytes of the lake are not those that were written: documents and large files.

A document is JSON whose first line holds the sha256 of the rest. A published file that is read in
parts has, in the document that names it, a hash of each BLOCK of it. Both tell of damage, and of
somebody who changed a byte; not of one who knows this and writes a new hash, too.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAME = "document_sha256"
_BEFORE = f'{{\n "{NAME}": "'.encode()
_DIGITS = 64
BLOCK = 1 << 20  # bytes
DAMAGE_ATTEMPTS = 3  # a byte that changed on its way comes right when it is read again
KEPT = 8  # blocks of a file that is being read


def packed(document: dict[str, Any]) -> bytes:
    """The document as it is stored."""
    body = json.dumps(document, indent=1, sort_keys=True, default=str).encode()
    rest = body[1:] if body == b"{}" else b"," + body[1:]
    return _BEFORE + _sha256(rest) + b'"' + rest


def unpacked(raw: bytes) -> dict[str, Any]:
    """The document in these bytes. Raises ValueError if they are not those that were written.

    One without a hash, which somebody else or an earlier version wrote, is taken as it is.
    """
    start = len(_BEFORE) + _DIGITS
    rest = raw[start + 1 :]
    told = raw[len(_BEFORE) : start] == _sha256(rest)
    is_ours = raw.startswith(_BEFORE) and raw[start : start + 1] == b'"'
    if is_ours != told:
        raise ValueError("it was changed since it was written")
    document = json.loads(b"{" + rest.removeprefix(b",") if is_ours else raw)
    if not isinstance(document, dict):
        raise ValueError("it is no JSON object")
    return document


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


# -- blocks ---------------------------------------------------------------------------------------


def hashes_of(path: Path) -> list[str]:
    """A hash of each block of a local file."""
    with path.open("rb") as file:
        return [_short(block) for block in iter(lambda: file.read(BLOCK), b"")]


class Blocks:
    """Reads ranges of one file, each block of them verified."""

    def __init__(
        self,
        read: Callable[[int, int], bytes],
        size: int,
        hashes: list[str],
        damaged: Callable[[], Exception],
    ) -> None:
        """read: from a start and a length to exactly so many bytes; damaged: what is raised."""
        self._read, self._size, self._hashes = read, size, hashes
        self._damaged = damaged
        self._kept: OrderedDict[int, bytes] = OrderedDict()

    def read(self, start: int, length: int) -> bytes:
        """`length` bytes from `start` on, never fewer."""
        first, last = start // BLOCK, (start + length - 1) // BLOCK
        wanted = range(first, last + 1)
        blocks = {n: self._kept[n] for n in wanted if n in self._kept}
        missing = [n for n in wanted if n not in blocks]
        if missing:
            for number, block in self._verified(missing[0], missing[-1]):
                blocks[number] = self._kept[number] = block
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        data = b"".join(blocks[n] for n in wanted) if len(wanted) > 1 else blocks[first]
        return data[start - first * BLOCK : start - first * BLOCK + length]

    def _verified(self, first: int, last: int) -> list[tuple[int, bytes]]:
        """Blocks that were read at once; a byte that changed on its way is read again."""
        begin, end = first * BLOCK, min(self._size, (last + 1) * BLOCK)
        for _ in range(DAMAGE_ATTEMPTS):
            data = memoryview(self._read(begin, end - begin))
            found = [
                (n, bytes(data[(n - first) * BLOCK : (n - first + 1) * BLOCK]))
                for n in range(first, last + 1)
            ]
            if all(_short(block) == self._hashes[n] for n, block in found):
                return found
        raise self._damaged()


def _short(block: bytes) -> str:
    return hashlib.blake2b(block, digest_size=12).hexdigest()
