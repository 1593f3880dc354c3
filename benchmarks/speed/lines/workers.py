"""Two workers of a Ray cluster beside one, on the same machine: what another worker gives."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.speed.line import OURS, Case, Goal, Line

IMAGES, SIDE = 1024, 224
TRAINING = 60
AT_MOST = 1 / 1.7  # of the time of one worker
DATASET = "photos"
ONE, HERE = "one worker", "in the process"


def _image(number: int) -> bytes:
    """A small photograph, as it is kept."""
    import numpy as np
    from PIL import Image

    coarse = np.random.default_rng(number).integers(0, 256, (14, 14, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    scaled = Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    scaled.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _with_workers(count: int) -> None:
    """Work is done by so many workers, which have imported what they need; 0: in this process."""
    import os

    if not count:
        return
    os.environ.update(MM_COMPUTE="ray", RAY_USAGE_STATS_ENABLED="0")
    import ray

    from mm_assets.engines.shared.eyes import AT_A_TIME, Eyes

    ray.init(address="local", num_cpus=count, include_dashboard=False, log_to_driver=False)
    Eyes().embed([_image(20_000 + n) for n in range(4 * AT_A_TIME)])


# -- embedding ------------------------------------------------------------------------------------


def _embedding(count: int) -> Case:
    def prepared(_: Path, __: Path) -> Callable[[], int]:
        from mm_assets.engines.shared.eyes import Eyes

        images = [_image(n) for n in range(IMAGES)]
        eyes = Eyes()
        _with_workers(count)
        return lambda: len(eyes.embed(images))

    return prepared


# -- batch prediction -----------------------------------------------------------------------------


def _project(root: Path) -> tuple[Any, Any, Any]:
    """Lake, model store and spec of a project."""
    from mm_assets.contract.dataset import DatasetSpec
    from mm_assets.contract.settings import Settings
    from mm_assets.lake.lake import Lake
    from mm_assets.registry.store import ModelStore

    lake = Lake(Settings(root=root, data=Path("data"), lake=str(root / "lake")))
    engine = {"engine": "gradient_boosting", "image_backbone": "embedded"}
    spec = DatasetSpec.model_validate(
        {
            "dataset": DATASET, "id_column": "id", "label_column": "label",
            "problem_type": "binary", "classes": ["cat", "dog"], "columns": {"age": "number"},
            "model_with_image": engine, "minimum_training_records": 10,
        }
    )  # fmt: skip
    return lake, ModelStore(lake, DATASET), spec


def make_upload(data: Path) -> None:
    """A project with a champion that sees images, and an upload that it was not asked about."""
    import zipfile

    from mm_assets.contract.dataset import Modality
    from mm_assets.lake.layout import inbox
    from mm_assets.manifest.join import build_manifest
    from mm_assets.manifest.split import split_records
    from mm_assets.tables.open import open_store
    from mm_assets.training.train import train_model
    from mm_assets.training.training_set import build_training_set
    from mm_assets.uploads.find import find_uploads
    from mm_assets.uploads.receive import receive

    lake, models, spec = _project(data / "project")
    store = open_store(lake.settings)
    for name, header, count in (("a", "id,age,label", TRAINING), ("b", "id,age", IMAGES)):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            rows = [f"{name}{n},{100 * (n % 2) + n % 9}" for n in range(count)]
            if name == "a":
                rows = [f"{row},{'cat' if n % 2 else 'dog'}" for n, row in enumerate(rows)]
            archive.writestr("t.csv", "\n".join([header, *rows, ""]))
            for n in range(count):
                archive.writestr(f"{name}{n}.jpg", _image(n if name == "b" else 10_000 + n))
        lake.write(f"{inbox(DATASET)}{name}.zip", packed.getvalue())
        source = next(s for s in find_uploads(lake, DATASET).finished if s.name == f"{name}.zip")
        receive(lake, spec, source, run_id="run", progress=lambda _: None)
        build_manifest(lake, store, spec, source.upload, run_id="run")
    build_training_set(lake, store, spec, run_id="run")
    with_image = Modality.WITH_IMAGE
    train_model(lake, models, spec, with_image, run_id="run", progress=lambda _: None)
    split_records(lake, spec, source.upload, with_image)
    (data / "upload").write_text(source.upload, encoding="utf-8")


def _prediction(count: int) -> Case:
    def prepared(data: Path, folder: Path) -> Callable[[], int]:
        from mm_assets.contract.dataset import Modality
        from mm_assets.predictions.offer import loaded_or_why
        from mm_assets.predictions.predict import predict_records

        shutil.copytree(data / "project", folder / "project")
        lake, models, spec = _project(folder / "project")
        upload, with_image = (data / "upload").read_text(encoding="utf-8"), Modality.WITH_IMAGE
        champion = models.champion(with_image)
        loaded_or_why(models, spec, with_image, champion)
        _with_workers(count)

        def run() -> int:
            document = predict_records(
                lake, models, spec, upload, with_image, run_id="run", progress=lambda _: None,
                champions={with_image: champion, Modality.WITHOUT_IMAGE: None},
            )  # fmt: skip
            predicted: int = document["counts"]["predicted"]
            return predicted

        return run

    return prepared


def _cases(case: Callable[[int], Case]) -> dict[str, Case]:
    return {OURS: case(2), ONE: case(1), HERE: case(0)}


LINES = (
    Line(
        name="ray-embedding",
        words=f"{IMAGES:,} images looked at by the embedded backbone: two Ray workers",
        amount=IMAGES,
        unit="images",
        make=lambda _: None,
        cases=_cases(_embedding),
        goals=(Goal("wall", AT_MOST, ONE),),
        takes_long=True,
    ),
    Line(
        name="ray-prediction",
        words=f"{IMAGES:,} records with images predicted: two Ray workers",
        amount=IMAGES,
        unit="records",
        make=make_upload,
        cases=_cases(_prediction),
        goals=(Goal("wall", AT_MOST, ONE),),
        takes_long=True,
    ),
)
