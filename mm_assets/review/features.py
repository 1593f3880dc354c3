"""What the columns of records in the review queue say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import MANIFEST
from mm_assets.review.queue import Item
from mm_assets.uploads.received import read_document


def features_of(
    lake: Lake, spec: DatasetSpec, items: Sequence[Item]
) -> dict[str, Mapping[str, Any]]:
    """Each record's columns, from the manifest of the upload that its row came in."""
    import pyarrow.parquet as pq

    found: dict[str, Mapping[str, Any]] = {}
    if not spec.columns:
        return found
    for upload in sorted({item.upload for item in items}):
        wanted = [item.record_id for item in items if item.upload == upload]
        document = read_document(lake, spec.dataset, upload, MANIFEST)
        with lake.open_published(document, "manifest.parquet") as file:
            table = pq.read_table(
                file, columns=["record_id", "features"], filters=[("record_id", "in", wanted)]
            )
        found |= {row["record_id"]: row["features"] or {} for row in table.to_pylist()}
    return found
