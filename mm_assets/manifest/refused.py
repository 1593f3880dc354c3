"""What the refused rows of an upload say: that their records have no answer by it.

A refused row is a statement about its record if one can read whose it is and it holds more than a
label. Where another row of the record came through in the same upload, that one speaks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mm_assets.contract.ids import fault_of
from mm_assets.tables.store import no_refusals

if TYPE_CHECKING:
    import pyarrow as pa


def refused_records(receipt: dict[str, Any], index: pa.Table, rejects: pa.Table) -> pa.Table:
    """The records that were refused: record_id and code, that of the first of its rows.

    index: the records that came through (record_id, labels_only). rejects: of `refusals_table`.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if not rejects.num_rows:
        return no_refusals()
    of_rows = [
        table["file"]
        for table in receipt["tables"]
        if not table.get("labels_only") and not table.get("images_only")
    ]
    stands = pc.and_(
        pc.is_valid(rejects["record_id"]),
        pc.is_in(rejects["file"], value_set=pa.array(of_rows, pa.string())),
    )
    told = index.filter(pc.invert(index["labels_only"]))["record_id"].combine_chunks()
    left = rejects.filter(stands).select(["record_id", "code"])
    # The many are looked up among the few: a table of a million IDs is not made for a thousand.
    through = told.filter(pc.is_in(told, value_set=left["record_id"].combine_chunks()))
    left = left.filter(pc.invert(pc.is_in(left["record_id"], value_set=through)))
    codes: dict[str, str] = {}
    for record_id, code in zip(
        *(left[name].to_pylist() for name in left.column_names), strict=True
    ):
        if fault_of(record_id) is None:
            codes.setdefault(record_id, code)
    return pa.table(
        {"record_id": pa.array(list(codes), pa.string()),
         "code": pa.array(list(codes.values()), pa.string())}
    )  # fmt: skip
