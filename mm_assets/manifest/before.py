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
from mm_assets.manifest.nearly import nearly, nearly_in_words
from mm_assets.manifest.rows import typed_rows
from mm_assets.uploads.check import Judged
from mm_assets.uploads.receive import Packer
from mm_assets.uploads.received import RAW


def judge_rows(spec: DatasetSpec, packer: Packer, folder: Path) -> Judged:
    """Type the rows that a packer holds; `folder` is where the passing lake may lie."""
    settings = Settings(
        root=folder, data=Path("data"), lake=str(folder / "lake"),
        table=f"duckdb:///{folder / 'table.duckdb'}", events="",
    )  # fmt: skip
    lake = Lake(settings)
    where = of_upload(spec.dataset, "before", RAW)
    receipt = lake.publish(where, packer.finish(), packer.summary())
    with typed_rows(lake, spec, receipt) as typed:
        images = {
            file["file"]: file["record_id"]
            for file in packer.files
            if file["kind"] == "image" and not file.get("code") and file.get("record_id")
        }
        said = nearly_in_words(nearly(typed.index["record_id"], images))
        return Judged(typed.index.num_rows, typed.labels_joined, typed.rejects, said)
