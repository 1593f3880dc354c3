"""7z: what 7-Zip and others write is read to the byte; what is hostile is refused with a code."""

from __future__ import annotations

import bz2
import lzma
import struct
import time
import zlib
from base64 import b64decode
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_assets.contract.errors import UploadError
from mm_assets.uploads.archives.opening import open_archive
from mm_assets.uploads.archives.rules import Caps
from tests.uploads.archives.made import (
    COPY,
    LZMA1,
    LZMA2,
    PHOTO,
    WHERE,
    Coder,
    coder_of,
    no_more_memory_than,
    number,
    read_all,
    refused,
    refused_in_reading,
    sevened,
    signed,
    streams,
)

FILES = {"a.csv": b"id,x\n1,2\n" * 50_000, "photos/1.jpg": PHOTO, "empty": b""}
TABLE = b"id,age\n1,2\n3,4\n"
# Written by 7-Zip 26.01 and by py7zr 1.1.4.
WRITTEN = {
    "7-Zip": (
        "N3q8ryccAASE4c1gnQAAAAAAAAAhAAAAAAAAAGowsC3gAToAGV0APG/7t8Gfd9HeGiDYCOpmdoRAL7NngVGgAA"
        "AAAIEzB64P0B3SfJ8/R0EtHqDZV7c7ht0aUq68b1wiBMmPWXBR7aj74NdugdB5lEc1FRs1HbXRsefVmAlOiSwx"
        "gq/c5VQe5rDJpcXkQw6Kera688ZplBOSkHS3cEubW+M6Ed0pBemnp1NWrRHAK+vY5nEKDuOFVRY22KAAFwYhAQ"
        "l8AAcLAQABIwMBAQVdABAAAAyAugoB8W6lCQAA"
    ),
    "7-Zip, each file apart, with LZMA": (
        "N3q8ryccAASbjVO7HgAAAAAAAADqAAAAAAAAAKy94uYAPG/7t7/uAAAANJkBhLIAm+gVnDDJnQi29typdsABBA"
        "YAAgkJFQAHCwIAASMDAQEFXQAQAAABIwMBAQVdABAAAAyBLA8ACAoBEy1DGw8JnP0AAAUFDgHgDwEgEWEAcwB1"
        "AGIAAABzAHUAYgAvAGUAbQBwAHQAeQAAAHMAdQBiAC8AbgBvAG4AZQAuAHQAeAB0AAAAcwB1AGIALwBnAHIA/A"
        "BuACAAAyYuAHQAeAB0AAAAdAAuAGMAcwB2AAAAGQIAABQqAQDT1WkOd3/dAdPVaQ53f90B09VpDnd/3QHT1WkO"
        "d3/dAdPVaQ53f90BFRYBABCA7UEQgO1BIICkgSCApIEggKSBAAA="
    ),
    "py7zr": (
        "N3q8ryccAAQjCQ5KagAAAAAAAAAUAAAAAAAAAAv/jSIBAA5pZCxhZ2UKMSwyCjMsNAoA4ABQAE9dAACBMweuD8"
        "8n8IwHsMPaKtdYZKyzeM5U3Z7j1XK9o+KOcTTUK2YSbDbg9vbJbkqhBb+KWPvy0fN7lKK8prOpVXpWuwn3VxGA"
        "px1OB7AAAAAAFwYTAQlXAAcLAQABISEBGAxRAAA="
    ),
}
WITH_PASSWORD = (
    "N3q8ryccAAQfA7n+IAAAAAAAAABiAAAAAAAAAJjVA5TyZXL7XTne7EdBg9feY0Y39BAw2l5Sgf0jojcG4MbNwA"
    "EEBgABCSAABwsBAAIkBvEHARJTD6nKgTqDQmWOdIiZUV5/hU4hIQEAAQAMEw8ACAoBDwmc/QAABQEZAQARDQB0"
    "AC4AYwBzAHYAAAAUCgEA09VpDnd/3QEVBgEAIICkgQAA"
)
WITH_PASSWORD_AND_NAMES_HIDDEN = (
    "N3q8ryccAATK7NTskAAAAAAAAAAuAAAAAAAAAA24VZvs5O16ID5Gtv7b14OO5gJhBx+cKviSEIkR8PhVUxnR5o"
    "eBxKu1JvtURZVlO0PWUycvUP77hWE7ij9B19HKIa1artZ/COFiAe+dp8D5drjRSWSFbI/zNvb4Uv+uRne/7B3v"
    "zjifEMylsOoxowzdr5/ax1bauzvMDHIc0Z9+cWIZVAKHo+jYaPTTNtw4uogQ7/4XBiABCXAABwsBAAEkBvEHAR"
    "JTDy+D3r4AnxmIuHTJ4pTs5x8MYgoB/WJrhQAA"
)
WITH_PPMD = (
    "N3q8ryccAAQwkXfQEwAAAAAAAABSAAAAAAAAAKtFjgwAaPlGWWgRxc6wCtB+ARXC1+AAAQQGAAEJEwAHCwEAAS"
    "MDBAEFBgAAAQAMDwAICgEPCZz9AAAFARkGAAAAAAAAEQ0AdAAuAGMAcwB2AAAAFAoBANPVaQ53f90BFQYBACCA"
    "pIEAAA=="
)
WITH_LINK = (
    "N3q8ryccAARSDfqMCQAAAAAAAABaAAAAAAAAAFE5KoEBAAR0LmNzdgABBAYAAQkJAAcLAQABISEBAAwFAAgKAV"
    "rieH0AAAUBGQwAAAAAAAAAAAAAAAAREwBsAGkAbgBrAC4AYwBzAHYAAAAZABQKAQBTQ3cOd3/dARUGAQAggP+h"
    "AAA="
)


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


