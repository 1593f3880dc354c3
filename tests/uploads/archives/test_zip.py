"""Archives: what is sound is handed out to the byte, what is not is refused with a code."""

from __future__ import annotations

import io
import stat
import struct
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mm_assets.contract.errors import UploadError
from mm_assets.uploads.archives.opening import open_archive
from mm_assets.uploads.archives.rules import Caps

WHERE = "inbox/u.zip"
CAPS = Caps()
PHOTO = b"\xff\xd8\xff" + bytes(range(256)) * 40
quick = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def zipped(
    files: dict[str, bytes] | list[tuple[str | zipfile.ZipInfo, bytes]],
    method: int = zipfile.ZIP_DEFLATED,
) -> bytes:
    buffer = io.BytesIO()
    pairs = list(files.items()) if isinstance(files, dict) else files
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in pairs:
            archive.writestr(name, data)
    return buffer.getvalue()


def raw_zip(
    *entries: tuple[bytes, bytes],
    flags: int = 0x800,
    mode: int = 0,
    size: int = -1,
    system: int = 3,
) -> bytes:
    """A stored zip written by hand: any name, and sizes that may lie."""
    body, listing = b"", b""
    for name, data in entries:
        claimed = len(data) if size < 0 else size
        common = (20, flags, 0, 0, 0, zlib.crc32(data), len(data), claimed, len(name), 0)
        listing += struct.pack("<4sBB", b"PK\1\2", 20, system)
        listing += struct.pack("<HHHHHIIIHH", *common)
        listing += struct.pack("<HHHII", 0, 0, 0, mode << 16, len(body)) + name
        body += struct.pack("<4sHHHHHIIIHH", b"PK\3\4", *common) + name + data
    end = (0, 0, len(entries), len(entries), len(listing), len(body), 0)
    return body + listing + b"PK\5\6" + struct.pack("<HHHHIIH", *end)


def read_all(path: Path, caps: Caps = CAPS) -> dict[str, bytes]:
    with open_archive(path, where=WHERE, caps=caps) as archive:
        return {name: stream.read() for name, stream in archive.entries()}


