"""An engine that learns nothing: what it answers is a function of its hyperparameters alone."""

from __future__ import annotations

import contextlib
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

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


class Members(Toy):
    """An ensemble of members that look at the age, at the image, and of one that was not kept."""

    def train(self, task: Task, directory: Path, progress: Progress) -> None:
        super().train(task, directory, progress)
        (directory / "sees.json").write_text(json.dumps("image" in task.columns))

    def load(self, directory: Path) -> _Ensemble:
        sees_image = json.loads((directory / "sees.json").read_text())
        return _Ensemble(json.loads((directory / "toy.json").read_text()), sees_image)


class _Ensemble:
    def __init__(self, options: dict[str, Any], sees_image: bool) -> None:
        self.names: list[str] = options["names"]
        gain = {"metric": "log_loss", "with_image": 0.44, "without_image": 0.52, "n": 70}
        self.image_gain = gain if sees_image else None
        rows = [
            ("ensemble", True, 0.44, 1.0, 9.0, True, ""),
            ("trees", False, 0.52, 0.25, 0.8, True, ""),
            ("pixels", True, 0.5, 0.75, 8.1, True, ""),
            ("net\x1b[31m", True, float("nan"), 0.0, 0.1, False, "the time was over"),
        ]
        keys = ("name", "sees_image", "out_of_fold", "weight", "seconds", "stored", "note")
        self.leaderboard = [{**dict(zip(keys, row, strict=True)), "metric": "log_loss"}
                            for row in rows]  # fmt: skip

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        said = self.said_by_members(frame)
        return said["pixels"] if "pixels" in said else said["trees"]

    def said_by_members(self, frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
        said = {"trees": self._said(frame["age"] / 100, frame)}
        if "image" in frame:
            means = [np.asarray(Image.open(io.BytesIO(image))).mean() for image in frame["image"]]
            said["pixels"] = self._said(np.array(means) / 255, frame)
        return said

    def _said(self, first: Any, frame: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({self.names[0]: 1 - first, self.names[-1]: first}, index=frame.index)
