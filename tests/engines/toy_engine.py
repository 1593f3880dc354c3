"""An engine that learns nothing: what it answers is a function of its hyperparameters alone."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mm_assets.contract.errors import ModelError
from mm_assets.engines.protocol import Progress, Task
from mm_assets.engines.shared.progress import told
from mm_assets.engines.shared.stopping import Stopped, interruptible

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


class Slow(Toy):
    """Has a good answer at once, and then learns for a minute, or until Ctrl-C.

    KNOWN of Toy, and `ready`: a file that it writes when it is about to learn on. `good`: whether
    it has something to keep by then. `deaf`: whether it knows nothing of being stopped. `lingers`:
    whether it takes long to end.
    """

    def __init__(self, hyperparameters: dict[str, Any], **more: Any) -> None:
        own = {"ready": "", "good": True, "deaf": False, "lingers": False}
        self.own = {name: hyperparameters.get(name, value) for name, value in own.items()}
        super().__init__({n: v for n, v in hyperparameters.items() if n not in own}, **more)

    def train(self, task: Task, directory: Path, progress: Progress) -> None:
        if self.own["good"]:
            super().train(task, directory, progress)
        progress(told(2, 3, "sleep", best=("log_loss", 0.4, "age"), left=60.2))
        try:
            with contextlib.nullcontext() if self.own["deaf"] else interruptible():
                Path(self.own["ready"]).touch()
                time.sleep(60)
        except Stopped:
            if self.own["deaf"] or not self.own["good"]:
                raise
            if self.own["lingers"]:
                Path(self.own["ready"]).touch()
                time.sleep(60)
