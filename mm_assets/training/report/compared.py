"""How certain a figure is, and the same records asked of others: a rival, the model without images.

Certainty is the bootstrap's (Efron 1979): the figure of many samples of the held-out records, each
drawn with replacement, and between which values 95% of those lie. Two models are compared on the
same samples, so that records that are hard for both don't count.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mm_assets.contract.dataset import Modality
from mm_assets.contract.engine_spec import EngineSpec
from mm_assets.contract.errors import MMError, ModelError
from mm_assets.doubt.promise import RISK, lower_bound, upper_bound
from mm_assets.engines.make import make_engine
from mm_assets.engines.protocol import Progress, Task
from mm_assets.lake.local import working_folder
from mm_assets.registry.loading import load_model
from mm_assets.registry.store import ModelStore
from mm_assets.training.decision import DecisionRule
from mm_assets.training.evaluation import ACCURACY, Floats, figure_on
from mm_assets.training.report.judged import Judged, asked_for

if TYPE_CHECKING:
    import pandas as pd

ROUNDS = 1000  # samples
LEVEL = 0.95
RIVAL = EngineSpec.model_validate(
    {
        "engine": "automatic",
        "hyperparameters": {"members": ["trees"], "folds": 3},
        "time_limit_seconds": 20,
    }
)


@dataclass(frozen=True)
class Between:
    """A figure, and between what it lies with 95% certainty; None where that can't be told."""

    figure: float
    low: float | None
    high: float | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Compared:
    """Another model on the same held-out records.

    gain: by how much the model of the report is better, above 0 for better, in any metric.
    seconds: of training; None where it was trained before.
    """

    name: str
    figure: float
    gain: Between
    seconds: float | None = None

    @property
    def verdict(self) -> str:
        """`better`, `worse`, or `too close to tell`."""
        if self.gain.low is None or self.gain.high is None:
            return "too close to tell"
        if self.gain.low > 0:
            return "better"
        return "worse" if self.gain.high < 0 else "too close to tell"

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": self.verdict}


def certainty(judged: Judged) -> Between:
    """Of the primary metric."""
    evaluation = judged.evaluation
    figure, n = evaluation.metrics[evaluation.metric], evaluation.n
    found = _between(figure, _resampled(judged, judged.predicted, judged.rule))
    if found.low != found.high or found.low is None:
        return found
    # Records that are all right show nothing by being drawn again; how many there are does.
    if evaluation.metric != ACCURACY:
        return Between(figure, None, None)
    right = round(figure * n)
    return Between(figure, lower_bound(right, n, RISK / 2), upper_bound(right, n, RISK / 2))


def compared(
    judged: Judged,
    name: str,
    predicted: pd.DataFrame,
    rule: DecisionRule | None,
    seconds: float | None = None,
) -> Compared:
    """predicted: what the other one says of the held-out records. Raises ModelError."""
    ours, theirs = judged.evaluation, judged.evaluated(predicted, rule)
    sign = ours.turned(1.0)
    gains = sign * (
        _resampled(judged, judged.predicted, judged.rule) - _resampled(judged, predicted, rule)
    )
    return Compared(
        name=name,
        figure=theirs.metrics[theirs.metric],
        gain=_between(ours.score - theirs.score, gains),
        seconds=seconds,
    )


def rival(judged: Judged, progress: Progress) -> Compared | str:
    """Boosted trees on the table alone, trained here on the same records; or why there are none."""
    spec, parts = judged.spec, judged.data.parts
    if not spec.kinds:
        return "the dataset has no table columns that it could learn from"
    progress("training a quick rival on the table alone")
    columns = [*spec.kinds, spec.label_column]
    task = Task(
        parts["training"][columns], parts["tuning"][columns], spec.kinds, spec.label_column,
        spec.problem_type, spec.judged_by,
    )  # fmt: skip
    began = time.monotonic()
    try:
        with working_folder("rival") as folder:
            engine = make_engine(RIVAL)
            engine.train(task, folder, lambda _: None)
            seconds = time.monotonic() - began
            predicted = engine.load(folder).predict(
                judged.data.spellings.applied(judged.holdout[list(spec.kinds)])
            )
        rule = judged.rule if judged.rule is not None and judged.rule.costs else None
        return compared(judged, "boosted trees", predicted, rule, round(seconds, 1))
    except MMError as error:
        return f"it could not learn: {error.what}"


def without_image(judged: Judged, models: ModelStore) -> Compared | str:
    """The model without images, asked about the same records; or why it can't be."""
    spec, other = judged.spec, Modality.WITHOUT_IMAGE
    if judged.modality is other:
        return "this model does not see images"
    if other not in spec.modalities:
        return "in this dataset there are no models without images to compare with"
    champion = models.champion(other)
    noted = (judged.manifest.get("image_adds") or {}).get("version")
    if noted not in models.versions(other):
        noted = champion.version if champion else None
    if noted is None:
        return "there is no model without images to compare with"
    try:
        signed = models.stored(other, noted).manifest_sha256
        blind = load_model(models, spec, other, asked_for(other, noted, signed))
        predicted = blind.predict(judged.holdout[list(spec.features(other))])
        return compared(judged, noted, predicted, judged.rule)
    except ModelError as error:
        return f"the model without images can't be asked: {error.what}"


# -- samples --------------------------------------------------------------------------------------


def samples(n: int, rounds: int = ROUNDS) -> npt.NDArray[np.intp]:
    """[rounds, records] places of records, drawn with replacement; always the same ones."""
    drawn: npt.NDArray[np.intp] = np.random.default_rng(0).integers(0, n, (rounds, n))
    return drawn


def _resampled(judged: Judged, predicted: pd.DataFrame, rule: DecisionRule | None) -> Floats:
    figure = figure_on(
        judged.data.truth, predicted, judged.evaluation.metric, rule=rule,
        positive_class=judged.spec.positive_class,
    )  # fmt: skip
    n = len(judged.data.truth)
    rounds = ROUNDS if n <= 5000 else 200
    return np.array([figure(rows) for rows in samples(n, rounds)])


def _between(figure: float, figures: Floats) -> Between:
    there = figures[np.isfinite(figures)]
    if len(there) < len(figures) / 2:
        return Between(figure, None, None)
    low, high = np.quantile(there, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Between(figure, float(low), float(high))
