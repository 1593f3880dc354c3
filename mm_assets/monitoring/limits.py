"""What `monitoring` found against the limits of the dataset's YAML, in words.

`document` is what `build_monitoring` published, or {} where it has not yet. What cannot be measured
passes and says so: a limit is about data, and there is none.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from mm_assets.contract.limits import Limits
from mm_assets.monitoring import promises
from mm_assets.monitoring.live import FEWEST_LABELLED, wilson

Document = dict[str, Any]


class Verdict(NamedTuple):
    """Whether a limit is kept, why, and the figures behind it."""

    passed: bool
    words: str
    figures: dict[str, float]


def feature_drift(document: Document, limits: Limits) -> Verdict:
    drifts: dict[str, float] = document.get("feature_drift", {})
    limit = limits.maximum_drift
    drifted = {name: value for name, value in drifts.items() if value > limit}
    named = ", ".join(f"{name} {value:.2f}" for name, value in drifted.items())
    words = f"population stability index above {limit}: {named}" if drifted else "none drifted"
    return Verdict(not drifted, f"{len(drifts)} features compared; {words}", drifts)


def label_drift(document: Document, limits: Limits) -> Verdict:
    value = document.get("prediction_drift")
    if value is None:
        return Verdict(True, "too few predictions to compare", {})
    limit = limits.maximum_drift
    words = f"population stability index {value:.2f}; the limit is {limit}"
    return Verdict(value <= limit, words, {"drift": value})


def low_confidence_share(document: Document, limits: Limits) -> Verdict:
    share = document.get("low_confidence_share")
    if share is None:
        return Verdict(True, "there are no predictions yet", {})
    limit = limits.maximum_low_confidence_share
    words = (
        f"{document['needs_review']:,} of {document['records']:,} predictions need review "
        f"({share:.1%}); the limit is {limit:.1%}"
    )
    return Verdict(share <= limit, words, {"share": share})


def live_accuracy(document: Document, limits: Limits) -> Verdict:
    n = document.get("live_n", 0)
    if n < FEWEST_LABELLED:
        return _too_few(n)
    value, limit = document["live_accuracy"], limits.minimum_live_accuracy
    low, high = wilson(value, n)
    words = (
        f"{value:.1%} of {n:,} records with a known label are right (95% range {low:.1%} to "
        f"{high:.1%}); the limit is {limit:.1%}"
    )
    return Verdict(value >= limit, words, {"accuracy": value, "labelled": n})


def live_calibration(document: Document, limits: Limits) -> Verdict:
    n, value = document.get("live_n", 0), document.get("live_calibration_error")
    if value is None:
        return _too_few(n)
    limit = limits.maximum_calibration_error
    words = (
        f"confidence is off by {value:.3f} on average over {n:,} records with a known label; "
        f"the limit is {limit:g}"
    )
    return Verdict(value <= limit, words, {"calibration_error": value, "labelled": n})


def promise_holds(document: Document, _: Limits) -> Verdict:
    """Each model's promise of the answers outside review; the limit is the promise itself."""
    found: list[Document] = document.get("promises", [])
    if not found:
        return Verdict(True, "too few labels to tell (0 of records outside review)", {})
    figures = {}
    for one in found:
        for name in ("accuracy", "coverage"):
            if name in one and one[name]["n"]:
                verdict = one[name]
                figures[f"{name} {one['modality']} {one['version']}"] = (
                    verdict["right"] / verdict["n"]
                )
    broken = [one for one in found if promises.is_broken(one)]
    words = "; ".join(promises.in_words(one) for one in broken or found)
    if broken:
        words += ". `mm models recalibrate` learns from these labels how sure to be; or train again"
    return Verdict(not broken, words, figures)


def _too_few(n: int) -> Verdict:
    words = f"{n} records with a known label are too few to judge; {FEWEST_LABELLED} are needed"
    return Verdict(True, words, {})
