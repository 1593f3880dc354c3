"""The limits of the YAML become checks, and a check complains exactly above its limit."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.limits import Limits
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import of_dataset
from mm_assets.monitoring import limits
from mm_assets.orchestration.checks.monitoring import build_checks
from mm_assets.orchestration.scope import LakeResource, Scope

ALWAYS = {"feature_drift", "label_drift", "low_confidence_share", "promise_holds"}


def scope(problem_type: str = "binary", **limited: float) -> Scope:
    return Scope(
        DatasetSpec.model_validate(
            {"dataset": "pets", "id_column": "id", "label_column": "kind", "limits": limited,
             "problem_type": problem_type, "columns": {"age": "number"}}
        )
    )  # fmt: skip


def names(checked: Scope) -> set[str]:
    return {name for each in build_checks(checked) for name in each.looks}


def test_checks_of_later_labels_are_there_only_where_the_yaml_limits_them() -> None:
    assert names(scope()) == ALWAYS
    assert names(scope(minimum_live_accuracy=0.8)) == {*ALWAYS, "live_accuracy"}
    assert names(scope(maximum_calibration_error=0.1)) == {*ALWAYS, "live_calibration"}
    both = {"minimum_live_accuracy": 0.8, "maximum_calibration_error": 0.1}
    with pytest.raises(ValueError, match="a regression has no accuracy"):
        scope("regression", **both)
    assert names(scope("regression")) == ALWAYS


@pytest.mark.parametrize(
    ("judge", "found", "limited"),
    [
        (limits.feature_drift, {"feature_drift": {"age": 0.3, "breed": 0.1}},
         {"maximum_drift": (0.3, 0.29)}),
        (limits.label_drift, {"prediction_drift": 0.3}, {"maximum_drift": (0.3, 0.29)}),
        (limits.low_confidence_share,
         {"low_confidence_share": 0.4, "needs_review": 4, "records": 10},
         {"maximum_low_confidence_share": (0.4, 0.39)}),
        (limits.live_accuracy, {"live_n": 50, "live_accuracy": 0.8},
         {"minimum_live_accuracy": (0.8, 0.81)}),
        (limits.live_calibration, {"live_n": 50, "live_calibration_error": 0.1},
         {"maximum_calibration_error": (0.1, 0.09)}),
    ],
)  # fmt: skip
def test_a_limit_is_still_kept_at_its_value_and_broken_beyond_it(
    judge: Any, found: dict[str, Any], limited: dict[str, tuple[float, float]]
) -> None:
    (name, values), = limited.items()  # fmt: skip
    kept, broken = (judge(found, Limits.model_validate({name: value})) for value in values)
    assert (kept.passed, broken.passed) == (True, False)
    assert kept.figures == broken.figures != {}


@pytest.mark.parametrize(
    "judge",
    [limits.feature_drift, limits.label_drift, limits.low_confidence_share, limits.live_accuracy,
     limits.live_calibration, limits.promise_holds],
)  # fmt: skip
def test_what_was_not_measured_passes(judge: Any) -> None:
    strict = Limits(maximum_drift=0.01, minimum_live_accuracy=1, maximum_calibration_error=0)
    verdict = judge({}, strict)
    assert verdict.passed
    assert verdict.words


def test_a_few_later_labels_pass_and_the_check_says_that_they_are_few() -> None:
    verdict = limits.live_accuracy(
        {"live_n": 29, "live_accuracy": 0.0}, Limits(minimum_live_accuracy=1)
    )
    assert verdict.passed
    assert verdict.words == "29 records with a known label are too few to judge; 30 are needed"


def test_the_drifted_features_are_named() -> None:
    found = {"feature_drift": {"age": 0.31, "image_brightness": 2.0, "breed": 0.0}}
    words = limits.feature_drift(found, Limits()).words
    assert words == (
        "3 features compared; population stability index above 0.25: "
        "age 0.31, image_brightness 2.00"
    )


def test_a_check_reads_what_monitoring_published_and_warns(folder_settings: Settings) -> None:
    limited = scope(minimum_live_accuracy=0.8)
    [checks] = build_checks(limited)
    _, look = checks.looks["live_accuracy"]
    Lake(folder_settings).publish(
        of_dataset("pets", "monitoring"), {}, {"live_n": 50, "live_accuracy": 0.5}
    )
    result = look(LakeResource())
    assert (result.passed, result.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "50.0% of 50 records" in str(result.description)