CODERS: dict[str, Coder] = {
    "LZMA2": LZMA2, "LZMA": LZMA1, "none": COPY, "bzip2": (b"\4\2\2", b"", bz2.compress),
    "deflate": (b"\4\1\x08", b"", deflated),
}  # fmt: skip


# -- what is accepted -----------------------------------------------------------------------------


@pytest.mark.parametrize("writer", WRITTEN)
def test_what_other_programs_write_is_read(writer: str) -> None:
    expected = {"t.csv": TABLE}
    if writer != "py7zr":
        expected |= {"sub/none.txt": b"", "sub/grün ☃.txt": b"x" * 300}
    assert read_all(b64decode(WRITTEN[writer])) == expected


@pytest.mark.parametrize("coder", CODERS)
def test_every_usual_compression_is_read_exactly(tmp_path: Path, coder: str) -> None:
    path = tmp_path / "u"
    path.write_bytes(sevened(FILES, CODERS[coder]))
    assert read_all(path) == FILES
    with open_archive(path, where=WHERE) as archive:  # and again, from the start
        first = [name for name, _ in archive.entries()]
        assert [name for name, _ in archive.entries()] == first == list(FILES)


def test_a_filter_before_lzma2_is_undone() -> None:
    data = bytes(range(256)) * 20
    last = {"id": lzma.FILTER_LZMA2, "dict_size": 1 << 16}
    filters = [{"id": lzma.FILTER_DELTA, "dist": 4}, last]
    folder = number(2) + coder_of(b"\3", b"\3") + coder_of(b"\x21", b"\x08")
    # Of two coders, sizes of both are told, and which takes what the other gives.
    folder += number(0) + number(1)

    def both_sizes(made: bytes) -> bytes:
        return made.replace(b"\x0c" + number(len(data)), b"\x0c" + number(len(data)) * 2)

    made = sevened(
        {"a": data},
        (b"", b"", lambda plain: lzma.compress(plain, lzma.FORMAT_RAW, filters=filters)),
        folder=folder, directory=both_sizes,
    )  # fmt: skip
    assert read_all(made) == {"a": data}


def test_empty_archives_and_folders_are_fine() -> None:
    assert read_all(signed(b"", b"")) == read_all(sevened({})) == {}
    assert read_all(sevened({"a/": b"", "a/b": b"1", "c": b""})) == {"a/b": b"1", "c": b""}


