"""How members are weighed, and the scales on which numbers are learnt: what always holds."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mm_assets.engines.automatic.scales import Scale, fence, scales_for
from mm_assets.engines.automatic.selection import (
    log_losses,
    mixed,
    number_losses,
    select,
    share_of_newcomer,
)

SEEDS = st.integers(0, 2**32 - 1)
COUNTS = st.integers(1, 40)
MEMBERS = st.integers(1, 6)


def probabilities(draw: np.random.Generator, count: int, classes: int) -> np.ndarray:
    found = draw.random((count, classes)) ** draw.integers(1, 8)
    return found / found.sum(axis=1, keepdims=True)


@given(SEEDS, COUNTS, MEMBERS, st.integers(2, 4))
def test_an_ensemble_is_never_worse_on_its_records_than_a_member(
    seed: int, count: int, members: int, classes: int
) -> None:
    draw = np.random.default_rng(seed)
    truth = draw.integers(0, classes, count)
    losses = log_losses(truth)
    right = np.eye(classes)[truth]
    answers = {}
    for n, knows in enumerate(draw.random(members) ** 4):  # few know nearly all of it
        answers[f"m{n}"] = (1 - knows) * right + knows * probabilities(draw, count, classes)
    _check(answers, lambda answer: float(losses(answer).mean()))


@given(SEEDS, COUNTS, MEMBERS, st.booleans(), st.sampled_from([1e-9, 1.0, 1e9]))
def test_nor_one_of_numbers(
    seed: int, count: int, members: int, squared: bool, size: float
) -> None:  # noqa: FBT001
    draw = np.random.default_rng(seed)
    truth = size * draw.normal(size=count)
    losses = number_losses(truth, squared=squared)
    answers = {
        f"m{n}": (truth + size * far * draw.normal(size=count))[:, None]
        for n, far in enumerate(10 ** draw.uniform(-3, 1, members))
    }
    _check(answers, lambda answer: float(losses(answer).mean()))


def _check(answers, loss) -> None:  # type: ignore[no-untyped-def]
    before = {name: answer.copy() for name, answer in answers.items()}
    weights = select(answers, loss)
    assert sum(weights.values()) == pytest.approx(1)
    assert all(weight > 0 for weight in weights.values())
    best = min(loss(answer) for answer in answers.values())
    assert loss(mixed(answers, weights)) <= best * (1 + 1e-9) + 1e-12
    assert all((before[name] == answers[name]).all() for name in answers)


def test_a_member_that_says_what_another_says_is_not_stored() -> None:
    said = probabilities(np.random.default_rng(0), 30, 2)
    losses = log_losses(np.random.default_rng(1).integers(0, 2, 30))
    assert select({"one": said, "two": said.copy()}, lambda a: float(losses(a).mean())) == {
        "one": 1.0
    }


def test_members_that_err_in_different_ways_share_the_word() -> None:
    draw = np.random.default_rng(0)
    truth = draw.normal(size=400)
    answers = {n: (truth + draw.normal(size=400))[:, None] for n in ("one", "two")}
    losses = number_losses(truth, squared=True)
    weights = select(answers, lambda answer: float(losses(answer).mean()))
    assert weights["one"] == pytest.approx(0.5, abs=0.1)


@given(SEEDS, st.integers(1, 200))
def test_a_newcomer_that_knows_nothing_more_seldom_counts(seed: int, count: int) -> None:
    draw = np.random.default_rng(seed)
    truth = draw.normal(size=count)
    losses = number_losses(truth, squared=False)
    so_far = (truth + draw.normal(size=count))[:, None]
    assert share_of_newcomer(so_far, so_far.copy(), losses) == 0
    assert share_of_newcomer(so_far, so_far + 1e6, losses) == 0
    share = share_of_newcomer(so_far, truth[:, None], losses)
    assert 0 <= share < 1
    assert share > 0.8 or count < 5


# -- scales ---------------------------------------------------------------------------------------

# Of which the sum of squares fits into a number.
VALUES = arrays(
    np.float64, st.integers(5, 60),
    elements=st.floats(-1e9, 1e9).map(lambda v: round(v, 6)) | st.floats(0, 100).map(round),
)  # fmt: skip


@given(VALUES)
@example(np.array([0.0, 1.0, 2.0, 50.0, 1e6]))
@example(-np.array([0.0, 1.0, 2.0, 50.0, 1e6]))
def test_scales_go_there_and_back_and_no_answer_is_infinite(values: np.ndarray) -> None:
    scales = scales_for(values)
    assert scales[0].kind == "identity"
    size = max(1.0, float(np.abs(values).max()))
    for scale in scales:
        learnt = scale.forward(values)
        assert np.isfinite(learnt).all()
        assert np.abs(learnt).max() < 1e3
        back = scale.inverse(learnt)
        assert np.abs(back - values).max() <= 1e-4 * size, scale
        far = np.array([-1e300, -1e3, -30.0, *np.linspace(-5, 5, 21), 30.0, 1e3, 1e300])
        found = scale.inverse(far)
        assert np.isfinite(found).all(), scale
        assert (np.diff(found) >= -1e-9 * np.abs(found).max()).all(), scale
        alone = [scale.inverse(far[n : n + 1])[0] for n in range(len(far))]
        assert found.tolist() == alone
        json.dumps(scale.to_json(), allow_nan=False)
        assert Scale(**scale.to_json()) == scale


@pytest.mark.parametrize("kind", ["identity", "log", "yeo_johnson"])
@pytest.mark.parametrize("count", [1, 2, 50])
def test_labels_that_are_all_the_same_have_a_scale(kind: str, count: int) -> None:
    scale = Scale.learn(kind, np.full(count, 7.0))
    assert scale.inverse(scale.forward(np.full(count, 7.0))) == pytest.approx(7.0)


@given(SEEDS, st.integers(100, 400), st.sampled_from([1e-6, 1.0, 1e6]), st.floats(-1e6, 1e6))
def test_the_fence_holds_all_of_a_normal_sample(
    seed: int, count: int, size: float, middle: float
) -> None:
    values = middle + size * np.random.default_rng(seed).normal(size=count)
    low, high = fence(values)
    assert low <= values.min()
    assert values.max() <= high


@given(SEEDS, st.sampled_from([0.3, 1.0, 1.5]), st.booleans())
def test_the_fence_holds_long_tails_also_beside_zeros(
    seed: int,
    sigma: float,
    zeros: bool,  # noqa: FBT001
) -> None:
    values = np.exp(sigma * np.random.default_rng(seed).normal(size=300))
    values[:5] *= 0.0 if zeros else 1.0
    low, high = fence(values)
    assert ((low <= values) & (values <= high)).mean() >= 0.98


@given(SEEDS, st.integers(1, 5), st.sampled_from([1000.0, -1000.0]))
def test_the_fence_keeps_out_what_was_mistyped(seed: int, slips: int, factor: float) -> None:
    values = 50 + 5 * np.random.default_rng(seed).normal(size=100)
    values[:slips] *= factor
    low, high = fence(values)
    outside = (values < low) | (values > high)
    assert outside.tolist() == [n < slips for n in range(100)]


def test_where_most_labels_are_the_same_there_is_no_fence() -> None:
    assert fence(np.array([0.0] * 30 + [1.0, 500.0])) == (-np.inf, np.inf)