def put(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "u.zip"
    path.write_bytes(data)
    return path


def refused(tmp_path: Path, data: bytes, code: str, caps: Caps = CAPS) -> UploadError:
    """Refused as it is opened, before anything is handed out."""
    with pytest.raises(UploadError) as caught:
        open_archive(put(tmp_path, data), where=WHERE, caps=caps)
    assert caught.value.code == code
    assert caught.value.where.startswith(WHERE)
    assert caught.value.todo
    return caught.value


def refused_in_reading(tmp_path: Path, data: bytes, code: str, caps: Caps = CAPS) -> UploadError:
    with (
        open_archive(put(tmp_path, data), where=WHERE, caps=caps) as archive,
        pytest.raises(UploadError) as caught,
    ):
        for _, stream in archive.entries():
            stream.read()
    assert caught.value.code == code
    assert caught.value.todo
    return caught.value


# -- what is accepted -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_every_usual_compression_is_read_exactly(tmp_path: Path, method: int) -> None:
    files = {"a.csv": b"id,x\n1,2\n" * 50_000, "photos/1.jpg": PHOTO, "empty": b""}
    assert read_all(put(tmp_path, zipped(files, method))) == files


def test_names_come_in_the_order_of_their_positions_with_their_sizes(tmp_path: Path) -> None:
    data = zipped({"z.csv": b"1", "a/": b"", "a/b.jpg": PHOTO})
    with open_archive(put(tmp_path, data), where=WHERE) as archive:
        assert archive.names == [("z.csv", 1), ("a/b.jpg", len(PHOTO))]


def test_an_empty_archive_is_fine(tmp_path: Path) -> None:
    assert read_all(put(tmp_path, zipped({}))) == {}


def test_a_streamed_archive_with_data_descriptors_is_read(tmp_path: Path) -> None:
    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.data = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.data += data
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", b"id\n1\n")
        archive.writestr("b.jpg", PHOTO)
    assert b"PK\x07\x08" in pipe.data
    assert read_all(put(tmp_path, bytes(pipe.data))) == {"a.csv": b"id\n1\n", "b.jpg": PHOTO}


def test_an_entry_with_zip64_fields_is_read(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, archive.open("a", "w", force_zip64=True) as file:
        file.write(PHOTO)
    assert read_all(put(tmp_path, buffer.getvalue())) == {"a": PHOTO}


def test_an_archive_of_70_000_entries_is_read_quickly(tmp_path: Path) -> None:
    data = zipped([(f"photos/{i:06d}.jpg", b"%d" % i) for i in range(70_000)], zipfile.ZIP_STORED)
    assert b"PK\6\6" in data  # more than 65,535 entries need zip64
    path = put(tmp_path, data)
    begin = time.process_time()
    files = read_all(path)
    assert time.process_time() - begin < 20
    assert len(files) == 70_000
    assert files["photos/069999.jpg"] == b"69999"


@pytest.mark.parametrize("entries", [3, 66_000])
def test_bytes_before_the_archive_are_skipped(tmp_path: Path, entries: int) -> None:
    files = {f"{i}.txt": b"x" for i in range(entries)}
    assert len(read_all(put(tmp_path, b"#!/bin/sh\n" + zipped(files, 0)))) == entries


def test_an_archive_comment_is_skipped(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", b"1")
        archive.comment = b"made by hand" * 1000
    assert read_all(put(tmp_path, buffer.getvalue())) == {"a": b"1"}


def test_names_in_utf8_without_the_flag_are_read_as_macos_writes_them(tmp_path: Path) -> None:
    data = raw_zip(("fotos/grün.jpg".encode(), b"1"), flags=0)
    assert list(read_all(put(tmp_path, data))) == ["fotos/grün.jpg"]


@pytest.mark.parametrize(
    ("codec", "names"),
    [
        ("cp437", ["grün.jpg"]), ("cp437", ["é1.jpg", "ñandú.jpg"]), ("cp437", ["½.jpg"]),
        ("cp850", ["Ångström.jpg", "Ørsted.jpg"]), ("cp852", ["kůň.jpg", "Žluťoučký.jpg"]),
        ("cp866", ["Фото1.jpg", "Собака.jpg"]), ("cp932", ["写真一.jpg", "表.jpg", "猫の写真.jpg"]),
        ("gbk", ["照片一.jpg", "小猫照片.jpg"]), ("gbk", ["图片1.jpg", "小狗.jpg"]),
        ("cp1252", ["Müller/Köln.jpg"]),
        ("cp1250", ["kůň.jpg", "Žluťoučký.jpg"]), ("mac_roman", ["Köln.jpg", "Zoé.jpg"]),
    ],
)  # fmt: skip
def test_names_in_the_code_page_of_the_machine_are_read(
    tmp_path: Path, codec: str, names: list[str]
) -> None:
    entries = [(name.encode(codec), b"1") for name in names]
    data = raw_zip(*entries, (b"plain.csv", b""), flags=0, system=0)
    assert list(read_all(put(tmp_path, data))) == [*names, "plain.csv"]


def test_backslashes_of_windows_are_folders(tmp_path: Path) -> None:
    names = [b"sent\\", b"sent\\t.csv", "sent\\fotos\\grün.jpg".encode()]
    data = raw_zip(*((name, b"") for name in names), system=0)
    assert list(read_all(put(tmp_path, data))) == ["sent/t.csv", "sent/fotos/grün.jpg"]


def test_the_icon_that_macos_gives_a_folder_costs_nothing(tmp_path: Path) -> None:
    names = ["a/Icon\r", "__MACOSX/a/._Icon\r", "Icon\r"]
    assert list(read_all(put(tmp_path, zipped(dict.fromkeys(names, b""))))) == names


def test_what_a_reader_leaves_unread_is_skipped_and_still_verified(tmp_path: Path) -> None:
    data = zipped({"a": PHOTO, "b": b"12345"})
    with open_archive(put(tmp_path, data), where=WHERE) as archive:
        seen = [(name, stream.read(2)) for name, stream in archive.entries()]
    assert seen == [("a", PHOTO[:2]), ("b", b"12")]
    broken = bytearray(zipped({"a": PHOTO, "b": b"12345"}, zipfile.ZIP_STORED))
    broken[2000] ^= 1
    with open_archive(put(tmp_path, bytes(broken)), where=WHERE) as archive:
        entries = archive.entries()
        next(entries)
        with pytest.raises(UploadError, match="archive_corrupt"):
            next(entries)


def test_an_entry_can_be_read_in_pieces_and_through_a_buffer(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    path = put(tmp_path, zipped({"a": data, "b": data}, zipfile.ZIP_STORED))
    with open_archive(path, where=WHERE) as archive:
        entries = archive.entries()
        _, first = next(entries)
        pieces = []
        while piece := first.read(70_001):
            pieces.append(piece)
        assert b"".join(pieces) == data
        assert [len(piece) for piece in pieces[:-1]] == [70_001] * (len(pieces) - 1)
        _, second = next(entries)
        assert io.BufferedReader(second).read() == data  # type: ignore[type-var]


def test_memory_stays_flat_whatever_the_size_of_an_entry(tmp_path: Path) -> None:
    noise = bytes(range(256)) * 64
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out,
        out.open("big", "w") as file,
    ):
        for i in range(4000):
            file.write(i.to_bytes(4, "big") * 40 + noise)
    path = put(tmp_path, buffer.getvalue())
    tracemalloc.start()
    with open_archive(path, where=WHERE) as archive:
        total = 0
        for _, stream in archive.entries():
            while piece := stream.read(1 << 20):
                total += len(piece)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 4000 * (160 + len(noise))
    assert peak < 8 << 20


# -- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        b"../evil.csv", b"a/../b.csv", b"/etc/passwd", b"C:\\x.csv", b"c:x.csv", b"a\\b.csv",
        b"a//b.csv", b"./a.csv", b"a/./b.csv", b"", b"/", b"a.csv\0.jpg", b"a\nb.csv", b"a\x7f.csv",
        "a\u0085b.csv".encode(), b"x" * 256 + b".csv", "ü".encode() * 128 + b".csv", b"\xff\xfe",
    ],
)  # fmt: skip
def test_an_unsafe_name_refuses_the_whole_archive(tmp_path: Path, name: bytes) -> None:
    refused(tmp_path, raw_zip((b"good.csv", b"id\n"), (name, b"1")), "archive_unsafe_name")


@pytest.mark.parametrize(
    "name",
    [b"..\\evil.csv", b"C:\\x.csv", b"\\\\server\\x.csv", b"a\\\\b.csv", b"a\\..\\b", b"b\\"],
)
def test_backslashes_of_windows_hide_no_unsafe_name(tmp_path: Path, name: bytes) -> None:
    data = raw_zip((b"b/", b""), (name, b""), system=0)
    code = "archive_name_collision" if name == b"b\\" else "archive_unsafe_name"
    refused(tmp_path, data, code)


def test_a_name_of_255_bytes_a_part_is_accepted(tmp_path: Path) -> None:
    name = "x" * 255 + "/" + "y" * 251 + ".csv"
    assert list(read_all(put(tmp_path, zipped({name: b"1"})))) == [name]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a.jpg", "a.jpg"), ("a", "a"), ("A.jpg", "a.jpg"), ("Fotos/1.jpg", "fotos/1.jpg"),
        ("é.jpg", "e\u0301.jpg"), ("É.jpg", "e\u0301.jpg"), ("straße", "STRASSE"), ("a", "a/b"),
        ("a/b", "A"), ("a/b/c", "a/b"), ("x", "x/"),
    ],
)  # fmt: skip
def test_names_that_collide_refuse_the_whole_archive(
    tmp_path: Path, first: str, second: str
) -> None:
    data = raw_zip((first.encode(), b""), (second.encode(), b""))
    refused(tmp_path, data, "archive_name_collision")


