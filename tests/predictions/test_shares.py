"""Records with images are cut into even shares, whatever blocks their images lie in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.lake.lake import Lake
from mm_assets.manifest.split import split_records
from mm_assets.predictions import predict
from mm_assets.tables.open import open_store
from mm_assets.uploads import image_file, received
from tests.make import dataset, draw_image, drop_zip, processed, table

WITH = Modality.WITH_IMAGE
N = 11
Shares = list[tuple[pa.Table, dict[str, bytes]]]


@pytest.fixture
def shares(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Shares]:
    """Records whose images lie three to a block; p3 and p4 have the same one."""
    side = len(draw_image(0))  # of the normalised ones, nearly
    monkeypatch.setattr(image_file, "ROW_GROUP_BYTES", int(2.5 * side))
    spec: DatasetSpec = dataset(columns={"age": "number"})
    images = {f"p{n}.png": draw_image(3 if n == 4 else n) for n in range(N)}
    rows = (f"p{n},{n}" for n in range(N))
    drop_zip(lake, "a.zip", {"t.csv": table("id,age", *rows), **images})
    upload = processed(lake, open_store(lake.settings), spec, "a.zip")["upload"]
    split_records(lake, spec, upload, WITH)
    records = predict._to_predict(lake, spec, upload, WITH)
    wanted = set(records["image_sha256"].to_pylist())
    assert len(list(received.read_images(lake, "pets", upload, wanted))) > 2
    return lambda: list(predict._batches(lake, spec, records, WITH))


def ids(share: pa.Table) -> list[Any]:
    return share["record_id"].to_pylist()


def test_each_share_has_as_many_records_but_the_last(
    shares: Callable[[], Shares], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "IMAGED_BATCH", 4)
    cut = shares()
    assert [share.num_rows for share, _ in cut] == [4, 4, 3]
    assert sorted(i for share, _ in cut for i in ids(share)) == sorted(f"p{n}" for n in range(N))
    for share, images in cut:
        assert set(images) == set(share["image_sha256"].to_pylist())
        assert all(images.values())


def test_large_images_wait_for_no_others(
    shares: Callable[[], Shares], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in memory, and in one parcel to a worker, stays as large as a block."""
    blocks = [ids(share) for share, _ in shares()]
    assert len(blocks) == 1
    monkeypatch.setattr(predict, "IMAGED_BYTES", 1)
    cut = shares()
    assert len(cut) > 2
    assert [i for share, _ in cut for i in ids(share)] == blocks[0]
