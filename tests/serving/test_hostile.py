"""Whatever is sent is answered, soon, without a 500 and without growing; so is more than can be."""

from __future__ import annotations

import asyncio
import base64
import json
import statistics
import time
from functools import partial
from typing import Any

import httpx
import pandas as pd
import psutil
import pytest

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.engine_spec import EngineSpec
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.registry.store import ModelStore
from mm_assets.serving.predictor import Predictor
from tests.laws.champion import ENGINE, Champion, save
from tests.laws.world import wording
from tests.reading.test_images import photo, saved
from tests.serving.hostile import Request, requests
from tests.serving.test_swap import service_of

HANG = 60.0  # seconds for one request, on a machine that does other things
PATH = "/v1/datasets/pets/predictions"


class Slow(Champion):
    """A model that takes a while."""

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        time.sleep(0.05)
        return super().predict(frame)


def predictor_of(settings: Settings, engine: str = ENGINE) -> partial[Predictor]:
    own = (EngineSpec(engine=engine),)
    changes: dict[str, Any] = {"model_with_image": own, "model_without_image": own}
    said = wording("pets").model_dump(exclude_none=True)
    spec = DatasetSpec.model_validate({**said, "image_maximum_megapixels": 2, **changes})
    models = ModelStore(Lake(settings), "pets")
    for modality in Modality:
        models.promote(modality, save(models, spec, modality, 1, engine), "first")
    return partial(Predictor, models, spec)


def resident() -> float:
    """Megabytes."""
    return float(psutil.Process().memory_info().rss / 2**20)


def test_nothing_that_is_sent_ends_in_a_500_or_a_hang(folder_settings: Settings) -> None:
    sources = {"pets": predictor_of(folder_settings)}
    wrong: list[str] = []
    seen: dict[int, int] = {}

    async def send(client: httpx.AsyncClient, one: Request) -> None:
        begin = time.monotonic()
        response = await client.post(one.path, content=one.body, headers=one.headers)
        took, status = time.monotonic() - begin, response.status_code
        seen[status] = seen.get(status, 0) + 1
        if status >= 500 or took > HANG:
            wrong.append(f"{one.path} {one.what}: {status} in {took:.1f} s {response.text[:300]}")
        elif "json" in (kind := response.headers["content-type"]) and "lines" not in kind:
            response.json()

    async def story() -> None:
        async with service_of(folder_settings, sources, refresh_seconds=3600) as client:
            for one in requests():
                await send(client, one)
            usual = await client.post(PATH, json={"pet_id": "a", "age": 1})
            assert usual.status_code == 200, "it goes on"

    asyncio.run(story())
    assert not wrong, "\n".join(wrong)
    assert seen[200] > 100
    assert sum(seen.values()) > 1_000


def test_memory_stays_flat_over_thousands_of_requests(folder_settings: Settings) -> None:
    sources = {"pets": predictor_of(folder_settings)}
    image = base64.b64encode(saved(photo(640, 480))).decode()
    bodies: list[Any] = [
        {"pet_id": "a", "age": 1},
        {"pet_id": "a", "age": 1, "image": image},
        {"pet_id": "a", "age": 1, "image": image[:3000]},
        {"pet_id": "b", "age": None},
        [{"pet_id": str(n), "age": n} for n in range(50)],
        {"pet_id": "a", "age": "1,5"},
        {"x": "y" * 10_000},
    ]

    async def story() -> tuple[float, float]:
        async with service_of(folder_settings, sources, refresh_seconds=0.5) as client:

            async def rounds(count: int) -> None:
                for _ in range(count):
                    answers = await asyncio.gather(*(client.post(PATH, json=b) for b in bodies))
                    assert all(one.status_code in (200, 422) for one in answers)

            await rounds(60)
            before = resident()
            await rounds(300)
            return before, resident()

    before, after = asyncio.run(story())
    assert after - before < 40, f"from {before:.0f} to {after:.0f} MB in 2,100 requests"


@pytest.mark.parametrize("with_image", [False, True])
def test_more_than_can_be_answered_is_refused_at_once(
    folder_settings: Settings, with_image: bool
) -> None:
    engine = "tests.serving.test_hostile:Slow"
    sources = {"pets": predictor_of(folder_settings, engine)}
    body: dict[str, Any] = {"pet_id": "a", "age": 1}
    if with_image:
        body["image"] = base64.b64encode(saved(photo(1200, 1000))).decode()
    content = json.dumps(body).encode()
    refused: list[float] = []
    answered: list[float] = []

    async def client_loop(client: httpx.AsyncClient, end: float) -> None:
        while time.monotonic() < end:
            begin = time.monotonic()
            response = await client.post(PATH, content=content)
            took = time.monotonic() - begin
            if response.status_code == 200:
                answered.append(took)
                continue
            assert response.status_code == 503, response.text
            assert int(response.headers["retry-after"]) >= 1
            refused.append(took)
            await asyncio.sleep(0.05)

    async def story() -> tuple[float, float]:
        async with service_of(
            folder_settings, sources, refresh_seconds=3600, most_waiting=16
        ) as client:
            assert (await client.post(PATH, content=content)).status_code == 200
            await asyncio.gather(*(client_loop(client, time.monotonic() + 1) for _ in range(96)))
            before = resident()
            await asyncio.gather(*(client_loop(client, time.monotonic() + 4) for _ in range(96)))
            assert (await client.post(PATH, content=content)).status_code == 200
            return before, resident()

    before, after = asyncio.run(story())
    assert refused
    assert answered
    # A refused image is not even looked at, so it is told at once.
    assert statistics.median(refused) < statistics.median(answered) / 2
    assert after - before < 60, f"from {before:.0f} to {after:.0f} MB"