def test_what_a_reader_leaves_unread_is_skipped_and_still_verified() -> None:
    with open_archive(sevened(FILES), where=WHERE) as archive:
        seen = [(name, stream.read(2)) for name, stream in archive.entries()]
    assert seen == [("a.csv", b"id"), ("photos/1.jpg", PHOTO[:2]), ("empty", b"")]
    with open_archive(sevened({"a": PHOTO, "b": PHOTO}, crc=1), where=WHERE) as archive:
        entries = archive.entries()
        next(entries)
        with pytest.raises(UploadError, match="archive_corrupt"):
            next(entries)


def test_an_archive_of_50_000_entries_is_read_quickly() -> None:
    data = sevened({f"photos/{i:06d}.jpg": b"%d" % i for i in range(50_000)})
    begin = time.process_time()
    files = read_all(data)
    assert time.process_time() - begin < 20
    assert files["photos/049999.jpg"] == b"49999"


@pytest.mark.parametrize("coder", CODERS)
def test_memory_stays_flat_whatever_the_size_of_an_entry(tmp_path: Path, coder: str) -> None:
    noise = bytes(range(256)) * 64
    content = b"".join(i.to_bytes(4, "big") * 40 + noise for i in range(1000))  # 16 MB
    path, size = tmp_path / "u", len(content)
    path.write_bytes(sevened({"big": content}, CODERS[coder]))
    del content
    with no_more_memory_than(14 << 20), open_archive(path, where=WHERE) as archive:
        total = 0
        for _, stream in archive.entries():
            while piece := stream.read(1 << 20):
                total += len(piece)
    assert total == size


# -- names and kinds ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "../evil.csv", "a/../b.csv", "/etc/passwd", "C:\\x.csv", "c:x.csv", "a\\b.csv", "a//b.csv",
        "./a.csv", "", "a\nb.csv", "x" * 256, "y/" * 2100 + "z", "\udc80", "a/",
    ],
)  # fmt: skip
def test_an_unsafe_name_refuses_the_whole_archive(name: str) -> None:
    refused(sevened({"good.csv": b"id\n", name: b"1"}), "archive_unsafe_name")


@pytest.mark.parametrize(
    ("first", "second"), [("a", "a"), ("A.jpg", "a.jpg"), ("é.jpg", "e\u0301.jpg"), ("a", "a/b")]
)
def test_names_that_collide_refuse_the_whole_archive(first: str, second: str) -> None:
    refused(sevened([(first, b"1"), (second, b"2")]), "archive_name_collision")


def unix(kind: int) -> int:
    return (kind | 0o777) << 16 | 0x8000


@pytest.mark.parametrize(
    "attributes", [unix(0o120000), unix(0o010000), unix(0o020000), 0x400, 0x10, unix(0o040000)]
)
def test_links_devices_and_folders_with_content_are_refused(attributes: int) -> None:
    data = sevened({"a": b"/etc/passwd"}, attributes=attributes)
    refused(data, "archive_special_file")


def test_a_link_as_7_zip_writes_it_is_refused() -> None:
    refused(b64decode(WITH_LINK), "archive_special_file")


@pytest.mark.parametrize("data", [WITH_PASSWORD, WITH_PASSWORD_AND_NAMES_HIDDEN])
def test_a_password_is_refused(data: str) -> None:
    refused(b64decode(data), "archive_encrypted")


def test_other_compressions_are_refused_in_words() -> None:
    assert "PPMd" in str(refused(b64decode(WITH_PPMD), "archive_compression"))
    joined = number(1) + b"\x14\3\3\1\x1b" + number(4) + number(1)  # BCJ2: four streams in
    refused(sevened({"a": PHOTO}, folder=joined), "archive_compression")
    many = number(9) + coder_of(b"\x21", b"\x08") * 9
    refused(sevened({"a": PHOTO}, folder=many), "archive_compression")


