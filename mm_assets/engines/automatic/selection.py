"""Which members an ensemble has, and how much each counts.

Greedy selection with replacement (Caruana et al. 2004, "Ensemble selection from libraries of
models") over predictions of records that a member had not seen. It begins with the best member, so
the ensemble is never worse on these records than any one of them; a member that doesn't help is
never chosen. The more often one is chosen, the more it counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from mm_assets.engines.shared.sureness import SMALLEST

Floats = npt.NDArray[np.float64]
Loss = Callable[[Floats], float]

ROUNDS = 40
_WORTH_IT = 1e-3  # a new member has to lower the loss by this share of it
_SHARES = tuple(round(0.05 * step, 2) for step in range(1, 20))


def select(answers: Mapping[str, Floats], loss: Loss) -> dict[str, float]:
    """Weights above 0 that add up to 1, by member; the order of `answers` breaks ties.

    answers: [records, classes] probabilities, or [records, 1] numbers, of each member.
    loss: of such an answer; lower is better.
    """
    alone = {name: loss(answer) for name, answer in answers.items()}
    best = min(alone, key=alone.__getitem__)
    counts, total, lowest = {best: 1}, answers[best].copy(), alone[best]
    for chosen in range(1, ROUNDS):
        offers = {
            name: loss((total + answer) / (chosen + 1))
            + (_WORTH_IT * abs(lowest) if name not in counts else 0.0)
            for name, answer in answers.items()
        }
        name = min(offers, key=offers.__getitem__)
        if offers[name] >= lowest - 1e-12 * abs(lowest):
            break
        total += answers[name]
        counts[name] = counts.get(name, 0) + 1
        lowest = loss(total / (chosen + 1))
    return {name: count / sum(counts.values()) for name, count in counts.items()}


def mixed(answers: Mapping[str, Floats], weights: Mapping[str, float]) -> Floats:
    """The weighted mean of the answers of those members that have a weight."""
    return np.sum([weight * answers[name] for name, weight in weights.items()], axis=0)


def share_of_newcomer(
    so_far: Floats, newcomer: Floats, losses: Callable[[Floats], Floats]
) -> float:
    """How much a member counts beside an ensemble, on records which neither had seen; often 0.

    losses: [records] of an answer. The newcomer is dear, and there are few such records: it counts
    only if the loss falls by more than one standard error of the fall.
    """
    before = losses(so_far)
    found = {share: losses((1 - share) * so_far + share * newcomer) for share in _SHARES}
    share = min(found, key=lambda one: float(found[one].mean()))
    gains = before - found[share]
    error = float(gains.std()) / max(len(gains), 1) ** 0.5
    return share if float(gains.mean()) > max(error, _WORTH_IT * abs(float(before.mean()))) else 0.0


def log_losses(truth: npt.NDArray[np.intp]) -> Callable[[Floats], Floats]:
    """[records] log losses of probabilities. truth: the places of the true classes."""
    rows = np.arange(len(truth))

    def losses(answer: Floats) -> Floats:
        right = answer[rows, truth] / answer.sum(axis=1)
        return -np.log(np.maximum(right, SMALLEST))

    return losses


def number_losses(truth: Floats, *, squared: bool) -> Callable[[Floats], Floats]:
    """[records] absolute or squared errors of numbers. truth: kept inside the fence."""

    def losses(answer: Floats) -> Floats:
        errors = np.abs(answer[:, 0] - truth)
        return errors**2 if squared else errors

    return losses
