"""Images that only a row's path names, where row and image come in different uploads."""

from __future__ import annotations

import itertools
from typing import Any

import pyarrow as pa
import pytest

from mm_assets.reading.image_column import key_of
from mm_assets.tables.named import Cell, File, file_id, meet, no_names
from mm_assets.tables.store import MergeResult, Store
from tests.tables.offers import images, known, offer, offered, rows


def names(cells: dict[str, str] | None = None, **files: str) -> pa.Table:
    """cells: by record, what its row names. files: paths (without ending) and their sha256."""
    found: list[dict[str, Any]] = [
        {"name": key_of(path), "record_id": record, "number": 0, "path": path, "in_table": "t.csv"}
        for record, path in (cells or {}).items()
    ]
    for stem, sha256 in files.items():
        path = f"{stem.replace('_', '/')}.png"
        found.append({"name": key_of(path), "record_id": file_id(path), "number": 0, "path": path,
                      "image_sha256": sha256})  # fmt: skip
    return pa.Table.from_pylist(found, schema=no_names().schema)


def waiting(names: pa.Table) -> pa.Table:
    """The files among names as images that wait for their rows."""
    return images(**{one["record_id"]: one["image_sha256"] for one in names.to_pylist()
                     if one["image_sha256"]})  # fmt: skip


def publish(store: Store, upload: str, row: pa.Table, said: pa.Table) -> None:
    store.publish("pets", upload, row, waiting(said), None, said)


ROW = (rows(a=None), names({"a": "photos\\A.PNG"}))
IMAGE = (rows(), names(photos_a="1"))
OTHER = (rows(), names(old_a="2", b="3"))
AGAIN = (rows(), names(photos_a="4"))


def met(store: Store) -> tuple[Any, ...]:
    found = known(store, "a")["a"]
    return tuple(found[name] for name in ("image_order", "image_upload", "image_sha256"))


@pytest.mark.parametrize("first", ["u1", "u2"])
def test_a_row_and_the_image_that_it_names_meet_in_any_order(store: Store, first: str) -> None:
    parts = {"u1": ROW, "u2": IMAGE}
    for upload in sorted(parts, reverse=first == "u2"):
        publish(store, upload, *parts[upload])
        publish(store, upload, *parts[upload])
    assert met(store) == ("u1+u2", "u2", "1")
    assert known(store, "a")["a"]["named_files"] == ["photos/a.png"]
    assert store.naming("pets", "u2").to_pylist() == ["a"]
    assert store.naming("pets", "u1").to_pylist() == []
    assert store.stated("pets", "u2").to_pylist() == ["/photos/a.png", "a"]
    assert store.look_up("other", pa.array(["a"]))["image_upload"].to_pylist() == [None]
    store.withdraw("pets", ["u2"])
    assert met(store) == (None, None, None)


def test_of_one_path_that_came_twice_the_newer_counts_and_it_can_be_taken_back(
    store: Store,
) -> None:
    for upload, part in (("u3", AGAIN), ("u1", ROW), ("u2", IMAGE)):
        publish(store, upload, *part)
    assert met(store) == ("u1+u3", "u3", "4")
    store.withdraw("pets", ["u3"])
    assert met(store) == ("u1+u2", "u2", "1")
    store.withdraw("pets", ["u1"])
    assert met(store) == (None, None, None)


UNCLEAR = "'a.png' may be photos/a.png (upload u2) or old/a.png (upload u3)"
THREE = {"u1": (rows(a=None), names({"a": "a.png"})), "u2": IMAGE, "u3": OTHER}


@pytest.mark.parametrize("order", itertools.permutations(THREE))
def test_what_may_mean_files_of_two_uploads_means_none_and_both_are_named(
    store: Store, order: tuple[str, ...]
) -> None:
    there = [offer("a", modality_rank=1, upload="u1", image_upload=key, image_order=f"u1+{key}")
             for key in ("u2", "u3")]  # fmt: skip
    plain = offer("a", upload="u1")
    for n, upload in enumerate(order):
        publish(store, upload, *THREE[upload])
        if n == 1:  # two are there: it is clear, unless its row is missing
            store.merge("pets", offered(plain, *there))
    assert met(store) == (None, None, None)
    assert known(store, "a")["a"]["image_unclear"] == UNCLEAR
    assert store.merge("pets", offered(plain, *there)).void == 2
    assert store.read("pets")["modality"].to_pylist() == ["without_image"]
    gone = store.read_withdrawn("pets").to_pylist()
    assert gone == []
    store.withdraw("pets", ["u3"])
    assert met(store) == ("u1+u2", "u2", "1")
    assert store.merge("pets", offered(plain, *there)) == MergeResult(0, 1, 1, 1)
    assert store.read("pets")["image_upload"].to_pylist() == ["u2"]


