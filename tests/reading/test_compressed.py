"""Compressed tables: unpacked whole, or refused; a bomb is stopped early and leaves nothing."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import tarfile
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from mm_assets.reading.compressed import (
    CHUNK,
    LIMIT_BYTES,
    LIMIT_RATIO,
    RATIO_FROM,
    compression_of,
    unpacked,
)
from mm_assets.reading.table import TableRefused
from mm_assets.uploads.archives import rules

PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lambda data: lzma.compress(data, preset=1),
    "zstd": lambda data: pa.compress(data, codec="zstd", asbytes=True),
}
KINDS = list(PACK)
_LUCK = random.Random(1)
ROWS = "".join(f"{n},{_LUCK.random()},grün\n" for n in range(60_000)).encode()  # 2 MB


def unpack(tmp_path: Path, data: bytes, **limits: int) -> tuple[str, bytes]:
    path, target = tmp_path / "packed.csv", tmp_path / "plain.csv"
    path.write_bytes(data)
    kind = unpacked(path, target, **limits)
    return kind, target.read_bytes()


def refused(tmp_path: Path, data: bytes, **limits: int) -> str:
    with pytest.raises(TableRefused) as caught:
        unpack(tmp_path, data, **limits)
    assert caught.value.code == "table_compressed"
    assert [path.name for path in tmp_path.iterdir()] == ["packed.csv"]
    return caught.value.reason


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("content", [b"id\n1\n", ROWS, b""], ids=["small", "large", "empty"])
def test_each_kind_is_told_by_its_bytes_and_unpacked(
    tmp_path: Path, kind: str, content: bytes
) -> None:
    packed = PACK[kind](content)
    assert compression_of(packed[:64]) == kind
    assert unpack(tmp_path, packed) == (kind, content)


@pytest.mark.parametrize("head", [b"", b"id,x\n", b"BZh9,quality\n", b"PK\x03\x04", b"\x1f\x8b"])
def test_what_is_not_compressed_is_not_taken_for_it(tmp_path: Path, head: bytes) -> None:
    assert compression_of(head) is None
    assert "is not compressed" in refused(tmp_path, head)


@pytest.mark.parametrize("kind", KINDS)
def test_parts_that_were_compressed_apart_are_one_content(tmp_path: Path, kind: str) -> None:
    parts = [b"id,x\n", ROWS, b"", b"9,z\n"]
    assert unpack(tmp_path, b"".join(map(PACK[kind], parts)))[1] == b"".join(parts)


@pytest.mark.parametrize("kind", ["gzip", "xz"])
def test_padding_behind_the_end_is_no_damage(tmp_path: Path, kind: str) -> None:
    assert unpack(tmp_path, PACK[kind](b"id\n") + bytes(512))[1] == b"id\n"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("left", [0.02, 0.5, 0.99])
def test_what_is_cut_short_is_refused(tmp_path: Path, kind: str, left: float) -> None:
    packed = PACK[kind](ROWS)
    assert "cut short" in refused(tmp_path, packed[: int(left * len(packed))])


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_byte_is_missed(tmp_path: Path, kind: str) -> None:
    assert "cut short" in refused(tmp_path, PACK[kind](ROWS)[:-1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_second_part_is_not_left_out_in_silence(tmp_path: Path, kind: str) -> None:
    second = bytearray(PACK[kind](ROWS))
    second[0] ^= 0xFF
    assert "damaged" in refused(tmp_path, PACK[kind](b"id\n") + bytes(second))


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz"])  # zstd's checksum is optional
def test_a_changed_byte_is_noticed(tmp_path: Path, kind: str) -> None:
    packed = bytearray(PACK[kind](ROWS))
    packed[len(packed) // 2] ^= 0x10
    assert "damaged" in refused(tmp_path, bytes(packed))


@pytest.mark.parametrize("outer", KINDS)
@pytest.mark.parametrize("inner", KINDS)
def test_what_is_compressed_twice_is_refused(tmp_path: Path, outer: str, inner: str) -> None:
    assert f"compressed twice: {inner}" in refused(tmp_path, PACK[outer](PACK[inner](b"id\n")))


def test_a_tar_inside_is_refused(tmp_path: Path) -> None:
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("records.csv"))
    assert "tar archive" in refused(tmp_path, gzip.compress(tar.getvalue()))


# -- bombs ----------------------------------------------------------------------------------------


def test_the_limits_are_those_of_an_entry_in_a_zip() -> None:
    caps = rules.CAPS
    assert (caps.entry_bytes, caps.ratio) == (LIMIT_BYTES, LIMIT_RATIO)
    assert RATIO_FROM == rules.RATIO_FROM


@pytest.mark.parametrize("kind", KINDS)
def test_more_than_the_limits_is_refused(tmp_path: Path, kind: str) -> None:
    packed = PACK[kind](ROWS)
    assert "more than 1,000,000 bytes" in refused(tmp_path, packed, limit_bytes=1_000_000)
    zeros = PACK[kind](bytes(8 << 20))
    assert "more than 200 times its size" in refused(tmp_path, zeros)
    assert "more than 2 times its size" in refused(
        tmp_path, PACK[kind](ROWS * 2 + bytes(len(ROWS) * 4)), limit_ratio=2
    )


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "zstd"])
def test_a_bomb_of_10_gb_is_stopped_early_and_leaves_nothing(tmp_path: Path, kind: str) -> None:
    one = PACK[kind](bytes(64 << 20))
    bomb = one * (10_000_000 // len(one) + 1)  # 10 MB of members, each of 64 MiB
    assert len(bomb) // len(one) * (64 << 20) > 10_000_000_000
    written = []
    real = Path.unlink

    def seen(self: Path, missing_ok: bool = False) -> None:
        if self.exists():
            written.append(self.stat().st_size)
        real(self, missing_ok=missing_ok)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", seen)
        assert "200 times its size" in refused(tmp_path, bomb)
    assert max(written) <= 66 << 20


def test_an_xz_that_asks_for_much_memory_is_refused(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 20}]
    small = lzma.compress(b"id\n", filters=filters)
    # Packing with 512 MiB takes gigabytes, so the block's header is made to ask for them.
    header = bytearray(small[12 : 12 + (small[12] + 1) * 4])
    header[header.index(b"\x21\x01") + 2] = 34  # 2 << (34 // 2 + 11)
    header[-4:] = zlib.crc32(bytes(header[:-4])).to_bytes(4, "little")
    packed = small[:12] + bytes(header) + small[12 + len(header) :]
    assert "damaged: Memory usage limit" in refused(tmp_path, packed)
    assert unpack(tmp_path, lzma.compress(b"id\n", preset=9))[1] == b"id\n"


def test_a_zstd_that_asks_for_much_memory_is_refused(tmp_path: Path) -> None:
    # A frame header with a window of 2 GiB (exponent 21, 2**(10 + 21)) and one raw last block.
    frame = (
        b"\x28\xb5\x2f\xfd\x00" + bytes([21 << 3]) + (3 << 3 | 1).to_bytes(3, "little") + b"id\n"
    )
    assert "damaged" in refused(tmp_path, frame)


@pytest.mark.parametrize("kind", KINDS)
def test_the_memory_is_flat(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "packed.csv"
    path.write_bytes(PACK[kind](ROWS) * 12)
    tracemalloc.start()
    unpacked(path, tmp_path / "plain.csv")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 24 * CHUNK  # xz keeps the last 8 MiB
    assert (tmp_path / "plain.csv").stat().st_size == 12 * len(ROWS)


def test_a_target_that_cannot_be_written_is_no_fault_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "packed.csv"
    path.write_bytes(gzip.compress(b"id\n"))
    with pytest.raises(FileNotFoundError):
        unpacked(path, tmp_path / "nowhere" / "plain.csv")
