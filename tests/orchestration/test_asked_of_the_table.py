"""What a run asks of DynamoDB follows what is new, not what is there."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

import mm_assets as mm
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.tables.dynamodb import requests
from mm_assets.tables.open import open_store
from tests.make import write_parts
from tests.tables.offers import offer, offered


def test_a_sync_reads_as_much_beside_many_answers_as_beside_none(
    dynamodb_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parts(dynamodb_settings)
    read: list[int] = []

    def told(parsed: dict[str, Any], **_: Any) -> None:
        read.append(parsed["Count"])

    make = requests._make_client

    def made(settings: Settings) -> Any:
        client = make(settings)
        client.meta.events.register("after-call.dynamodb.Query", told)
        return client

    monkeypatch.setattr(requests, "_make_client", made)
    monkeypatch.setattr(requests, "_clients", {})
    ds = mm.open("parts")

    def items_read(part: str) -> int:
        ds.upload(pd.DataFrame({"part": [part], "weight": [1.5]}), name=part, quiet=True)
        read.clear()
        [end] = {one.end.value for one in ds.sync(quiet=True)}
        assert end == "used"
        assert read
        return sum(read)

    items_read("a")  # monitoring makes its first copy
    before = items_read("b")
    offers = [offer(f"old-{n}", upload="20250101-000000000-0000000000") for n in range(300)]
    open_store(dynamodb_settings).merge("parts", offered(*offers))
    items_read("c")  # what was new is read, once
    assert items_read("d") <= before + 2  # of the looks that monitoring had in between
    assert not list(Lake(dynamodb_settings).list("inbox/parts/"))
