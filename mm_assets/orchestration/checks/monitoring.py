"""Checks on `monitoring`: drift against training, confidence, and what later labels tell.

What is compared with which limit stands in limits.py.
"""

from typing import Any

import dagster as dg

from mm_assets.lake.layout import of_dataset
from mm_assets.orchestration.scope import LakeResource, Scope, check


def build_checks(scope: Scope) -> list[dg.AssetChecksDefinition]:
    """The checks on `<dataset>/monitoring`; of later labels only where the YAML sets a limit."""
    spec = scope.spec
    built = [
        _check(scope, "feature_drift", "Features are distributed as in training."),
        _check(scope, "label_drift", "Predicted labels are distributed as in training."),
        _check(scope, "low_confidence_share", "The share of all predictions to review."),
        _check(
            scope,
            "promise_holds",
            "Answers that nobody reviews are as good as promised, where the label came later.",
        ),
    ]
    if spec.limits.minimum_live_accuracy > 0:
        words = "Predictions are right where the label came later."
        built.append(_check(scope, "live_accuracy", words))
    if spec.limits.maximum_calibration_error < 1:
        words = "Confidence is the share that is right, where the label came later."
        built.append(_check(scope, "live_calibration", words))
    return built


def _check(scope: Scope, name: str, description: str) -> dg.AssetChecksDefinition:
    """`name`: of the check, and of the function in limits.py that judges."""

    @dg.asset_check(asset=scope.key("monitoring"), name=name, description=description)
    def compare(lake: LakeResource) -> dg.AssetCheckResult:
        from mm_assets.monitoring import limits

        document: dict[str, Any] = (
            lake.lake().read_json(of_dataset(scope.dataset, "monitoring")) or {}
        )
        verdict = getattr(limits, name)(document, scope.spec.limits)
        return check(verdict.passed, verdict.words, warn=True, metadata=verdict.figures)

    return compare
