"""The rules engine: formulas that people wrote, checked against the labelled records.

    hyperparameters:
      rules:                      # the first that holds decides
        - {when: image_laplacian_variance < threshold, then: blurred}
      otherwise: sharp
      threshold: 100              # every other key is a parameter of the formulas

or, for regression, `value: formula`. Training changes no rule. It learns how often each is right,
which becomes its probability. A model is one JSON file.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mm_assets.engines.protocol import Progress, Task
from mm_assets.engines.rules.formulas import Formulas
from mm_assets.engines.shared.engine_file import read_record, reading, write_record
from mm_assets.engines.shared.guards import (
    check_columns,
    check_images,
    finite_numbers,
    with_known_classes,
)
from mm_assets.engines.shared.prepared import classes_of, with_images
from mm_assets.engines.shared.refusals import (
    nearest,
    refuse,
    refuse_hyperparameter,
    refuse_value,
)
from mm_assets.engines.shared.spellings import Spellings

ENGINE = "rules"
FORMAT = 1
CLEAR = 1e-3  # by how much the answer of a rule that was never right stays above the average
_STRUCTURE = ("rules", "otherwise", "value")


class RulesEngine:
    """Decides by the formulas in `hyperparameters`; see the top of this module.

    A formula is one SQL expression in DuckDB's dialect, over columns and parameters under exactly
    their names. A rule whose formula is NULL (a value it needs is missing, or it cannot be
    computed for this record) does not hold. A category equals a word, also that of a parameter,
    that is the same by contract/spellings.py. `time_limit` and `seed` have nothing to decide.
    """

    pools_images = True  # it looks at none

    def __init__(
        self,
        *,
        hyperparameters: dict[str, Any] | None = None,
        time_limit: float | None = None,
        seed: int = 0,
    ) -> None:
        self.hyperparameters = dict(hyperparameters or {})
        self.time_limit = time_limit
        self.seed = seed

    def train(self, task: Task, directory: Path, progress: Progress) -> None:
        """As `Engine.train`: count how often each rule is right in the training records.

        Raises ModelError: records_missing, classes_differ, label_missing, number_not_finite,
        rule_invalid, rule_column_unknown, rule_class_unknown, hyperparameter_unknown,
        hyperparameter_invalid.
        """
        started = time.monotonic()
        record = {
            "format": FORMAT,
            "engine": ENGINE,
            "columns": [[column, kind] for column, kind in task.columns.items()],
            **_read(self.hyperparameters, task.is_regression),
        }
        formulas = _formulas(record)
        _refuse_unused(record["parameters"], formulas)
        used = {column: kind for column, kind in task.columns.items() if column in formulas.names}
        record["spellings"] = Spellings.learn([task.training, task.tuning], used)[0].to_json()
        formulas = _formulas(record)
        task = with_known_classes(with_images(task))
        truth, classes = task.training[task.label].to_numpy(), classes_of(task)
        values = _checked(task.training, task.columns, formulas)
        if classes is None:
            record |= {"classes": None, "fallback": float(np.median(truth))}
        else:
            named = [*(rule["then"] for rule in record["rules"]), record["otherwise"]]
            _refuse_unknown(named, classes)
            decided = _deciding(formulas, values, len(truth))
            table, lines = _calibrated(decided, truth, named, classes)
            record |= {"classes": classes, "probabilities": table}
            for line in lines:
                progress(line)
        write_record(directory, record)
        progress(f"judged on {len(truth)} records in {time.monotonic() - started:.0f} s")

    def load(self, directory: Path) -> RulesPredictor:
        """What `train` wrote, from wherever it lies now. Raises ModelError (model_unreadable)."""
        with reading(directory):
            return RulesPredictor(read_record(directory, ENGINE, FORMAT))


class RulesPredictor:
    """A loaded model. `classes` are the probability columns in order, None for regression."""

    def __init__(self, record: dict[str, Any]) -> None:
        self.classes: list[str] | None = record["classes"]
        self.columns: dict[str, str] = dict(record["columns"])
        self._record = record
        self._formulas = _formulas(record)

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """As `Predictor.predict`: probabilities of the deciding rule, or the formula's value.

        Where the formula of a regression has no finite value, it is the median of training.
        Raises ModelError (model_columns_differ, number_not_finite, image_missing).
        """
        check_columns(frame, self.columns)
        values = _checked(frame, self.columns, self._formulas)
        if self.classes is None:
            found = self._formulas.numbers(values, len(frame))
            found = np.where(np.isfinite(found), found, self._record["fallback"])
            return pd.DataFrame({"value": found}, index=frame.index)
        table = np.array(self._record["probabilities"])
        decided = _deciding(self._formulas, values, len(frame))
        return pd.DataFrame(table[decided], index=frame.index, columns=self.classes)

    def reasons(self, frame: pd.DataFrame) -> list[str]:
        """The formula that decided, with the values that it saw."""
        formulas = self._formulas.formulas
        rows = frame.to_dict("records")
        if self.classes is None:
            return [formulas[0].with_values(row, self._record["parameters"]) for row in rows]
        values = _checked(frame, self.columns, self._formulas)
        decided = _deciding(self._formulas, values, len(frame))
        return [self._reason(int(rule), row) for rule, row in zip(decided, rows, strict=True)]

    def _reason(self, rule: int, row: dict[Any, Any]) -> str:
        formulas, parameters = self._formulas.formulas, self._record["parameters"]
        if rule < len(formulas):
            return formulas[rule].with_values(row, parameters)
        if len(formulas) == 1:
            return f"not: {formulas[0].with_values(row, parameters)}"
        return f"none of the {len(formulas)} rules holds"


# -- what the YAML says ---------------------------------------------------------------------------


def _read(given: dict[str, Any], is_regression: bool) -> dict[str, Any]:
    """`rules` (a list of when and then), `otherwise`, `value` and `parameters`."""
    wanted = ("value",) if is_regression else ("rules", "otherwise")
    for name in _STRUCTURE:
        if (name in given) != (name in wanted):
            needed = "`value: formula`" if is_regression else "`rules` and `otherwise`"
            kind = "a regression" if is_regression else "a problem of classes"
            refuse_value(f"{kind} needs {needed}, and none of {_STRUCTURE} besides", ENGINE)
    parameters = {name: value for name, value in given.items() if name not in _STRUCTURE}
    for name, value in parameters.items():
        if not isinstance(value, str | bool | int | float):
            refuse_value(f"the parameter {name} is {value!r}: use a number or a word", ENGINE)
    read: dict[str, Any] = {"parameters": parameters, "rules": [], "otherwise": None, "value": None}
    if is_regression:
        return read | {"value": str(given["value"])}
    rules = given["rules"]
    if not isinstance(rules, list) or not rules:
        refuse_value("`rules` is no list of {when: formula, then: class}", ENGINE)
    for number, rule in enumerate(rules, 1):
        if not isinstance(rule, dict) or rule.keys() != {"when", "then"}:
            refuse_value(f"rule {number} is not {{when: formula, then: class}}", ENGINE)
        when = rule["when"]
        formula = str(when).lower() if isinstance(when, bool) else str(when)
        read["rules"].append({"when": formula, "then": _class_name(rule["then"])})
    return read | {"otherwise": _class_name(given["otherwise"])}


def _class_name(given: Any) -> str:
    if given is None or isinstance(given, bool | list | dict):
        refuse_value(f"the class {given!r} is no word; YAML reads yes and no so: quote it", ENGINE)
    return str(given)


def _refuse_unused(parameters: dict[str, Any], formulas: Formulas) -> None:
    unused = parameters.keys() - formulas.names
    if unused:
        known = {*_STRUCTURE, *formulas.names & parameters.keys()}
        refuse_hyperparameter(min(unused), known, ENGINE)


def _refuse_unknown(named: list[str], classes: list[str]) -> None:
    for name in named:
        if name not in classes:
            refuse(
                "rule_class_unknown",
                f"a rule says {name!r}, which no training record is; {nearest(name, classes)}",
                "Write it as it stands in the label column, or send such records.",
                f"the engine {ENGINE}",
            )


def _formulas(record: dict[str, Any]) -> Formulas:
    texts = {f"rule {n}": rule["when"] for n, rule in enumerate(record["rules"], 1)}
    if record["value"] is not None:
        texts = {"value": record["value"]}
    kinds = {column: kind for column, kind in record["columns"] if kind != "image"}
    known = Spellings.from_json(record.get("spellings")).columns
    return Formulas(
        texts, kinds, record["parameters"],
        boolean=record["value"] is None, engine=ENGINE, known=known,
    )  # fmt: skip


# -- what the records say -------------------------------------------------------------------------


def _checked(
    frame: pd.DataFrame, columns: dict[str, str], formulas: Formulas
) -> dict[str, np.ndarray]:
    """The values of the columns that formulas use, once all columns are fit to be seen."""
    values: dict[str, np.ndarray] = {}
    for column, kind in columns.items():
        if kind == "image":
            check_images(frame[column], column)
        elif kind == "number":
            values[column] = finite_numbers(frame[column], column)
        else:
            values[column] = frame[column].to_numpy(dtype=object)
    return {column: found for column, found in values.items() if column in formulas.names}


def _deciding(formulas: Formulas, values: dict[str, np.ndarray], count: int) -> np.ndarray:
    """[records] the number of the first rule that holds; one past the last, where none does."""
    holds = formulas.booleans(values, count)
    none = np.ones((len(holds), 1), dtype=bool)
    return np.concatenate([holds, none], axis=1).argmax(axis=1)


def _calibrated(
    decided: np.ndarray, truth: np.ndarray, named: list[str], classes: list[str]
) -> tuple[list[list[float]], list[str]]:
    """Each rule's probabilities of the classes, and how it did, in words.

    A share is smoothed by one imagined record of each class (Laplace). Whatever the records say,
    the class that a rule names stays the most probable: a rule decides.
    """
    table, lines = [], []
    for number, name in enumerate(named):
        right, seen = classes.index(name), truth[decided == number]
        counts = np.array([(seen == one).sum() for one in classes], dtype=np.float64)
        shares = (counts + 1) / (len(seen) + len(classes))
        lowest = 1 / len(classes) + CLEAR * (1 - 1 / len(classes))
        certain = max(shares[right], lowest)
        others = np.delete(shares, right)
        others *= (1 - certain) / others.sum()
        # Where one of the others would win, all of them are drawn to their mean as far as needed.
        mean, highest = others.mean(), certain - CLEAR / 4
        if others.max() > highest:
            others = mean + (others - mean) * (highest - mean) / (others.max() - mean)
        table.append(np.insert(others, right, certain).tolist())
        what = f"rule {number + 1}" if number < len(named) - 1 else "otherwise"
        lines.append(f"{what}: {name}, right in {int(counts[right])} of {len(seen)} records")
    return table, lines
