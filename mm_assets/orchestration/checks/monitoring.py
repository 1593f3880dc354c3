"""Checks on `monitoring`: drift against training, confidence, and what later labels tell.

What is compared with which limit stands in limits.py.
"""

from collections.abc import Callable
from typing import Any

import dagster as dg

from mm_assets.lake.layout import of_dataset
from mm_assets.monitoring import limits
from mm_assets.orchestration.scope import LakeResource, Scope, check


def build_checks(scope: Scope) -> list[dg.AssetChecksDefinition]:
    """The checks on `<dataset>/monitoring`; of later labels only where the YAML sets a limit."""
    spec = scope.spec
    built = [
        _check(scope, limits.feature_drift, "Features are distributed as in training."),
        _check(scope, limits.label_drift, "Predicted labels are distributed as in training."),
        _check(scope, limits.low_confidence_share, "The share of all predictions to review."),
        _check(
            scope,
            limits.promise_holds,
            "Answers that nobody reviews are as good as promised, where the label came later.",
        ),
    ]
    if spec.limits.minimum_live_accuracy > 0:
        words = "Predictions are right where the label came later."
        built.append(_check(scope, limits.live_accuracy, words))
    if spec.limits.maximum_calibration_error < 1:
        words = "Confidence is the share that is right, where the label came later."
        built.append(_check(scope, limits.live_calibration, words))
    return built


def _check(
    scope: Scope, judge: Callable[..., limits.Verdict], description: str
) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=scope.key("monitoring"), name=judge.__name__, description=description)
    def compare(lake: LakeResource) -> dg.AssetCheckResult:
        document: dict[str, Any] = (
            lake.lake().read_json(of_dataset(scope.dataset, "monitoring")) or {}
        )
        verdict = judge(document, scope.spec.limits)
        return check(verdict.passed, verdict.words, warn=True, metadata=verdict.figures)

    return compare
