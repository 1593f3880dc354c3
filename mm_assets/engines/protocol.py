"""What an engine is: it trains one model from a `Task`, and loads it again.

It knows columns and labels, and nothing of uploads, lakes or splits. Those of ours are modules of
this room, named in `make.py`; one of your own is any class that keeps to the two methods of
`Engine`, named in YAML as `engine: package.module:ClassName`. This file is all that its author
needs to read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Task:
    """What is to be learnt, and from which records.

    training: the records to learn from. tuning: others, to stop early or to choose by. Each frame
    has the feature columns and the label.
    columns: feature column to "number" (float64, NaN for missing), "category" or "text" (str,
    None for missing) or "image" (bytes of a normalised image, None for none; with `images: all`
    a tuple of such bytes, one or more), in order.
    label: the column of str, or of float for regression.
    problem_type: "binary", "multiclass" or "regression".
    metric: what decides which model is better (contract/decisions.py); None: the engine's choice.
    class_weights: how much each record of a class counts in learning, for every class; None: all
    records count the same. The model's probabilities are nevertheless those of the records as they
    come (shared/weights.py).
    groups: the name of the group of each training record, then of each tuning record: what has one
    name (a patient, near-duplicates) must not be learnt from where the rest of it is asked about,
    so an engine that makes folds keeps groups whole. None: every record is its own.
    """

    training: pd.DataFrame
    tuning: pd.DataFrame
    columns: dict[str, str]
    label: str
    problem_type: str
    metric: str | None = None
    class_weights: Mapping[str, float] | None = None
    groups: Sequence[str] | None = None

    @property
    def is_regression(self) -> bool:
        return self.problem_type == "regression"


class Vectors(Protocol):
    """What backbones have made of images before, so that no image is looked at twice.

    An image is named by the sha256 of its normalised bytes, a backbone by its identity
    (shared/backbones.py). A vector is float32 of the backbone's width.
    """

    def read(self, backbone: str, images: Sequence[str]) -> dict[str, np.ndarray]:
        """The vectors of those of the images that are known."""
        ...

    def write(self, backbone: str, vectors: Mapping[str, np.ndarray]) -> None:
        """Keep them, where that is possible."""
        ...


class Predictor(Protocol):
    """A loaded model.

    Several threads may ask one loaded model at once, and each is told what it would be told alone:
    nothing that is asked of it changes it, and what it keeps for later calls is behind a lock.

    It may also have `reasons(frame) -> list[str]`: in a few words for each record, what its
    prediction hangs on. People see them in the review queue. Where these speak for or against a
    class, `reasons_for(frame, said)` instead: `said` is the class that each record's answer is.
    """

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Probabilities, a column for each class, or the one column "value" for regression.

        frame: exactly the feature columns of training, in any order; it is not changed. The answer
        has the index of `frame`; a record's answer does not depend on the others in it.
        """
        ...


class Engine(Protocol):
    """Made with the keywords `hyperparameters` (dict), `time_limit` (seconds or None), `seed`.

    One that learns with `Task.class_weights` says so by the attribute `weighs_classes = True`;
    where the YAML has them, any other one is refused. In the same way `pools_images = True` says
    that it takes a tuple of images for one.

    After `train` it may also have `out_of_fold`: what models that had not seen a record said of it,
    a frame like a predictor's answer, one row for each of the task's training records, then of its
    tuning records (NaN where nobody was asked).
    """

    def train(self, task: Task, directory: Path, progress: Progress) -> None:
        """Learn from the task's records and write the model to `directory`.

        The frames of the task are not changed. directory: empty; nothing in the model may depend
        on its place. progress: is told in words how it goes. Raises ModelError for what cannot be
        learnt from.
        """
        ...

    def load(self, directory: Path) -> Predictor:
        """What `train` wrote, from wherever it lies now; it does not depend on hyperparameters."""
        ...
