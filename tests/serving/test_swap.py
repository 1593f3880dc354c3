"""Models come and go while answers are given: promotions, roll-backs, damage, too little memory."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from pydantic import SecretStr

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.engine_spec import EngineSpec
from mm_assets.contract.errors import ModelError
from mm_assets.contract.settings import Settings
from mm_assets.lake.documents import packed
from mm_assets.lake.lake import Lake
from mm_assets.registry.export import open_export, write_folder
from mm_assets.registry.signing import key_pair
from mm_assets.registry.store import ModelStore
from mm_assets.serving.app import make_app
from mm_assets.serving.options import Options
from mm_assets.serving.predictor import Predictor
from tests.laws.champion import FILE, Champion, save, says_cat, why
from tests.laws.world import wording

WITHOUT = Modality.WITHOUT_IMAGE
SOON = 20.0  # seconds, for a machine that does other things


class Heavy(Champion):
    """A model of 150 MB."""

    def load(self, folder: Path) -> Heavy:
        super().load(folder)
        self.weights = np.ones(150 << 17)
        return self

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        return super().predict(frame)


def stored(models: ModelStore, spec: DatasetSpec, number: int) -> str:
    return save(models, spec, WITHOUT, number)


def tables_only(name: str, **changes: Any) -> DatasetSpec:
    said = wording(name).model_dump(exclude_none=True)
    without = {"image_name": None, "image_column": None}
    return DatasetSpec.model_validate({**said, **without, **changes})


@pytest.fixture
def spec() -> DatasetSpec:
    return tables_only("pets")


@pytest.fixture
def models(folder_settings: Settings) -> ModelStore:
    return ModelStore(Lake(folder_settings), "pets")


@asynccontextmanager
async def service_of(
    settings: Settings, sources: dict[str, Callable[[], Predictor]], **options: Any
) -> AsyncIterator[httpx.AsyncClient]:
    app = make_app(Options(**{"refresh_seconds": 0.1, **options}), sources, settings)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://127.0.0.1", timeout=60
        ) as client:
            client.service = app.state.service  # type: ignore[attr-defined]
            yield client


async def ask(client: httpx.AsyncClient, age: float, dataset: str = "pets") -> httpx.Response:
    record = {"pet_id": "a", "age": age}
    return await client.post(f"/v1/datasets/{dataset}/predictions", json=record)


async def version(client: httpx.AsyncClient) -> str:
    (answer,) = (await ask(client, 1)).json()["predictions"]
    return str(answer["model_version"])


async def until(client: httpx.AsyncClient, is_so: Callable[[], Any]) -> None:
    end = time.monotonic() + SOON
    while not await is_so():
        assert time.monotonic() < end, (await client.get("/ready")).text
        await asyncio.sleep(0.05)


async def reason(client: httpx.AsyncClient) -> str:
    told = (await client.get("/ready")).json()
    return str(told["datasets"]["pets"].get("reason", ""))


def damage(path: Path) -> None:
    """Turn one bit around, without any other trace."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    path.chmod(stat.S_IMODE(before.st_mode))


def lake_of(models: ModelStore) -> Path:
    return Path(models.lake.url.removeprefix("file://"))


def file_of(models: ModelStore, version: str) -> Path:
    (found,) = lake_of(models).rglob(f"models/{WITHOUT}/{version}/files/{FILE}")
    return found


# -- promotions -----------------------------------------------------------------------------------


def test_promotions_under_load_fail_no_request_and_mix_no_answer(
    folder_settings: Settings, models: ModelStore, spec: DatasetSpec
) -> None:
    numbers = {stored(models, spec, number): number for number in range(1, 6)}
    versions = list(numbers)
    models.promote(WITHOUT, versions[0], "first")
    answers: list[tuple[float, dict[str, Any]]] = []
    done = asyncio.Event()

    async def client_loop(client: httpx.AsyncClient, own: int) -> None:
        age = float(own)
        while not done.is_set():
            age += 10
            response = await ask(client, age)
            assert response.status_code == 200, response.text
            answers.append((age, response.json()["predictions"][0]))

    async def story() -> None:
        source = partial(Predictor, models, spec)
        async with service_of(folder_settings, {"pets": source}) as client:
            loops = [asyncio.create_task(client_loop(client, own)) for own in range(8)]
            for promoted in [*versions[1:], versions[2], versions[0]]:  # back twice
                await asyncio.to_thread(models.promote, WITHOUT, promoted, "a test")
                await until(client, lambda promoted=promoted: is_at(client, promoted))
            done.set()
            await asyncio.gather(*loops)

    async def is_at(client: httpx.AsyncClient, promoted: str) -> bool:
        return await version(client) == promoted

    asyncio.run(story())
    assert len(answers) > 50
    assert {answer["model_version"] for _, answer in answers} == set(versions)
    for age, answer in answers:
        number = numbers[answer["model_version"]]
        cat = says_cat(number, age, None)
        assert answer["probabilities"] == pytest.approx({"cat": cat, "dog": 1 - cat}, abs=1e-6)
        assert answer["prediction"] == ("cat" if cat > 0.5 else "dog")
        assert answer["reasons"] == why(number, age, None)


