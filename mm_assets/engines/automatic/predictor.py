"""A loaded ensemble: the weighted mean of what its members say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mm_assets.engines.automatic.members import AUTOGLUON, SEES_IMAGE, matrix_of, mean_answer
from mm_assets.engines.automatic.scales import Scale
from mm_assets.engines.automatic.selection import mixed
from mm_assets.engines.automatic.views import Seen, Views
from mm_assets.engines.protocol import Predictor
from mm_assets.engines.shared.guards import check_columns, prepared_columns
from mm_assets.engines.shared.quick import Columns
from mm_assets.engines.shared.several import embedded
from mm_assets.engines.shared.sureness import as_sure as powered
from mm_assets.engines.shared.together import few_in_one_thread

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class StoredMember:
    """A member that learnt from views: its models of the folds and the scale of what they say."""

    models: list[Any]
    scale: Scale | None


class AutomaticPredictor:
    """A loaded model. `classes` are the probability columns in order, None for regression.

    leaderboard: the ensemble, then every member that was tried; see report.py.
    image_gain: what the members that see the image add, out of fold; None where none was tried.
    """

    def __init__(
        self,
        record: dict[str, Any],
        views: Views | None,
        members: Mapping[str, StoredMember],
        eyes: Any,
        autogluon: tuple[Predictor, Scale | None] | None,
    ) -> None:
        self.classes: list[str] | None = record["classes"]
        self.columns: dict[str, str] = dict(record["columns"])
        self.leaderboard: list[dict[str, Any]] = record["leaderboard"]
        self.image_gain: dict[str, Any] | None = record["image_gain"]
        self._ranges: dict[str, list[float]] = record["number_ranges"]
        self._weights: dict[str, float] = record["weights"]
        self._sureness: float = record["sureness"]
        self._class_weights: dict[str, float] | None = record["class_weights"]
        self._views, self._members, self._eyes = views, members, eyes
        self._autogluon = autogluon
        self._image = next((c for c, kind in self.columns.items() if kind == "image"), None)

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """As `Predictor.predict`; a record's answer is the same in any batch within 1e-6.

        Raises ModelError (model_columns_differ, number_not_finite, image_missing).
        """
        answer = mixed(self._answers(frame), self._weights)
        return self._framed(as_sure(answer, self._sureness, self.classes), frame)

    def said_by_members(self, frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
        """What each stored member says by itself, as `predict` does."""
        return {name: self._framed(said, frame) for name, said in self._answers(frame).items()}

    def _framed(self, answer: Floats, frame: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame(answer, index=frame.index, columns=self.classes or ["value"])

    def _answers(self, frame: pd.DataFrame) -> dict[str, Floats]:
        check_columns(frame, self.columns)
        prepared = prepared_columns(frame, self.columns, self._ranges)
        if frame.empty:
            empty = np.empty((0, len(self.classes or ["value"])))
            return dict.fromkeys(self._weights, empty)
        answers = {}
        if self._members:
            seen = self._seen(prepared)
            with few_in_one_thread(len(frame)):
                for name, member in self._members.items():
                    matrix = matrix_of(name, seen)
                    answers[name] = mean_answer(
                        member.models, matrix, self.classes, member.scale, self._class_weights
                    )
        if self._autogluon is not None:
            predictor, scale = self._autogluon
            said = predictor.predict(frame)
            if self.classes is not None:  # it may not have met every class
                said = said.reindex(columns=self.classes, fill_value=0.0)
            values = said.to_numpy(dtype=np.float64)
            answers[AUTOGLUON] = values if scale is None else scale.inverse(values[:, 0])[:, None]
        return answers

    def _seen(self, prepared: Columns) -> Seen:
        assert self._views is not None  # noqa: S101  members that look at views have some
        vectors = None
        if any(name in SEES_IMAGE for name in self._members):
            assert self._image is not None  # noqa: S101  the same
            vectors = embedded(self._eyes, prepared[self._image].tolist())
        return self._views.seen(prepared, vectors)


def as_sure(answer: Floats, sureness: float, classes: list[str] | None) -> Floats:
    """Probabilities to the power of `sureness`; numbers as they are."""
    return answer if classes is None else powered(answer, sureness)
