"""The stand-in for a champion: a plain function of what it sees, as an engine of one's own."""

from __future__ import annotations

import hashlib
import io
import math
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.registry.store import ModelStore
from tests.laws.uploads import SEEDS
from tests.make import draw_image

ENGINE = "tests.laws.champion:Champion"
FILE = "number.txt"


def says_cat(model: int, age: float | None, seed: int | None) -> float:
    """How likely model number `model` thinks a cat is; never 0.5."""
    digest = hashlib.sha256(f"{model}/{age}/{seed}".encode()).digest()
    return (2 * int.from_bytes(digest[:2], "big") % 1000 + 1) / 1000


def why(model: int, age: float | None, seed: int | None) -> str:
    """The model's reasons: all that its answer hangs on."""
    return f"model {model}, age {age}, image {seed}"


def _colour(data: bytes) -> tuple[int, ...]:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image.convert("RGB").getpixel((image.width - 1, image.height - 1))  # type: ignore[return-value]


_COLOURS = {seed: _colour(draw_image(seed)) for seed in range(SEEDS)}


def seen(data: bytes) -> int:
    """Which of the images this is, judged by its colour."""
    colour = _colour(data)
    return min(_COLOURS, key=lambda seed: math.dist(colour, _COLOURS[seed]))


class Champion:
    """An engine whose models have a number, and nothing else."""

    def __init__(self, **_options: Any) -> None:
        self.number = 0

    def load(self, folder: Path) -> Champion:
        self.number = int((folder / FILE).read_text())
        return self

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        cat = [says_cat(self.number, age, seed) for age, seed in _known(frame)]
        return pd.DataFrame({"cat": cat, "dog": [1 - p for p in cat]}, index=frame.index)

    def reasons(self, frame: pd.DataFrame) -> list[str]:
        return [why(self.number, age, seed) for age, seed in _known(frame)]


def _known(frame: pd.DataFrame) -> list[tuple[float | None, int | None]]:
    """Each record's age and the number of its image, None where there is none."""
    images = frame["image"] if "image" in frame else [None] * len(frame)
    return [
        (None if math.isnan(age) else age, image and seen(image))
        for age, image in zip(frame["age"], images, strict=True)
    ]


def save(
    models: ModelStore, spec: DatasetSpec, modality: Modality, number: int, engine: str = ENGINE
) -> str:
    """Store the model of this number; returns its version."""
    manifest = {
        "engine": {"engine": engine}, "problem_type": "binary", "classes": ["cat", "dog"],
        "columns": spec.features(modality), "metrics": {}, "baseline": {}, "n": 1,
        "training_fingerprint": str(number), "training_counts": {}, "spec_fingerprint": "0",
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, FILE).write_text(str(number))
        return models.save(modality, Path(folder), manifest).version
