"""What the manifest will say of an upload's rows, before the upload is sent.

The rows are typed by the very function that will type them, in a lake of their own that is gone
afterwards. What other uploads hold is not known here, so only the upload itself is judged.
"""

from __future__ import annotations

from pathlib import Path

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import of_upload
from mm_assets.manifest.rows import typed_rows
from mm_assets.uploads.check import Judged
from mm_assets.uploads.receive import Packer
from mm_assets.uploads.received import RAW


def judge_rows(spec: DatasetSpec, packer: Packer, folder: Path) -> Judged:
    """Type the rows that a packer holds; `folder` is where the passing lake may lie."""
    import pyarrow as pa

    settings = Settings(
        root=folder, data=Path("data"), lake=str(folder / "lake"),
        table=f"duckdb:///{folder / 'table.duckdb'}", events="",
    )  # fmt: skip
    lake = Lake(settings)
    where = of_upload(spec.dataset, "before", RAW)
    receipt = lake.publish(where, packer.finish(), packer.summary())
    with typed_rows(lake, spec, receipt) as typed:
        read = [typed.index["record_id"], typed.rejects["record_id"]]
        unread = pa.array([one.record_id for one in packer.rejects], pa.string())
        chunks = [part.cast(pa.string()) for one in read for part in one.chunks]
        ids = pa.chunked_array([*chunks, unread], pa.string())
        return Judged(typed.index.num_rows, typed.labels_joined, typed.rejects, ids)
