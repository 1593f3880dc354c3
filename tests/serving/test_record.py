"""What is asked with `--record` comes in as an upload, by the same door as all else."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

import mm_assets as mm
from mm_assets.contract.errors import UsageError
from mm_assets.lake.lake import Lake
from mm_assets.serving.app import make_app
from mm_assets.serving.options import Options
from mm_assets.serving.reading import Fault, Read
from mm_assets.serving.record import MOST_PENDING, Asked, Recorder
from mm_assets.serving.server import check
from tests.serving.conftest import World


def png(array: Any) -> str:
    written = io.BytesIO()
    Image.fromarray(array).save(written, "PNG")
    return base64.b64encode(written.getvalue()).decode()


def test_what_was_asked_is_an_upload_and_its_predictions_are_the_answers(
    own_copy: Path, trained_pets: World
) -> None:
    ds = mm.open("pets_like")
    records = [trained_pets.record(place) for place in range(6)]
    for record in records:
        if (array := trained_pets.images[record["pet"]]) is not None:
            record["image"] = png(array)
    anonymous = {name: value for name, value in records[5].items() if name != "pet"}
    asked = [*records[:5], anonymous, {"pet": "refused", "age": "old", "colour": "red", "note": ""}]
    app = make_app(Options(record=True), {ds.name: ds.predictor}, ds.settings)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        answers = client.post(f"/v1/datasets/{ds.name}/predictions", json=asked, timeout=60).json()[
            "predictions"
        ]
    assert [one["code"] for one in answers] == [None] * 6 + ["number_invalid"]
    assert not list((own_copy / "data" / "serving").rglob("*.jsonl"))
    ds.sync(quiet=True)
    table = {row["record_id"]: row for row in ds.predictions().to_dict("records")}
    assert len(table) == 6
    named = [record_id for record_id in table if record_id.startswith("served-")]
    assert len(named) == 1
    for answer in answers[:6]:
        row = table[named[0] if answer["record_id"] == "6" else answer["record_id"]]
        for name in ("prediction", "modality", "model_version", "needs_review"):
            assert row[name] == answer[name], name
        assert row["confidence"] == pytest.approx(answer["confidence"], abs=1e-5)


def left_behind(folder: Path, pid: int) -> Path:
    path = folder / "pets_like" / f"served-20260101-000000-abcdef12.{pid}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    line = {"id": "X1", "features": {"age": 3.0, "colour": "red", "note": "x"}, "image": None}
    path.write_text(json.dumps(line) + "\n" + '{"id": "X2", "feat')
    return path


def test_what_a_process_left_when_it_died_is_sent_by_the_next(own_copy: Path) -> None:
    ds = mm.open("pets_like")
    folder = own_copy / "data" / "serving"
    dead = left_behind(folder, 2**22 + 1)

    async def live() -> None:
        recorder = Recorder(Lake(ds.settings), folder)
        await recorder.start({ds.name: ds.spec})
        await recorder.close()

    asyncio.run(live())
    assert not dead.exists()
    ds.sync(quiet=True)
    assert list(ds.predictions()["record_id"]) == ["X1"]


def test_what_another_living_process_notes_is_left_alone(own_copy: Path) -> None:
    ds = mm.open("pets_like")
    folder = own_copy / "data" / "serving"
    others = left_behind(folder, os.getppid())

    async def live() -> None:
        recorder = Recorder(Lake(ds.settings), folder)
        await recorder.start({ds.name: ds.spec})
        await recorder.close()

    asyncio.run(live())
    assert others.exists()


def test_nobody_waits_for_a_slow_disk_and_what_is_dropped_is_counted(
    own_copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ds = mm.open("pets_like")
    read = Read("a", {"age": 1.0, "colour": "red", "note": "x"})
    refused = Read("b", None, fault=Fault("id_blank", "the ID is blank"))

    async def live() -> int:
        recorder = Recorder(Lake(ds.settings), own_copy / "data" / "serving")
        for _ in range(MOST_PENDING + 10):
            recorder.note(ds.spec, [Asked(read, None, True), Asked(refused, None, True)])
        dropped = recorder.dropped
        await recorder.close()
        return dropped

    assert asyncio.run(live()) == 20
    assert "records were not kept" in caplog.text
    assert ds.sync(quiet=True)
    assert list(ds.predictions()["record_id"]) == ["a"]


def test_exported_models_have_no_lake_to_keep_records_in(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="belong to none"):
        check(Options(record=True, models=(tmp_path,)))
