"""Tars: what is sound is handed out to the byte, what is not is refused before anything is."""

from __future__ import annotations

import bz2
import gzip
import io
import tarfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mm_assets.contract.errors import UploadError
from mm_assets.uploads.archives.opening import open_archive
from mm_assets.uploads.archives.rules import Caps
from tests.uploads.archives.made import (
    PACKERS,
    PHOTO,
    WHERE,
    member,
    no_more_memory_than,
    raw_tar,
    read_all,
    refused,
    refused_in_reading,
    tarred,
)

FILES = {"a.csv": b"id,x\n1,2\n" * 50_000, "photos/1.jpg": PHOTO, "empty": b""}
FORMATS = {"pax": tarfile.PAX_FORMAT, "gnu": tarfile.GNU_FORMAT, "ustar": tarfile.USTAR_FORMAT}
quick = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


# -- what is accepted -----------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_every_usual_kind_of_tar_is_read_exactly(form: str) -> None:
    assert read_all(tarred(FILES, FORMATS[form])) == FILES


@pytest.mark.parametrize("packer", PACKERS)
def test_every_usual_compression_is_read_exactly(tmp_path: Path, packer: str) -> None:
    path = tmp_path / "u"
    path.write_bytes(PACKERS[packer](tarred(FILES)))
    assert read_all(path) == FILES
    with open_archive(path, where=WHERE) as archive:  # and again, from the start
        first = [name for name, _ in archive.entries()]
        assert [name for name, _ in archive.entries()] == first == list(FILES)


def test_what_tar_makes_of_a_folder_is_read_without_its_dot() -> None:
    folder = member("./", type=tarfile.DIRTYPE)
    inner = member("./photos", type=tarfile.DIRTYPE)
    data = tarred([(folder, b""), (inner, b""), (member("./photos/1.jpg", 2), b"ab")])
    assert read_all(data) == {"photos/1.jpg": b"ab"}


@pytest.mark.parametrize("form", ["pax", "gnu"])
def test_long_names_in_any_language_are_read(form: str) -> None:
    name = "/".join(["ü" * 100, "名" * 60, "x" * 251 + ".csv"])
    assert read_all(tarred({name: b"1", "b": b"2"}, FORMATS[form])) == {name: b"1", "b": b"2"}


def test_a_size_and_attributes_in_extended_headers_are_read() -> None:
    info = member("a", 5)
    info.pax_headers = {"size": "5", "SCHILY.xattr.user.note": "x\ny" * 100, "mtime": "1.5"}
    assert read_all(tarred([(info, b"12345"), ("b", b"1")])) == {"a": b"12345", "b": b"1"}


def test_a_global_header_as_git_writes_it_is_passed_over() -> None:
    buffer = io.BytesIO()
    comment = {"comment": "0" * 40}
    with tarfile.open(fileobj=buffer, mode="w", pax_headers=comment) as archive:
        archive.addfile(member("a", 1), io.BytesIO(b"1"))
    assert read_all(buffer.getvalue()) == {"a": b"1"}


def test_empty_tars_are_fine() -> None:
    assert read_all(tarred({})) == read_all(gzip.compress(tarred({}))) == {}


def test_what_a_reader_leaves_unread_is_skipped() -> None:
    with open_archive(gzip.compress(tarred(FILES)), where=WHERE) as archive:
        seen = [(name, stream.read(2)) for name, stream in archive.entries()]
    assert seen == [("a.csv", b"id"), ("photos/1.jpg", PHOTO[:2]), ("empty", b"")]


def test_a_tar_of_20_000_entries_is_read_quickly() -> None:
    data = tarred({f"photos/{i:06d}.jpg": b"%d" % i for i in range(20_000)}, tarfile.USTAR_FORMAT)
    begin = time.process_time()
    files = read_all(data)
    assert time.process_time() - begin < 12
    assert files["photos/019999.jpg"] == b"19999"


