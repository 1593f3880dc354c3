"""How sure a model is of one answer, between 0 and 1, the same scale for every problem.

Classification: the probability of the class that is the answer, after it was brought in line with
how often answers out of fold were right (`sureness_of`). Regression: the chance that the truth
lies within the tolerance, which intervals.py reads off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mm_assets.engines.shared.sureness import SMALLEST
from mm_assets.engines.shared.sureness import as_sure as powered

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]

VALUE = "value"
FEWEST = 30  # records, that sureness can be learnt from


def confidence_of(predicted: pd.DataFrame, chosen: npt.NDArray[np.intp] | None = None) -> Floats:
    """[records] the probability of each record's answer; predicted: a column for each class.

    chosen: the column that is the answer, by default the most probable one.
    """
    values = predicted.to_numpy(dtype=np.float64)
    if chosen is None:
        highest: Floats = values.max(axis=1, initial=0.0)
        return highest.clip(0.0, 1.0)
    own: Floats = values[np.arange(len(values)), chosen]
    return own.clip(0.0, 1.0)


def is_of_numbers(predicted: pd.DataFrame) -> bool:
    return list(predicted.columns) == [VALUE]


# -- as sure as right -----------------------------------------------------------------------------


def sureness_of(predicted: pd.DataFrame, truth: list[str]) -> float:
    """The power of the probabilities that fits what was right: above 1, the model is too modest.

    Temperature scaling (Guo et al. 2017), drawn to 1 where records are few. predicted: of records
    that the model did not learn from; those of a class that it does not know are left out.
    """
    from mm_assets.engines.autogluon.blend import as_sure_as_right

    classes = [str(name) for name in predicted.columns]
    known = np.array([name in set(classes) for name in truth], dtype=bool)
    if known.sum() < FEWEST:
        return 1.0
    logarithms = np.log(np.maximum(predicted.to_numpy(dtype=np.float64)[known], SMALLEST))
    named = np.array(truth, dtype=object)[known].astype(str)
    return float(as_sure_as_right([logarithms], [1.0], named, classes)[0])


def as_sure(predicted: pd.DataFrame, sureness: float) -> pd.DataFrame:
    """The probabilities to the power of `sureness`, adding up to 1; numbers as they are."""
    if sureness == 1.0 or is_of_numbers(predicted) or predicted.empty:
        return predicted
    import pandas as pd

    whole = powered(predicted.to_numpy(dtype=np.float64), sureness)
    return pd.DataFrame(whole, index=predicted.index, columns=predicted.columns)


class AsSure:
    """A predictor whose probabilities are to the power of `sureness`; all else is its own."""

    def __init__(self, predictor: Any, sureness: float) -> None:
        self._predictor, self._sureness = predictor, sureness

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """As `Predictor.predict`."""
        return as_sure(self._predictor.predict(frame), self._sureness)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_predictor":  # while it is copied or pickled
            raise AttributeError(name)
        return getattr(self._predictor, name)


def with_sureness(predictor: Any, sureness: float) -> Any:
    """The predictor as sure as it is right; itself, where nothing is to be done."""
    return predictor if sureness == 1.0 else AsSure(predictor, sureness)
