"""Checks on `monitoring`: drift against training, confidence, and what later labels tell.

What is compared with which limit stands in limits.py.
"""

from typing import Any

import dagster as dg

from mm_assets.lake.layout import of_dataset
from mm_assets.orchestration.checks.of_asset import ChecksOf
from mm_assets.orchestration.scope import LakeResource, Scope, check


def build_checks(scope: Scope) -> list[ChecksOf]:
    """The checks on `<dataset>/monitoring`; of later labels only where the YAML sets a limit."""
    limits = scope.spec.limits
    checks = ChecksOf(scope, "monitoring", partitioned=False)
    for name, words in (
        ("feature_drift", "Features are distributed as in training."),
        ("label_drift", "Predicted labels are distributed as in training."),
        ("low_confidence_share", "The share of all predictions to review."),
        (
            "promise_holds",
            "Answers that nobody reviews are as good as promised, where the label came later.",
        ),
    ):
        _check(checks, name, words)
    if limits.minimum_live_accuracy > 0:
        _check(checks, "live_accuracy", "Predictions are right where the label came later.")
    if limits.maximum_calibration_error < 1:
        words = "Confidence is the share that is right, where the label came later."
        _check(checks, "live_calibration", words)
    return [checks]


def _check(checks: ChecksOf, name: str, description: str) -> None:
    """`name`: of the check, and of the function in limits.py that judges."""
    scope = checks.scope

    @checks.check(description, name=name)
    def compare(lake: LakeResource) -> dg.AssetCheckResult:
        from mm_assets.monitoring import limits

        document: dict[str, Any] = (
            lake.lake().read_json(of_dataset(scope.dataset, "monitoring")) or {}
        )
        verdict = getattr(limits, name)(document, scope.spec.limits)
        return check(verdict.passed, verdict.words, warn=True, metadata=verdict.figures)