safe_part = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\\u2028\u2029:"),
    min_size=1, max_size=20,
).filter(lambda part: part not in (".", ".."))  # fmt: skip
any_name = st.one_of(
    st.lists(safe_part, min_size=1, max_size=3).map("/".join),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30),
    st.text("aA./\\:\0é\u0301 ", min_size=1, max_size=6),
)


@quick
@given(st.lists(st.tuples(any_name, st.binary(max_size=50)), max_size=5))
def test_every_name_is_handed_out_exactly_or_the_archive_is_refused(
    tmp_path: Path, files: list[tuple[str, bytes]]
) -> None:
    path = put(tmp_path, raw_zip(*((name.encode(), data) for name, data in files)))
    try:
        got = read_all(path)
    except UploadError as error:
        code = error.code
        assert code.startswith("archive_")
        return
    assert got == {name: data for name, data in files if not name.endswith("/")}
    for name in got:
        assert ".." not in name.split("/")
        assert not name.startswith("/")


@quick
@given(st.dictionaries(safe_part.filter(lambda n: "." not in n), st.binary(max_size=2000)))
def test_an_archive_of_plain_files_comes_out_as_it_went_in(
    tmp_path: Path, files: dict[str, bytes]
) -> None:
    files = {f"{i}-{name}": b"." + data for i, (name, data) in enumerate(files.items())}
    assert read_all(put(tmp_path, zipped(files))) == files


