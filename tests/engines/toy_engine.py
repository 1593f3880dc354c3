"""An engine that learns nothing: what it answers is a function of its hyperparameters alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mm_assets.contract.errors import ModelError
from mm_assets.engines.protocol import Progress, Task

KNOWN = {"centre": 50.0, "slope": 0.05, "shape": "soft", "fails_above": np.inf}
TRAINED: list[dict[str, Any]] = []  # of each training: its hyperparameters and its frames
BEFORE_TRAINING: list[Callable[[], None]] = []  # what a test wants to happen


class Toy:
    """`engine: tests.engines.toy_engine:Toy`: a "dog" is older than `centre`, by `slope` a year."""

    def __init__(self, hyperparameters: dict[str, Any], **_: Any) -> None:
        for name in sorted(set(hyperparameters) - set(KNOWN)):
            raise ModelError(
                code="hyperparameter_unknown",
                what=f"the engine toy has no hyperparameter {name!r}; there is 'centre'",
                where="hyperparameters",
                todo="It has centre, slope and shape.",
            )
        self.options = {**KNOWN, **hyperparameters}

    def train(self, task: Task, directory: Path, progress: Progress) -> None:
        for happen in BEFORE_TRAINING:
            happen()
        TRAINED.append({"options": self.options, "training": task.training, "tuning": task.tuning})
        if self.options["centre"] > self.options["fails_above"]:
            raise ModelError(code="toy_broke", what=f"centre {self.options['centre']} is too high")
        names = [] if task.is_regression else sorted(task.training[task.label].unique())
        (directory / "toy.json").write_text(json.dumps({**self.options, "names": names}))

    def load(self, directory: Path) -> _Loaded:
        return _Loaded(json.loads((directory / "toy.json").read_text()))


class _Loaded:
    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        if "image" in frame:
            assert frame["image"].notna().all(), "a record without an image is not predicted"
        names = self.options["names"]
        if not names:
            return pd.DataFrame({"value": frame["age"] * self.options["slope"]})
        steep = self.options["slope"] * (2 if self.options["shape"] == "hard" else 1)
        dog = 1 / (1 + np.exp(-steep * (frame["age"] - self.options["centre"])))
        return pd.DataFrame({names[0]: 1 - dog, names[-1]: dog})[sorted(set(names))]