@pytest.mark.parametrize("where", ["the lake", "the cache"])
def test_a_damaged_champion_is_refused_and_the_one_before_goes_on(
    folder_settings: Settings, models: ModelStore, spec: DatasetSpec, where: str
) -> None:
    good, bad, better = (stored(models, spec, number) for number in (1, 2, 3))
    models.promote(WITHOUT, good, "first")
    if where == "the lake":
        damage(file_of(models, bad))
    else:
        damage(models.fetch(WITHOUT, bad) / FILE)

    async def story() -> None:
        source = partial(Predictor, models, spec)
        async with service_of(folder_settings, {"pets": source}) as client:
            assert await version(client) == good
            models.promote(WITHOUT, bad, "damaged")
            await until(client, lambda: says(client, "model_tampered"))
            assert await version(client) == good
            ready = await client.get("/ready")
            assert ready.status_code == 200, "the one before answers"
            assert bad in await reason(client)
            models.promote(WITHOUT, better, "mended")
            await until(client, lambda: says(client, ""))
            assert await version(client) == better

    async def says(client: httpx.AsyncClient, word: str) -> bool:
        await version(client)
        told = await reason(client)
        return word in told if word else not told

    asyncio.run(story())


def test_a_damaged_first_champion_is_said_and_waited_for(
    folder_settings: Settings, models: ModelStore, spec: DatasetSpec
) -> None:
    bad, good = (stored(models, spec, number) for number in (1, 2))
    damage(file_of(models, bad))
    models.promote(WITHOUT, bad, "damaged")

    async def story() -> None:
        source = partial(Predictor, models, spec)
        async with service_of(folder_settings, {"pets": source}) as client:
            response = await ask(client, 1)
            assert response.status_code == 503
            assert "Retry-After" in response.headers
            assert "model_tampered" in response.text
            assert (await client.get("/ready")).status_code == 503
            assert "model_tampered" in await reason(client)
            models.promote(WITHOUT, good, "mended")
            await until(client, lambda: ready(client))
            assert await version(client) == good

    async def ready(client: httpx.AsyncClient) -> bool:
        return (await client.get("/ready")).status_code == 200

    asyncio.run(story())


def test_a_lake_that_is_gone_leaves_the_loaded_models_answering(
    folder_settings: Settings, models: ModelStore, spec: DatasetSpec
) -> None:
    models.promote(WITHOUT, first := stored(models, spec, 1), "first")
    lake = lake_of(models)

    async def story() -> None:
        source = partial(Predictor, models, spec)
        async with service_of(folder_settings, {"pets": source}) as client:
            assert await version(client) == first
            entry = next(lake.rglob("champions/*.json"))
            text = entry.read_text()
            entry.write_text("{")
            await until(client, lambda: reason(client))
            assert await version(client) == first
            entry.write_text(text)
            await until(client, lambda: is_quiet(client))

    async def is_quiet(client: httpx.AsyncClient) -> bool:
        return not await reason(client)

    asyncio.run(story())