@pytest.mark.parametrize("packer", [None, *PACKERS])
def test_memory_stays_flat_whatever_the_size_of_an_entry(
    tmp_path: Path, packer: str | None
) -> None:
    noise = bytes(range(256)) * 64
    content = b"".join(i.to_bytes(4, "big") * 40 + noise for i in range(1000))  # 16 MB
    path, size = tmp_path / "u", len(content)
    data = tarred({"big": content})
    path.write_bytes(PACKERS[packer](data) if packer else data)
    del content, data
    with no_more_memory_than(14 << 20), open_archive(path, where=WHERE) as archive:
        total = 0
        for _, stream in archive.entries():
            while piece := stream.read(1 << 20):
                total += len(piece)
    assert total == size


# -- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        b"../evil.csv", b"a/../b.csv", b"/etc/passwd", b"C:\\x.csv", b"c:x.csv", b"a\\b.csv",
        b"a//b.csv", b"a/./b.csv", b"./../a", b".//etc/../b", b"", b"a\nb.csv", b"a\x7f.csv",
        b"\xff\xfe", "gr\xfcn.jpg".encode("latin-1"),
    ],
)  # fmt: skip
def test_an_unsafe_name_refuses_the_whole_archive(name: bytes) -> None:
    refused(raw_tar((b"good.csv", b"id\n"), (name, b"1")), "archive_unsafe_name")


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a\0b", "x" * 256, "y/" * 2100 + "z"])
@pytest.mark.parametrize("form", ["pax", "gnu"])
def test_an_unsafe_name_in_an_extended_header_does_so_too(name: str, form: str) -> None:
    long_name = name.encode()
    if form == "pax":
        record = b" path=" + long_name + b"\n"
        length = len(record) + len(str(len(record) + 3))
        head = raw_tar((b"x", f"{length}".encode() + record), kind=b"x")[:-1024]
        if len(f"{length}".encode() + record) != length:
            length += 1
            head = raw_tar((b"x", f"{length}".encode() + record), kind=b"x")[:-1024]
    else:
        head = raw_tar((b"././@LongLink", long_name + b"\0"), kind=b"L")[:-1024]
    refused(head + raw_tar((b"short", b"1")), "archive_unsafe_name")


@pytest.mark.parametrize(
    ("first", "second"),
    [("a", "a"), ("a", "./a"), ("A.jpg", "a.jpg"), ("é.jpg", "e\u0301.jpg"), ("a", "a/b")],
)
def test_names_that_collide_refuse_the_whole_archive(first: str, second: str) -> None:
    refused(tarred([(first, b"1"), (second, b"2")]), "archive_name_collision")


def test_names_that_are_too_long_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mm_assets.uploads.archives.tar_file._LONGEST_NAMES", 20)
    refused(tarred({"x" * 15: b"", "y" * 15: b""}), "archive_too_large")


# -- kinds of entries -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE,
        tarfile.GNUTYPE_SPARSE, b"M", b"V", b"D", b"Z",
    ],
)  # fmt: skip
@pytest.mark.parametrize("packer", [None, "gzip"])
def test_whatever_is_no_plain_file_is_refused(kind: bytes, packer: str | None) -> None:
    data = raw_tar((b"good.csv", b"id\n"))[:-1024] + raw_tar((b"link", b""), kind=kind)
    refused(PACKERS[packer](data) if packer else data, "archive_special_file")


@pytest.mark.parametrize(
    "key", ["GNU.sparse.major", "GNU.sparse.realsize", "GNU.sparse.name", "GNU.sparse.map"]
)
def test_a_sparse_file_in_extended_headers_is_refused(key: str) -> None:
    info = member("a", 5)
    info.pax_headers = {key: "1"}
    refused(tarred([(info, b"12345")]), "archive_special_file")


def test_a_folder_that_holds_bytes_is_refused() -> None:
    refused(raw_tar((b"a/", b"hidden")), "archive_special_file")
    refused(raw_tar((b"a", b"hidden"), kind=b"5"), "archive_special_file")


