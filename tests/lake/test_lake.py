"""The lake behaves the same over a folder and over S3."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mm_assets.contract.errors import LakeError
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.lake.local import sha256_of

BIG = bytes(range(256)) * 24_000  # 6 MB: several chunks and several buffers


def keys(lake: Lake, prefix: str) -> list[str]:
    return [item.key for item in lake.list(prefix)]


# -- reading --------------------------------------------------------------------------------------


def test_a_listing_names_every_object_below_the_prefix_in_order_of_keys(lake: Lake) -> None:
    names = ["b.txt", "a/x", "a.b", "a-b", "a/x/y", "a/x.z", "B", "ä", "日本", "a b", "a+b", "100%"]
    if not lake.settings.is_s3:
        names.remove("a/x/y")  # a folder cannot hold a file and a folder of one name
    for name in names:
        lake.write(f"d/{name}", name.encode())
    lake.write("other/x", b"")
    lake.write("d2/x", b"")
    assert keys(lake, "d/") == sorted(f"d/{name}" for name in names)
    sizes = {item.key: item.size for item in lake.list("d/")}
    assert sizes == {f"d/{name}": len(name.encode()) for name in names}
    assert keys(lake, "nothing/") == []


def test_a_listing_says_when_an_object_came_in_utc(lake: Lake) -> None:
    lake.write("d/x", b"1")
    (item,) = lake.list("d/")
    assert item.modified.tzinfo is UTC
    assert abs(datetime.now(UTC) - item.modified) < timedelta(minutes=1)


def test_a_listing_of_more_than_a_page_is_whole(s3_settings: Settings, s3_client: Any) -> None:
    bucket, base = s3_settings.bucket_and_prefix
    expected = [f"d/{i:04d}" for i in range(1005)]
    with ThreadPoolExecutor(4) as pool:
        puts = [
            pool.submit(s3_client.put_object, Bucket=bucket, Key=f"{base}/{key}", Body=b"")
            for key in reversed(expected)
        ]
        for put in puts:
            put.result()
    assert keys(Lake(s3_settings, s3_client), "d/") == expected


def test_hostile_keys_do_not_break_a_listing(s3_settings: Settings, s3_client: Any) -> None:
    bucket, base = s3_settings.bucket_and_prefix
    hostile = ["d/../b", "d/./c", "d//b", "d/a", "d/tab\there"]
    for key in hostile:
        s3_client.put_object(Bucket=bucket, Key=f"{base}/{key}", Body=b"1")
    lake = Lake(s3_settings, s3_client)
    assert keys(lake, "d/") == sorted(hostile)
    assert lake.read("d/a") == b"1"


@pytest.mark.parametrize("key", ["d//b", "d/../b", "d/tab\there"])
def test_a_hostile_key_is_refused_in_words_when_it_is_read(lake: Lake, key: str) -> None:
    with pytest.raises(LakeError) as caught:
        lake.read(key)
    assert caught.value.code == "lake_key"


def test_a_folder_listing_leaves_out_links_and_half_written_files(
    folder_settings: Settings, tmp_path: Path
) -> None:
    lake = Lake(folder_settings)
    lake.write("d/real", b"1")
    folder = folder_settings.lake_folder / "d"
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "file").write_text("x")
    (folder / "link").symlink_to(tmp_path / "secret" / "file")
    (folder / "linked").symlink_to(tmp_path / "secret")
    (folder / "half#1").write_text("x")
    os.mkfifo(folder / "pipe")
    assert keys(lake, "d/") == ["d/real"]
    assert lake.stat("d/link") is None


def test_names_are_the_folders_directly_below(lake: Lake) -> None:
    for key in ("d/b/x", "d/a/deep/er", "d/file", "d/a-b/x", "e/z/x"):
        lake.write(key, b"")
    assert lake.names("d/") == ["a", "a-b", "b"]
    assert lake.names("nothing/") == []


def test_the_last_names_are_the_end_of_all_names(lake: Lake) -> None:
    for number in range(7):
        lake.write(f"d/{number}/x", b"")
    lake.write("d/file", b"")
    assert lake.last_names("d/", 3, ["6", "2"]) == ["4", "5", "6"]
    assert lake.last_names("d/", 20, ["6"]) == lake.names("d/")
    assert lake.last_names("nothing/", 3, ["6"]) == []


def test_beside_many_folders_s3_is_asked_for_those_behind_a_start(s3_settings: Settings) -> None:
    """Pages of 5 stand for the 1,000 that an answer of S3 holds."""
    lake, asked = Lake(s3_settings), list[str]()
    for number in range(40):
        lake.write(f"d/{number:02d}/x", b"")

    def small_pages(params: dict[str, Any], **_: Any) -> None:
        params["MaxKeys"] = 5
        asked.append(params.get("StartAfter", ""))

    lake.s3_client.meta.events.register("provide-client-params.s3.ListObjectsV2", small_pages)
    assert lake.last_names("d/", 3, ["39", "36", "20"]) == ["37", "38", "39"]
    assert [key.removeprefix("lake/") for key in asked] == ["", "d/39", "d/36"]
    asked.clear()
    assert lake.last_names("d/", 12, ["39"]) == [f"{n:02d}" for n in range(28, 40)]
    assert len(asked) == 2 + 40 // 5  # nothing was far enough back: all are listed


def test_stat_says_what_the_listing_says(lake: Lake) -> None:
    lake.write("d/x y.txt", b"12345")
    assert lake.stat("d/x y.txt") == next(iter(lake.list("d/")))
    assert lake.stat("d/none") is None
    assert lake.stat("d") is None


def test_another_content_has_another_etag(lake: Lake) -> None:
    lake.write("d/x", b"1")
    before = lake.stat("d/x")
    lake.write("d/x", b"2")
    after = lake.stat("d/x")
    assert before is not None
    assert after is not None
    assert before.etag != after.etag


def test_what_is_written_is_read(lake: Lake, tmp_path: Path) -> None:
    lake.write("d/bytes", b"\x00\xff")
    (tmp_path / "file").write_bytes(BIG)
    lake.write("d/file", tmp_path / "file")
    lake.write("d/empty", b"")
    assert lake.read("d/bytes") == b"\x00\xff"
    assert lake.read("d/file") == BIG
    assert lake.read("d/empty") == b""


def test_what_is_not_there_is_said_to_be_missing_and_a_document_is_none(lake: Lake) -> None:
    with pytest.raises(LakeError) as caught:
        lake.read("d/none")
    assert caught.value.code == "lake_not_found"
    assert "d/none" in caught.value.where
    with pytest.raises(LakeError):
        lake.open("d/none")
    with pytest.raises(LakeError):
        lake.fetch("d/none", Path(os.devnull))
    assert lake.read_json("d/none") is None


def test_documents_come_back_as_they_were(lake: Lake) -> None:
    document = {"ä": [1, 2.5, None, True], "nested": {"a": "\u2028"}}
    lake.write_json("d/doc.json", document)
    assert lake.read_json("d/doc.json") == document


def test_fetch_streams_to_a_file_and_returns_its_sha256(lake: Lake, tmp_path: Path) -> None:
    lake.write("d/big", BIG)
    sha256 = lake.fetch("d/big", tmp_path / "big")
    assert (tmp_path / "big").read_bytes() == BIG
    assert sha256 == hashlib.sha256(BIG).hexdigest() == sha256_of(tmp_path / "big")


def test_open_seeks_and_reads_like_a_file(lake: Lake) -> None:
    lake.write("d/big", BIG)
    expected = io.BytesIO(BIG)
    with lake.open("d/big") as file:
        assert file.seekable()
        for offset, whence, length in (
            (0, 0, 10), (-7, 2, 100), (5_000_001, 0, 3_000_000), (-10, 1, 5), (len(BIG), 0, 5),
            (len(BIG) + 9, 0, 5), (1, 0, 0), (256, 0, -1),
        ):  # fmt: skip
            assert file.seek(offset, whence) == expected.seek(offset, whence)
            assert file.read(length) == expected.read(length)
            assert file.tell() == expected.tell()


def test_open_reads_single_columns_and_row_groups_of_parquet(lake: Lake) -> None:
    buffer = io.BytesIO()
    table = pa.table({"a": list(range(1000)), "b": [os.urandom(1000) for _ in range(1000)]})
    pq.write_table(table, buffer, row_group_size=100)
    lake.write("d/t.parquet", buffer.getvalue())
    with lake.open("d/t.parquet") as file:
        packed = pq.ParquetFile(file)
        assert packed.read_row_group(7, columns=["a"])["a"].to_pylist() == list(range(700, 800))
    with lake.open("d/t.parquet") as file:
        assert pq.read_table(file, columns=["b"]).equals(table.select(["b"]))


def test_an_empty_object_can_be_opened(lake: Lake) -> None:
    lake.write("d/empty", b"")
    with lake.open("d/empty") as file:
        assert file.read() == b""


# -- writing --------------------------------------------------------------------------------------


def test_a_reader_sees_the_old_object_or_the_new_one_and_never_a_part(lake: Lake) -> None:
    versions = [bytes([i]) * 500_000 for i in range(4)]
    lake.write("d/x", versions[0])
    stop = threading.Event()
    seen: list[bytes] = []

    def look() -> None:
        while not stop.is_set():
            seen.append(lake.read("d/x"))

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(look) for _ in range(2)]
        for version in versions * 5:
            lake.write("d/x", version)
        stop.set()
        for reader in readers:
            reader.result()
    assert seen
    assert set(seen) <= set(versions)
    assert keys(lake, "d/") == ["d/x"]


def test_of_many_that_create_one_document_exactly_one_wins(lake: Lake) -> None:
    together = threading.Barrier(8)

    def create(number: int) -> bool:
        together.wait()
        return lake.create_json("d/once.json", {"by": number})

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(create, range(8)))
    assert sum(won) == 1
    assert lake.read_json("d/once.json") == {"by": won.index(True)}
    assert not lake.create_json("d/once.json", {"by": "late"})
    assert lake.read_json("d/once.json") == {"by": won.index(True)}


def test_delete_removes_one_object(lake: Lake) -> None:
    lake.write("d/x", b"1")
    lake.write("d/xy", b"1")
    lake.delete("d/x")
    assert keys(lake, "d/") == ["d/xy"]


@pytest.fixture
def two_files(tmp_path: Path) -> dict[str, Path]:
    files = {"a.parquet": tmp_path / "a", "b.tar.gz": tmp_path / "b"}
    for name, path in files.items():
        path.write_bytes(name.encode())
    return files


def test_publish_names_files_by_their_content(lake: Lake, two_files: dict[str, Path]) -> None:
    document = lake.publish("d/u/doc.json", two_files, {"n": 1})
    assert lake.read_json("d/u/doc.json") == document
    assert document["n"] == 1
    for name, path in two_files.items():
        entry = document["files"][name]
        assert entry["sha256"] == sha256_of(path)
        assert entry["sha256"][:16] in entry["key"]
        assert entry["key"].endswith(name.partition(".")[2])
        assert lake.read(entry["key"]) == path.read_bytes()
        assert entry["bytes"] == path.stat().st_size


def test_publishing_the_same_again_adds_nothing_and_other_content_replaces(
    lake: Lake, two_files: dict[str, Path]
) -> None:
    first = lake.publish("d/u/doc.json", two_files, {})
    before = keys(lake, "d/")
    again = lake.publish("d/u/doc.json", two_files, {})
    assert again["files"] == first["files"]
    assert keys(lake, "d/") == before
    two_files["a.parquet"].write_bytes(b"other")
    changed = lake.publish("d/u/doc.json", two_files, {})
    assert changed["files"]["a.parquet"]["key"] != first["files"]["a.parquet"]["key"]
    assert lake.read(first["files"]["a.parquet"]["key"]) == b"a.parquet"


class Failing(Lake):
    """A lake in which every write of the named key fails."""

    refuse: str = ""

    def write(self, key: str, data: bytes | Path) -> None:
        if key.startswith(self.refuse):
            raise OSError("no space left")
        super().write(key, data)


@pytest.mark.parametrize("refused", ["d/u/doc.json", "d/u/b-", "d/u/a-"])
def test_a_publication_that_fails_half_way_shows_nothing_of_itself(
    lake: Lake, two_files: dict[str, Path], refused: str
) -> None:
    first = lake.publish("d/u/doc.json", two_files, {"version": 1})
    for path in two_files.values():
        path.write_bytes(b"version 2 " + path.name.encode())
    failing = Failing(lake.settings, lake._s3_client)
    failing.refuse = refused
    with pytest.raises(OSError, match="no space"):
        failing.publish("d/u/doc.json", two_files, {"version": 2})
    assert lake.read_json("d/u/doc.json") == first
    for name, entry in first["files"].items():
        assert lake.read(entry["key"]) == name.encode()


# -- what goes wrong ------------------------------------------------------------------------------


def said_by_all(lake: Lake, tmp_path: Path) -> Iterator[LakeError]:
    """What each operation says when the lake cannot be used."""
    for operation in (
        lambda: list(lake.list("d/")),
        lambda: lake.names("d/"),
        lambda: lake.stat("d/x"),
        lambda: lake.read("d/x"),
        lambda: lake.read_json("d/x"),
        lambda: lake.fetch("d/x", tmp_path / "fetched"),
        lambda: lake.write("d/x", b"1"),
        lambda: lake.create_json("d/x", {}),
    ):
        with pytest.raises(LakeError) as caught:
            operation()
        yield caught.value


def test_a_missing_bucket_is_said_to_be_missing_and_never_taken_for_an_empty_lake(
    s3_settings: Settings, s3_client: Any, tmp_path: Path
) -> None:
    s3_settings.lake = "s3://no-such-bucket-anywhere/lake"
    for error in said_by_all(Lake(s3_settings, s3_client), tmp_path):
        assert error.code == "lake_no_bucket"
        assert "bucket" in error.what.lower()
        assert "no-such-bucket-anywhere" in error.where
        assert "MM_LAKE" in error.todo


@pytest.mark.parametrize("operation", ["list", "read"])
def test_a_server_that_is_not_there_is_an_error_in_words(
    s3_settings: Settings, operation: str
) -> None:
    s3_settings.aws_endpoint_url = "http://127.0.0.1:9"
    lake = Lake(s3_settings)
    with pytest.raises(LakeError) as caught:
        list(lake.list("d/")) if operation == "list" else lake.read("d/x")
    assert caught.value.code == "lake_unreachable"
    assert "127.0.0.1:9" in caught.value.what
    assert "AWS_ENDPOINT_URL" in caught.value.todo


def test_an_endpoint_that_is_no_address_is_an_error_in_words(s3_settings: Settings) -> None:
    s3_settings.aws_endpoint_url = "no address"
    with pytest.raises(LakeError) as caught:
        list(Lake(s3_settings).list("d/"))
    assert "no address" in caught.value.what


class Refusing(BaseHTTPRequestHandler):
    """A server that lets nobody in, in the words of S3."""

    def refuse(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_HEAD = do_POST = refuse  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def refusing() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_without_permission_every_operation_says_so(
    s3_settings: Settings, refusing: str, tmp_path: Path
) -> None:
    s3_settings.aws_endpoint_url = refusing
    for error in said_by_all(Lake(s3_settings), tmp_path):
        assert error.code == "lake_denied"
        assert "denied" in error.what.lower()
        assert "permissions" in error.todo


def test_without_credentials_it_says_which_are_looked_for(
    s3_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    lake = Lake(s3_settings)
    with pytest.raises(LakeError) as caught:
        lake.read("d/x")
    assert "AWS_ACCESS_KEY_ID" in caught.value.where
    with pytest.raises(LakeError) as listed:
        list(lake.list("d/"))
    assert caught.value.code == listed.value.code == "lake_no_credentials"


@pytest.mark.parametrize("operation", ["list", "names", "read", "write"])
def test_a_folder_that_cannot_be_made_is_an_error_in_words(
    folder_settings: Settings, tmp_path: Path, operation: str
) -> None:
    (tmp_path / "file").write_text("in the way")
    folder_settings.lake = str(tmp_path / "file")
    lake = Lake(folder_settings)
    operations: dict[str, Callable[[], object]] = {
        "list": lambda: list(lake.list("d/")),
        "names": lambda: lake.names("d/"),
        "read": lambda: lake.read("d/x"),
        "write": lambda: lake.write("d/x", b"1"),
    }
    with pytest.raises(LakeError) as caught:
        operations[operation]()
    assert caught.value.code == "lake_unreachable"
    assert str(tmp_path / "file") in caught.value.where


def test_what_aws_can_do_is_read_from_disk_once(
    s3_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from botocore.loaders import JSONFileLoader

    assert Lake(s3_settings).read_json("d/none.json") is None
    read = []
    real = JSONFileLoader.load_file
    monkeypatch.setattr(
        JSONFileLoader, "load_file", lambda *place: read.append(place) or real(*place)
    )
    assert Lake(s3_settings).read_json("d/none.json") is None
    assert read == []