# -- kinds of entries -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_links_and_devices_are_refused(tmp_path: Path, kind: int) -> None:
    refused(tmp_path, raw_zip((b"a", b"/etc/passwd"), mode=kind | 0o777), "archive_special_file")


def test_a_folder_that_holds_bytes_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, raw_zip((b"a/", b"hidden")), "archive_special_file")


@pytest.mark.parametrize("flag", [0x1, 0x40, 0x2000])
def test_encrypted_entries_are_refused(tmp_path: Path, flag: int) -> None:
    refused(tmp_path, raw_zip((b"a", b"secret"), flags=0x800 | flag), "archive_encrypted")


@pytest.mark.parametrize("name", ["in.zip", "a/IN.ZIP", "x.tar.gz", "x.7z", "x.tar.zst", "x.tgz"])
def test_an_archive_inside_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    data = zipped({"good.csv": b"1", name: b"1"})
    refused(tmp_path, data, "archive_nested", Caps(inside=False))
    assert len(read_all(put(tmp_path, data))) == 2  # of one level, who reads decides


def test_an_archive_inside_is_refused_by_its_bytes(tmp_path: Path) -> None:
    caps = Caps(inside=False)
    for inner in (zipped({"a": b"1"}), b"7z\xbc\xaf\x27\x1crest", bytes(257) + b"ustar"):
        refused_in_reading(tmp_path, zipped({"photo.jpg": inner}), "archive_nested", caps)


def test_workbooks_and_compressed_tables_are_left_to_be_judged_alone(tmp_path: Path) -> None:
    inside = {"t.xlsx": zipped({"a": b"1"}), "t.csv.gz": b"\x1f\x8b\x08\0rest"}
    assert set(read_all(put(tmp_path, zipped(inside)), Caps(inside=False))) == set(inside)


def test_an_unknown_compression_is_refused(tmp_path: Path) -> None:
    data = bytearray(zipped({"a": b"1"}))
    data[data.index(b"PK\1\2") + 10] = 9
    refused(tmp_path, bytes(data), "archive_compression")


# -- sizes and positions --------------------------------------------------------------------------


def test_too_many_entries_are_refused(tmp_path: Path) -> None:
    data = zipped({"a": b"", "b": b"", "c": b""})
    refused(tmp_path, data, "archive_too_large", Caps(entries=2))


def test_entries_over_the_size_limits_are_refused(tmp_path: Path) -> None:
    data = zipped({"a": PHOTO, "b": PHOTO})
    refused(tmp_path, data, "archive_too_large", Caps(entry_bytes=len(PHOTO) - 1))
    refused(tmp_path, data, "archive_too_large", Caps(total_bytes=2 * len(PHOTO) - 1))
    caps = Caps(entries=2, entry_bytes=len(PHOTO), total_bytes=2 * len(PHOTO))
    assert len(read_all(put(tmp_path, data), caps)) == 2


def test_a_bomb_is_refused_and_a_table_of_repeated_text_is_not(tmp_path: Path) -> None:
    refused(tmp_path, zipped({"a": bytes(20 << 20)}), "archive_bomb")
    assert read_all(put(tmp_path, zipped({"a": bytes(1 << 20)})))


def test_many_small_bombs_are_one_bomb(tmp_path: Path) -> None:
    under_the_limit_of_one = bytes(1 << 20)
    few = {f"{i}": under_the_limit_of_one for i in range(64)}
    assert len(read_all(put(tmp_path, zipped(few)))) == 64
    refused(tmp_path, zipped({**few, "one more": under_the_limit_of_one}), "archive_bomb")


def test_a_bomb_that_lies_about_its_size_is_cut_off(tmp_path: Path) -> None:
    data = bytearray(zipped({"a": bytes(20 << 20)}))
    for at in (22, data.index(b"PK\1\2") + 24):
        data[at : at + 4] = struct.pack("<I", 100)
    tracemalloc.start()
    refused_in_reading(tmp_path, bytes(data), "archive_corrupt")
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("claimed", [3, 5000])
def test_sizes_that_lie_are_noticed(tmp_path: Path, claimed: int) -> None:
    refused_in_reading(tmp_path, raw_zip((b"a", b"12345"), size=claimed), "archive_corrupt")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_a_changed_byte_is_noticed(tmp_path: Path, method: int) -> None:
    data = bytearray(zipped({"a": PHOTO}, method))
    data[80] ^= 0x10
    refused_in_reading(tmp_path, bytes(data), "archive_corrupt")


