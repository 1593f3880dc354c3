"""A training set reads of the uploads what is new, and is what gathering everything would give."""

from __future__ import annotations

from typing import Any

import pytest

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import TRAINING_SET, of_dataset, uploads_prefix
from mm_assets.tables.open import open_store
from mm_assets.training.training_set import build_training_set
from tests.make import dataset, draw_image, drop_zip, processed, table

POINTER = of_dataset("pets", TRAINING_SET)
SPECS: dict[str, dict[str, Any]] = {
    "a table": {"columns": {"age": "number"}, "image_name": None},
    "groups and times": {
        "columns": {"age": "number"}, "image_name": None,
        "group_column": "owner", "time_column": "day",
    },
    "images": {"columns": {"age": "number"}, "image_features": ["brightness"]},
    "images alone": {"columns": {}, "records": "images"},
    "all images": {
        "columns": {"age": "number"}, "images": "all", "image_name": "{id}_{n}",
        "image_features": ["brightness"],
    },
}  # fmt: skip


@pytest.fixture
def lake(folder_settings: Settings) -> Lake:
    return Lake(folder_settings)


def come(lake: Lake, spec: DatasetSpec, name: str, records: range, shift: int = 0) -> str:
    """An upload of labelled records, two of three with an image; returns its key."""
    rows = [f"{n},{n + shift},o{n % 4},2026-01-{1 + n:02d},{'cat' if n % 2 else 'dog'}"
            for n in records]  # fmt: skip
    files = {"t.csv": table("id,age,owner,day,label", *rows)}
    if not spec.columns:
        files = {"t.csv": table("id,label", *(f"{n},{'cat' if n % 2 else 'dog'}" for n in records))}
    ending = "_1.png" if spec.all_images else ".png"
    if spec.has_images:
        files |= {f"{n}{ending}": draw_image(n + shift) for n in records if n % 3}
    drop_zip(lake, f"{name}.zip", files)
    return str(processed(lake, open_store(lake.settings), spec, f"{name}.zip")["upload"])


def built(lake: Lake, spec: DatasetSpec) -> dict[str, Any]:
    return build_training_set(lake, open_store(lake.settings), spec, run_id="run")


def is_as_new(lake: Lake, spec: DatasetSpec) -> bool:
    """Whether it is the same, byte for byte, as what is gathered without one of before."""
    document = built(lake, spec)
    lake.delete(POINTER)
    return document["fingerprint"] == built(lake, spec)["fingerprint"]


def uploads_read(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """From now on: the uploads of which any file is read."""
    read: set[str] = set()
    prefix = uploads_prefix("pets")

    def noting(name: str) -> None:
        real = getattr(Lake, name)

        def noted(self: Lake, given: Any, *more: Any) -> Any:
            keys = [given] if isinstance(given, str) else [given["files"][more[0]]["key"]]
            read.update(k[len(prefix) :].split("/")[0] for k in keys if k.startswith(prefix))
            return real(self, given, *more)

        monkeypatch.setattr(Lake, name, noted)

    for name in ("read_json", "read", "read_published", "open_published", "fetch_published"):
        noting(name)
    return read


@pytest.mark.parametrize("keys", [pytest.param(keys, id=name) for name, keys in SPECS.items()])
def test_whatever_came_it_is_what_gathering_everything_gives(
    lake: Lake, keys: dict[str, Any]
) -> None:
    spec = dataset(**keys)
    come(lake, spec, "1", range(12))
    built(lake, spec)
    corrected = come(lake, spec, "2", range(8, 20), shift=5)  # newer rows and images of some
    assert is_as_new(lake, spec)
    open_store(lake.settings).withdraw("pets", [corrected])
    come(lake, spec, "3", range(18, 22))
    assert is_as_new(lake, spec)
    lake.write(POINTER, b"damaged")
    assert is_as_new(lake, spec)


def test_only_new_uploads_are_read(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = dataset(**SPECS["images"])
    for name in range(3):
        come(lake, spec, f"{name}", range(4 * name, 4 * name + 4))
    built(lake, spec)
    new = come(lake, spec, "new", range(12, 16))
    read = uploads_read(monkeypatch)
    built(lake, spec)
    assert read == {new}
    read.clear()
    built(lake, spec)
    assert read == set()


def test_another_wording_or_a_lost_file_reads_all_again(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = dataset(**SPECS["a table"])
    keys = {come(lake, spec, name, numbers) for name, numbers in
            (("1", range(4)), ("2", range(4, 8)))}  # fmt: skip
    document = built(lake, spec)
    read = uploads_read(monkeypatch)
    other = dataset(**{**SPECS["a table"], "missing_values": ["3"]})
    assert built(lake, other)["fingerprint"] != document["fingerprint"]
    assert read == keys
    document = built(lake, spec)
    read.clear()
    lake.delete(document["files"]["training_set.parquet"]["key"])
    assert built(lake, spec)["fingerprint"] == document["fingerprint"]
    assert read == keys
