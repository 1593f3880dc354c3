"""The law of serving, and what moved an answer, for AutoGluon."""

from __future__ import annotations

import asyncio
import io
import re
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.serving.worlds import as_json, ask, asked, check, serving, trained


def test_an_answer_of_autogluon_is_the_row_of_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MM_ROOT", str(tmp_path))
    ds = trained(tmp_path, "autogluon")
    some = asked(all_faults=False)

    async def alone_and_together() -> tuple[list, list, str, str]:
        async with serving(ds.name) as client:
            alone = [(await ask(client, ds.name, as_json(one)))[0] for one in some]
            together = await ask(client, ds.name, [as_json(one) for one in some])
            young = {"age": 1, "colour": "red", "note": "loud"}
            corner = np.full((32, 32, 3), 200, dtype=np.uint8)
            corner[:12, :12] = 0
            return (
                alone, together, await explained(client, ds.name, young),
                await explained(client, ds.name, young, png_of(corner)),
            )  # fmt: skip

    alone, together, by_columns, by_image = asyncio.run(alone_and_together())
    check(some, alone, ds)
    check(some, together, ds)
    assert re.search(r"age: 1 <small>instead of|No column by itself", by_columns)
    for page in (by_columns, by_image):
        assert "Nearest in training, by the columns" in page
        assert "There was no time" not in page
        assert 'role="alert"' not in page
    assert re.search(r"[1-9]\d* parts of the image move|No single part", by_image)
    assert "Nearest in training, by the image" in by_image


async def explained(
    client: httpx.AsyncClient, name: str, record: dict[str, Any], image: bytes | None = None
) -> str:
    """The page of what moved an answer."""
    files: dict[str, Any] = {"image": ("a.png", image)} if image else {"none": b""}
    form = {f"column:{column}": str(value) for column, value in record.items()}
    answer = await client.post(
        f"/try/{name}", data=form | {"explain": "yes"}, files=files,
        headers={"Origin": "http://127.0.0.1"},
    )  # fmt: skip
    assert answer.status_code == 200, answer.text
    return answer.text


def png_of(pixels: Any) -> bytes:
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "PNG")
    return written.getvalue()
