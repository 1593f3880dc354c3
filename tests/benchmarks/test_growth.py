"""What small uploads cost as they become many: requests are counted as S3 would count them."""

from __future__ import annotations

import pytest

from benchmarks.growth import KINDS, count_requests
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake


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