def test_one_archive_in_another_is_handed_out_and_one_more_is_refused() -> None:
    inner = sevened({"a": b"1"})
    assert read_all(sevened({"photo.jpg": inner})) == {"photo.jpg": inner}
    caps = Caps(inside=False)
    refused(sevened({"in.zip": b"1"}), "archive_nested", caps)
    refused_in_reading(sevened({"photo.jpg": inner}), "archive_nested", caps)


# -- sizes and memory -----------------------------------------------------------------------------


def test_what_is_over_a_limit_is_refused() -> None:
    data = sevened({"a": PHOTO, "b": PHOTO, "c": b""})
    refused(data, "archive_too_large", Caps(entries=2))
    refused(data, "archive_too_large", Caps(entry_bytes=len(PHOTO) - 1))
    refused(data, "archive_too_large", Caps(total_bytes=2 * len(PHOTO) - 1))
    caps = Caps(entries=3, entry_bytes=len(PHOTO), total_bytes=2 * len(PHOTO))
    assert len(read_all(data, caps)) == 3


def test_a_bomb_is_refused() -> None:
    refused(sevened({"a": bytes(90 << 20)}), "archive_bomb")
    refused(sevened({f"{i}": bytes(1 << 20) for i in range(80)}), "archive_bomb")


@pytest.mark.parametrize("coder", ["LZMA2", "LZMA"])
def test_a_dictionary_is_no_larger_than_its_content_and_has_a_limit(coder: str) -> None:
    huge = b"\x28" if coder == "LZMA2" else b"\x5d\xff\xff\xff\xff"  # 4 GiB
    method, _, pack = CODERS[coder]
    told = number(1) + coder_of(method, huge)
    with no_more_memory_than(8 << 20):
        assert read_all(sevened({"a": PHOTO}, (method, huge, pack))) == {"a": PHOTO}
    data = sevened({"a": PHOTO}, LZMA2, folder=told, size=(64 << 20) + 1)
    error = refused(data, "archive_compression")
    assert "dictionary" in error.what


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize("off", [-3, 5000])
def test_sizes_that_lie_are_noticed(coder: str, off: int) -> None:
    data = sevened({"a": PHOTO}, CODERS[coder], size=len(PHOTO) + off)
    with pytest.raises(UploadError) as caught:
        read_all(data)
    assert caught.value.code == "archive_corrupt"


@pytest.mark.parametrize("coder", ["LZMA2", "none", "bzip2", "deflate"])
def test_bytes_hidden_behind_the_data_are_noticed(coder: str) -> None:
    method, parameters, pack = CODERS[coder]
    hidden: Coder = (method, parameters, lambda data: pack(data) + b"hidden")
    refused_in_reading(sevened({"a": PHOTO}, hidden), "archive_corrupt")


@pytest.mark.parametrize("coder", CODERS)
def test_a_changed_byte_is_noticed(coder: str) -> None:
    data = bytearray(sevened({"a": PHOTO}, CODERS[coder]))
    data[32 + 80] ^= 0x10
    refused_in_reading(bytes(data), "archive_corrupt")


# -- the directory --------------------------------------------------------------------------------


def test_an_archive_cut_short_anywhere_is_refused_and_so_are_bytes_behind_it() -> None:
    for data in (sevened({"a.csv": TABLE, "b": b""}), b64decode(WRITTEN["7-Zip"])):
        for length in range(6, len(data)):
            refused(data[:length], "archive_unreadable")
        refused(data + b"x", "archive_corrupt")


def test_one_part_of_several_is_refused_in_words() -> None:
    whole = sevened({"a": PHOTO}, COPY)
    assert "one part of several" in refused(whole[:5000], "archive_unreadable").what


@pytest.mark.parametrize("at", [9, 15, 25, 30])
def test_a_changed_byte_in_front_is_noticed(at: int) -> None:
    data = bytearray(sevened({"a": PHOTO}))
    data[at] ^= 1
    with pytest.raises(UploadError) as caught:
        open_archive(bytes(data), where=WHERE)
    assert caught.value.code in ("archive_corrupt", "archive_unreadable")


