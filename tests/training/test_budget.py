"""The minutes of a training, and who gets how many of them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.training.budget import within_budget

BASE: dict[str, Any] = {
    "dataset": "pets", "id_column": "id", "label_column": "kind", "problem_type": "binary",
    "columns": {"age": "number"},
}  # fmt: skip
AUTOMATIC = {"engine": "automatic"}
BOOSTING = {"engine": "gradient_boosting"}


def seconds(minutes: float | None = None, **more: Any) -> dict[str, list[float | None]]:
    spec = DatasetSpec.model_validate({**BASE, **more})
    return {
        modality.value: [
            one.time_limit_seconds and round(one.time_limit_seconds, 6)
            for one in within_budget(spec, modality, minutes)
        ]
        for modality in spec.modalities
    }


def models(with_image: Any, without_image: Any) -> dict[str, Any]:
    return {"model_with_image": with_image, "model_without_image": without_image}


def test_automatic_has_two_minutes_unless_somebody_says_otherwise() -> None:
    both = models(AUTOMATIC, AUTOMATIC)
    assert seconds(**both) == {"with_image": [80], "without_image": [40]}
    assert seconds(**both, training_minutes=6) == {"with_image": [240], "without_image": [120]}
    assert seconds(3, **both, training_minutes=6) == {"with_image": [120], "without_image": [60]}


def test_a_model_that_has_no_other_beside_it_has_all_the_minutes() -> None:
    assert seconds(**models(AUTOMATIC, AUTOMATIC), image_name=None) == {"without_image": [120]}
    own = {**AUTOMATIC, "time_limit_seconds": 7}
    assert seconds(**models(own, AUTOMATIC)) == {"with_image": [7], "without_image": [120]}
    assert seconds(**models(BOOSTING, AUTOMATIC)) == {"with_image": [None], "without_image": [120]}


def test_other_engines_take_what_they_need_until_minutes_are_named() -> None:
    both = models({"engine": "autogluon"}, BOOSTING)
    assert seconds(**both) == {"with_image": [None], "without_image": [None]}
    assert seconds(1, **both) == {"with_image": [40], "without_image": [20]}


def test_engines_that_compete_share_and_those_that_cannot_stop_get_none() -> None:
    rivals = [AUTOMATIC, BOOSTING, {"engine": "sklearn"}, {**BOOSTING, "time_limit_seconds": 5}]
    assert seconds(3, **models(rivals, AUTOMATIC))["with_image"] == [60, 60, None, 5]
    assert seconds(**models(rivals, AUTOMATIC))["with_image"] == [80, None, None, 5]


@pytest.mark.parametrize("minutes", [0, -1, float("inf"), float("nan")])
def test_minutes_that_are_none_are_refused(minutes: float) -> None:
    with pytest.raises(ValidationError):
        DatasetSpec.model_validate({**BASE, "training_minutes": minutes})


def test_minutes_change_nothing_that_is_stored() -> None:
    plain = DatasetSpec.model_validate(BASE)
    longer = DatasetSpec.model_validate({**BASE, "training_minutes": 9})
    assert plain.fingerprint == longer.fingerprint
    assert plain.answer_fingerprint == longer.answer_fingerprint
