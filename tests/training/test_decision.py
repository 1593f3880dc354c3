"""A decision is the class of least expected cost, the same alone and in any batch and order."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mm_assets.contract.errors import ModelError
from mm_assets.doubt.confidence import confidence_of
from mm_assets.training.decision import DecisionRule, chosen, decides_otherwise, rule_of
from mm_assets.training.decision_picture import decision_picture
from mm_assets.training.decision_search import UNMET, best_factors
from mm_assets.training.evaluation import evaluate
from tests.make import dataset

NAMES = ["a", "b", "c", "d"]
MEASURES = ["accuracy", "balanced_accuracy", "macro_f1"]


@st.composite
def some_said(draw: st.DrawFn, classes: int | None = None, fewest: int = 1) -> pd.DataFrame:
    """Probabilities of a few records in a few classes, often with ties."""
    width = classes or draw(st.integers(2, 4))
    parts = st.lists(st.integers(0, 8), min_size=width, max_size=width).filter(any)
    rows = draw(st.lists(parts, min_size=fewest, max_size=30))
    shares = np.array(rows, dtype=float)
    return pd.DataFrame(shares / shares.sum(axis=1, keepdims=True), columns=NAMES[:width])


@st.composite
def some_judged(draw: st.DrawFn, classes: int | None = None) -> tuple[list[str], pd.DataFrame]:
    said = draw(some_said(classes, fewest=4))
    return [draw(st.sampled_from(list(said.columns))) for _ in range(len(said))], said


some_costs = st.dictionaries(
    st.sampled_from(NAMES),
    st.dictionaries(st.sampled_from(NAMES), st.integers(0, 50).map(float), min_size=1),
    min_size=1,
)


def rare(n: int = 2000, share: float = 0.05, seed: int = 0) -> tuple[list[str], pd.DataFrame]:
    """Honest probabilities of "yes", which is rare, and what was true."""
    random = np.random.default_rng(seed)
    odds = random.normal(size=n) * 1.5 + np.log(share / (1 - share))
    yes = 1 / (1 + np.exp(-odds))
    truth = np.where(random.random(n) < yes, "yes", "no")
    return list(truth), pd.DataFrame({"no": 1 - yes, "yes": yes})


def reached(truth: list[str], said: pd.DataFrame, rule: DecisionRule | None, **keys: Any) -> Any:
    labels = pd.Series(truth)
    return evaluate(
        labels, said, problem_type="multiclass", training_labels=labels, rule=rule, **keys
    ).metrics


# -- deciding -------------------------------------------------------------------------------------


@given(some_said(), some_costs)
def test_no_other_class_costs_less_than_the_one_that_is_said(said: Any, costs: Any) -> None:
    rule = DecisionRule("costs", costs=costs)
    names = list(said.columns)
    for row, place in zip(said.to_numpy().round(6), chosen(said, rule), strict=True):
        expected = [
            sum(p * rule.cost(true, name) for p, true in zip(row, names, strict=True))
            for name in names
        ]
        assert expected[place] <= min(expected) + 1e-6
        equal = [p for p, cost in zip(row, expected, strict=True) if cost <= min(expected) + 1e-12]
        assert row[place] == max(equal)


@given(some_said(), some_costs, st.randoms(use_true_random=False))
def test_a_record_is_decided_the_same_alone_and_in_any_order(
    said: pd.DataFrame, costs: Any, random: Any
) -> None:
    rule = DecisionRule("costs", costs=costs, factors={"a": 1 / 3, "b": 7.7})
    together = chosen(said, rule)
    order = list(range(len(said)))
    random.shuffle(order)
    assert list(chosen(said.iloc[order], rule)) == list(together[order])
    assert [chosen(said.iloc[[n]], rule)[0] for n in range(len(said))] == list(together)


@given(some_said())
def test_without_a_rule_or_with_equal_costs_the_most_probable_class_is_said(
    said: pd.DataFrame,
) -> None:
    plain = said.to_numpy().argmax(axis=1)
    assert list(chosen(said, None)) == list(plain)
    rounded = said.round(6).to_numpy().argmax(axis=1)
    assert list(chosen(said, DecisionRule("equal"))) == list(rounded)
    assert list(confidence_of(said, chosen=plain)) == list(confidence_of(said))


@given(st.floats(0.02, 0.98), some_said(2))
def test_of_two_classes_factors_are_a_threshold(threshold: float, said: pd.DataFrame) -> None:
    rule = DecisionRule("f1", factors={"a": threshold, "b": 1 - threshold})
    assert rule.threshold("b", "a") == pytest.approx(threshold)
    clear = (said["b"].round(6) - threshold).abs() > 1e-6
    above = (said["b"] > threshold).astype(int)
    assert (chosen(said, rule)[clear] == above[clear]).all()


def test_a_class_that_is_decided_at_a_low_probability_is_that_unsure() -> None:
    said = pd.DataFrame({"well": [0.7, 0.99], "ill": [0.3, 0.01]})
    rule = DecisionRule("costs", costs={"ill": {"well": 20.0}})
    places = chosen(said, rule)
    assert list(places) == [1, 0]
    assert list(confidence_of(said, chosen=places)) == [0.3, 0.99]
    assert rule.in_words(["well", "ill"], None) == "costs: ill from 0.0476"
    assert DecisionRule("x", factors={"a": 2.0, "b": 1.0, "c": 0.5}).in_words(
        ["a", "b", "c"], None
    ) == "x: a x2, b x1, c x0.5"  # fmt: skip


# -- learning -------------------------------------------------------------------------------------


@given(some_judged(), st.sampled_from(MEASURES))
def test_on_its_records_a_learnt_decision_is_never_worse_than_the_plain_one(
    judged: tuple[list[str], pd.DataFrame], measure: str
) -> None:
    truth, said = judged
    found = best_factors(truth, said, measure)
    plain, learnt = (
        reached(truth, said, rule)[measure]
        for rule in (DecisionRule("plain"), DecisionRule("learnt", factors=found.factors))
    )
    assert learnt >= plain - 1e-12
    assert found.plain == pytest.approx(plain)
    assert found.reached == pytest.approx(learnt)


@given(some_judged(), st.sampled_from(MEASURES), st.randoms(use_true_random=False))
def test_the_order_of_the_records_makes_no_difference_to_what_is_learnt(
    judged: tuple[list[str], pd.DataFrame], measure: str, random: Any
) -> None:
    truth, said = judged
    order = list(range(len(truth)))
    random.shuffle(order)
    again = best_factors([truth[n] for n in order], said.iloc[order], measure)
    assert again == best_factors(truth, said, measure)


@given(some_judged(2))
def test_where_any_threshold_is_better_than_the_plain_one_a_better_one_is_learnt(
    judged: tuple[list[str], pd.DataFrame],
) -> None:
    """It need not be the luckiest of all. What is certain stays certain at any threshold."""
    truth, said = judged[0], judged[1].clip(0.01, 0.99)
    found = best_factors(truth, said, "f1", "b")
    cuts = np.unique(said["b"].round(6))
    cuts = np.concatenate(([-0.1], (cuts[1:] + cuts[:-1]) / 2, [1.1]))
    true = np.array(truth) == "b"

    def f1(at: float) -> float:
        guess = said["b"].round(6).to_numpy() > at
        return 2 * float((true & guess).sum()) / max(float(true.sum() + guess.sum()), 1e-12)

    best = max(f1(at) for at in cuts)
    assert found.reached <= best + 1e-9
    if best > found.plain + 1e-9:
        assert found.reached > found.plain


@pytest.mark.parametrize("measure", ["f1", "balanced_accuracy", "macro_f1"])
def test_a_rare_class_is_found_where_the_plain_decision_finds_none(measure: str) -> None:
    truth, said = rare()
    found = best_factors(truth, said, measure, "yes")
    rule = DecisionRule("learnt", factors=found.factors)
    later, other = rare(20_000, seed=1)
    figures, plain = (reached(later, other, one, positive_class="yes") for one in (rule, None))
    assert figures[measure] > plain[measure] + 0.04
    assert figures["recall"] > 2 * plain["recall"]
    if measure == "balanced_accuracy":  # its best threshold is the share of the class
        assert rule.threshold("yes", "no") == pytest.approx(np.mean(said["yes"]), abs=0.03)


def test_a_decision_for_accuracy_leaves_honest_probabilities_as_they_are() -> None:
    truth, said = rare(4000, 0.5)
    found = best_factors(truth, said, "accuracy")
    assert DecisionRule("", factors=found.factors).threshold("yes", "no") == pytest.approx(
        0.5, abs=0.05
    )


def test_what_is_demanded_is_reached_or_said_not_to_be() -> None:
    truth, said = rare()
    for demand in ({"recall": 0.9}, {"precision": 0.5}):
        found = best_factors(truth, said, demand, "yes")
        rule = DecisionRule("", factors=found.factors)
        figures = reached(truth, said, rule, positive_class="yes")
        [(name, least)] = demand.items()
        other = {"recall": "precision", "precision": "recall"}[name]
        assert figures[name] >= least
        assert figures[other] == pytest.approx(found.reached)
    hopeless = best_factors(truth, said, {"precision": 1.0}, "yes")
    if hopeless.reached == UNMET:
        assert set(hopeless.factors.values()) == {1.0}
    noise = pd.DataFrame({"no": [0.5] * 40, "yes": [0.5] * 40})
    never = best_factors(["no", "yes"] * 20, noise, {"precision": 0.9}, "yes")
    assert (never.reached, set(never.factors.values())) == (UNMET, {1.0})


def test_nothing_is_learnt_from_nothing_and_from_what_the_model_does_not_know() -> None:
    said = pd.DataFrame({"a": [0.9], "b": [0.1]})
    for truth, frame in (([], said.iloc[:0]), (["z"], said)):
        found = best_factors(truth, frame, "macro_f1")
        assert (found.factors, found.records) == ({"a": 1.0, "b": 1.0}, 0)


# -- the manifest and the YAML --------------------------------------------------------------------


def test_costs_of_the_yaml_hold_for_any_model_and_what_was_learnt_for_its_own() -> None:
    learnt = {"decision": {"why": "best f1 of dog", "factors": {"cat": 0.2, "dog": 0.8}}}
    rule = rule_of(dataset(), learnt)
    assert rule is not None
    assert rule.threshold("dog", "cat") == pytest.approx(0.2)
    costly = dataset(costs={"dog": {"cat": 3}})
    for manifest in (learnt, {}):
        costs = rule_of(costly, manifest)
        assert costs is not None
        assert costs.threshold("dog", "cat") == 0.25
    assert rule_of(dataset(), {}) is None
    assert rule_of(dataset(problem_type="regression", classes=None), {}) is None


@pytest.mark.parametrize(
    "damaged", [3, {}, {"why": "", "factors": {"a": 0}}, {"why": "", "factors": {"a": "x"}}]
)
def test_a_damaged_decision_is_refused(damaged: Any) -> None:
    with pytest.raises(ModelError) as caught:
        rule_of(dataset(), {"decision": damaged})
    assert caught.value.code == "decision_invalid"


def test_a_model_that_decides_for_something_else_than_the_yaml_asks_is_told() -> None:
    asks = dataset(decide_for={"recall": 0.9}, positive_class="dog")
    same = {"decision": {"why": "recall of dog at least 0.9", "factors": {}}}
    assert decides_otherwise(asks, same) == ""
    assert decides_otherwise(dataset(), {}) == ""
    assert decides_otherwise(dataset(costs={"dog": {"cat": 3}}), {}) == ""
    assert "asks for recall of dog at least 0.9" in decides_otherwise(asks, {})
    assert "asks for the most probable class" in decides_otherwise(dataset(), same)


def test_only_costs_change_what_the_same_model_answers() -> None:
    plain = dataset()
    costs = dataset(costs={"dog": {"cat": 3}, "cat": {"dog": 1}})
    turned = dataset(costs={"cat": {"dog": 1}, "dog": {"cat": 3}})
    other = dataset(costs={"dog": {"cat": 4}})
    asked = dataset(decide_for="macro_f1", class_weights="balanced", positive_class="dog")
    assert costs.answer_fingerprint == turned.answer_fingerprint
    prints = [one.answer_fingerprint for one in (plain, costs, other)]
    assert len(set(prints)) == 3
    assert asked.answer_fingerprint == plain.answer_fingerprint
    assert {one.fingerprint for one in (plain, costs, other, asked)} == {plain.fingerprint}


# -- figures and the picture ----------------------------------------------------------------------


def test_the_figures_of_the_positive_class_are_those_of_scikit_learn() -> None:
    from sklearn import metrics

    truth, said = rare()
    rule = DecisionRule("", factors={"yes": 8.0})
    figures = reached(truth, said, rule, positive_class="yes")
    guess = said.columns[chosen(said, rule)]
    for name in ("precision", "recall", "f1"):
        score = getattr(metrics, f"{name}_score")
        assert figures[name] == pytest.approx(score(truth, guess, pos_label="yes"))
    score = said["yes"].round(2)  # with ties
    tied = reached(truth, pd.DataFrame({"no": 1 - score, "yes": score}), None, positive_class="yes")
    expected = metrics.average_precision_score(np.array(truth) == "yes", score)
    assert tied["average_precision"] == pytest.approx(expected)


def test_the_mean_cost_is_counted_and_its_baseline_is_the_cheapest_single_class() -> None:
    truth = pd.Series(["ill", "ill", "well", "well", "other"])
    said = pd.DataFrame({"ill": [0.9, 0.01, 0.2, 0.0, 0.0], "well": [0.1, 0.99, 0.8, 1.0, 1.0]})
    rule = DecisionRule("costs", costs={"ill": {"well": 10.0}, "other": {"well": 7.0}})
    evaluation = evaluate(
        truth, said, problem_type="multiclass", training_labels=truth, metric="expected_cost",
        rule=rule,
    )  # fmt: skip
    assert evaluation.metrics["expected_cost"] == pytest.approx((0 + 10 + 1 + 0 + 7) / 5)
    assert evaluation.baseline["expected_cost"] == pytest.approx((0 + 0 + 1 + 1 + 1) / 5)
    assert evaluation.score == -evaluation.metrics["expected_cost"]


@pytest.mark.parametrize("rule", [
    DecisionRule("costs", costs={"yes": {"no": 20.0}}),
    DecisionRule("best f1 of yes", factors={"yes": 4.0}),
])  # fmt: skip
def test_the_picture_of_a_decision_is_drawn(rule: DecisionRule) -> None:
    truth, said = rare(300)
    for positive in ("yes", None):
        png = decision_picture(pd.Series(truth), said, rule, positive)
        assert Image.open(io.BytesIO(png)).size[0] > 400
    one_class = pd.Series(["no"] * 3)
    assert decision_picture(one_class, said.iloc[:3], rule, "yes")
