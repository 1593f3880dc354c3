"""The promise of the review queue: which answers go there, and what holds for the rest.

The user says what the answers outside the queue are to reach (`target_accuracy`), or how many the
queue may hold (`largest_share`). Which confidence that takes is read off answers out of fold: as
many of the surest answers as are shown to reach the target stay outside (selective classification,
Geifman and El-Yaniv 2017). "Shown" means a lower bound (Clopper and Pearson 1934) that holds for
few records, too, and that a later delivery, a quarter as large, very probably reaches the target by
its own count. Several shares are looked at, and each look could err: how often the promise as a
whole is broken is measured (tests/doubt/test_promise.py, benchmarks/quality/promises.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from mm_assets.contract.review import Review

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

RISK = 0.05  # how often a bound may fail to hold
SURELY = 0.95  # how probable it has to be that a later delivery reaches the target
DELIVERY = 0.25  # of the records known, that a later delivery may have
STEPS = 40  # groups of records, from the surest to the least sure
USUAL_THRESHOLD = 0.6  # of a model about which nothing else is known


@dataclass(frozen=True)
class Curve:
    """How answers out of fold were: `confidence`, `right`, and for numbers `width`.

    width: of the interval, as a share of the number; None for classes.
    """

    confidence: Floats
    right: Bools
    width: Floats | None = None

    def surest_first(self, by: Literal["confidence", "width"]) -> tuple[Floats, Bools]:
        """Confidence, or the negative width, descending, and whether each was right."""
        sure = -self.width if by == "width" and self.width is not None else self.confidence
        order = np.argsort(-sure, kind="stable")
        return sure[order], self.right[order]


@dataclass(frozen=True)
class Promise:
    """Which answers go to review, and what is to be expected of the rest.

    by, limit: those go whose confidence is below `limit`, or whose interval is wider. share: of
    records that go, expected. accuracy: of the rest, out of fold; at_least: what was shown of it,
    each None where no record is left. target: what the YAML asks for, None without; reached:
    whether that was shown. n: records that this rests on; 0: nothing is known of this model.
    """

    by: Literal["confidence", "width"]
    limit: float
    share: float
    accuracy: float | None
    at_least: float | None
    target: float | None
    reached: bool
    n: int
    largest_share: float | None = None

    def to_review(self, confidence: Floats, width: Floats | None) -> Bools:
        if self.by == "width" and width is not None:
            found: Bools = width > self.limit
            return found
        low: Bools = confidence < self.limit
        return low

    @property
    def words(self) -> str:
        """What is promised, for people."""
        if not self.n:
            return (
                f"confidence below {self.limit:g} goes to review; nothing can be promised of this "
                "model and these costs before the next `mm train`"
            )
        where = (
            f"intervals wider than {self.limit:.3g} of the number"
            if self.by == "width"
            else f"confidence below {self.limit:.3g}"
        )
        said = f"{where} goes to review: about {self.share:.1%} of the records"
        if self.share == 1:
            said = "everything goes to review"
        if self.accuracy is None or self.at_least is None:
            rest = "nothing is left outside"
        else:
            rest = f"of the rest {self.accuracy:.1%} are right (at least {self.at_least:.1%})"
        if self.target is None:
            return f"{said}; {rest}"
        if self.reached:
            return f"{said}; {rest}, as promised: {self.target:.1%}"
        why = (
            f"with at most {self.largest_share:.0%} of the records in review"
            if self.largest_share is not None
            else "by any confidence"
        )
        return (
            f"{said}; {rest}; {self.target:.1%} CANNOT be promised {why}: "
            f"{self.n:,} records leave too much to chance"
        )


def promise_of(review: Review, curve: Curve | None, *, of_numbers: bool) -> Promise:
    """What the YAML's wish means for a model with this curve."""
    by: Literal["confidence", "width"] = (
        "width" if of_numbers and review.widest_interval is not None else "confidence"
    )
    if curve is None or not len(curve.right):
        limit = USUAL_THRESHOLD if review.threshold is None else review.threshold
        return Promise("confidence", limit, 0.0, None, None, review.target_accuracy, False, 0)
    sure, right = curve.surest_first(by)
    n = len(right)
    if review.threshold is not None:
        return _promise(by, review.threshold, sure, right, None, True)
    if review.widest_interval is not None:
        return _promise(by, -review.widest_interval, sure, right, None, True)
    fewest = _ends_of_ties(sure, n - int(np.floor((review.largest_share or 0.0) * n)))
    target = review.target_accuracy
    if target is None:
        return _promise(by, _limit(sure, fewest), sure, right, None, True)
    kept = _kept(sure, right, target)
    reached = kept > 0
    if review.largest_share is not None and kept < fewest:
        kept, reached = fewest, False
    return _promise(by, _limit(sure, kept), sure, right, target, reached, review.largest_share)


