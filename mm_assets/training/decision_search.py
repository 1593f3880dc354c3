"""Learning a decision: the factors of the classes that make a metric best on given records.

The records must be such as the model did not learn from. A class's factor is found by going through
all the places where one more record changes its class, a class at a time until nothing is gained.
With few records the best place is much a matter of chance. So it is looked for in many resamples
of them, as the middle of the widest stretch of equally good places, and the mean is taken
(bagging, Breiman 1996); a stretch that reaches to the plain decision counts as the plain one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mm_assets.training.decision import DIGITS, Places, least_cost

if TYPE_CHECKING:
    import pandas as pd

    from mm_assets.contract.dataset import DatasetSpec

Floats = npt.NDArray[np.float64]
# From how many records of each class are right, are said and are true, [..., classes] each:
# [...] the higher the better, UNMET where a demand is not met.
Score = Callable[[Floats, Floats, Floats], Floats]

UNMET = -1.0
RESAMPLES, OF_MORE_CLASSES = 30, 10
MOST_RECORDS = 20_000
MOST_CELLS = 50_000  # records times classes, beyond two classes
ROUNDS = 5
EDGE = 1e-9
BEYOND = 0.7  # how far behind the last record an open end is taken to reach, in log odds


@dataclass(frozen=True)
class Found:
    """Each class's factor, what the decision reaches on the records, and what the plain one does.

    A figure is UNMET where what was demanded is not met.
    """

    factors: dict[str, float]
    reached: float
    plain: float
    records: int


def best_factors(
    truth: list[str],
    predicted: pd.DataFrame,
    decide_for: str | dict[str, float],
    positive_class: str | None = None,
) -> Found:
    """The factors that make `decide_for` best; all 1, where none are better than the plain ones.

    predicted: a column of probabilities for each class, a row for each of `truth`; records of other
    classes are left out. The order of the records makes no difference. On them, the decision is
    never worse than the plain one.
    """
    names = [str(name) for name in predicted.columns]
    known = np.isin(np.array(truth, dtype=object), names)
    values = predicted.to_numpy(dtype=np.float64)[known].round(DIGITS)
    true = np.array([names.index(name) for name in truth if name in names], dtype=np.intp)
    values, true = _in_order(values, true)
    positive = names.index(positive_class) if positive_class in names else len(names) - 1
    score = scored(decide_for, positive)
    plain = _reached(values, true, np.zeros(len(names)), score)
    found, best = np.zeros(len(names)), plain
    for logs in _candidates(*_thinned(values, true), positive, score):
        reached = _reached(values, true, logs, score)
        if reached > best:
            found, best = logs, reached
            break
    factors = dict(zip(names, np.exp(found).tolist(), strict=True))
    return Found(factors, best, plain, len(true))


def learn_decision(
    spec: DatasetSpec, why: str, truth: list[str], predicted: pd.DataFrame, out_of_fold: bool
) -> tuple[dict[str, Any], str]:
    """What a model's manifest keeps of the decision for `decide_for`, and a warning or "".

    predicted: as for `best_factors`, of records that the model did not learn from. out_of_fold:
    whether they were judged by the models of other folds; it is only noted. why: in words.
    """
    assert spec.decide_for is not None  # noqa: S101
    found = best_factors(truth, predicted, spec.decide_for, spec.positive_class)
    document = {
        "why": why,
        "factors": found.factors,
        "records": found.records,
        "out_of_fold": out_of_fold,
        "reached": found.reached,
        "plain": found.plain,
    }
    if found.reached > UNMET:
        return document, ""
    words = f"{why} is not reached at any threshold, on {found.records} records"
    return document, f"{words}: the most probable class is the answer"


def scored(decide_for: str | dict[str, float], positive: int) -> Score:
    """What is to be made best. positive: the place of the positive class."""

    def of_positive(right: Floats, said: Floats, true: Floats) -> tuple[Floats, Floats]:
        right = right[..., positive]
        recall = right / np.maximum(true[..., positive], 1e-12)
        return recall, right / np.maximum(said[..., positive], 1e-12)

    def score(right: Floats, said: Floats, true: Floats) -> Floats:
        if isinstance(decide_for, dict):
            [(name, least)] = decide_for.items()
            recall, precision = of_positive(right, said, true)
            asked, other = (recall, precision) if name == "recall" else (precision, recall)
            return np.where(asked >= least - 1e-12, other, UNMET)
        if decide_for == "accuracy":
            return right.sum(axis=-1) / true.sum(axis=-1)
        if decide_for == "balanced_accuracy":
            there = true > 0
            recalls = right / np.where(there, true, 1.0)
            return recalls.sum(axis=-1) / there.sum(axis=-1)
        f1 = 2 * right / np.maximum(said + true, 1e-12)
        if decide_for == "f1":
            return f1[..., positive]
        return f1.sum(axis=-1) / np.maximum((said + true > 0).sum(axis=-1), 1)

    return score


# -- the search -----------------------------------------------------------------------------------


def _in_order(values: Floats, true: Places) -> tuple[Floats, Places]:
    """The records in an order that hangs on nothing but themselves."""
    order = np.lexsort((true, *values.T))
    return values[order], true[order]


def _thinned(values: Floats, true: Places) -> tuple[Floats, Places]:
    """As many of the ordered records, evenly, as a search takes a few seconds with."""
    classes = values.shape[1]
    most = MOST_RECORDS if classes == 2 else max(MOST_CELLS // classes, 1000)
    if len(true) <= most:
        return values, true
    kept = np.linspace(0, len(true) - 1, most).round().astype(np.intp)
    return values[kept], true[kept]


def _reached(values: Floats, true: Places, logs: Floats, score: Score) -> float:
    """The score of the decision as it will really be made."""
    classes = len(logs)
    costs = np.exp(logs)[:, None] * (1 - np.eye(classes))
    said = least_cost(values, costs)
    counts = [np.bincount(found, minlength=classes) for found in (true[said == true], said, true)]
    right, says, there = (count.astype(np.float64) for count in counts)
    return float(score(right, says, there)) if len(true) else UNMET


def _candidates(values: Floats, true: Places, positive: int, score: Score) -> Iterator[Floats]:
    """Logarithms of factors: the mean over resamples, then what is best on the records alone."""
    if not len(true):
        return
    log = np.log(np.maximum(values, 10.0**-DIGITS))
    classes = values.shape[1]
    moved = [positive] if classes == 2 else [*range(classes)]
    random = np.random.default_rng(0)
    equal = np.full(len(true), 1 / len(true))
    found = []
    times = RESAMPLES if classes == 2 else OF_MORE_CLASSES
    for counts in random.multinomial(len(true), equal, size=times):
        drawn = counts > 0
        weights = counts[drawn].astype(np.float64)
        found.append(_climbed(log[drawn], true[drawn], weights, moved, score))
    yield np.mean(found, axis=0)
    yield _climbed(log, true, np.ones(len(true)), moved, score)


def _climbed(log: Floats, true: Places, weights: Floats, moved: list[int], score: Score) -> Floats:
    """The offsets of the classes' log probabilities, each the best while the others stay."""
    offsets = np.zeros(log.shape[1])
    best = -np.inf
    for _ in range(ROUNDS if len(moved) > 1 else 1):
        before = best
        for place in moved:
            offsets[place], best = _best_offset(log + offsets, place, offsets[place], true,
                                                weights, score)  # fmt: skip
        if best <= before + 1e-12:
            break
    return offsets - offsets.mean() if len(moved) > 1 else offsets


