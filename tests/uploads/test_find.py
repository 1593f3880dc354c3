"""Which uploads are finished, and under which key."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mm_assets.contract.errors import UploadError
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.uploads.find import find_uploads, read_source, register, upload_key
from tests.make import announcement, drop_folder, drop_zip, zipped

FILES = {"t.csv": b"id\n1\n", "sub/1.png": b"image"}
SAFE = re.compile(r"\d{8}-\d{9}-[0-9a-f]{10}")


def names(lake: Lake) -> list[str]:
    return sorted(source.name for source in find_uploads(lake, "pets").finished)


def waiting(lake: Lake) -> dict[str, str]:
    return {folder.name: folder.reason for folder in find_uploads(lake, "pets").waiting}


def test_an_empty_inbox_holds_nothing(lake: Lake) -> None:
    found = find_uploads(lake, "pets")
    assert (found.finished, found.waiting) == ([], [])


def test_a_zip_is_finished_when_it_is_there(lake: Lake) -> None:
    drop_zip(lake, "a.zip", FILES)
    (source,) = find_uploads(lake, "pets").finished
    assert (source.name, source.kind, source.key) == ("a.zip", "zip", "inbox/pets/a.zip")
    assert source.size == len(zipped(FILES))
    assert SAFE.fullmatch(source.upload)


def test_other_datasets_are_left_alone(lake: Lake) -> None:
    drop_zip(lake, "a.zip", FILES, dataset="pets2")
    drop_zip(lake, "b.zip", FILES, dataset="pet")
    assert names(lake) == []


def test_a_folder_is_finished_when_upload_json_holds(lake: Lake) -> None:
    marker = json.dumps(announcement(FILES)).encode()
    lake.write("inbox/pets/u/t.csv", FILES["t.csv"])
    assert waiting(lake) == {"u": "no upload.json yet"}
    lake.write("inbox/pets/u/upload.json", marker)
    assert waiting(lake) == {"u": "1 of 2 announced files are not there in full: sub/1.png"}
    lake.write("inbox/pets/u/sub/1.png", b"half")
    assert "sub/1.png" in waiting(lake)["u"]
    lake.write("inbox/pets/u/sub/1.png", FILES["sub/1.png"])
    assert waiting(lake) == {}
    (source,) = find_uploads(lake, "pets").finished
    assert (source.name, source.kind, source.key) == ("u", "folder", "inbox/pets/u/")


def test_a_folder_is_finished_when_upload_size_json_counts_right(lake: Lake) -> None:
    lake.write("inbox/pets/u/upload_size.json", b'{"n_files": 2}')
    assert waiting(lake) == {"u": "0 of 2 announced files are there"}
    for name, data in FILES.items():
        assert names(lake) == []
        lake.write(f"inbox/pets/u/{name}", data)
    assert names(lake) == ["u"]
    lake.write("inbox/pets/u/one-too-many.png", b"")
    assert waiting(lake) == {"u": "3 of 2 announced files are there"}


@pytest.mark.parametrize(
    ("marker", "content", "reason"),
    [
        ("upload.json", b"{", "upload.json is not JSON"),
        ("upload.json", b"\xff\xfe", "upload.json is not JSON"),
        ("upload.json", b"[" * 100_000, "upload.json is not JSON"),
        ("upload.json", b"[]", 'upload.json: it needs "files"'),
        ("upload.json", b'{"files": {"a": 1}}', 'upload.json: it needs "files"'),
        ("upload.json", b'{"files": ["a.png"]}', "this entry lacks name, size or sha256"),
        ("upload.json", b'{"files": [{"name": "a", "size": 1}]}', "lacks name, size or sha256"),
        ("upload.json", b'{"files": [{"name": "a", "size": 1e999, "sha256": ""}]}', "lacks name"),
        ("upload.json", b'{"files": [{"name": "\\ud800", "size": 1, "sha256": ""}]}', "\\ud800"),
        ("upload_size.json", b"3", 'upload_size.json needs {"n_files": N}'),
        ("upload_size.json", b'{"n_files": "3"}', 'upload_size.json needs {"n_files": N}'),
        ("upload_size.json", b'{"n_files": true}', 'upload_size.json needs {"n_files": N}'),
    ],
)
def test_a_marker_that_cannot_be_used_is_explained_and_its_neighbours_go_on(
    folder_settings: Settings, marker: str, content: bytes, reason: str
) -> None:
    lake = Lake(folder_settings)
    lake.write(f"inbox/pets/u/{marker}", content)
    drop_zip(lake, "good.zip", FILES)
    assert names(lake) == ["good.zip"]
    assert reason in waiting(lake)["u"]
    waiting(lake)["u"].encode()


def test_uploads_that_arrive_in_one_second_have_different_keys(lake: Lake) -> None:
    for name in ("a.zip", "b.zip", "c.zip"):
        drop_zip(lake, name, FILES)
    drop_folder(lake, "a", FILES)
    finished = find_uploads(lake, "pets").finished
    if not lake.settings.is_s3:
        moment = (1_790_000_000, 1_790_000_000)
        for source in finished:
            path = lake.settings.lake_folder / source.key
            os.utime(path / "upload.json" if source.kind == "folder" else path, moment)
        finished = find_uploads(lake, "pets").finished
        assert len({source.upload[:19] for source in finished}) == 1
    assert len({source.upload for source in finished}) == 4


def test_a_zip_sent_again_under_its_name_is_an_upload_of_its_own(lake: Lake) -> None:
    drop_zip(lake, "a.zip", FILES)
    (first,) = find_uploads(lake, "pets").finished
    drop_zip(lake, "a.zip", {"other.csv": b"id\n2\n"})
    (second,) = find_uploads(lake, "pets").finished
    assert first.upload != second.upload
    assert find_uploads(lake, "pets", {first.upload}).finished == [second]


def test_a_folder_sent_again_is_an_upload_of_its_own(lake: Lake) -> None:
    drop_folder(lake, "u", FILES)
    lake.write("inbox/pets/v/upload_size.json", b'{"n_files": 1}')
    lake.write("inbox/pets/v/t.csv", b"id\n1\n")
    first = {s.name: s.upload for s in find_uploads(lake, "pets").finished}
    drop_folder(lake, "u", {**FILES, "t.csv": b"id\n9\n"})
    lake.write("inbox/pets/v/t.csv", b"id\n9\n")
    second = {s.name: s.upload for s in find_uploads(lake, "pets").finished}
    assert first.keys() == second.keys() == {"u", "v"}
    assert first["u"] != second["u"]
    assert first["v"] != second["v"]


class Counting(Lake):
    """A lake that counts what is read."""

    reads: list[str]

    def read(self, key: str) -> bytes:
        self.reads.append(key)
        return super().read(key)


def test_the_marker_of_a_known_upload_is_not_read_again(lake: Lake) -> None:
    for number in range(5):
        drop_folder(lake, f"u{number}", FILES)
    counting = Counting(lake.settings, lake._s3_client)
    counting.reads = []
    found = find_uploads(counting, "pets")
    assert len(counting.reads) == 5
    counting.reads.clear()
    known = {source.upload for source in found.finished[:4]}
    again = find_uploads(counting, "pets", known)
    assert counting.reads == [f"{found.finished[4].key}upload.json"]
    assert [s.upload for s in again.finished] == [s.upload for s in found.finished]


def test_finished_uploads_come_by_key_and_keys_by_time(folder_settings: Settings) -> None:
    lake = Lake(folder_settings)
    for age, name in enumerate(["new.zip", "older.zip", "oldest.zip"]):
        drop_zip(lake, name, FILES)
        moment = 1_790_000_000 - age * 3600
        os.utime(folder_settings.lake_folder / "inbox/pets" / name, (moment, moment))
    found = find_uploads(lake, "pets").finished
    assert [source.name for source in found] == ["oldest.zip", "older.zip", "new.zip"]
    assert [s.upload for s in found] == sorted(s.upload for s in found)


moments = st.integers(946_684_800_000_000, 4_102_444_800_000_000).map(
    lambda microseconds: datetime.fromtimestamp(0, UTC) + timedelta(microseconds=microseconds)
)


@examples(max_examples=200, deadline=None, derandomize=True)
@given(
    moments,
    moments,
    st.lists(st.text(st.characters(exclude_categories=[])), max_size=3),
)
def test_keys_are_safe_and_sort_by_time_whatever_the_names(
    one: datetime, other: datetime, identity: list[str]
) -> None:
    keys = [upload_key(moment, *identity) for moment in (one, other)]
    assert all(SAFE.fullmatch(key) for key in keys)
    if abs(one - other) >= timedelta(milliseconds=1):
        assert (keys[0] < keys[1]) == (one < other)


def test_a_key_does_not_depend_on_how_the_identity_is_cut() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    assert upload_key(moment, "ab", "c") != upload_key(moment, "a", "bc")


def test_placeholders_that_consoles_make_are_no_files(
    s3_settings: Settings, s3_client: Any
) -> None:
    lake = Lake(s3_settings, s3_client)
    bucket, base = s3_settings.bucket_and_prefix
    for key in ("inbox/pets/", "inbox/pets/u/", "inbox/pets/u/sub/", "inbox/pets/empty/"):
        s3_client.put_object(Bucket=bucket, Key=f"{base}/{key}", Body=b"")
    for name, data in FILES.items():
        lake.write(f"inbox/pets/u/{name}", data)
    lake.write("inbox/pets/u/upload_size.json", b'{"n_files": 2}')
    assert names(lake) == ["u"]
    assert waiting(lake) == {}


def test_a_loose_file_is_explained_and_a_read_me_is_not(lake: Lake) -> None:
    for name in ("t.csv", "README.md", ".DS_Store"):
        lake.write(f"inbox/pets/{name}", b"")
    assert waiting(lake) == {
        "t.csv": "not a .zip, .tar, .tar.gz or .7z, and not in a folder of its own"
    }


@pytest.mark.parametrize("hostile", ["", "..", ".", "a\tb", "a\\b", "x\x7f"])
def test_a_hostile_name_waits_with_a_reason_and_stops_nobody_else(
    s3_settings: Settings, s3_client: Any, hostile: str
) -> None:
    lake = Lake(s3_settings, s3_client)
    bucket, base = s3_settings.bucket_and_prefix
    for key in (f"{hostile}/upload.json", f"{hostile}/t.csv", f"{hostile}\t.zip"):
        s3_client.put_object(Bucket=bucket, Key=f"{base}/inbox/pets/{key}", Body=b"{}")
    drop_zip(lake, "good.zip", FILES)
    assert names(lake) == ["good.zip"]
    assert "rename it" in waiting(lake)[hostile]


def test_a_folder_may_be_named_like_a_zip(s3_settings: Settings, s3_client: Any) -> None:
    lake = Lake(s3_settings, s3_client)
    drop_zip(lake, "a.zip", FILES)
    drop_folder(lake, "a.zip", FILES)
    found = find_uploads(lake, "pets").finished
    assert sorted(source.kind for source in found) == ["folder", "zip"]
    assert len({source.upload for source in found}) == 2


def test_a_file_name_that_is_not_unicode_does_not_stop_a_listing(
    folder_settings: Settings,
) -> None:
    lake = Lake(folder_settings)
    drop_zip(lake, "good.zip", FILES)
    inbox = folder_settings.lake_folder / "inbox/pets"
    Path(os.fsdecode(os.fsencode(inbox) + b"/b\xff.zip")).write_bytes(zipped(FILES))
    assert names(lake) == ["good.zip"]
    assert list(waiting(lake)) == ["b\\udcff.zip"]


def test_the_source_is_noted_once_and_read_by_key(lake: Lake) -> None:
    drop_zip(lake, "a.zip", FILES)
    (source,) = find_uploads(lake, "pets").finished
    with pytest.raises(UploadError) as caught:
        read_source(lake, "pets", source.upload)
    assert caught.value.code == "upload_unknown"
    assert "mm sync" in caught.value.todo
    register(lake, source)
    register(lake, source)
    assert read_source(lake, "pets", source.upload) == source