def test_one_archive_in_another_is_handed_out_and_one_more_is_refused() -> None:
    inner = tarred({"a": b"1"})
    assert read_all(tarred({"photo.jpg": inner})) == {"photo.jpg": inner}
    caps = Caps(inside=False)
    refused(tarred({"in.zip": b"1"}), "archive_nested", caps)
    refused_in_reading(tarred({"photo.jpg": inner}), "archive_nested", caps)
    refused_in_reading(gzip.compress(tarred({"photo.jpg": inner})), "archive_nested", caps)


# -- sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("packer", [None, "gzip"])
def test_what_is_over_a_limit_is_refused(packer: str | None) -> None:
    plain = tarred({"a": PHOTO, "b": PHOTO, "c": b""})
    data = PACKERS[packer](plain) if packer else plain
    refused(data, "archive_too_large", Caps(entries=2))
    refused(data, "archive_too_large", Caps(entry_bytes=len(PHOTO) - 1))
    refused(data, "archive_too_large", Caps(total_bytes=2 * len(PHOTO) - 1))
    caps = Caps(entries=3, entry_bytes=len(PHOTO), total_bytes=2 * len(PHOTO))
    assert len(read_all(data, caps)) == 3


@pytest.mark.parametrize("packer", PACKERS)
def test_a_bomb_is_refused_without_being_unpacked(packer: str) -> None:
    bomb = PACKERS[packer](raw_tar((b"zeros", bytes(90 << 20))))
    with no_more_memory_than(16 << 20):
        refused(bomb, "archive_bomb")


def test_a_bomb_behind_the_end_or_behind_honest_files_is_refused() -> None:
    refused(gzip.compress(raw_tar((b"a", b"1")) + bytes(90 << 20)), "archive_bomb")
    many = [(b"%d" % i, bytes(1 << 20)) for i in range(80)]
    refused(gzip.compress(raw_tar(*many)), "archive_bomb")


@pytest.mark.parametrize("packer", [None, "gzip"])
@pytest.mark.parametrize("claimed", [2048, 1 << 30, 8 << 30])
def test_sizes_that_lie_are_noticed(packer: str | None, claimed: int) -> None:
    data = raw_tar((b"a", b"12345"), size=claimed)
    with pytest.raises(UploadError) as caught:
        open_archive(PACKERS[packer](data) if packer else data, where=WHERE)
    assert caught.value.code in ("archive_unreadable", "archive_too_large", "archive_bomb",
                                 "archive_corrupt")  # fmt: skip


@pytest.mark.parametrize("size", ["-1", "x", "9" * 30, "\u0661"])
def test_a_size_in_an_extended_header_that_is_none_is_refused(size: str) -> None:
    record = f" size={size}\n".encode()
    length = len(record) + len(str(len(record) + 2))
    head = raw_tar((b"x", f"{length}".encode() + record), kind=b"x")[:-1024]
    refused(head + raw_tar((b"a", b"12345")), "archive_corrupt")


def test_a_negative_size_is_refused() -> None:
    data = bytearray(raw_tar((b"a", b"1")))
    data[124:136] = b"\xff" * 12
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    refused(bytes(data), "archive_corrupt")


def test_an_extended_header_of_any_size_is_not_read_into_memory() -> None:
    for kind in (b"x", b"g", b"L", b"K"):
        data = raw_tar((b"x", b"1"), kind=kind, size=4 << 20)
        refused(data, "archive_too_large")


def test_headers_for_all_entries_take_no_memory_however_many_there_are() -> None:
    parts = []
    for number in range(40):  # 40 MB of them
        record = b" k%d=" % number + bytes([65 + number]) * 1_000_000 + b"\n"
        record = b"%d" % (len(record) + 7) + record
        parts.append(raw_tar((b"x", record), kind=b"g")[:-1024])
    data = b"".join(parts) + raw_tar((b"a", b"1"))
    with no_more_memory_than(8 << 20):
        assert read_all(data) == {"a": b"1"}


@pytest.mark.parametrize("record", [b"", b"9 a=b\n", b"99999 a=b\n", b"5 a=b", b"x a=b\n",
                                    b"6 ab\n\n", b"-6 a=b\n", b"5 =b\n"])  # fmt: skip
