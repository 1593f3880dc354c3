"""Work on a Ray cluster: the same as in this process, however many workers, whoever is killed."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
import pytest

from mm_assets import compute
from mm_assets.compute import connected, look, map_ordered
from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.errors import ComputeError, ModelError
from mm_assets.contract.settings import Settings
from mm_assets.engines.shared import eyes
from mm_assets.engines.shared.backbones import build_image_backbone
from mm_assets.engines.shared.eyes import Eyes
from mm_assets.lake.lake import Lake
from mm_assets.manifest.split import split_records
from mm_assets.predictions import ask, predict
from mm_assets.predictions.asking import Asking
from mm_assets.predictions.predict import predict_records
from mm_assets.registry.signing import key_pair
from mm_assets.registry.store import ModelStore
from mm_assets.tables.open import open_store
from mm_assets.training.train import train_model
from mm_assets.training.training_set import build_training_set
from mm_assets.uploads import normalising, vectors
from tests.make import dataset, draw_image, drop_zip, processed, received, rows_of, table

WITH = Modality.WITH_IMAGE
ONE, ALL = 0, 64  # parcels that wait for an answer, beside the one that is asked for


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A cluster as it is started where MM_COMPUTE says ray and nothing says where."""
    before = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compute, "STORE_BYTES", 200 << 20)
        for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_USAGE_STATS_ENABLED"):
            patch.delenv(name, raising=False)  # so that they are put back
        ray = connected(Settings(compute="ray"))
        assert signal.getsignal(signal.SIGTERM) is before
        yield ray
        ray.shutdown()