def test_a_directory_of_any_size_is_not_unpacked() -> None:
    bomb = lzma.compress(
        bytes(80 << 20), lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 16}]
    )
    folder = number(1) + coder_of(b"\x21", b"\x08")
    told = b"\x17" + streams(len(bomb), folder, 80 << 20) + b"\0"
    with no_more_memory_than(8 << 20):
        refused(signed(bomb, told), "archive_too_large")


def test_a_directory_packed_in_itself_again_and_again_is_refused() -> None:
    folder = number(1) + coder_of(b"\0", b"")
    told = b"\x17" + streams(0, folder, 0) + b"\0"
    refused(signed(b"", told), "archive_unreadable")
    # It unpacks into the very words that say it is packed.
    for size in range(40, 80):
        again = b"\x17" + streams(size, folder, size) + b"\0"
        if len(again) == size:
            refused(signed(again, again), "archive_unreadable")


@pytest.mark.parametrize(
    "directory",
    [
        b"\2", b"\1", b"\1\4", b"\1\3\0\0", b"\1\5\x05\0\0", b"\1\5\xff" + b"\xff" * 8 + b"\0\0",
        b"\1\2\1\xff" + b"\xff" * 8, b"\1\5\1\x11\3\1a\0\0\0", b"\1\5\1\x11\3\0a\0\0\0",
        b"\1\4\6\0\xff" + b"\xff" * 8, b"\1\4\6\0\1\x09\x05\0\0\0", b"\1\0\0",
    ],
)  # fmt: skip
def test_a_directory_that_makes_no_sense_is_refused(directory: bytes) -> None:
    with pytest.raises(UploadError) as caught:
        open_archive(signed(b"", directory), where=WHERE)
    assert caught.value.code in ("archive_unreadable", "archive_too_large", "archive_overlap")


def test_packed_bytes_that_reach_into_the_directory_are_refused() -> None:
    data = sevened({"a": PHOTO}, COPY, directory=lambda made: made.replace(
        b"\x09" + number(len(PHOTO)), b"\x09" + number(len(PHOTO) + 1), 1))  # fmt: skip
    refused(data, "archive_overlap")


def test_packed_bytes_that_belong_to_no_file_are_refused() -> None:
    data = sevened({"a": PHOTO}, COPY, directory=lambda made: made.replace(
        b"\x08\x0d" + number(1), b"\x08\x0d" + number(0)))  # fmt: skip
    refused(data, "archive_unreadable")


def test_coders_in_a_circle_are_refused() -> None:
    folder = number(2) + coder_of(b"\x21", b"\x08") * 2 + number(0) + number(0)
    refused(sevened({"a": PHOTO}, folder=folder), "archive_unreadable")


CONTENT = {"a.csv": TABLE * 9, "b/c.jpg": PHOTO[:90], "d/": b"", "e": b""}
edit = st.tuples(st.integers(0, 10_000), st.integers(0, 255))


@settings(max_examples=500, deadline=None)
@given(st.lists(edit, min_size=1, max_size=4), st.sampled_from([*CODERS]), st.booleans())
def test_changed_bytes_never_raise_anything_but_upload_errors(
    changes: list[tuple[int, int]], coder: str, in_directory: bool
) -> None:
    """In the directory they are signed anew, so that they are read."""

    def changed(made: bytes) -> bytes:
        data = bytearray(made)
        for at, value in changes:
            data[at % len(data)] = value
        return bytes(data)

    if in_directory:
        data = sevened(CONTENT, CODERS[coder], directory=changed)
    else:
        data = changed(sevened(CONTENT, CODERS[coder]))
    try:
        read_all(data)
    except UploadError as error:
        code = error.code
        assert code.startswith("archive_")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_directory_at_all_is_read_or_refused(directory: bytes) -> None:
    try:
        read_all(signed(b"12345", b"\1" + directory))
    except UploadError as error:
        code = error.code
        assert code.startswith("archive_")


def test_a_signature_alone_is_refused() -> None:
    refused(struct.pack("<6sBB", b"7z\xbc\xaf\x27\x1c", 0, 4), "archive_unreadable")