def test_bytes_hidden_behind_an_entry_are_noticed(tmp_path: Path) -> None:
    packed = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = packed.compress(b"12345") + packed.flush() + b"hidden"
    data = bytearray(raw_zip((b"a", body), size=5))
    crc = struct.pack("<I", zlib.crc32(b"12345"))
    for at in (8, data.index(b"PK\1\2") + 10):
        data[at] = 8
        data[at + 6 : at + 10] = crc
    refused_in_reading(tmp_path, bytes(data), "archive_corrupt")


def test_overlapping_entries_are_refused(tmp_path: Path) -> None:
    data = bytearray(raw_zip((b"a", b"1" * 100), (b"b", b"2")))
    second = data.rindex(b"PK\1\2")
    data[second + 42 : second + 46] = struct.pack("<I", 40)
    refused(tmp_path, bytes(data), "archive_overlap")


def test_two_names_for_the_same_bytes_are_refused(tmp_path: Path) -> None:
    one = raw_zip((b"a", b"1" * 1000))
    listing_at = one.index(b"PK\1\2")
    record = one[listing_at : listing_at + 47]
    twin = record[:-1] + b"b"
    end = struct.pack("<HHHHIIH", 0, 0, 2, 2, 94, listing_at, 0)
    data = one[:listing_at] + record + twin + b"PK\5\6" + end
    refused(tmp_path, data, "archive_overlap")


def test_an_entry_outside_of_the_file_is_refused(tmp_path: Path) -> None:
    data = bytearray(raw_zip((b"a", b"1" * 100)))
    at = data.index(b"PK\1\2")
    data[at + 42 : at + 46] = struct.pack("<I", 1 << 30)
    refused(tmp_path, bytes(data), "archive_overlap")


def test_a_local_header_with_another_name_is_refused(tmp_path: Path) -> None:
    data = bytearray(raw_zip((b"good.csv", b"1")))
    data[30:34] = b"evil"
    refused(tmp_path, bytes(data), "archive_corrupt")


# -- what is no archive ---------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"PK", b"id,x\n1,2\n", b"PK\5\6" + bytes(10), PHOTO])
def test_what_is_no_zip_is_refused(tmp_path: Path, data: bytes) -> None:
    refused(tmp_path, data, "archive_unreadable")


def test_an_archive_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    data = zipped({"a.csv": b"id\n1\n", "b.jpg": PHOTO[:200]})
    for length in range(len(data)):
        refused(tmp_path, data[:length], "archive_unreadable")


def test_two_directories_in_one_file_are_refused(tmp_path: Path) -> None:
    inner = zipped({"evil": b"1"})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("good", b"1")
        archive.comment = inner
    refused(tmp_path, buffer.getvalue(), "archive_unreadable")


def test_a_split_archive_is_refused(tmp_path: Path) -> None:
    data = bytearray(zipped({"a": b"1"}))
    data[data.index(b"PK\5\6") + 4] = 1
    refused(tmp_path, bytes(data), "archive_unreadable")


def mutated(make: Callable[[], bytes]) -> st.SearchStrategy[bytes]:
    base = make()

    def change(edits: list[tuple[int, int]]) -> bytes:
        data = bytearray(base)
        for at, value in edits:
            data[at] = value
        return bytes(data)

    edit = st.tuples(st.integers(0, len(base) - 1), st.integers(0, 255))
    return st.lists(edit, min_size=1, max_size=4).map(change)


@settings(quick, max_examples=400)
@given(mutated(lambda: zipped({"a.csv": b"id,x\n1,2\n" * 9, "b/c.jpg": PHOTO[:90], "d/": b""})))
def test_changed_bytes_never_raise_anything_but_upload_errors(tmp_path: Path, data: bytes) -> None:
    try:
        files = read_all(put(tmp_path, data))
    except UploadError as error:
        code = error.code
        assert code.startswith("archive_")
        return
    assert sorted(map(len, files.values())) in ([81, 90], [0, 81, 90])
