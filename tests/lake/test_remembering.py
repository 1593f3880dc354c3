"""A run's own view of the lake: what it wrote is not asked for, what others write always is."""

from __future__ import annotations

from pathlib import Path

import pytest

from mm_assets.contract.errors import LakeError
from mm_assets.lake import remembering
from mm_assets.lake.lake import Lake
from mm_assets.lake.remembering import RememberingLake

NOTE = "datasets/d/uploads/u/note.json"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys that the store is asked for."""
    found: list[str] = []
    for name in ("read", "fetch", "open", "read_range"):
        whole = getattr(Lake, name)

        def counted(lake: Lake, key: str, *more: object, _whole: object = whole) -> object:
            found.append(key)
            return _whole(lake, key, *more)  # type: ignore[operator]

        monkeypatch.setattr(Lake, name, counted)
    return found


def published(lake: Lake, folder: Path, data: bytes) -> dict[str, object]:
    (folder / "file").write_bytes(data)
    return lake.publish("datasets/d/uploads/u/doc.json", {"a.bin": folder / "file"}, {"n": (1,)})


def test_what_was_written_is_given_as_the_store_would(
    lake: Lake, tmp_path: Path, asked: list[str]
) -> None:
    mine = RememberingLake(lake)
    document = published(mine, tmp_path, b"abcdef")
    key = document["files"]["a.bin"]["key"]  # type: ignore[index]
    for one, first_asks in ((mine, False), (lake, True)):
        asked.clear()
        assert one.read_json("datasets/d/uploads/u/doc.json") == {**document, "n": [1]}
        assert one.read_published(document, "a.bin") == b"abcdef"
        assert one.fetch(key, tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == b"abcdef"
        with one.open(key) as file, one.open_published(document, "a.bin") as verified:
            assert file.read() == verified.read() == b"abcdef"
        assert bool(asked) is first_asks


def test_what_others_write_is_seen(lake: Lake, asked: list[str]) -> None:
    mine = RememberingLake(lake)
    assert mine.read_json(NOTE) is None
    lake.write_json(NOTE, {"n": 1})
    assert mine.read_json(NOTE) == {"n": 1}
    lake.write_json(NOTE, {"n": 2})
    assert mine.read_json(NOTE) == {"n": 2}  # it was read, not written, by this run
    assert mine.create_json(NOTE, {"n": 3}) is False
    assert mine.read_json(NOTE) == {"n": 2}
    mine.write_json(NOTE, {"n": 4})
    mine.delete(NOTE)
    assert mine.read_json(NOTE) is None
    assert len(asked) >= 5


def test_what_is_damaged_when_it_is_first_read_is_said(lake: Lake, tmp_path: Path) -> None:
    document = published(lake, tmp_path, b"abcdef")
    key = document["files"]["a.bin"]["key"]  # type: ignore[index]
    lake.write(key, b"abcdeX")
    mine = RememberingLake(lake)
    for _ in range(2):
        with pytest.raises(LakeError, match="lake_damaged"):
            mine.read_published(document, "a.bin")


def test_large_and_many_objects_are_not_kept(
    lake: Lake, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembering, "SMALL", 10)
    monkeypatch.setattr(remembering, "MOST", 15)
    mine = RememberingLake(lake)
    own = "datasets/d/uploads/u/"
    sizes = {f"{own}large": 11, f"{own}a": 10, f"{own}b": 6, f"{own}c": 5, "datasets/d/log/a": 1}
    for key, size in sizes.items():
        mine.write(key, b"." * size)
        assert mine.read(key) == b"." * size
    assert asked == [f"{own}large", f"{own}b", "datasets/d/log/a"]
    mine.write(f"{own}a", b".")  # makes room
    mine.write(f"{own}b", b"." * 6)
    mine.read(f"{own}b")
    assert len(asked) == 3
