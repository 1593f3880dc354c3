"""What small uploads cost as they become many: requests are counted as S3 would count them."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import sizes
from benchmarks.growth import KINDS, count_requests
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.tables.duckdb.store import DuckDBStore


def test_each_request_counts_once_whichever_method_it_goes_through(
    folder_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*KINDS, "list", "names", "top"):
        monkeypatch.setattr(Lake, name, vars(Lake)[name])  # and comes back after the test
    asked, lake = count_requests(), Lake(folder_settings)
    lake.write_json("a/b.json", {})
    assert lake.create_json("a/c.json", {})
    assert lake.read_json("a/b.json") == {}
    assert lake.stat("a/b.json")
    assert [item.key for item in lake.list("a/")] == ["a/b.json", "a/c.json"]
    lake.delete("a/b.json")
    expected = {"PUT": 2, "GET": 1, "HEAD": 1, "LIST": 1, "listed objects": 2, "DELETE": 1}
    assert asked == expected


def test_what_a_look_costs_is_measured_beside_each_number_of_uploads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizes, "TIMES", 1)
    first, second = sizes.measure(tmp_path, [2, 4])
    assert (first["uploads"], second["uploads"]) == (2, 4)
    assert first.keys() == second.keys() > {"merge", "monitoring", "newest 50"}
    assert (tmp_path / "lake/datasets/parts/monitoring.json").exists()
    kept = DuckDBStore(tmp_path / "table.duckdb").counts("parts")["records"]
    assert kept == (4 + 2 * 2) * sizes.ROWS