def test_what_is_not_clear_any_more_is_taken_back_at_once(store: Store) -> None:
    for upload in ("u1", "u2"):
        publish(store, upload, *THREE[upload])
    best = offer("a", modality_rank=1, upload="u1", image_upload="u2", image_order="u1+u2")
    store.merge("pets", offered(best))
    publish(store, "u3", *OTHER)
    assert store.read("pets").num_rows == 0
    (gone,) = store.read_withdrawn("pets").to_pylist()
    assert (gone["code"], gone["withdrawn_by"]) == ("image_ambiguous", "u1")


def test_answers_fall_with_the_row_that_named_their_image(store: Store) -> None:
    publish(store, "u0", rows(a=None), names())
    publish(store, "u1", rows(), names({"a": "a.png"}))
    publish(store, "u2", *IMAGE)
    assert met(store) == ("u1+u2", "u2", "1")
    named = offer("a", modality_rank=1, upload="u0", image_upload="u2", image_order="u1+u2")
    store.merge("pets", offered(offer("a", upload="u0"), named))
    store.withdraw("pets", ["u1"])
    assert store.read("pets").num_rows == 0
    assert store.merge("pets", offered(named)).void == 1
    assert met(store) == (None, None, None)


def test_an_image_that_came_with_its_row_later_is_newer(store: Store) -> None:
    publish(store, "u1", *ROW)
    publish(store, "u2", *IMAGE)
    store.publish("pets", "u3", rows(a=None), images(a="9"))
    assert met(store) == ("u3", "u3", "9")
    store.publish("pets", "u4", rows(a=None), images(), None, names({"a": "photos/a.png"}))
    assert met(store) == ("u4+u2", "u2", "1")
    store.publish("pets", "u4", rows(a=None), images(), None, None)
    assert met(store) == ("u3", "u3", "9")


def cell(path: str, number: int = 0, upload: str = "r1", table: str = "t.csv") -> Cell:
    return Cell("a", upload, key_of(path), number, path, table)


def file(path: str, upload: str = "i1", sha256: str = "") -> File:
    return File(upload, key_of(path), path, sha256 or f"{upload}{path}")


@pytest.mark.parametrize(
    ("path", "files", "found"),
    [
        ("a.jpg", [file("x/a.png"), file("x/a.jpg")], "x/a.jpg"),
        ("x/a", [file("z/x/a.tif")], "z/x/a.tif"),
        ("C:\\data\\a.jpg", [file("data/a.jpg")], "data/a.jpg"),
        ("x/a.jpg", [file("y/a.jpg")], None),
        ("a.jpg", [file("x/a.jpg"), file("y/a.jpg")], "may be x/a.jpg"),
        ("a.jpg", [file("x/a.jpg", sha256="s"), file("y/a.jpg", "i2", "s")], "y/a.jpg"),
        ("a.jpg", [file("x/a.jpg"), file("X/A.jpg", "i2")], "X/A.jpg"),
        ("a.jpg", [file("a.jpg"), file("a.png", "i2")], "may be a.jpg (upload i1) or a.png"),
    ],
)
def test_a_cell_means_files_of_other_uploads_as_it_does_those_of_its_own(
    path: str, files: list[File], found: str | None
) -> None:
    meeting = meet([cell(path)], files)
    if found is not None and found.startswith("may be"):
        assert found in (meeting.words("a") or "")
        assert meeting.named == {}
    else:
        assert meeting.words("a") is None
        assert [one.files[0].path for one in meeting.named.values()] == ([found] if found else [])


def test_of_several_cells_the_newest_images_count_and_one_unclear_undoes_all() -> None:
    cells = [cell("2.jpg", 1), cell("1.jpg", 0), cell("3.jpg", 2)]
    files = [file("1.jpg", "i2"), file("2.jpg", "i2"), file("3.jpg", "i1")]
    (named,) = meet(cells, files).named.values()
    assert (named.order, [one.path for one in named.files]) == ("r1+i2", ["1.jpg", "2.jpg"])
    assert not meet(cells, [*files, file("x/2.jpg", "i0")]).named
    newer = [*cells, cell("3.jpg", 0, "r2")]
    (named,) = meet(newer, [*files, file("x/2.jpg", "i0")]).named.values()
    assert named.order == "r2+i1"
