"""What is told of an ensemble's members, and of what the image adds."""

from __future__ import annotations

import io
import json
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from mm_assets.training.evaluation import Evaluation, evaluate
from mm_assets.training.leaderboard import Leaderboard, leaderboard_of
from mm_assets.training.leaderboard_picture import leaderboard_picture

TRUTH = pd.Series(["cat", "dog"] * 10)


def answer(right: float) -> pd.DataFrame:
    dog = [right if label == "dog" else 1 - right for label in TRUTH]
    return pd.DataFrame({"cat": [1 - p for p in dog], "dog": dog})


def judge(predicted: pd.DataFrame) -> Evaluation:
    return evaluate(TRUTH, predicted, problem_type="binary", training_labels=TRUTH)


def row(name: str, figure: float | None, weight: float, **more: Any) -> dict[str, Any]:
    fixed = {"sees_image": False, "metric": "log_loss", "seconds": 1.0, "stored": True, "note": ""}
    return {"name": name, "out_of_fold": figure, "weight": weight, **fixed, **more}


class Ensemble:
    image_gain: dict[str, Any] | None = None

    def __init__(self, *rows: dict[str, Any], **said: float) -> None:
        self.leaderboard = list(rows)
        self.said = said

    def said_by_members(self, frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
        assert "kind" not in frame
        return {name: answer(right) for name, right in self.said.items()}


def board(ensemble: Any) -> Leaderboard:
    frame = pd.DataFrame({"age": range(20)})
    return leaderboard_of(ensemble, judge(answer(0.9)), frame, judge)


def test_stored_members_are_asked_about_the_held_out_records() -> None:
    found = board(
        Ensemble(row("ensemble", 0.2, 1.0), row("a", 0.3, 1.0), row("b", 0.4, 0.0), a=0.2)
    )
    ensemble, a, b = found.rows
    assert ensemble["held_out"]["accuracy"] == 1.0
    assert ensemble["held_out"]["log_loss"] == pytest.approx(0.105, abs=0.001)
    assert a["held_out"]["accuracy"] == 0.0
    assert b["held_out"] == {}
    assert found.weights_in_words == "a 100%"
    assert list(found.table[0]) == [
        "member", "sees the image", "out of fold log loss", "held-out log loss",
        "held-out accuracy", "weight", "seconds", "kept", "note",
    ]  # fmt: skip


def test_a_model_without_members_has_no_leaderboard() -> None:
    found = board(object())
    assert (found.rows, found.table, found.image_words, found.weights_in_words) == ([], [], "", "")
    assert leaderboard_picture(found.rows) is None
    assert Leaderboard.from_json({}) == found  # nor has one that is stored already


def test_what_is_no_figure_is_none_and_the_manifest_keeps_the_rest() -> None:
    ensemble = Ensemble(
        row("ensemble", 0.2, 1.0), row("a", float("nan"), float("nan"), note="slow")
    )
    ensemble.image_gain = {"metric": "log_loss", "with_image": float("nan"), "without_image": 1}
    found = board(ensemble)
    assert (found.rows[1]["out_of_fold"], found.rows[1]["weight"]) == (None, 0.0)
    assert found.image_gain is None
    kept = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert Leaderboard.from_json(kept) == found


def test_what_the_image_adds_is_told_in_one_line() -> None:
    held_out = {"metric": "accuracy", "with_image": 0.889, "without_image": 0.861, "n": 1212}
    gain = {"metric": "log_loss", "with_image": 0.44, "without_image": 0.52, "n": 900}
    assert Leaderboard([], gain, held_out).image_words == (
        "the image adds: accuracy 0.861 -> 0.889 on 1,212 held-out records; "
        "out of fold log loss 0.52 -> 0.44"
    )
    assert Leaderboard([], gain).image_words == "the image adds: out of fold log loss 0.52 -> 0.44"
    price = {"metric": "mean_absolute_error", "with_image": 40100.2, "without_image": 52000, "n": 9}
    assert "error 52,000 -> 40,100 on 9" in Leaderboard([], None, price).image_words


@pytest.mark.parametrize("metric", ["log_loss", "accuracy", "mean_absolute_error"])
@pytest.mark.parametrize("ensemble", [0.2, 0.0])
def test_a_leaderboard_can_be_drawn(metric: str, ensemble: float) -> None:
    rows = [
        row("ensemble", ensemble, 1.0, metric=metric, held_out={metric: 0.3}),
        row("none", None, 0.0, metric=metric, held_out={}),
        row("Long" * 20, 0.9, 0.0, metric=metric, held_out={}, seconds=None),
        row("pixels\x1b", 0.4, 1.0, metric=metric, held_out={"other": 3.0}, sees_image=True),
    ]
    png = leaderboard_picture(rows)
    assert png is not None
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.format == "PNG"
    assert leaderboard_picture([rows[1]]) is None
