"""What the tests of archives share: reading all of one, and tars and 7z written by hand."""

from __future__ import annotations

import io
import lzma
import struct
import tarfile
import tracemalloc
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mm_assets.contract.errors import UploadError
from mm_assets.uploads.archives.opening import open_archive
from mm_assets.uploads.archives.rules import CAPS, Caps

WHERE = "inbox/u.tar"
PHOTO = b"\xff\xd8\xff" + bytes(range(256)) * 40


def read_all(source: Path | bytes, caps: Caps = CAPS) -> dict[str, bytes]:
    with open_archive(source, where=WHERE, caps=caps) as archive:
        files = {name: stream.read() for name, stream in archive.entries()}
        assert [(name, len(data)) for name, data in files.items()] == archive.names
        return files


def refused(data: bytes, code: str, caps: Caps = CAPS) -> UploadError:
    """Refused as it is opened, before anything is handed out."""
    with pytest.raises(UploadError) as caught:
        open_archive(data, where=WHERE, caps=caps)
    return judged(caught.value, code)


def refused_in_reading(data: bytes, code: str, caps: Caps = CAPS) -> UploadError:
    with open_archive(data, where=WHERE, caps=caps) as archive, pytest.raises(UploadError) as found:
        for _, stream in archive.entries():
            stream.read()
    return judged(found.value, code)


@contextmanager
def no_more_memory_than(most: int) -> Iterator[None]:
    """What is allocated inside never takes more than so many bytes."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


def judged(error: UploadError, code: str) -> UploadError:
    assert error.code == code, error
    assert error.where.startswith(WHERE)
    assert error.todo
    return error


# -- tar ------------------------------------------------------------------------------------------

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: __import__("gzip").compress(data),
    "bzip2": lambda data: __import__("bz2").compress(data),
    "xz": lzma.compress,
    "zstd": lambda data: pa.compress(data, "zstd", asbytes=True),
}


def member(name: str, size: int = 0, **more: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    for key, value in more.items():
        setattr(info, key, value)
    return info


def tarred(
    files: Mapping[str, bytes] | Sequence[tuple[str | tarfile.TarInfo, bytes]],
    form: int = tarfile.PAX_FORMAT,
) -> bytes:
    """A tar as Python writes it."""
    buffer = io.BytesIO()
    pairs = list(files.items()) if isinstance(files, Mapping) else files
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, data in pairs:
            info = member(name, len(data)) if isinstance(name, str) else name
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def raw_tar(*entries: tuple[bytes, bytes], kind: bytes = b"0", size: int = -1) -> bytes:
    """A tar written by hand: any name of up to 100 bytes, any kind, and sizes that may lie."""
    blocks = b""
    for name, data in entries:
        claimed = b"%011o\0" % (len(data) if size < 0 else size)
        head = name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + claimed
        head += b"00000000000\0" + b" " * 8 + kind + bytes(100) + b"ustar\x0000" + bytes(247)
        total = b"%06o\0 " % sum(head)
        blocks += head[:148] + total + head[156:] + data + bytes(-len(data) % 512)
    return blocks + bytes(1024)


# -- 7z -------------------------------------------------------------------------------------------

Coder = tuple[bytes, bytes, Callable[[bytes], bytes]]  # method, parameters, what packs


def _raw_lzma(data: bytes, kind: int) -> bytes:
    return lzma.compress(data, lzma.FORMAT_RAW, filters=[{"id": kind, "dict_size": 1 << 16}])


LZMA2: Coder = (b"\x21", b"\x08", lambda data: _raw_lzma(data, lzma.FILTER_LZMA2))
LZMA1: Coder = (b"\3\1\1", b"\x5d" + struct.pack("<I", 1 << 16),
                lambda data: _raw_lzma(data, lzma.FILTER_LZMA1))  # fmt: skip
COPY: Coder = (b"\0", b"", lambda data: data)


def number(value: int) -> bytes:
    return bytes([value]) if value < 0x80 else b"\xff" + struct.pack("<Q", value)


def coder_of(method: bytes, parameters: bytes) -> bytes:
    flags = len(method) | (0x20 if parameters else 0)
    rest = number(len(parameters)) + parameters if parameters else b""
    return bytes([flags]) + method + rest


def streams(packed: int, folder: bytes, size: int, parts: bytes = b"", at: int = 0) -> bytes:
    """One packed stream, and one folder that unpacks it."""
    places = b"\6" + number(at) + number(1) + b"\x09" + number(packed) + b"\0"
    return places + b"\7\x0b" + number(1) + b"\0" + folder + b"\x0c" + number(size) + b"\0" + parts


def sevened(
    files: Mapping[str, bytes] | Sequence[tuple[str, bytes]],
    coder: Coder = LZMA2,
    *,
    size: int | None = None,
    crc: int | None = None,
    attributes: int = 0,
    folder: bytes | None = None,
    directory: Callable[[bytes], bytes] = lambda made: made,
) -> bytes:
    """A solid 7z written by hand. size: of what is packed together, as the directory says;
    crc: of each file; directory: changes it before it is signed.
    """
    pairs = list(files.items()) if isinstance(files, Mapping) else list(files)
    full = [data for _, data in pairs if data]
    content = b"".join(full)
    packed = coder[2](content) if full else b""
    made = b"\1"
    if full:
        claimed = [len(data) for data in full]
        sums = b"".join(struct.pack("<I", zlib.crc32(d) if crc is None else crc) for d in full)
        parts = b"\x08\x0d" + number(len(full)) + b"\x09"
        parts += b"".join(map(number, claimed[:-1])) + b"\x0a\1" + sums + b"\0"
        told = number(1) + coder_of(*coder[:2]) if folder is None else folder
        total = len(content) if size is None else size
        made += b"\4" + streams(len(packed), told, total, parts) + b"\0"
    names = b"\0" + b"".join(f"{name}\0".encode("utf-16-le", "surrogatepass") for name, _ in pairs)
    made += b"\5" + number(len(pairs)) + b"\x11" + number(len(names)) + names
    if len(full) < len(pairs):
        empty = _bits([not data for _, data in pairs])
        made += b"\x0e" + number(len(empty)) + empty
        of_empty = _bits([not name.endswith("/") for name, data in pairs if not data])
        made += b"\x0f" + number(len(of_empty)) + of_empty
    if attributes:
        each = struct.pack("<I", attributes) * len(pairs)
        made += b"\x15" + number(len(each) + 2) + b"\1\0" + each
    return signed(packed, directory(made + b"\0\0"))


def signed(packed: bytes, directory: bytes) -> bytes:
    start = struct.pack("<QQI", len(packed), len(directory), zlib.crc32(directory))
    head = b"7z\xbc\xaf\x27\x1c\0\4" + struct.pack("<I", zlib.crc32(start)) + start
    return head + packed + directory


def _bits(given: list[bool]) -> bytes:
    text = "".join("1" if one else "0" for one in given)
    return int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big")
