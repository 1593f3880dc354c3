"""Without HTTP: one warm record by each way, and how many a second in batches."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
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
    records, images = world.records(), world.images()
    predictor, same = world.predictor(), world.predictor_of_autogluon()
    found["ours, without image"] = warm(lambda: predictor.predict(next(records)), seconds)
    for way, one in (("ours", predictor), ("ours around AutoGluon", same)):
        found[f"{way}, with image"] = _each(
            partial(one.predict, next(records)), islice(images, int(30 * seconds))
        )
        found[f"{way}, 12 megapixels"] = _each(partial(one.predict, next(records)), world.photos)
    people, columns = autogluon(world), list(world.spec.columns)
    with tempfile.TemporaryDirectory() as folder:

        def asked(path: Path) -> Any:
            row = {name: next(records)[name] for name in columns}
            return people.predict_proba(pd.DataFrame([{**row, "image": str(path)}]))

        for what, some in (
            ("with image", list(islice(images, int(30 * seconds)))),
            ("12 megapixels", world.photos),
        ):
            paths = [Path(folder, f"{what} {n}.jpg") for n in range(len(some))]
            for path, data in zip(paths, some, strict=True):
                path.write_bytes(data)
            found[f"predict_proba, {what}"] = _each(asked, paths)
    return found


def _each(ask: Callable[[Any], Any], some: Iterable[Any]) -> float:
    """The median of the seconds that each takes, once; the first ones are to get warm."""
    taken = []
    for one in some:
        begin = time.perf_counter()
        ask(one)
        taken.append(time.perf_counter() - begin)
    return median(taken[min(WARM, len(taken) // 3) :])


def many_records(world: World, count: int) -> dict[str, float]:
    """Records a second without images: the batch path, and the model alone on a ready frame."""
    import mm_assets as mm

    ds = mm.Dataset(world.spec, world.settings)
    frame = pd.DataFrame(list(islice(world.records(), count)))
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
