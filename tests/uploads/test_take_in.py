"""Received uploads are moved out of the inbox, and can be received again from where they lie.

Every test runs over a folder and over a server that speaks S3.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mm_assets.contract.errors import LakeError
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import INBOX_NOTE, inbox, of_upload, received
from mm_assets.uploads.find import Source, find_uploads
from mm_assets.uploads.send import send
from mm_assets.uploads.take_in import take_in
from tests.laws.process import Process, Until, WatchedLake
from tests.make import dataset, draw_image, drop_folder, drop_zip, found, table, zipped

SPEC = dataset()
FILES = {
    "rows.csv": b"id,age,colour,label\na,1,red,\nb,2,blue,cat\n",
    "a.png": draw_image(1),
    "deep/b.png": draw_image(2),
    "broken.png": draw_image(3)[:-20],
}
KINDS = pytest.mark.parametrize("kind", ["zip", "folder"])


def drop(lake: Lake, kind: str, files: dict[str, bytes] = FILES, name: str = "u") -> Source:
    (drop_zip if kind == "zip" else drop_folder)(lake, _named(kind, name), files)
    return found(lake, _named(kind, name))


def _named(kind: str, name: str = "u") -> str:
    return f"{name}.zip" if kind == "zip" else name


def take(lake: Lake, source: Source, **changes: Any) -> tuple[dict[str, Any], str]:
    spec = SPEC.model_copy(update=changes)
    return take_in(lake, spec, source, run_id="run", progress=lambda _: None)


def keys(lake: Lake, prefix: str = inbox("pets")) -> list[str]:
    return [item.key[len(prefix) :] for item in lake.list(prefix)]


def there(lake: Lake, source: Source) -> dict[str, bytes]:
    """What lies where the upload was moved to."""
    place = received("pets", source.name, source.upload)
    return {name: lake.read(place + name) for name in keys(lake, place)}


def files_of(receipt: dict[str, Any]) -> dict[str, str]:
    """The receipt without what tells one run from another."""
    return {name: file["sha256"] for name, file in receipt["files"].items()}


@KINDS
def test_a_received_upload_is_moved_out_of_the_inbox(lake: Lake, kind: str) -> None:
    source = drop(lake, kind)
    receipt, stays = take(lake, source)
    assert (receipt["refused"], stays) == (None, "")
    assert receipt["counts"]["files"] == len(FILES)
    assert keys(lake) == []
    assert find_uploads(lake, "pets").finished == find_uploads(lake, "pets").waiting == []
    if kind == "zip":
        assert there(lake, source) == {"u.zip": zipped(FILES)}
    else:
        moved = there(lake, source)
        assert moved.pop("upload.json")
        assert moved == FILES


@KINDS
def test_it_is_received_again_from_where_it_was_moved(lake: Lake, kind: str) -> None:
    source = drop(lake, kind)
    first, _ = take(lake, source)
    again, stays = take(lake, source)
    assert stays == ""
    assert files_of(again) == files_of(first)
    assert again["published_at"] > first["published_at"]  # read again, not remembered
    smaller, _ = take(lake, source, image_longest_side=32)
    assert smaller["fingerprint"] != first["fingerprint"]
    assert smaller["counts"] == first["counts"]


@KINDS
def test_keep_inbox_leaves_it_where_it_is(lake: Lake, kind: str) -> None:
    source = drop(lake, kind)
    before = keys(lake)
    receipt, stays = take(lake, source, keep_inbox=True)
    assert (receipt["refused"], stays, keys(lake)) == (None, "", before)
    assert there(lake, source) == {}
    assert files_of(take(lake, source)[0]) == files_of(receipt)
    assert keys(lake) == []  # once it is no longer wished, it goes


def test_an_archive_that_is_refused_is_moved_too(lake: Lake) -> None:
    lake.write(f"{inbox('pets')}u.zip", zipped(FILES)[:-30])
    source = found(lake, "u.zip")
    receipt, stays = take(lake, source)
    assert receipt["refused"]["code"].startswith("archive")
    assert (stays, keys(lake)) == ("", [])
    again, _ = take(lake, source)
    assert again["refused"] == receipt["refused"]  # also the place, though it was moved


@KINDS
def test_one_that_was_overwritten_before_is_refused_and_its_successor_is_left_alone(
    lake: Lake, kind: str
) -> None:
    old = drop(lake, kind)
    new = drop(lake, kind, {**FILES, "a.png": draw_image(7)})
    assert new.upload != old.upload
    before = keys(lake)
    receipt, stays = take(lake, old)
    assert receipt["refused"]["code"] == "upload_superseded"
    assert (stays, keys(lake)) == ("", before)
    assert lake.read_json(of_upload("pets", old.upload, INBOX_NOTE)) is None
    receipt, _ = take(lake, new)
    assert receipt["refused"] is None
    assert keys(lake) == []


@KINDS
def test_a_newer_upload_under_the_same_name_is_never_touched(lake: Lake, kind: str) -> None:
    """It arrives between the receipt and the move."""
    old = drop(lake, kind)
    new_files = {**FILES, "a.png": draw_image(7)}

    with killed(lake, old, Until(name="move")) as run:
        new = drop(lake, kind, new_files)
        run.go_on()
    assert run.ended
    assert run.stays
    receipt, _ = take(lake, new)
    assert (receipt["refused"], receipt["counts"]["quarantined"]) == (None, 1)
    kept, stays = take(lake, old)  # what was received stands
    assert (kept["refused"], bool(stays)) == (None, True)
    assert set(there(lake, new).values()) >= (
        {zipped(new_files)} if kind == "zip" else set(new_files.values())
    )


def test_a_file_that_comes_after_the_marker_belongs_to_the_next_delivery(lake: Lake) -> None:
    """Somebody sends the next delivery into the same folder; its marker comes last."""
    old = drop(lake, "folder")
    later(lake)
    new_files = {**FILES, "a.png": draw_image(7), "c.png": draw_image(8)}
    for name in ("a.png", "c.png"):
        lake.write(f"{inbox('pets')}u/{name}", new_files[name])
    receipt, _ = take(lake, old)
    assert receipt["quarantined_by_code"] == {
        "image_unreadable": 1, "checksum_differs": 1, "not_announced": 1,
    }  # fmt: skip
    assert keys(lake) == ["u/a.png", "u/c.png"]
    new = drop(lake, "folder", new_files)
    receipt, stays = take(lake, new)
    assert receipt["quarantined_by_code"] == {"image_unreadable": 1}
    assert (stays, keys(lake)) == ("", [])


@KINDS
def test_a_crash_at_any_point_is_carried_on_by_the_next_run(
    lake: Lake, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mm_assets.uploads.deliver
    import mm_assets.uploads.take_in

    # One thread, so that the n-th call is the same one each time.
    monkeypatch.setattr(mm_assets.uploads.take_in, "THREADS", 1)
    monkeypatch.setattr(mm_assets.uploads.deliver, "FETCHES", 1)
    expected, n_calls, ended = None, 0, False
    while not ended:
        source = drop(lake, kind, name=f"u{n_calls}")
        with killed(lake, source, Until(dies_after=n_calls)) as run:
            ended = not run.dead
        receipt, stays = take(lake, source)
        assert (receipt["refused"], stays) == (None, "")
        expected = expected or files_of(receipt)
        assert files_of(receipt) == expected, n_calls
        assert keys(lake) == [], n_calls
        assert len(there(lake, source)) == (1 if kind == "zip" else len(FILES) + 1)
        n_calls += 1
    assert n_calls > 10


@KINDS
@pytest.mark.parametrize("place", ["list", "stat", "fetch", "read", "move"])
def test_two_runs_of_one_upload_at_the_same_moment(lake: Lake, kind: str, place: str) -> None:
    """The slower one stands still anywhere while the other takes it through."""
    n_stops, ended = 1, False
    while not ended:
        source = drop(lake, kind, name=f"u{n_stops}")
        run = _Run(lake, source)
        for _ in range(n_stops):
            run.go_on(Until(name=place))
        ended = run.ended
        receipt, stays = take(lake, source)
        run.go_on()
        assert (receipt["refused"], stays) == (None, "")
        assert files_of(take(lake, source)[0]) == files_of(receipt), (place, n_stops)
        assert (take(lake, source)[1], keys(lake)) == ("", [])
        n_stops += 1


@KINDS
def test_what_cannot_be_moved_stays_and_can_be_received_again(
    lake: Lake, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = drop(lake, kind)
    before = keys(lake)

    def denied(*_: Any) -> bool:
        raise LakeError(code="lake_unreachable", what="Access Denied", where="inbox", todo="-")

    with monkeypatch.context() as patch:
        patch.setattr(Lake, "move", denied)
        first, stays = take(lake, source)
        assert "Access Denied" in stays
        again, stays = take(lake, source)
        assert "Access Denied" in stays
    assert files_of(again) == files_of(first)
    assert keys(lake) == before
    assert take(lake, source)[1] == ""
    assert keys(lake) == []


def test_the_same_bytes_sent_again_are_another_delivery(lake: Lake) -> None:
    """Also on S3, where they have the same ETag."""
    for kind in ("zip", "folder"):
        old = drop(lake, kind)
        later(lake)
        new = drop(lake, kind)
        assert new.upload > old.upload
        assert take(lake, old)[0]["refused"]["code"] == "upload_superseded"
        receipt, stays = take(lake, new)
        assert (receipt["refused"], stays) == (None, "")


def later(lake: Lake) -> None:
    """S3 tells moments a second apart."""
    import time

    time.sleep(1.1 if lake.settings.is_s3 else 0.02)


class _Run(Process):
    """A run of take_in. `stays` is what it says at its end."""

    def __init__(self, lake: Lake, source: Source) -> None:
        self.stays: str | None = None

        def work(process: Process) -> None:
            watched = WatchedLake(lake.settings, process, lake)
            self.stays = take(watched, source)[1]

        super().__init__(work)


@contextmanager
def killed(lake: Lake, source: Source, until: Until) -> Iterator[_Run]:
    """A run that goes as far as `until`; whatever is left of it is killed in the end."""
    run = _Run(lake, source)
    run.go_on(until)
    yield run
    run.kill()


@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_what_was_received_and_moved_is_not_sent_again_unless_it_changed(
    lake: Lake, tmp_path: Path, kind: str
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "t.csv").write_bytes(table("id,age,colour", "a,1,red"))
    path = folder
    if kind == "zip":
        path = tmp_path / "mine.zip"
        path.write_bytes(zipped({"t.csv": table("id,age,colour", "a,1,red")}))
    assert not send(lake, path, "pets").already_there
    [source] = find_uploads(lake, "pets").finished
    take_in(lake, dataset(), source, run_id="r", progress=lambda _: None)
    assert find_uploads(lake, "pets").finished == []
    again = send(lake, path, "pets")
    assert again.already_there
    assert again.key.startswith("received/pets/mine")
    assert find_uploads(lake, "pets").finished == []
    if kind == "zip":
        path.write_bytes(zipped({"t.csv": table("id,age,colour", "a,2,red")}))
    else:
        (folder / "t.csv").write_bytes(table("id,age,colour", "a,2,red"))
    assert not send(lake, path, "pets").already_there
    assert len(find_uploads(lake, "pets").finished) == 1
