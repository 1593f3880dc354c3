"""The gate: what a new model must show on held-out records before it becomes the champion."""

from __future__ import annotations

from dataclasses import dataclass

from mm_assets.contract.decisions import WITHOUT_UPPER_BOUND
from mm_assets.contract.errors import ModelError
from mm_assets.display.cells import written_out
from mm_assets.training.evaluation import Evaluation


@dataclass(frozen=True)
class Decision:
    """Whether a model becomes the champion, and why, in words."""

    promote: bool
    reason: str


def gate(
    candidate: Evaluation,
    champion: Evaluation | None,
    tolerance: float,
    minimum: float | None = None,
) -> Decision:
    """Promote a model that beats the baseline and `minimum`, and is not worse than the champion.

    Both evaluations must come from the same held-out records. `tolerance` is how much worse than
    the champion is still accepted: absolute for accuracy (0.01 is one point of a hundred), a share
    of the champion's error for regression and costs. `minimum` is in the unit of the metric.
    """
    name, figure = candidate.metric.replace("_", " "), candidate.metrics[candidate.metric]
    guess = candidate.baseline[candidate.metric]
    told = f"{name} {written_out(figure)} on {candidate.n} held-out records"
    simplest = f"{written_out(guess)} of the simplest guess"
    if not candidate.score > candidate.baseline_score:
        return Decision(False, f"Not promoted: {told} is no better than {simplest}.")
    if minimum is not None and candidate.turned(figure) < candidate.turned(minimum):
        return Decision(
            False, f"Not promoted: {told} does not reach the minimum of {written_out(minimum)}."
        )
    if champion is None:
        return Decision(True, f"Promoted: {told} beats {simplest}; there was no champion.")
    if (champion.metric, champion.n) != (candidate.metric, candidate.n):
        raise ModelError(
            code="gate_not_comparable",
            what=f"the champion was evaluated by {champion.metric} on {champion.n} records, the "
            f"candidate by {candidate.metric} on {candidate.n}",
            todo="Evaluate both on the same held-out records.",
        )
    is_error = champion.metric in WITHOUT_UPPER_BOUND
    allowed = tolerance * (abs(champion.score) if is_error else 1.0)
    held = f"the champion's {written_out(champion.metrics[champion.metric])}"
    slack = 1e-12 * abs(champion.score)  # 0.90 - 0.01 is not quite 0.89 in floats
    if candidate.score < champion.score - allowed - slack:
        return Decision(
            False, f"Not promoted: {told} is worse than {held} by more than {written_out(allowed)}."
        )
    if candidate.score < champion.score:
        return Decision(
            True,
            f"Promoted: {told} beats {simplest} and is within {written_out(allowed)} of {held}.",
        )
    return Decision(True, f"Promoted: {told} beats {simplest} and is as good as {held} or better.")
