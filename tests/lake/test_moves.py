"""Moving loses nothing: whatever fails, whoever moves as well, whatever arrives meanwhile."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mm_assets.contract.errors import LakeError
from mm_assets.contract.settings import Settings
from mm_assets.lake import moves as lake_moves
from mm_assets.lake.lake import Lake
from tests.faults import Fault, FaultyProxy, first, is_, lose_answer, reset, without_header

SOURCE, TARGET = "inbox/pets/u.zip", "received/pets/u/1/u.zip"


def keys(lake: Lake) -> list[str]:
    return [item.key for item in lake.list("") if not item.key.startswith("probes/")]


def etag_of(lake: Lake, key: str) -> str:
    found = lake.stat(key)
    assert found is not None
    return found.etag


def write(lake: Lake, key: str, data: bytes) -> str:
    lake.write(key, data)
    return etag_of(lake, key)


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[FaultyProxy]:
    with FaultyProxy(s3_endpoint) as proxy:
        yield proxy


@pytest.fixture
def hasty(s3_settings: Settings, proxy: FaultyProxy) -> Lake:
    """A lake on S3, seen through the proxy, that gives up at the first fault."""
    import boto3
    from botocore.config import Config

    client = boto3.client(
        "s3", endpoint_url=proxy.url, config=Config(retries={"total_max_attempts": 1})
    )
    s3_settings.aws_endpoint_url = proxy.url
    lake = Lake(s3_settings, client)
    assert lake.can_move
    proxy.clear()
    return lake


@pytest.fixture
def behind(s3_settings: Settings, s3_client: Any, s3_endpoint: str) -> Lake:
    """The same lake as `hasty`, without the proxy."""
    return Lake(s3_settings.model_copy(update={"aws_endpoint_url": s3_endpoint}), s3_client)


# -- on both --------------------------------------------------------------------------------------


def test_what_is_moved_is_at_the_target_and_no_longer_at_the_source(lake: Lake) -> None:
    etag = write(lake, SOURCE, b"old")
    before = lake.stat(SOURCE)
    assert lake.can_move
    assert lake.move(SOURCE, TARGET, etag)
    assert lake.read(TARGET) == b"old"
    assert keys(lake) == [TARGET]
    after = lake.stat(TARGET)
    assert before is not None
    assert after is not None
    assert after.etag == before.etag
    assert lake.settings.is_s3 or after.modified == before.modified


def test_moving_again_changes_nothing_and_says_the_same(lake: Lake) -> None:
    etag = write(lake, SOURCE, b"old")
    assert lake.move(SOURCE, TARGET, etag)
    assert lake.move(SOURCE, TARGET, etag)
    assert lake.read(TARGET) == b"old"


def test_what_was_never_there_is_not_moved(lake: Lake) -> None:
    assert not lake.move(SOURCE, TARGET, "0-0")
    assert keys(lake) == []


def test_a_newer_file_under_the_same_name_is_left_alone(lake: Lake) -> None:
    etag = write(lake, SOURCE, b"old")
    write(lake, SOURCE, b"newer")
    assert not lake.move(SOURCE, TARGET, etag)
    assert keys(lake) == [SOURCE]
    assert lake.read(SOURCE) == b"newer"


def test_a_newer_file_after_the_move_is_not_touched_by_a_repetition(lake: Lake) -> None:
    etag = write(lake, SOURCE, b"old")
    assert lake.move(SOURCE, TARGET, etag)
    write(lake, SOURCE, b"newer")
    assert not lake.move(SOURCE, TARGET, etag)
    assert (lake.read(TARGET), lake.read(SOURCE)) == (b"old", b"newer")


def test_other_content_at_the_target_is_replaced(lake: Lake) -> None:
    write(lake, TARGET, b"in the way")
    assert lake.move(SOURCE, TARGET, write(lake, SOURCE, b"old"))
    assert lake.read(TARGET) == b"old"
    assert keys(lake) == [TARGET]


def test_two_movers_at_once_both_succeed_and_lose_nothing(lake: Lake) -> None:
    assert lake.can_move
    for number in range(10):
        data = str(number).encode()
        etag = write(lake, SOURCE, data)
        with ThreadPoolExecutor(4) as pool:
            moved = list(pool.map(lambda _, tag=etag: lake.move(SOURCE, TARGET, tag), range(4)))
        assert all(moved)
        assert keys(lake) == [TARGET]
        assert lake.read(TARGET) == data


def test_movers_and_a_sender_at_once_lose_no_file(lake: Lake) -> None:
    """Each version that was sent ends in the inbox or at a target of its own, whole."""
    assert lake.can_move
    sent: list[bytes] = []

    def send() -> None:
        for number in range(40):
            sent.append(f"version {number}".ljust(20 + number).encode())
            lake.write(SOURCE, sent[-1])

    def move(sending: Any) -> None:
        while not sending.done():
            if (found := lake.stat(SOURCE)) is not None:
                lake.move(SOURCE, f"received/{found.etag}", found.etag)

    with ThreadPoolExecutor(3) as pool:
        sending = pool.submit(send)
        movers = [pool.submit(move, sending) for _ in range(2)]
        for mover in movers:
            mover.result()
        sending.result()
    contents = {item.key: lake.read(item.key) for item in lake.list("") if "probes" not in item.key}
    assert sent[-1] in contents.values()
    assert set(contents.values()) <= set(sent)
    for key, data in contents.items():
        size = data if lake.settings.is_s3 else key.rpartition("-")[2]
        assert key == SOURCE or lake.settings.is_s3 or int(size, 16) == len(data)


# -- a folder -------------------------------------------------------------------------------------


def killed_at(call: int, action: Callable[[], Any]) -> bool:
    """Run it in a process of its own that dies before its n-th change to the file system."""
    child = os.fork()
    if child == 0:
        left = [call]

        def die(event: str, _details: Any) -> None:
            if event in ("os.link", "os.rename", "os.remove", "os.mkdir", "os.rmdir"):
                left[0] -= 1
                if left[0] < 0:
                    os._exit(9)

        try:
            sys.addaudithook(die)
            action()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def test_a_mover_that_is_killed_at_any_point_loses_nothing_and_is_repeated(
    folder_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(folder_settings)
    source, target = "inbox/pets/u/a.jpg", "received/pets/u/1/a.jpg"
    for call in range(20):
        etag = write(lake, source, b"old")
        was_killed = killed_at(call, partial(lake.move, source, target, etag))
        monkeypatch.setattr(lake_moves, "MOVING_AGE", 0.0)
        contents = [lake.read(key) for key in keys(lake)]
        assert contents
        assert set(contents) == {b"old"}
        assert lake.move(source, target, etag)
        assert keys(lake) == [target]
        left = [path.name for path in folder_settings.lake_folder.rglob("*") if path.is_file()]
        assert left == ["a.jpg"]
        lake.delete(target)
        if not was_killed:
            break
    assert 5 < call < 20


def test_a_newer_file_that_a_killed_mover_held_comes_back(
    folder_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(folder_settings)
    etag = write(lake, SOURCE, b"old")
    rename = Path.rename

    def newer_comes_and_we_die(self: Path, other: Path) -> None:
        self.unlink()
        self.write_bytes(b"newer")
        rename(self, other)
        os._exit(9)

    def move() -> None:
        Path.rename = newer_comes_and_we_die  # type: ignore[method-assign,assignment]
        lake.move(SOURCE, TARGET, etag)

    assert killed_at(99, move)
    assert keys(lake) == [TARGET]  # for a minute it may be in the hands of a live mover
    monkeypatch.setattr(lake_moves, "MOVING_AGE", 0.0)
    assert list(lake.list("inbox/")) == []
    assert lake.read(SOURCE) == b"newer"
    assert lake.read(TARGET) == b"old"


@pytest.mark.parametrize("call", ["link", "rename"])
def test_a_newer_file_that_comes_in_between_stays_in_the_folder(
    folder_settings: Settings, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    lake = Lake(folder_settings)
    etag = write(lake, SOURCE, b"old")
    before, came = getattr(os if call == "link" else Path, call), threading.Event()

    def come_first(*names: Any, **more: Any) -> Any:
        if not came.is_set():
            came.set()
            lake.write(SOURCE, b"newer")
        return before(*names, **more)

    monkeypatch.setattr(os if call == "link" else Path, call, come_first)
    assert not lake.move(SOURCE, TARGET, etag)
    assert lake.read(SOURCE) == b"newer"
    assert keys(lake) == ([SOURCE] if call == "link" else [SOURCE, TARGET])
    if call == "rename":
        assert lake.read(TARGET) == b"old"
    assert not list(folder_settings.lake_folder.rglob("*#*"))


def test_a_file_that_is_written_into_while_it_moves_stays_in_the_folder(
    folder_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(folder_settings)
    etag = write(lake, SOURCE, b"old")
    rename = Path.rename

    def come(self: Path, other: Path) -> Path:
        (folder_settings.lake_folder / SOURCE).write_bytes(b"newer")  # as cp does: in place
        return rename(self, other)

    monkeypatch.setattr(Path, "rename", come)
    assert not lake.move(SOURCE, TARGET, etag)
    assert keys(lake) == [SOURCE]
    assert lake.read(SOURCE) == b"newer"


def test_what_comes_while_a_newer_file_is_put_back_is_not_overwritten(
    folder_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(folder_settings)
    etag = write(lake, SOURCE, b"old")
    rename = Path.rename

    def come(self: Path, other: Path) -> Path:
        lake.write(SOURCE, b"newer")
        moved = rename(self, other)
        lake.write(SOURCE, b"newest")
        return moved

    monkeypatch.setattr(Path, "rename", come)
    assert not lake.move(SOURCE, TARGET, etag)
    assert lake.read(SOURCE) == b"newest"


def test_a_folder_that_was_moved_out_is_gone_and_the_inbox_stays(folder_settings: Settings) -> None:
    lake = Lake(folder_settings)
    for name in ("a.jpg", "deep/b.jpg"):
        etag = write(lake, f"inbox/pets/u/{name}", b"1")
        assert lake.move(f"inbox/pets/u/{name}", f"received/pets/u/{name}", etag)
    assert lake.names("inbox/") == ["pets"]
    assert lake.names("inbox/pets/") == []


def test_a_name_in_the_hands_of_a_live_mover_is_left_alone(folder_settings: Settings) -> None:
    lake = Lake(folder_settings)
    lake.write("d/x", b"1")
    held = folder_settings.lake_folder / "d" / "x#moving#12"
    (folder_settings.lake_folder / "d" / "x").rename(held)
    assert keys(lake) == []
    assert held.exists()


# -- S3 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [reset(), lose_answer()], ids=["not done", "done, not told"])
def test_a_mover_on_s3_that_stops_at_any_request_loses_nothing_and_is_repeated(
    hasty: Lake, behind: Lake, proxy: FaultyProxy, fault: Fault
) -> None:
    for number in range(20):
        etag = write(behind, SOURCE, b"old")
        proxy.clear()
        proxy.add(fault, skip=number)
        proxy.add(reset(), skip=number, times=None)
        stopped = False
        try:
            assert hasty.move(SOURCE, TARGET, etag)
        except LakeError:
            stopped = True
        assert {behind.read(key) for key in keys(behind)} == {b"old"}
        proxy.clear()
        assert hasty.move(SOURCE, TARGET, etag)
        assert keys(behind) == [TARGET]
        behind.delete(TARGET)
        if not stopped:
            break
    assert 4 < number < 20


@pytest.mark.parametrize("before", ["PUT", "HEAD", "DELETE"])
def test_a_newer_object_that_comes_in_between_stays_on_s3(
    hasty: Lake, behind: Lake, proxy: FaultyProxy, before: str
) -> None:
    etag = write(behind, SOURCE, b"old")
    comes = first(lambda: behind.write(SOURCE, b"newer"))
    skip = {"PUT": 0, "HEAD": 1, "DELETE": 0}[before]  # the second look is boto3's own
    proxy.add(comes, is_(before), skip=skip)
    assert not hasty.move(SOURCE, TARGET, etag)
    assert behind.read(SOURCE) == b"newer"
    assert keys(behind) == ([SOURCE, TARGET] if before == "DELETE" else [SOURCE])
    assert not hasty.move(SOURCE, TARGET, etag)
    assert hasty.move(SOURCE, "received/newer", etag_of(behind, SOURCE))
    assert behind.read("received/newer") == b"newer"


def test_a_large_object_moves_in_parts_and_a_newer_one_between_parts_stays(
    hasty: Lake, behind: Lake, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lake_moves, "COPY_WHOLE", 5 << 20)
    monkeypatch.setattr(lake_moves, "COPY_PART", 5 << 20)
    data = os.urandom(12 << 20)
    etag = write(behind, SOURCE, data)
    assert hasty.move(SOURCE, TARGET, etag)
    assert proxy.count(is_("PUT", "partNumber")) == 3
    assert behind.read(TARGET) == data
    assert keys(behind) == [TARGET]

    etag = write(behind, SOURCE, data[::-1])
    proxy.add(first(lambda: behind.write(SOURCE, b"newer")), is_("PUT", "partNumber=2"))
    assert not hasty.move(SOURCE, TARGET, etag)
    assert behind.read(SOURCE) == b"newer"
    assert behind.read(TARGET) == data


def test_a_copy_that_is_not_whole_is_an_error_and_the_source_stays(
    hasty: Lake, behind: Lake, proxy: FaultyProxy
) -> None:
    etag = write(behind, SOURCE, b"old")
    proxy.add(first(lambda: behind.write(TARGET, b"ol")), is_("HEAD", TARGET))
    with pytest.raises(LakeError) as caught:
        hasty.move(SOURCE, TARGET, etag)
    assert caught.value.code == "lake_damaged"
    assert behind.read(SOURCE) == b"old"
    assert hasty.move(SOURCE, TARGET, etag)
    assert behind.read(TARGET) == b"old"


def test_names_with_anything_in_them_move(lake: Lake) -> None:
    for name in ("a b.jpg", "100%20.jpg", "a+b&c=d.jpg", "ä€😀.jpg", "a?b.jpg", "a:b"):
        etag = write(lake, f"inbox/pets/u/{name}", name.encode())
        assert lake.move(f"inbox/pets/u/{name}", f"received/pets/u/{name}", etag)
        assert lake.read(f"received/pets/u/{name}") == name.encode()


@pytest.mark.parametrize("unknown", ["If-Match", "nothing"])
def test_whether_a_server_deletes_on_condition_is_tried_out_once_and_leaves_nothing(
    s3_settings: Settings, behind: Lake, proxy: FaultyProxy, unknown: str
) -> None:
    """Without that, nothing is moved: an unconditional delete could lose a newer file."""
    s3_settings.aws_endpoint_url = proxy.url
    lake = Lake(s3_settings)
    proxy.add(without_header(unknown), is_("DELETE"), times=None)
    etag = write(behind, SOURCE, b"old")
    assert lake.move(SOURCE, TARGET, etag) is (unknown == "nothing")
    assert lake.can_move is (unknown == "nothing")
    assert keys(behind) == ([TARGET] if unknown == "nothing" else [SOURCE])
    assert list(behind.list("probes/")) == []
    before = proxy.count(is_(part="probes/"))
    again = Lake(s3_settings, lake.s3_client)
    assert again.can_move is lake.can_move
    assert proxy.count(is_(part="probes/")) == before


@pytest.mark.parametrize("request_number", range(6))
def test_a_probe_whose_answer_is_lost_still_tells(
    s3_settings: Settings, behind: Lake, proxy: FaultyProxy, request_number: int
) -> None:
    s3_settings.aws_endpoint_url = proxy.url
    proxy.add(lose_answer(), is_(part="probes/"), skip=request_number)
    assert Lake(s3_settings).can_move
    assert list(behind.list("probes/")) == []


def test_a_probe_that_is_not_allowed_is_an_error_and_not_an_answer(
    hasty: Lake, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lake_moves, "_conditional", {})
    proxy.add(reset(), is_("DELETE"))
    with pytest.raises(LakeError):
        _ = hasty.can_move
    proxy.clear()
    assert hasty.can_move


def test_moving_many_is_quick(lake: Lake) -> None:
    assert lake.can_move
    etags = {f"inbox/pets/u/{i}.jpg": write(lake, f"inbox/pets/u/{i}.jpg", b"1") for i in range(40)}
    started = time.monotonic()
    for key, etag in etags.items():
        assert lake.move(key, key.replace("inbox", "received"), etag)
    assert time.monotonic() - started < 10
