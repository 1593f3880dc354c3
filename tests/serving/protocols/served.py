"""A project of two small datasets with their champions, and `mm serve` as a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.settings import Settings
from mm_assets.contract.spec_file import COMPONENT
from mm_assets.lake.lake import Lake
from mm_assets.registry.store import ModelStore
from mm_assets.serving.predictor import Predictor
from mm_assets.tables.open import open_store
from mm_assets.training.train import train_model
from mm_assets.training.training_set import build_training_set
from tests.make import csv_table, drop_zip, plain_image, processed

SECONDS = 60
LINEAR = "sklearn.linear_model"
PETS: dict[str, Any] = {  # its columns are those of the demo, which docs/serving.md asks
    "dataset": "pets",
    "description": "Pets & their <b>images</b>",
    "id_column": "pet_id",
    "label_column": "adopted",
    "problem_type": "binary",
    "classes": ["yes", "no"],
    "columns": {
        "species": "category", "age_months": "number", "weight_kg": "number",
        "colour": "category", "description": "text",
    },
    "image_name": "{id}-{n}",
    "image_longest_side": 16,
    "image_features": ["brightness"],
    "model_with_image": {"engine": "gradient_boosting"},
    "model_without_image": {
        "engine": "sklearn", "hyperparameters": {"steps": [f"{LINEAR}.LogisticRegression"]},
    },
}  # fmt: skip
HOUSES: dict[str, Any] = {
    "dataset": "houses",
    "id_column": "house",
    "label_column": "price",
    "problem_type": "regression",
    "columns": {"rooms": "number", "town": "category"},
    "image_name": None,
    "model_without_image": {
        "engine": "sklearn", "hyperparameters": {"steps": [f"{LINEAR}.LinearRegression"]},
    },
}  # fmt: skip
RECORD = {
    "species": "dog", "age_months": 12, "weight_kg": 8.5, "colour": "black", "description": "calm",
}  # fmt: skip
LIGHT, DARK = plain_image((230, 230, 230)), plain_image((20, 20, 20))


class Project(NamedTuple):
    root: Path
    settings: Settings

    def predictor(self, name: str) -> Predictor:
        spec = DatasetSpec.model_validate({"pets": PETS, "houses": HOUSES}[name])
        return Predictor(ModelStore(Lake(self.settings), name), spec)

    @property
    def environment(self) -> dict[str, str]:
        return {"MM_ROOT": str(self.root)}


def make_project(root: Path) -> Project:
    """Two datasets, trained and promoted."""
    settings = Settings(root=root, data=Path("data"), lake=str(root / "data" / "lake"), events="")
    lake = Lake(settings)
    chance = np.random.default_rng(0)
    pets, images = [], {}
    for n in range(240):
        young = bool(chance.integers(0, 2))
        age = int(chance.integers(0, 40) if young else chance.integers(30, 90))
        pets.append(
            [f"P{n:03d}", ("cat", "dog")[n % 2], age, n % 20 + 1.5, ("black", "red")[n % 3 == 0],
             "calm" if n % 5 else "playful, loud", "yes" if young else "no"]
        )  # fmt: skip
        if n % 3:
            shade = (160 if young else 40) + int(chance.integers(0, 60))
            images[f"P{n:03d}-1.png"] = plain_image((shade,) * 3)
    houses = [[f"H{n}", n % 7 + 1, ("north", "south")[n % 2], 50 * (n % 7) + 20 * (n % 2) + n % 3]
              for n in range(240)]  # fmt: skip
    for keys, rows, more in ((PETS, pets, images), (HOUSES, houses, {})):
        spec = DatasetSpec.model_validate(keys)
        file = root / "defs" / spec.dataset / "defs.yaml"
        file.parent.mkdir(parents=True)
        document = {"type": COMPONENT, "attributes": keys}
        file.write_text(yaml.safe_dump(document, sort_keys=False))
        header = [spec.id_column, *spec.columns, spec.label_column]
        table = csv_table(header, [[str(cell) for cell in row] for row in rows])
        drop_zip(lake, "labelled.zip", {"t.csv": table, **more}, spec.dataset)
        store = open_store(settings)
        processed(lake, store, spec, "labelled.zip")
        build_training_set(lake, store, spec, run_id="run")
        for modality in spec.modalities:
            models = ModelStore(lake, spec.dataset)
            found = train_model(lake, models, spec, modality, run_id="run", progress=lambda _: None)
            assert found.champion is not None, found.decision.reason
    return Project(root, settings)


@contextmanager
def serving(
    folder: Path, *arguments: str, environment: Mapping[str, str], before: tuple[str, ...] = ()
) -> Iterator[str]:
    """The address of `mm serve`, once it is ready. folder: where it is started."""
    command = [*before, sys.executable, "-c", "from mm_assets.cli.main import main; main()"]
    own = {n: v for n, v in os.environ.items() if not n.startswith(("MM_", "AWS_"))}
    with (folder.parent / f"{folder.name}.log").open("w+") as log:
        process = subprocess.Popen(
            [*command, "serve", *arguments], cwd=folder, stdout=log, stderr=log,
            env={**own, "PYTHONUNBUFFERED": "1", **environment},
        )  # fmt: skip
        try:
            yield _address(process, Path(log.name))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(SECONDS)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and process.poll() is None:
        if told := re.search(r"(http://[^\s\"]+) is up", log.read_text()):
            address = told[1].replace("0.0.0.0", "127.0.0.1")
            if status(f"{address}/ready") == 200:
                return address
        time.sleep(0.1)
    raise AssertionError(f"mm serve is not ready: {log.read_text()}")


def status(url: str) -> int:
    return ask(url)[0]


def ask(
    url: str, body: bytes | str | None = None, **headers: str
) -> tuple[int, bytes, Mapping[str, str]]:
    """Status, body and headers. Names of headers have `_` for `-`."""
    data = body.encode() if isinstance(body, str) else body
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, data, named)
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read(), error.headers


def ask_json(url: str, document: Any = None, **headers: str) -> Any:
    """The body of an answer, whatever its status."""
    body = None if document is None else json.dumps(document)
    return json.loads(ask(url, body, **{"Content_Type": "application/json", **headers})[1])
