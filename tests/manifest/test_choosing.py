"""Of several rows of one record the one that counts; most of it is held by test_rows.py."""

from __future__ import annotations

import pyarrow as pa
import pytest

from mm_assets.manifest.choosing import _rise


@pytest.mark.parametrize(
    ("chunks", "rise"),
    [
        ([], True),
        ([["a"]], True),
        ([["a", "b"], [], ["c"], ["ü", "日"]], True),
        ([["a", "b"], ["b"]], False),  # the double is behind the end of a part
        ([["a", "b"], [], ["b"]], False),
        ([["a", "a"]], False),
        ([["b", "a"]], False),
        ([["2", "10"]], False),
    ],
)
def test_ids_that_rise_through_all_parts_hold_no_double(
    chunks: list[list[str]], rise: bool
) -> None:
    assert _rise(pa.chunked_array(chunks, pa.string())) is rise
