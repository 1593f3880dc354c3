"""What a manifest keeps gives the same answers again, by the YAML as it is now."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from mm_assets.contract.errors import ModelError
from mm_assets.contract.review import Review, Tolerance
from mm_assets.doubt.calibration import MOST_POINTS, Calibration
from mm_assets.doubt.confidence import as_sure, confidence_of, sureness_of, with_sureness


def of_numbers(n: int = 300, tolerance: float = 1.0) -> Calibration:
    draw = np.random.default_rng(0)
    truth = draw.normal(50, 10, n)
    return Calibration.of_numbers(
        truth + draw.normal(0, 1, n),
        truth,
        source="out of fold",
        level=0.9,
        tolerance=Tolerance(tolerance),
    )


def probabilities(n: int, seed: int, power: float = 1.0) -> tuple[pd.DataFrame, list[str]]:
    """Answers whose classes are drawn with just these probabilities, then to a power."""
    draw = np.random.default_rng(seed)
    true = draw.dirichlet([1, 1, 1], n)
    labels = ["abc"[draw.choice(3, p=row)] for row in true]
    said = true**power
    return pd.DataFrame(said / said.sum(axis=1, keepdims=True), columns=list("abc")), labels


def test_what_is_stored_answers_the_same() -> None:
    stored = of_numbers()
    again = Calibration.from_json(json.loads(json.dumps(stored.to_json())))
    frame = pd.DataFrame({"value": np.linspace(0, 100, 20)})
    for one, other in zip(
        vars(stored.sure(frame, None)).values(), vars(again.sure(frame, None)).values(), strict=True
    ):
        assert one.tolist() == other.tolist()
    assert again.promise(Review(largest_share=0.1)) == stored.promise(Review(largest_share=0.1))


def test_level_and_tolerance_hold_at_once() -> None:
    document = of_numbers().to_json()
    frame = pd.DataFrame({"value": [50.0]})
    usual = Calibration.from_json(document).sure(frame, None)
    other = Calibration.from_json(document, level=0.6, tolerance=Tolerance(3.0)).sure(frame, None)
    assert other.upper[0] - other.lower[0] < usual.upper[0] - usual.lower[0]  # type: ignore[index]
    assert other.confidence[0] > usual.confidence[0]


def test_a_manifest_keeps_a_bounded_number_of_records() -> None:
    frame, labels = probabilities(12_000, 1)
    places = frame.to_numpy().argmax(axis=1)
    calibration = Calibration.of_classes(frame, labels, places, sureness=1.0, source="")
    assert calibration.n == 12_000
    assert len(calibration.curve.right) == MOST_POINTS
    right = (frame.columns.to_numpy()[places] == np.array(labels)).mean()
    assert calibration.curve.right.mean() == pytest.approx(right, abs=0.01)


@pytest.mark.parametrize(
    "document",
    [{}, {"confidence": [0.5], "right": "11", "source": "", "n": 1, "sureness": 1.0}, {"n": 3},
     {"predicted": [1.0], "truth": ["x"], "tolerance": [1, False], "n": 1, "source": ""}],
)  # fmt: skip
def test_a_document_that_is_none_is_refused(document: dict) -> None:
    with pytest.raises(ModelError) as refused:
        Calibration.from_json(document)
    assert refused.value.code == "calibration_invalid"


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0, 3.0])
def test_probabilities_are_brought_in_line_with_what_is_right(power: float) -> None:
    said, labels = probabilities(4000, 2, power)
    assert sureness_of(said, labels) == pytest.approx(1 / power, rel=0.1)
    plain, _ = probabilities(4000, 2)
    assert as_sure(said, 1 / power).to_numpy() == pytest.approx(plain.to_numpy(), abs=5e-3)


def test_few_records_change_little() -> None:
    said, labels = probabilities(20, 3, 3.0)
    assert sureness_of(said, labels) == 1.0


def test_the_most_probable_class_stays() -> None:
    said, _ = probabilities(500, 4)
    assert (as_sure(said, 0.3).to_numpy().argmax(1) == said.to_numpy().argmax(1)).all()


def test_a_predictor_keeps_all_else_that_it_can() -> None:
    class Model:
        leaderboard = ("one",)

        def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
            return pd.DataFrame({"a": [0.9], "b": [0.1]})

    wrapped = with_sureness(Model(), 0.5)
    assert wrapped.leaderboard == ("one",)
    assert not hasattr(wrapped, "reasons")
    assert confidence_of(wrapped.predict(pd.DataFrame()))[0] == pytest.approx(0.75)