def test_a_promotion_that_nobody_signed_is_not_taken_up_and_an_export_is_held_against_the_key(
    folder_settings: Settings, spec: DatasetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service has the public key alone."""
    signing, verify = key_pair()
    lake = Lake(folder_settings.model_copy(update={"signing_key": SecretStr(signing)}))
    signs = ModelStore(lake, "pets")
    good, forged, better = (stored(signs, spec, number) for number in (1, 2, 3))
    first = signs.promote(WITHOUT, good, "first")
    reads = folder_settings.model_copy(update={"verify_key": verify, "data": tmp_path / "service"})
    entry = folder_settings.lake_folder / signs.log(WITHOUT).key(2)

    async def story() -> None:
        source = partial(Predictor, ModelStore(Lake(reads), "pets"), spec)
        async with service_of(reads, {"pets": source}) as client:
            assert await version(client) == good
            forgery = replace(first, generation=2, version=forged)
            entry.write_bytes(packed(forgery.to_json()))
            await until(client, lambda: says(client, "model_tampered"))
            entry.write_bytes(packed(replace(forgery, signature="", before="").to_json()))
            await until(client, lambda: says(client, "promotion_unsigned"))
            assert await version(client) == good
            entry.unlink()
            signs.promote(WITHOUT, better, "signed")
            await until(client, lambda: is_answered_by(client, better))

    async def says(client: httpx.AsyncClient, word: str) -> bool:
        return word in await reason(client)

    async def is_answered_by(client: httpx.AsyncClient, wanted: str) -> bool:
        return await version(client) == wanted

    asyncio.run(story())
    write_folder(signs, spec, [signs.champions(WITHOUT)[-1]], tmp_path / "export")
    for key in (verify, ""):
        monkeypatch.setenv("MM_VERIFY_KEY", key)
        found = open_export(tmp_path / "export", tmp_path / "cache")[0].champion(WITHOUT)
        assert found
        assert found.version == better
    monkeypatch.setenv("MM_VERIFY_KEY", key_pair()[1])
    with pytest.raises(ModelError, match="model_tampered"):
        open_export(tmp_path / "export", tmp_path / "cache")[0].champion(WITHOUT)


# -- where models lie -----------------------------------------------------------------------------


def exported(models: ModelStore, spec: DatasetSpec, to: Path, number: int = 1) -> Path:
    champion = models.promote(WITHOUT, stored(models, spec, number), "export")
    write_folder(models, spec, [champion], to)
    return to


def test_an_export_that_cannot_be_written_to_is_served_and_left_as_it_is(
    folder_settings: Settings, models: ModelStore, spec: DatasetSpec, tmp_path: Path
) -> None:
    folder = exported(models, spec, tmp_path / "export")
    for path in [folder, *folder.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    before = listing(folder)

    async def story() -> None:
        store, own = open_export(folder, tmp_path / "cache")
        source = partial(Predictor, store, own)
        async with service_of(folder_settings, {"pets": source}) as client:
            assert (await ask(client, 1)).status_code == 200
            await asyncio.sleep(0.3)  # some looks for promotions
            assert await reason(client) == ""

    asyncio.run(story())
    assert listing(folder) == before
    for path in [folder, *folder.rglob("*")]:
        path.chmod(path.stat().st_mode | 0o200)


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.rglob("*")}


ONE_PROCESS = """
import sys, time
from pathlib import Path
from mm_assets.registry.export import open_export
from mm_assets.serving.predictor import Predictor
folder, cache, start = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
time.sleep(max(0.0, start - time.time()))
predictor = Predictor(*open_export(folder, cache))
(answer,) = predictor.predict({"pet_id": "a", "age": 4})
print(answer["prediction"], answer["probabilities"]["cat"])
"""


def test_processes_that_fill_a_cache_at_the_same_moment_all_answer(
    models: ModelStore, spec: DatasetSpec, tmp_path: Path
) -> None:
    folder, cache = exported(models, spec, tmp_path / "export"), tmp_path / "cache"
    start = str(time.time() + 8)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(ONE_PROCESS), folder, cache, start],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd=Path(__file__).parents[2],
        )
        for _ in range(4)
    ]  # fmt: skip
    ended = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, ended
    assert {out for out, _ in ended} == {ended[0][0]}
    versions = list((cache / "pets" / WITHOUT).iterdir())
    assert len(versions) == 1, "one copy, and nothing left behind"


# -- memory ---------------------------------------------------------------------------------------


def heavy(settings: Settings, name: str) -> tuple[str, Callable[[], Predictor]]:
    """A dataset of its own whose model takes 150 MB."""
    engine = "tests.serving.test_swap:Heavy"
    own = (EngineSpec(engine=engine),)
    spec = tables_only(name, model_without_image=own)
    models = ModelStore(Lake(settings), name)
    version = save(models, spec, WITHOUT, 1, engine)
    models.promote(WITHOUT, version, "first")
    return name, partial(Predictor, models, spec)


def test_what_was_unused_for_longest_makes_room_and_comes_back(folder_settings: Settings) -> None:
    sources = dict(heavy(folder_settings, name) for name in ("one", "two", "three"))

    async def story() -> None:
        async with service_of(
            folder_settings, sources, memory_bytes=400 << 20, preload=False
        ) as client:

            def held() -> set[str]:
                served = client.service.served  # type: ignore[attr-defined]
                return {name for name, own in served.items() if own.predictor is not None}

            async def good(name: str) -> None:
                response = await ask(client, 3, name)
                assert response.status_code == 200, response.text

            for name in ("one", "two"):
                await good(name)
            assert held() == {"one", "two"}
            await good("one")
            await good("three")
            assert held() == {"one", "three"}, "two was unused for longest"
            await good("two")
            assert held() == {"two", "three"}
            assert (await client.get("/ready")).status_code == 200
            await asyncio.gather(*(good(name) for _ in range(6) for name in sources))
            assert len(held()) == 2

    asyncio.run(story())


# -- what cannot be loaded ------------------------------------------------------------------------


def test_a_dataset_that_cannot_be_loaded_is_not_tried_by_every_request(
    folder_settings: Settings,
) -> None:
    tries: list[float] = []

    def broken() -> Predictor:
        tries.append(time.monotonic())
        time.sleep(0.2)
        raise RuntimeError("no such thing")

    async def story() -> None:
        async with service_of(
            folder_settings, {"pets": broken}, preload=False, refresh_seconds=3600
        ) as client:
            responses = [await ask(client, 1) for _ in range(10)]
            assert {response.status_code for response in responses} == {503}
            assert "no such thing" in responses[-1].text

    asyncio.run(story())
    assert len(tries) == 1