@pytest.fixture
def on_ray(ray: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """From now on this process has its work done on the cluster, by so many workers."""

    def chosen(most: int) -> None:
        monkeypatch.setenv("MM_COMPUTE", "ray")
        monkeypatch.setattr(compute, "MOST_SENT", most)

    return chosen


@contextmanager
def killing(count: int) -> Iterator[list[int]]:
    """Kill so many workers, each in the middle of its work; gives their process IDs."""
    killed: list[int] = []
    over = threading.Event()

    def hunt() -> None:
        while not over.wait(0.005) and len(killed) < count:
            for process in psutil.Process().children(recursive=True):
                try:
                    if "ray::_work" in process.cmdline()[0] and process.pid not in killed:
                        time.sleep(0.02)
                        process.kill()
                        killed.append(process.pid)
                        break
                except (psutil.Error, IndexError):
                    continue

    hunter = threading.Thread(target=hunt, daemon=True)
    hunter.start()
    yield killed
    over.set()
    hunter.join()
    assert len(killed) == count


def processors(ray: Any) -> float:
    return float(ray.cluster_resources()["CPU"])


# -- what workers are given -----------------------------------------------------------------------


def squared(number: int) -> tuple[int, int]:
    return number * number, os.getpid()


def dies_at_first(number: int, *, folder: Path) -> int:
    try:
        (folder / str(number)).touch(exist_ok=False)
    except FileExistsError:
        return number
    if number % 10 == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def dies(_: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def refuses(number: int) -> int:
    if number == 5:
        raise ModelError(code="some_code", what="five", where="here", todo="Something.")
    if number == 12:
        raise KeyError("twelve")
    return number


def nested(number: int) -> tuple[int, list[int]]:
    return os.getpid(), [pid for _, pid in map_ordered(squared, range(number))]


# -- in order, bounded, again ---------------------------------------------------------------------


def test_results_come_in_order_from_workers_and_few_items_wait(
    ray: Any, on_ray: Callable[[int], None]
):
    on_ray(ALL)
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(300):
            taken += 1
            yield number

    pids, ahead = set(), 0
    for place, (result, pid) in enumerate(map_ordered(squared, items(), together=3)):
        assert result == place * place
        pids.add(pid)
        ahead = max(ahead, taken - place)
    assert os.getpid() not in pids
    assert ahead <= 3 * (2 * processors(ray) + 2)


def test_what_fits_into_one_parcel_is_done_here(on_ray: Callable[[int], None]):
    on_ray(ALL)
    found = list(map_ordered(squared, range(3), together=3))
    assert found == [(n * n, os.getpid()) for n in range(3)]


def test_a_worker_has_no_workers_of_its_own(on_ray: Callable[[int], None]):
    on_ray(ALL)
    for worker, pids in map_ordered(nested, [2, 2]):
        assert worker != os.getpid()
        assert pids == [worker, worker]


def test_what_a_killed_worker_had_is_done_again(on_ray: Callable[[int], None], tmp_path: Path):
    on_ray(ALL)
    found = list(map_ordered(partial(dies_at_first, folder=tmp_path), range(20), together=4))
    assert found == list(range(20))


def test_work_that_takes_every_worker_down_ends_in_words(
    on_ray: Callable[[int], None], monkeypatch
):
    on_ray(ALL)
    monkeypatch.setattr(compute, "TRIES", 2)
    with pytest.raises(ComputeError) as caught:
        list(map_ordered(dies, [1, 2]))
    assert caught.value.code == "compute_lost"
    assert caught.value.todo


def test_an_error_comes_out_of_a_worker_as_it_went_in(on_ray: Callable[[int], None]):
    on_ray(ALL)
    seen: list[int] = []
    with pytest.raises(ModelError) as caught:
        for result in map_ordered(refuses, range(20), together=3):
            seen.append(result)
    assert seen == list(range(5))
    error = caught.value
    assert (error.code, error.what, error.where, error.todo) == (
        "some_code", "five", "here", "Something.",
    )  # fmt: skip
    with pytest.raises(KeyError, match="twelve"):
        list(map_ordered(refuses, range(6, 20), together=3))


# -- the four places ------------------------------------------------------------------------------


def delivery() -> dict[str, bytes]:
    """Images of several formats, some of which are decoded apart, and some that are broken."""
    kinds = ["PNG", "JPEG", "TIFF", "GIF", "WEBP"]
    files = {
        f"i{n}.{kinds[n % 5].lower()}": draw_image(n, kinds[n % 5], 40 + n % 30) for n in range(60)
    }
    files["cut.jpeg"] = draw_image(71, "JPEG", 60)[:-200]
    files["bad.tiff"] = draw_image(72, "TIFF", 60)[:900]
    rows = [f"i{n},{n},red" for n in range(60)]
    return files | {"t.csv": table("id,age,colour", *rows)}


@pytest.mark.parametrize(("workers", "kills"), [(ONE, 0), (ALL, 2)])
def test_an_upload_is_received_as_in_one_process(
    folder_settings: Settings, on_ray: Callable[[int], None], monkeypatch, workers: int, kills: int
):
    monkeypatch.setattr(normalising, "TOGETHER", 4)
    lake, spec = Lake(folder_settings), dataset()
    drop_zip(lake, "a.zip", delivery())
    alone = received(lake, spec, "a.zip")
    assert alone["counts"]["images"] == 60
    assert alone["quarantined_by_code"] == {"image_unreadable": 2}
    on_ray(workers)
    with killing(kills):
        spread = received(lake, spec, "a.zip")
    assert spread["files"] == alone["files"]  # with the sha256 of each
    assert spread["counts"] == alone["counts"]
    assert spread["quarantined_by_code"] == alone["quarantined_by_code"]


def test_images_look_the_same_to_every_worker(
    on_ray: Callable[[int], None], monkeypatch, tmp_path: Path
):
    monkeypatch.setattr(eyes, "AT_A_TIME", 6)
    own = build_image_backbone(tmp_path / "own")
    images = [draw_image(n) for n in range(30)]
    alone, own_alone = Eyes().embed(images), Eyes(own).embed(images)
    on_ray(ONE)
    assert np.array_equal(Eyes(own).embed(images), own_alone)
    on_ray(ALL)
    with killing(1):
        assert np.array_equal(Eyes().embed(images), alone)


class World:
    """A lake with a champion that sees images, and an upload that waits for it."""

    def __init__(self, root: Path) -> None:
        self.lake = Lake(
            Settings(root=root, data=Path("data"), lake=str(root / "lake"), compute="local")
        )
        self.models = ModelStore(self.lake, "pets")
        engine = {
            "engine": "gradient_boosting",
            "image_backbone": "embedded",
            "hyperparameters": {"n_estimators": 20},
        }
        self.spec: DatasetSpec = dataset(
            columns={"age": "number"}, model_with_image=engine, minimum_training_records=10
        )

    def fill(self) -> str:
        store = open_store(self.lake.settings)
        learnt = [f"k{n},{100 * (n % 2) + n % 9},{'cat' if n % 2 else 'dog'}" for n in range(40)]
        asked = [f"n{n},{3 * n}" for n in range(45)]
        upload = ""
        for name, header, rows in (("a", "id,age,label", learnt), ("b", "id,age", asked)):
            images = {f"{row.split(',')[0]}.png": draw_image(n) for n, row in enumerate(rows)}
            drop_zip(self.lake, f"{name}.zip", {"t.csv": table(header, *rows), **images})
            upload = processed(self.lake, store, self.spec, f"{name}.zip")["upload"]
        build_training_set(self.lake, store, self.spec, run_id="run")
        train_model(self.lake, self.models, self.spec, WITH, run_id="run", progress=lambda _: None)
        split_records(self.lake, self.spec, upload, WITH)
        return upload

    def predicted(self, upload: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        ask._in_memory.clear()
        vectors._files.clear()
        vectors._homes.clear()
        champions = {WITH: self.models.champion(WITH), Modality.WITHOUT_IMAGE: None}
        document = predict_records(
            self.lake, self.models, self.spec, upload, WITH,
            champions=champions, run_id="run", progress=lambda _: None,
        )  # fmt: skip
        rows = rows_of(self.lake, document, "predictions_with_image.parquet")
        for row in rows:
            del row["predicted_at"]
        return rows, {name: document[name] for name in ("counts", "unlike", "reason")}


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A project to copy, and its upload."""
    root = tmp_path_factory.mktemp("waiting") / "project"
    return root, World(root).fill()


@pytest.mark.parametrize(("workers", "kills"), [(ONE, 0), (ALL, 1)])
def test_records_are_predicted_as_in_one_process(
    waiting: tuple[Path, str], on_ray: Callable[[int], None], monkeypatch, tmp_path: Path,
    workers: int, kills: int,
):  # fmt: skip
    monkeypatch.setattr(predict, "IMAGED_BATCH", 6)
    for name in ("alone", "spread"):  # each looks at the images itself
        shutil.copytree(waiting[0], tmp_path / name)
    alone = World(tmp_path / "alone").predicted(waiting[1])
    assert len(alone[0]) == 45
    on_ray(workers)
    with killing(kills):
        spread = World(tmp_path / "spread").predicted(waiting[1])
    assert spread == alone


def test_a_worker_verifies_a_model_before_it_loads_it(waiting: tuple[Path, str], tmp_path: Path):
    shutil.copytree(waiting[0], tmp_path / "project")
    world = World(tmp_path / "project")
    champion = world.models.champion(WITH)
    assert champion is not None
    asking = Asking(world.models, world.spec, WITH, champion, 1, "run", None)
    for path in (tmp_path / "project").rglob(f"{champion.version}/**/model.ubj"):
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    arrived: Asking = pickle.loads(pickle.dumps(asking))
    with pytest.raises(ModelError) as caught:
        arrived(None)  # type: ignore[arg-type]  it does not get that far
    assert caught.value.code == "model_tampered"


def test_no_secret_goes_to_a_worker(tmp_path: Path):
    settings = Settings(root=tmp_path, label_studio_api_key="s3cr3t")
    models = ModelStore(Lake(settings), "pets")
    sent = pickle.dumps(Asking(models, dataset(), WITH, None, 1, "run", None))
    assert b"s3cr3t" not in sent
    assert settings.label_studio_key == "s3cr3t"


@pytest.mark.parametrize("in_a_file", [False, True])
def test_the_signing_key_stays_where_promotions_are_made(tmp_path: Path, in_a_file: bool):
    key, public = key_pair()
    (tmp_path / "key").write_text(key)
    own = {"signing_key_file": tmp_path / "key"} if in_a_file else {"signing_key": key}
    settings = Settings(root=tmp_path, verify_key=public, **own)
    models = ModelStore(Lake(settings), "pets")
    sent = pickle.dumps(Asking(models, dataset(), WITH, None, 1, "run", None))
    assert key.encode() not in sent
    arrived = pickle.loads(sent).models.lake.settings
    assert (arrived.signing_seed, arrived.verify_keys) == (None, settings.verify_keys)
    assert settings.signing_seed is not None


# -- where there is no cluster --------------------------------------------------------------------


def test_who_would_do_the_work_is_said_after_a_worker_has_done_some(ray: Any):
    assert f"Ray {ray.__version__}" in look(Settings(compute="ray"))
    address = ray.get_runtime_context().gcs_address
    said = look(Settings(compute="ray", RAY_ADDRESS=address))
    assert said == f"{address}: a worker answers, of {processors(ray):g} processors"


def test_a_cluster_that_does_not_answer_is_named(ray: Any, monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ComputeError) as caught:
        connected(Settings(compute="ray", RAY_ADDRESS="127.0.0.1:1"))
    error = caught.value
    assert (error.code, error.where) == ("compute_unreachable", "RAY_ADDRESS=127.0.0.1:1")


def test_without_ray_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ComputeError) as caught:
        connected(Settings(compute="ray"))
    assert caught.value.code == "package_missing"
    assert "pip install" in caught.value.todo


def test_nobody_who_lacks_the_token_gets_into_the_cluster(ray: Any):
    with grpc.insecure_channel(ray.get_runtime_context().gcs_address) as channel:
        ask = channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetAllNodeInfo")
        with pytest.raises(grpc.RpcError) as caught:
            ask(b"", timeout=20)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        token = os.environ["RAY_AUTH_TOKEN"]
        assert ask(b"", timeout=20, metadata=[("authorization", f"Bearer {token}")])
