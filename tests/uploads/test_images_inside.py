"""Images inside a table go the way of files: each is used, or refused at its place with a code."""

from __future__ import annotations

import hashlib
import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.manifest.image_sets import ImageSets
from mm_assets.tables.open import open_store
from mm_assets.uploads.read_as import in_words
from mm_assets.uploads.received import read_images
from tests.make import dataset, draw_image, drop_folder, processed, received, rows_of, table

SPEC = dataset(columns={"age": "number"})


def parquet(**columns: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, row_group_size=2)
    return buffer.getvalue()


def of_six(images: Any) -> bytes:
    return parquet(id=list("abcdef"), age=range(6), label=["cat", "dog"] * 3, image=images)


class Sent:
    """What became of some files."""

    def __init__(self, settings: Settings, spec: DatasetSpec, files: dict[str, bytes]) -> None:
        self.lake, store = Lake(settings), open_store(settings)
        drop_folder(self.lake, "u", files)
        self.document = processed(self.lake, store, spec, "u")
        self.receipt = received(self.lake, spec, "u")
        self.counts = self.document["counts"]

    @property
    def files(self) -> dict[str, dict[str, Any]]:
        return {one["file"]: one for one in rows_of(self.lake, self.receipt, "files.parquet")}

    @property
    def codes(self) -> dict[str, str]:
        return {name: one["code"] for name, one in self.files.items() if one["code"]}

    @property
    def images(self) -> dict[str, bytes]:
        """Of each record the image that it meets."""
        rows = rows_of(self.lake, self.document, "manifest.parquet")
        hashes = {one["record_id"]: one["image_sha256"] for one in rows if one["image_sha256"]}
        kept: dict[str, bytes] = {}
        for some in read_images(self.lake, "pets", self.receipt["upload"], set(hashes.values())):
            kept |= some
        return {record_id: kept[sha256] for record_id, sha256 in hashes.items()}


@pytest.mark.parametrize("more", [{}, {"image_name": None, "image_column": "image"}])
def test_each_image_is_its_rows(folder_settings: Settings, more: dict[str, Any]) -> None:
    """With matching by name and with a column alike: nothing is matched."""
    spec = dataset(columns={"age": "number"}, **more)
    images = [{"bytes": draw_image(n), "path": None} for n in range(5)]
    sent = Sent(folder_settings, spec, {"train.parquet": of_six([*images, None])})
    assert (sent.counts["records"], sent.counts["with_image"]) == (6, 5)
    assert sent.receipt["counts"]["images"] == 5
    assert len(set(sent.images.values())) == 5
    assert sent.images.keys() == set("abcde")
    assert sent.files["train.parquet, row 2, column image"]["record_id"] == "b"
    (entry,) = sent.receipt["tables"]
    assert in_words(entry) == "Parquet; images inside, in column 'image'"


def test_each_refused_image_has_its_place_and_code(folder_settings: Settings) -> None:
    spec = dataset(columns={"age": "number"}, image_maximum_megapixels=0.01)
    images = [draw_image(1), b"no image", b"", draw_image(2)[:-20], draw_image(3, side=200),
              b"8BPS\0\1" + bytes(50)]  # fmt: skip
    sent = Sent(folder_settings, spec, {"train.parquet": of_six([*images[:1], *images[1:]])})
    place = "train.parquet, row {}, column image"
    assert sent.codes == {
        place.format(2): "image_type",
        place.format(3): "image_empty",
        place.format(4): "image_unreadable",
        place.format(5): "image_too_large",
        place.format(6): "image_type",
    }
    assert sent.files[place.format(4)]["record_id"] == "d"
    assert (sent.counts["records"], sent.counts["with_image"]) == (6, 1)


def test_of_rows_that_repeat_an_id_the_first_ones_image_counts(folder_settings: Settings) -> None:
    ids = ["a"] * 11
    images = [None, *(draw_image(n) for n in range(1, 11))]
    data = parquet(id=ids, age=[1] * 11, image=images)
    sent = Sent(folder_settings, SPEC, {"t.parquet": data})
    rows = rows_of(sent.lake, sent.receipt, "images.parquet")
    assert [row["number"] for row in rows] == list(range(2, 12))
    assert sent.images["a"] == next(row["image"] for row in rows if row["number"] == 2)


def test_an_image_without_an_id_is_nobodys(folder_settings: Settings) -> None:
    data = parquet(id=[None, "b"], age=[1, 2], image=[draw_image(1), draw_image(2)])
    sent = Sent(folder_settings, SPEC, {"t.parquet": data})
    assert sent.codes == {"t.parquet, row 1, column image": "image_not_named"}
    assert sent.counts["with_image"] == 1


def test_a_row_without_an_id_is_a_reject_in_every_typed_table(folder_settings: Settings) -> None:
    data = parquet(id=[None, "b"], age=[1, 2])
    sent = Sent(folder_settings, SPEC, {"t.parquet": data})
    rejects = rows_of(sent.lake, sent.document, "rejects.parquet")
    assert [(one["code"], one["line"]) for one in rejects] == [("id_blank", 1)]
    assert sent.counts["records"] == 1


