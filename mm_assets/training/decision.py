"""From probabilities to the class that is the answer: the one place where that is decided.

Without a rule the most probable class is the answer. A rule says what each error costs, and the
answer is the class of the least expected cost (Elkan 2001, "The foundations of cost-sensitive
learning"). Costs come from the YAML. What was learnt for a metric are factors of the classes, which
are costs as well: any error on a class costs its factor. How they are found: decision_search.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mm_assets.contract.errors import ModelError

if TYPE_CHECKING:
    import pandas as pd

    from mm_assets.contract.dataset import DatasetSpec

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]

DIGITS = 6  # of a probability; more would only hold the noise of floating point
TIE = 1e-9


@dataclass(frozen=True)
class DecisionRule:
    """What errors cost. costs: true class, said class, cost; factors: of a class's other errors.

    An error that neither names costs 1. `why` says in words where the rule comes from.
    """

    why: str
    costs: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    factors: Mapping[str, float] = field(default_factory=dict)

    def cost(self, true: str, said: str) -> float:
        """0 where it is right."""
        if true == said:
            return 0.0
        return self.costs.get(true, {}).get(said, self.factors.get(true, 1.0))

    def matrix(self, true: Sequence[str], said: Sequence[str]) -> Floats:
        """[true classes, said classes] what it costs to say one for the other."""
        rows = [[self.cost(a, b) for b in said] for a in true]
        return np.array(rows, dtype=np.float64).reshape(len(true), len(said))

    def threshold(self, looked_for: str, other: str) -> float:
        """Of two classes: the probability from which `looked_for` is said; above 1 for never."""
        alarm, missed = self.cost(other, looked_for), self.cost(looked_for, other)
        return alarm / (alarm + missed) if alarm + missed > 0 else 0.5

    def in_words(self, classes: Sequence[str], positive_class: str | None) -> str:
        """The rule as people read it, such as "costs: yes from 0.05"."""
        if len(classes) == 2:
            shown, other = looked_for(self, classes, positive_class)
            return f"{self.why}: {shown} from {self.threshold(shown, other):.3g}"
        named = {name: self.factors[name] for name in classes if name in self.factors}
        factors = ", ".join(f"{name} x{factor:.3g}" for name, factor in named.items())
        return f"{self.why}: {factors}" if factors and len(factors) < 200 else self.why


def looked_for(
    rule: DecisionRule, classes: Sequence[str], positive_class: str | None
) -> tuple[str, str]:
    """Of two classes the one that is shown, and the other: without a positive class the one whose
    threshold is lower; of equals the second."""
    first, second = classes
    if positive_class not in classes:
        lower = rule.threshold(first, second) < rule.threshold(second, first)
        positive_class = first if lower else second
    return (second, first) if positive_class == second else (first, second)


def chosen(predicted: pd.DataFrame, rule: DecisionRule | None) -> Places:
    """[records] the place of the class that is the answer, among the columns of `predicted`.

    Each record is decided by itself. With a rule the probabilities count as the predictions table
    shows them, with 6 digits; of classes that cost the same, the most probable one is said.
    """
    values = predicted.to_numpy(dtype=np.float64)
    if rule is None:
        return values.argmax(axis=1)
    names = [str(name) for name in predicted.columns]
    return least_cost(values.round(DIGITS), rule.matrix(names, names))


def least_cost(values: Floats, costs: Floats) -> Places:
    """[records] the class of least expected cost; values: [records, classes] probabilities."""
    expected = np.zeros_like(values)
    for place, row in enumerate(costs):  # no matrix product: its last digits hang on the batch
        expected += values[:, [place]] * row
    near = expected <= expected.min(axis=1, keepdims=True) + TIE * costs.max(initial=1.0)
    return np.where(near, values, -1.0).argmax(axis=1)


# -- what a model's manifest keeps ----------------------------------------------------------------


def rule_of(spec: DatasetSpec, manifest: Mapping[str, Any]) -> DecisionRule | None:
    """How the answers of a stored model are decided, by the YAML as it is now; None: plainly.

    `costs` hold for any model at once. Without them, what the model's training learnt holds
    (`decision` in its manifest); a model of before there were decisions has none.
    Raises ModelError (decision_invalid) if the manifest's is not one that training wrote.
    """
    if spec.is_regression:
        return None
    if spec.costs is not None:
        return DecisionRule("costs", costs=spec.costs)
    document = manifest.get("decision")
    if document is None:
        return None
    try:
        factors = {str(name): float(factor) for name, factor in document["factors"].items()}
        if not all(0 < factor < np.inf for factor in factors.values()):
            raise ValueError("a factor is no number above 0")
        return DecisionRule(str(document["why"]), factors=factors)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            code="decision_invalid",
            what=f"the stored decision cannot be read: {error}",
            todo="Train and promote the model again.",
        ) from None


def asked_for(spec: DatasetSpec) -> str:
    """What the YAML wants a training to learn the decision from, in words; "" for nothing."""
    if spec.costs is not None or spec.is_regression:
        return ""
    if isinstance(spec.decide_for, dict):
        [(name, least)] = spec.decide_for.items()
        return f"{name} of {spec.positive_class} at least {least:g}"
    if spec.decide_for is not None:
        of = f" of {spec.positive_class}" if spec.decide_for == "f1" else ""
        return f"best {spec.decide_for.replace('_', ' ')}{of}"
    return "class weights" if spec.class_weights is not None else ""


def decides_otherwise(spec: DatasetSpec, manifest: Mapping[str, Any]) -> str:
    """How a model's learnt decision is another than the YAML asks for now, in words; or "".

    It goes on deciding as it learnt to until the next training. `costs` need none.
    """
    learnt, asked = (manifest.get("decision") or {}).get("why", ""), asked_for(spec)
    if spec.costs is not None or spec.is_regression or learnt == asked:
        return ""
    plain = "the most probable class"
    return f"it decides for {learnt or plain}, the YAML asks for {asked or plain}: run `mm train`"
