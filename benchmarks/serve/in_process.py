"""Without HTTP: one warm record by each way, and how many a second in batches."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from benchmarks.serve.servers import autogluon
from benchmarks.serve.world import World
from mm_assets.contract.dataset import Modality

WARM = 5


def warm(ask: Callable[[], Any], seconds: float) -> float:
    """The median of its seconds, once it is warm."""
    for _ in range(WARM):
        ask()
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(taken) < WARM:
        begin = time.perf_counter()
        ask()
        taken.append(time.perf_counter() - begin)
    return median(taken)


def one_record(world: World, seconds: float) -> dict[str, float]:
    """Seconds for one record, by what it is and who answers."""
    found: dict[str, float] = {}
    predictor, records = world.predictor(), world.records()
    found["ours, without image"] = warm(lambda: predictor.predict(next(records)), seconds)
    images = itertools.cycle(world.images)
    found["ours, with image"] = warm(
        lambda: predictor.predict(next(records), next(images)), seconds
    )
    found["ours, 12 megapixels"] = warm(
        lambda: predictor.predict(next(records), world.photo), seconds
    )
    same = world.predictor_of_autogluon()
    found["ours around AutoGluon, with image"] = warm(
        lambda: same.predict(next(records), next(images)), seconds
    )
    found["ours around AutoGluon, 12 megapixels"] = warm(
        lambda: same.predict(next(records), world.photo), seconds
    )
    people, columns = autogluon(world), list(world.spec.columns)
    with tempfile.TemporaryDirectory() as folder:
        photo, small = Path(folder, "photo.jpg"), Path(folder, "small.jpg")
        photo.write_bytes(world.photo)
        small.write_bytes(world.images[0])

        def asked(path: Path) -> Any:
            row = {name: next(records)[name] for name in columns}
            return people.predict_proba(pd.DataFrame([{**row, "image": str(path)}]))

        found["predict_proba, with image"] = warm(lambda: asked(small), seconds)
        found["predict_proba, 12 megapixels"] = warm(lambda: asked(photo), seconds)
    return found


def many_records(world: World, count: int) -> dict[str, float]:
    """Records a second without images: the batch path, and the model alone on a ready frame."""
    import mm_assets as mm

    ds = mm.Dataset(world.spec, world.settings)
    frame = pd.DataFrame(list(itertools.islice(world.records(), count)))
    ds.predict(frame.head(20), quiet=True)
    begin = time.perf_counter()
    ds.predict(frame, quiet=True)
    batch = count / (time.perf_counter() - begin)
    return {"batch": batch, **dict(_bare(world, frame))}


def _bare(world: World, frame: pd.DataFrame) -> Iterator[tuple[str, float]]:
    loaded = world.predictor().champions.in_use[Modality.WITHOUT_IMAGE].loaded
    kinds = world.spec.kinds
    ready = frame[list(kinds)].astype(
        {name: "float64" if kind == "number" else object for name, kind in kinds.items()}
    )
    one, some = ready.iloc[[0]].reset_index(drop=True), ready.head(256).reset_index(drop=True)
    yield "bare, one", 1 / warm(lambda: loaded.predictor.predict(one), 1.0)
    yield "bare, 256", len(some) / warm(lambda: loaded.predictor.predict(some), 1.0)