def test_the_same_image_of_two_records_is_kept_once(folder_settings: Settings) -> None:
    data = parquet(id=["a", "b"], age=[1, 2], image=[draw_image(1)] * 2)
    sent = Sent(folder_settings, SPEC, {"t.parquet": data})
    rows = rows_of(sent.lake, sent.receipt, "images.parquet")
    assert [row["image"] is None for row in rows] == [False, True]
    assert sent.images["a"] == sent.images["b"]


def test_a_table_that_is_refused_in_the_middle_leaves_no_image(folder_settings: Settings) -> None:
    images = [draw_image(n) for n in range(6)]
    data = bytearray(of_six(images))
    last = data.rindex(images[5])
    data[last - 30 : last + 40] = bytes(70)  # in the last row group
    sent = Sent(
        folder_settings, SPEC, {"t.parquet": bytes(data), "good.csv": table("id,age", "g,1")}
    )
    assert sent.codes["t.parquet"] == "table_damaged"
    assert rows_of(sent.lake, sent.receipt, "images.parquet") == []
    assert sent.files.keys() == {"t.parquet", "good.csv"}


def test_a_path_without_bytes_names_a_file_of_the_upload(folder_settings: Settings) -> None:
    spec = dataset(columns={"age": "number"}, image_column="image")
    images = [{"bytes": draw_image(1), "path": "one.png"}, {"bytes": None, "path": "two.png"}]
    data = parquet(id=["a", "b"], age=[1, 2], image=images)
    sent = Sent(folder_settings, spec, {"t.parquet": data, "pics/two.png": draw_image(2)})
    assert sent.images.keys() == {"a", "b"}
    assert not sent.codes


def test_several_columns_of_images_are_refused_until_one_is_named(
    folder_settings: Settings,
) -> None:
    data = parquet(id=["a"], age=[1], image=[draw_image(1)], mask=[draw_image(2)])
    sent = Sent(folder_settings, SPEC, {"t.parquet": data, "good.csv": table("id,age", "g,1")})
    assert sent.codes == {"t.parquet": "table_images"}
    assert "'image', 'mask'" in sent.files["t.parquet"]["reason"]
    named = dataset(columns={"age": "number"}, image_column="mask")
    assert received(sent.lake, named, "u")["counts"]["images"] == 1


def test_a_dataset_without_images_leaves_them_out(folder_settings: Settings) -> None:
    spec = dataset(columns={"age": "number"}, image_name=None)
    data = parquet(id=["a"], age=[1], image=[draw_image(1)])
    sent = Sent(folder_settings, spec, {"t.parquet": data})
    assert sent.files.keys() == {"t.parquet"}
    assert sent.receipt["tables"][0]["read_as"]["columns_nested"] == ["image"]


def test_with_all_images_every_path_of_a_list_names_a_file(folder_settings: Settings) -> None:
    spec = dataset(columns={"age": "number"}, images="all", image_column="image")
    lists = [["a.png", "p/b.png"], ["b.png", None], [], None, ["gone.png", "c.png"], ["c.png"]]
    cells = [
        None if one is None else [{"bytes": None, "path": path} for path in one] for one in lists
    ]
    kind = pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    files = {f"p/{name}.png": draw_image(n) for n, name in enumerate("abc")}
    sent = Sent(folder_settings, spec, {"t.parquet": of_six(pa.array(cells, kind)), **files})
    assert sent.codes == {}
    rows = rows_of(sent.lake, sent.document, "manifest.parquet")
    a, b, c = (hashlib.sha256(data).hexdigest() for data in files.values())
    by_id = {"a": [a, b], "b": [b], "c": None, "d": None, "e": [c], "f": [c]}
    store = open_store(folder_settings)
    known = store.look_up("pets", pa.array(list(by_id), pa.string()))
    sets = ImageSets.read(sent.lake, spec, known).add_to(known)
    assert dict(zip(by_id, sets["images"].to_pylist(), strict=True)) == by_id
    assert {one["record_id"] for one in rows} == set(by_id)
    assert sent.receipt["tables"][0]["read_as"]["images_not_found"] == "gone.png"


def test_with_all_images_each_of_a_list_is_its_rows(folder_settings: Settings) -> None:
    spec = dataset(columns={"age": "number"}, images="all")
    one, two, three = (draw_image(n) for n in (1, 2, 3))
    lists = [[two, one], [b"broken", three], [], None, [one, one], [three]]
    sent = Sent(folder_settings, spec, {"t.parquet": of_six(lists)})
    rows = rows_of(sent.lake, sent.document, "manifest.parquet")
    assert [len(row["images"] or []) for row in rows] == [2, 1, 0, 0, 1, 1]
    assert rows[0]["image_file"] == "t.parquet, row 1, image 1, column image"
    (place,) = sent.codes
    assert place == "t.parquet, row 2, image 1, column image"
    assert (sent.counts["images_used"], sent.counts["images_duplicate"]) == (5, 1)