def test_an_extended_header_that_cannot_be_read_is_refused(record: bytes) -> None:
    head = raw_tar((b"x", b"6 a=b\n" + record + (b"" if record else b"0")), kind=b"x")[:-1024]
    refused(head + raw_tar((b"a", b"1")), "archive_corrupt")


# -- the end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("packer", [None, *PACKERS])
def test_an_archive_cut_short_anywhere_is_refused(packer: str | None) -> None:
    data = raw_tar((b"a.csv", b"id\n1\n"), (b"b.jpg", PHOTO[:700]))
    plain = data[:-1024]
    whole = PACKERS[packer](plain + bytes(1024)) if packer else plain
    for length in range(1, len(whole), 7 if packer else 64):
        with pytest.raises(UploadError) as caught:
            open_archive(whole[:length], where=WHERE)
        assert caught.value.code in ("archive_unreadable", "archive_corrupt")
    if packer is None:
        refused(plain, "archive_unreadable")


@pytest.mark.parametrize("packer", [None, *PACKERS])
def test_bytes_behind_the_end_are_refused(packer: str | None) -> None:
    data = tarred({"a": b"1"})
    for more in (b"garbage", data):  # and a second archive, which most programs would not show
        whole = PACKERS[packer](data + more) if packer else data + more
        refused(whole, "archive_corrupt")
    if packer is not None:
        refused(PACKERS[packer](data) + b"garbage behind it", "archive_corrupt")


def test_a_damaged_header_in_the_middle_is_not_taken_for_the_end() -> None:
    data = bytearray(raw_tar((b"a", b"1"), (b"b", b"2")))
    data[1024 + 10] ^= 1
    refused(bytes(data), "archive_corrupt")


def test_an_extended_header_without_an_entry_is_refused() -> None:
    refused(raw_tar((b"x", b"10 path=b\n"), kind=b"x"), "archive_corrupt")


@pytest.mark.parametrize("packer", ["gzip", "bzip2", "xz"])
def test_a_changed_byte_of_what_is_packed_is_noticed(packer: str) -> None:
    data = bytearray(PACKERS[packer](tarred({"a": PHOTO})))
    data[len(data) // 2] ^= 0x10
    refused(bytes(data), "archive_corrupt")


def test_what_is_compressed_and_no_tar_is_refused() -> None:
    refused(gzip.compress(b"id,x\n1,2\n" * 100), "archive_unreadable")
    refused(gzip.compress(b"id"), "archive_unreadable")
    refused(bz2.compress(b""), "archive_unreadable")


BASE = raw_tar((b"a.csv", b"id,x\n1,2\n" * 9), (b"b/c.jpg", PHOTO[:90]), (b"d/", b""))
edits = st.lists(
    st.tuples(st.integers(0, len(BASE) - 1), st.integers(0, 255)), min_size=1, max_size=4
)


@settings(quick, max_examples=400)
@given(edits, st.booleans())
def test_changed_bytes_never_raise_anything_but_upload_errors(
    changes: list[tuple[int, int]], packed: bool
) -> None:
    data = bytearray(gzip.compress(BASE, mtime=0) if packed else BASE)
    for at, value in changes:
        data[at % len(data)] = value
    try:
        read_all(bytes(data))
    except UploadError as error:
        code = error.code
        assert code.startswith("archive_")


# In a tar a name ends at NUL, so Python's writer writes `0\\0` as `0`: nobody could read it back.
letters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
names = st.text(letters, min_size=1, max_size=30)


@quick
@given(st.lists(st.tuples(names, st.binary(max_size=50)), max_size=5), st.sampled_from([*FORMATS]))
def test_every_name_is_handed_out_exactly_or_the_archive_is_refused(
    files: list[tuple[str, bytes]], form: str
) -> None:
    try:
        data = tarred(files, FORMATS[form])
    except ValueError:  # the old kind holds no such name
        return
    try:
        got = read_all(data)
    except UploadError as error:
        code = error.code
        assert code.startswith("archive_")
        return
    for name, content in got.items():
        assert (name, content) in [(told.removeprefix("./"), sent) for told, sent in files]
        assert ".." not in name.split("/")
        assert not name.startswith("/")
