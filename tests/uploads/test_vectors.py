"""Vectors of images in the lake, over a folder and over S3."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import embeddings_prefix
from mm_assets.uploads import vectors
from mm_assets.uploads.vectors import LakeVectors, note_image_homes

IMAGES = {f"original {n}": f"image {n}".encode() for n in range(6)}
NAMES = [hashlib.sha256(data).hexdigest() for data in IMAGES.values()]


@pytest.fixture(autouse=True)
def fresh() -> None:
    forget()


def forget() -> None:
    vectors._files.clear()
    vectors._homes.clear()


def some(*places: int) -> dict[str, np.ndarray]:
    return {NAMES[n]: np.array([n, 0.1 * n, 60_000], np.float16).astype("float32") for n in places}


def lying(lake: Lake, upload: str | None, most_places: int | None = None) -> LakeVectors:
    made = LakeVectors(lake, "pets", most_places=most_places)
    made.lie(upload, IMAGES)
    return made


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, vector in expected.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], vector)


def test_what_was_written_is_read_by_another_process(lake: Lake) -> None:
    lying(lake, "u1").write("eyes-1", some(0, 3))
    lying(lake, "u1").write("eyes-1", some(2))
    forget()
    same(lying(lake, "u1").read("eyes-1", NAMES), some(0, 3, 2))
    assert lying(lake, "u1").read("eyes-2", NAMES) == {}
    assert lying(lake, "u2").read("eyes-1", NAMES) == {}


def test_the_same_vectors_written_by_many_at_once_are_one_file(lake: Lake) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: lying(lake, "u1").write("eyes-1", some(*range(6))), range(8)))
    [file] = lake.list(embeddings_prefix("pets", "u1", "eyes-1"))
    table = vectors._unpacked(lake.read(file.key))
    assert list(table.places) == sorted(NAMES)


def test_an_image_is_found_in_another_upload_if_that_is_its_home(lake: Lake) -> None:
    def trained_on(upload: str) -> None:
        homes = {"image_sha256": [*IMAGES, None], "image_upload": [*[upload] * 6, None]}
        note_image_homes(lake, "pets", pa.table(homes))

    trained_on("u1")
    lying(lake, "u1").write("eyes-1", some(1, 2))
    same(lying(lake, "u2").read("eyes-1", NAMES), some(1, 2))
    same(lying(lake, None).read("eyes-1", NAMES[:2]), some(1))
    trained_on("u2")  # sent again, but its home stays
    lying(lake, "u2").write("eyes-1", some(4))
    assert [*lake.list(embeddings_prefix("pets", "u2", "eyes-1"))] == []
    forget()
    same(lying(lake, "u3").read("eyes-1", NAMES), some(1, 2, 4))


def test_what_lies_in_no_upload_or_nobody_knows_where_is_not_kept(lake: Lake) -> None:
    lying(lake, None).write("eyes-1", some(1))
    LakeVectors(lake, "pets").write("eyes-1", some(1))
    lying(lake, "u1", most_places=2).write("eyes-1", some(*range(6)))
    assert LakeVectors(lake, "pets").read("eyes-1", NAMES) == {}
    same(lying(lake, "u1").read("eyes-1", NAMES), some(4, 5))


def test_a_damaged_file_is_passed_over_and_made_good_by_the_next_write(lake: Lake) -> None:
    lying(lake, "u1").write("eyes-1", some(0, 1))
    [file] = lake.list(embeddings_prefix("pets", "u1", "eyes-1"))
    whole = lake.read(file.key)
    for damaged in (b"", whole[:-1], whole.replace(b"PAR1", b"PAR2")):
        lake.write(file.key, damaged)
        forget()
        assert lying(lake, "u1").read("eyes-1", NAMES) == {}
    lying(lake, "u1").write("eyes-1", some(0, 1))
    same(lying(lake, "u1").read("eyes-1", NAMES), some(0, 1))


def test_the_memory_of_files_has_a_bound(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "CACHE_BYTES", 13)  # two vectors of three numbers
    for n in range(6):
        lying(lake, "u1").write("eyes-1", some(n))
    same(lying(lake, "u1").read("eyes-1", NAMES), some(*range(6)))
    assert len(vectors._files) == 2


def test_for_one_image_only_a_few_files_are_fetched(lake: Lake, monkeypatch: Any) -> None:
    monkeypatch.setattr(vectors, "FILES_FOR_ONE", 1)
    for n in range(6):
        lying(lake, "u1").write("eyes-1", some(n))
    fetched = []
    real = lake.read
    monkeypatch.setattr(lake, "read", lambda key: fetched.append(key) or real(key))
    for turn in (1, 2, 3):
        lying(lake, "u1").read("eyes-1", [NAMES[0]])
        kept = [key for key in fetched if "/embeddings/" in key]
        assert len(kept) == len(set(kept)) <= 2 * turn
    same(lying(lake, "u1").read("eyes-1", [NAMES[0]]), some(0))