def _best_offset(
    log: Floats, place: int, now: float, true: Places, weights: Floats, score: Score
) -> tuple[float, float]:
    """The best offset of one class, where it has `now`, and what that scores."""
    classes = log.shape[1]
    others = np.delete(log, place, axis=1)
    rival = np.delete(np.arange(classes), place)[others.argmax(axis=1)]
    needed = others.max(axis=1) - log[:, place] + now  # an offset above it takes the record over
    order = np.argsort(needed, kind="stable")
    needed, rival, true, weights = needed[order], rival[order], true[order], weights[order]
    rows = np.arange(len(true))
    left, won = np.zeros((2, len(true), classes))
    left[rows, rival] = weights
    won[rows, place] = weights
    is_right = (np.eye(classes)[true]) * weights[:, None]
    said = left.sum(axis=0) + _so_far(won - left)
    right = (left > 0) * is_right
    right = right.sum(axis=0) + _so_far((won > 0) * is_right - right)
    scores = score(right, said, np.broadcast_to(is_right.sum(axis=0), said.shape))
    between = np.concatenate(([True], needed[1:] > needed[:-1], [True]))
    low = np.concatenate(([needed[0] - BEYOND], needed))[between]
    high = np.append(low[1:], needed[-1] + BEYOND)
    return _middle(low, high, scores[between], now)


def _so_far(changes: Floats) -> Floats:
    return np.concatenate((np.zeros((1, changes.shape[1])), np.cumsum(changes, axis=0)))


def _middle(low: Floats, high: Floats, scores: Floats, now: float) -> tuple[float, float]:
    """The middle of the widest stretch of best scores; `now`, if it lies in one of them."""
    best = float(scores.max())
    good = np.concatenate(([0], (scores >= best - 1e-12).astype(int), [0]))
    begins, ends = np.flatnonzero(np.diff(good) == 1), np.flatnonzero(np.diff(good) == -1) - 1
    lows, highs = low[begins], high[ends]
    if ((lows + EDGE < now) & (now < highs - EDGE)).any():  # on an edge, a record is tied
        return now, best
    widest = int((highs - lows).argmax())
    return float(lows[widest] + highs[widest]) / 2, best