def risk_coverage(curve: Curve, by: Literal["confidence", "width"]) -> list[dict[str, float]]:
    """For each share in review: the accuracy of the rest and its lower bound, for tables and plots.

    Rows `share`, `limit`, `accuracy`, `at_least`, `kept`; from nothing in review on.
    """
    sure, right = curve.surest_first(by)
    sums = np.cumsum(right)
    rows = []
    for kept in reversed(_sequence(sure, 1)):
        hits = int(sums[kept - 1])
        rows.append(
            {
                "share": 1 - kept / len(right),
                "limit": abs(float(sure[kept - 1])),
                "accuracy": hits / kept,
                "at_least": lower_bound(hits, kept),
                "kept": float(kept),
            }
        )
    return rows


def lower_bound(right: int, n: int, risk: float = RISK) -> float:
    """The accuracy that `right` of `n` show, but for a risk (Clopper and Pearson)."""
    if not right:
        return 0.0
    from scipy.stats import beta

    return float(beta.ppf(risk, right, n - right + 1))


def upper_bound(right: int, n: int, risk: float = RISK) -> float:
    """The highest accuracy that is in keeping with `right` of `n`, but for a risk."""
    return 1.0 - lower_bound(n - right, n, risk)


def is_shown(right: int, n: int, target: float) -> bool:
    """Whether `right` of `n` show that the target is reached, now and by a later delivery."""
    if lower_bound(right, n) < target:
        return False
    from scipy.stats import betabinom

    later = max(1, round(DELIVERY * n))
    most_wrong = int(np.floor((1 - target) * later + 1e-9))
    enough = betabinom.cdf(most_wrong, later, n - right + 0.5, right + 0.5)
    return bool(enough >= SURELY)


def _kept(sure: Floats, right: Bools, target: float) -> int:
    """How many of the surest answers are shown to reach the target; 0 for none."""
    fewest = int(np.ceil(np.log(RISK) / np.log(target)))  # below, nothing can be shown
    sums = np.cumsum(right)
    ends = _sequence(sure, fewest)
    shown = [is_shown(int(sums[end - 1]), end, target) for end in ends]
    for place in reversed(range(len(ends))):
        if shown[place] and shown[max(place - 1, 0)]:  # one look alone may be luck
            return ends[place]
    return 0


def _sequence(sure: Floats, fewest: int) -> list[int]:
    """How many of the surest answers are looked at, step by step; equals stay together."""
    n = len(sure)
    if n < fewest:
        return []
    ends = np.unique(np.linspace(max(fewest, 1), n, STEPS).round().astype(np.intp))
    return sorted({_ends_of_ties(sure, int(end)) for end in ends})


def _ends_of_ties(sure: Floats, end: int) -> int:
    """The first place after `end` - 1 where the confidence changes."""
    if end <= 0:
        return 0
    return int(np.searchsorted(-sure, -sure[end - 1], side="right"))


def _limit(sure: Floats, kept: int) -> float:
    """What is at least as sure is kept; above everything, where nothing is."""
    if kept <= 0:
        return float("inf")
    return float(sure[kept - 1])


def _promise(
    by: Literal["confidence", "width"],
    least: float,
    sure: Floats,
    right: Bools,
    target: float | None,
    reached: bool,
    largest_share: float | None = None,
) -> Promise:
    inside = sure >= least
    kept, hits = int(inside.sum()), int(right[inside].sum())
    limit = -least if by == "width" else least
    return Promise(
        by=by,
        limit=max(limit, -1.0) if by == "width" else min(limit, 2.0),
        share=1 - kept / len(right),
        accuracy=hits / kept if kept else None,
        at_least=lower_bound(hits, kept) if kept else None,
        target=target,
        reached=reached,
        n=len(right),
        largest_share=largest_share,
    )
