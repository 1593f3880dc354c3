"""Checks on `monitoring`: drift against training, and accuracy where labels came later."""

import dagster as dg

from mm_assets.layout import of_dataset
from mm_assets.scope import LakeResource, Scope, check


def build_checks(scope: Scope) -> list[dg.AssetChecksDefinition]:
    """The checks on `<dataset>/monitoring`."""
    asset = scope.key("monitoring")
    limit = scope.spec.limits.maximum_drift

    @dg.asset_check(asset=asset, description="Features are distributed as in training.")
    def feature_drift(lake: LakeResource) -> dg.AssetCheckResult:
        document = lake.lake().read_json(of_dataset(scope.dataset, "monitoring")) or {}
        drifts = document.get("feature_drift", {})
        drifted = {name: value for name, value in drifts.items() if value > limit}
        words = ", ".join(f"{name} {value:.2f}" for name, value in drifted.items())
        return check(
            not drifted,
            f"{len(drifts)} features compared; "
            + (f"population stability index above {limit}: {words}" if drifted else "none drifted"),
            warn=True,
            metadata={name: float(value) for name, value in drifts.items()},
        )

    @dg.asset_check(asset=asset, description="Predicted labels are distributed as in training.")
    def label_drift(lake: LakeResource) -> dg.AssetCheckResult:
        document = lake.lake().read_json(of_dataset(scope.dataset, "monitoring")) or {}
        value = document.get("prediction_drift")
        if value is None:
            return check(True, "too few predictions to compare")
        return check(
            value <= limit,
            f"population stability index {value:.2f}; the limit is {limit}",
            warn=True,
        )

    return [feature_drift, label_drift]
