"""What each column adds: how much worse the model gets when a column is shuffled among records.

Permutation importance (Breiman 2001), on held-out records: a column that the model does not need
can be shuffled without harm. The image is shuffled as a whole, with all that was measured on it.
Columns that say the same share what they add.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mm_assets.contract.dataset import IMAGE
from mm_assets.engines.protocol import Progress
from mm_assets.training.evaluation import figure_on
from mm_assets.training.report.judged import Judged

if TYPE_CHECKING:
    import pandas as pd

MOST_RECORDS = 300
REPEATS = 5
SECONDS = 20.0


@dataclass(frozen=True)
class Importance:
    """rows: `column`, `worse` (the mean, above 0 for a column that helps), `low` and `high` (of
    the repeats), the most important first. left_out: columns for which there was no time.
    repeats: how often each column was shuffled, at least. n: records."""

    rows: list[dict[str, Any]]
    left_out: list[str]
    repeats: int
    n: int


def importance(judged: Judged, progress: Progress, seconds: float = SECONDS) -> Importance:
    """By the primary metric. seconds: after these no other column is begun."""
    until = time.monotonic() + seconds
    n = len(judged.holdout)
    chance = np.random.default_rng(0)
    some = np.sort(chance.choice(n, min(n, MOST_RECORDS), replace=False))
    orders = [chance.permutation(len(some)) for _ in range(REPEATS)]
    frame = judged.holdout.iloc[some].reset_index(drop=True)
    truth = judged.data.truth.iloc[some].reset_index(drop=True)
    groups = _groups(judged)

    def figure(predicted: pd.DataFrame) -> float:
        asked = figure_on(
            truth, predicted, judged.evaluation.metric, rule=judged.rule,
            positive_class=judged.spec.positive_class,
        )  # fmt: skip
        return judged.evaluation.turned(asked(np.arange(len(truth))))

    usual = figure(judged.predicted.iloc[some].reset_index(drop=True))
    lost: dict[str, list[float]] = {name: [] for name in groups}
    if not np.isfinite(usual):
        return Importance([], list(groups), 0, len(some))
    for order in orders:
        for name, columns in groups.items():
            if time.monotonic() > until:
                break
            progress(f"what each column adds: {name}")
            shuffled = frame.copy()
            for column in columns:
                shuffled[column] = frame[column].to_numpy()[order]
            lost[name].append(usual - figure(judged.predictor.predict(shuffled)))
    return _found(lost, len(some))


def _groups(judged: Judged) -> dict[str, list[str]]:
    """What is shuffled together, the image first: it is what people ask about."""
    columns = judged.spec.features(judged.modality)
    own = {IMAGE, *(feature.column for feature in judged.spec.image_features)}
    image = [column for column in columns if column in own]
    table = {column: [column] for column in columns if column not in own}
    return {IMAGE: image, **table} if image else table


def _found(lost: dict[str, list[float]], n: int) -> Importance:
    rows: list[dict[str, Any]] = [
        {
            "column": name,
            "worse": float(np.mean(figures)),
            "low": min(figures),
            "high": max(figures),
        }
        for name, figures in lost.items()
        if figures
    ]
    rows.sort(key=lambda row: -row["worse"])
    counts = [len(figures) for figures in lost.values() if figures]
    left_out = [name for name, figures in lost.items() if not figures]
    return Importance(rows, left_out, min(counts, default=0), n)
