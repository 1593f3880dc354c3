"""The servers that are compared, each in a process of its own.

`python -m benchmarks.serve.servers NAME PORT` runs one until it is killed. Those that people write
by hand have one handler that makes a frame of the record, decodes its image and asks the model.
"""

from __future__ import annotations

import base64
import contextlib
import io
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from benchmarks.serve.world import DATASET, World

Run = Callable[[World, int], None]


class Server(NamedTuple):
    """words: what it is. path: where a record is posted. image: whether it takes one."""

    words: str
    path: str
    run: Run
    ready: str = "/ready"


def ours(_: World, port: int) -> None:
    """`mm serve`."""
    from mm_assets.serving.options import Options
    from mm_assets.serving.server import serve

    serve(Options(datasets=(DATASET,), port=port))


def by_hand(world: World, port: int) -> None:
    """FastAPI around the same champions: a frame of one row, Pillow, the engine's `predict`."""
    import pandas as pd
    from fastapi import FastAPI

    app = FastAPI()
    champions = world.predictor().champions
    engines = {m.value: used.loaded for m, used in champions.in_use.items()}
    kinds = world.spec.kinds

    @app.post("/predict")
    def predict(record: dict[str, Any]) -> dict[str, Any]:
        image = record.pop("image", None)
        row = {name: record.get(name) for name in kinds}
        frame = pd.DataFrame([row]).astype(
            {name: "float64" if kind == "number" else object for name, kind in kinds.items()}
        )
        loaded = engines["without_image" if image is None else "with_image"]
        if image is not None:
            data = _as_png(base64.b64decode(image), world.spec.image_longest_side)
            frame["image"] = pd.Series([data], dtype=object)
            for feature in world.spec.image_features:
                frame[feature.column] = 0.0
        said = loaded.predictor.predict(frame)
        return {"probabilities": said.iloc[0].to_dict()}

    _uvicorn(app, port)


def _as_png(data: bytes, side: int) -> bytes:
    from PIL import Image

    written = io.BytesIO()
    image = Image.open(io.BytesIO(data)).convert("RGB")
    image.thumbnail((side, side))
    image.save(written, "PNG")
    return written.getvalue()


def predict_proba(world: World, port: int) -> None:
    """FastAPI around AutoGluon's `predict_proba`, which threads can't call at the same time."""
    import pandas as pd
    from fastapi import FastAPI

    app = FastAPI()
    predictor = autogluon(world)
    columns = list(world.spec.columns)

    @app.post("/predict")
    async def predict(record: dict[str, Any]) -> dict[str, Any]:
        image = base64.b64decode(record["image"]) if record.get("image") else None
        row = {**{name: record.get(name) for name in columns}, "image": image}
        said = predictor.predict_proba(pd.DataFrame([row]))
        return {"probabilities": said.iloc[0].to_dict()}

    _uvicorn(app, port)


def autogluon(world: World) -> Any:
    """AutoGluon's own predictor, as its users load it."""
    from mm_assets.engines.autogluon.library import import_autogluon, quiet

    with quiet():
        (folder,) = (path for path in world.autogluon.iterdir() if path.is_dir())
        return import_autogluon().load(str(folder), verbosity=0)


def litserve(_: World, port: int) -> None:
    """LitServe's batches around our `Predictor`."""
    import litserve as ls

    from benchmarks.serve.lit import Api

    api = Api(max_batch_size=64, batch_timeout=0.002)
    ls.LitServer(api, accelerator="cpu", timeout=60).run(
        port=port, host="127.0.0.1", generate_client_file=False, log_level="error"
    )


def ray_serve(_: World, port: int) -> None:
    """Ray Serve's batches around our `Predictor`."""
    import ray
    from ray import serve
    from starlette.requests import Request

    ray.init(include_dashboard=False, log_to_driver=False, num_cpus=2)
    serve.start(http_options={"host": "127.0.0.1", "port": port})

    @serve.deployment(max_ongoing_requests=512)
    class Api:
        def __init__(self) -> None:
            self.predictor = World.here().predictor()

        @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.002)
        async def many(self, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return asked(self.predictor, records)

        async def __call__(self, request: Request) -> dict[str, Any]:
            if request.method != "POST":
                return {"ready": True}
            said: dict[str, Any] = await self.many(await request.json())
            return said

    serve.run(Api.bind(), route_prefix="/")  # type: ignore[attr-defined]
    while True:
        time.sleep(1)


def asked(predictor: Any, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Answers for records whose key `image` may hold base64."""
    images = [r.pop("image", None) for r in records]
    data = [None if image is None else base64.b64decode(image) for image in images]
    said: list[dict[str, Any]] = predictor.predict(records, data)
    return said


def _uvicorn(app: Any, port: int) -> None:
    import uvicorn

    @app.get("/ready")
    def ready() -> dict[str, bool]:
        return {"ready": True}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False)


NATIVE = f"/v1/datasets/{DATASET}/predictions"
SERVERS: dict[str, Server] = {
    "ours": Server("`mm serve`", NATIVE, ours),
    "by_hand": Server("FastAPI by hand, the same model", "/predict", by_hand),
    "predict_proba": Server("FastAPI by hand, AutoGluon's `predict_proba`", "/predict",
                            predict_proba),
    "litserve": Server("LitServe around our `Predictor`", "/predict", litserve, "/health"),
    "ray": Server("Ray Serve around our `Predictor`", "/", ray_serve, "/"),
}  # fmt: skip


@contextmanager
def running(name: str, port: int, wait: float = 240.0) -> Iterator[None]:
    """The server in a process of its own, once it is ready."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.serve.servers", name, str(port)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        end = time.monotonic() + wait
        while not _answers(port, SERVERS[name].ready):
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended with {process.returncode}")
            if time.monotonic() > end:
                raise RuntimeError(f"{name} was not ready after {wait:g} s")
            time.sleep(0.3)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)


def _answers(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


if __name__ == "__main__":
    SERVERS[sys.argv[1]].run(World.here(), int(sys.argv[2]))
