"""Tuning: the hyperparameters of an engine that do best on records which no one holds out.

Each trial trains the engine with other hyperparameters and is judged on the tuning records, or by
cross-validation. Optuna's TPE sampler (Bergstra et al. 2011) proposes them. Every trial is written
to the lake once it is over, and what trial n tries is a function of the trials before it and the
seed alone. So a study that was cut off goes on where it stopped, exactly as if it had run through.

What decides is the dataset's `metric`; where none is named, the log loss, or for regression the
mean absolute error. Not the accuracy: it moves in steps of one record, so many trials tie, while
the log loss tells a better model from a luckier one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

from mm_assets.contract.dataset import IMAGE, DatasetSpec, Modality
from mm_assets.contract.decisions import LOWER_IS_BETTER
from mm_assets.contract.engine_spec import EngineSpec, Tuning
from mm_assets.contract.errors import ModelError
from mm_assets.contract.packages import optional
from mm_assets.engines.make import make_engine
from mm_assets.engines.protocol import Progress, Task, Vectors
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import dataset_prefix
from mm_assets.lake.local import working_folder
from mm_assets.training.decide import decided_by, learnt_weights, refuse_one_image, unseen_answers
from mm_assets.training.evaluation import evaluate
from mm_assets.training.tuning_pictures import history_picture, importance_picture
from mm_assets.training.tuning_trials import (
    FAILED,
    FINISHED,
    Parameters,
    Space,
    Trial,
    as_table,
    forget,
    record,
    recorded,
    same_as_before,
)

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

PARTS = ("training", "tuning", "judging")  # of a division
FORMAT = 1  # of a trial's document; another number starts every study anew
EARLY_STOPPING_SHARE = 0.15  # of the records that an engine of a fold learns from
# What is wrong with the machine or the YAML and not with a trial's hyperparameters.
NOT_OF_A_TRIAL = (
    "package_missing", "engine_missing", "engine_step_missing", "backbone_differs",
    "backbone_incomplete", "backbone_unreachable", "class_weights_not_used", "images_not_pooled",
)  # fmt: skip


@dataclass(frozen=True)
class TuningResult:
    """What tuning found.

    hyperparameters: those of the YAML with the best ones over them; value: the best trial's.
    trials: number, state, value, seconds, a column for each hyperparameter, reason.
    pictures: name to PNG.
    """

    study: str
    metric: str
    value: float
    best: int
    hyperparameters: Parameters
    n_done: int
    n_failed: int
    tuning: Tuning
    trials: pa.Table
    pictures: dict[str, bytes] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """What the model's manifest keeps of it."""
        search = self.tuning.model_dump(mode="json", exclude_defaults=True)["search"]
        return {
            "study": self.study,
            "metric": self.metric,
            "value": self.value,
            "best_trial": self.best,
            "hyperparameters": self.hyperparameters,
            "trials": self.n_done,
            "failed_trials": self.n_failed,
            "folds": self.tuning.folds,
            "search": search,
        }


def tune(
    lake: Lake,
    spec: DatasetSpec,
    modality: Modality,
    chosen: EngineSpec,
    parts: Mapping[str, pd.DataFrame],
    groups: Mapping[str, Sequence[str]],
    *,
    training_fingerprint: str,
    progress: Progress,
    vectors: Vectors | None = None,
) -> TuningResult:
    """Search the hyperparameters that `chosen.tuning` names; continues what was begun before.

    parts: "training" and "tuning", frames with the feature columns and the label, and nothing
    else, since held-out records must not choose a model either; groups: the names of their rows'
    groups, which are the IDs of records that are alone.
    The first trial takes the hyperparameters as the YAML has them, so the best is never worse than
    that on the judging records. A trial whose engine raises ModelError has failed; others go on.
    Raises ModelError: tuning_sees_holdout, tuning_not_judged, search_space_unfit, tuning_failed,
    package_missing, and what an engine says that no other hyperparameters would change.
    """
    tuning = chosen.tuning
    if tuning is None:
        raise ValueError("the engine has no `tuning`")
    optional("optuna", "tuning", "tuning")
    metric = _metric(spec)
    divisions = _divided(spec, modality, tuning.folds, parts, groups)
    judge = _Judge(spec, modality, chosen, metric, divisions, vectors)
    space = Space(tuning, chosen.hyperparameters, chosen.seed, metric in LOWER_IS_BETTER)
    study = _study_name(spec, modality, chosen, training_fingerprint)
    prefix = f"{dataset_prefix(spec.dataset)}tuning/{modality.value}/{study}/"
    trials = recorded(lake, prefix)
    if trials:
        progress(f"going on after {len(trials)} trials that were made before")
    while space.goes_on(trials):
        number, parameters = len(trials) + 1, space.next(trials)
        trial = same_as_before(trials, number, parameters) or judge.trial(number, parameters)
        trials.append(record(lake, prefix, trial))
        progress(_told(trials, space, metric))
    best = space.best(trials)
    if best is None:
        forget(lake, prefix, trials)  # so that the next try begins anew, once the cause is mended
        raise ModelError(
            code="tuning_failed",
            what=f"all {len(trials)} trials failed; the first one: {trials[0].reason}",
            where=_where(spec, modality),
            todo="Correct what it says, or take `tuning` out of the dataset's YAML.",
        )
    return _result(study, judge, space, trials, best)


def _where(spec: DatasetSpec, modality: Modality) -> str:
    return f"{spec.dataset}/model_{modality.value}, tuning"


def _metric(spec: DatasetSpec) -> str:
    return spec.metric or ("mean_absolute_error" if spec.is_regression else "log_loss")


# -- judging --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Division:
    training: pd.DataFrame
    tuning: pd.DataFrame  # for early stopping
    judging: pd.DataFrame
    groups: list[str]  # of the training records, then of those for early stopping


@dataclass(frozen=True)
class _Judge:
    """Trains an engine with given hyperparameters on each division, and says how good it is."""

    spec: DatasetSpec
    modality: Modality
    chosen: EngineSpec
    metric: str
    divisions: list[_Division]
    vectors: Vectors | None

    def merged(self, parameters: Parameters) -> Parameters:
        return {**self.chosen.hyperparameters, **parameters}

    def trial(self, number: int, parameters: Parameters) -> Trial:
        """One trial, finished or failed. Raises ModelError where no other trial could do better."""
        started = perf_counter()
        try:
            values = [self._value(division, parameters) for division in self.divisions]
        except ModelError as error:
            self._stop_at(error, parameters)
            reason = f"[{error.code}] {error.what}"
            return Trial(number, parameters, FAILED, None, perf_counter() - started, reason)
        value = sum(values) / len(values)
        return Trial(number, parameters, FINISHED, value, perf_counter() - started)

    def _value(self, division: _Division, parameters: Parameters) -> float:
        columns, label = self.spec.features(self.modality), self.spec.label_column
        training, tuning = division.training.copy(), division.tuning.copy()
        engine = make_engine(self.chosen, self.merged(parameters), vectors=self.vectors)
        refuse_one_image(self.spec, self.modality, engine)
        weights = learnt_weights(self.spec, engine, {"training": training, "tuning": tuning})
        task = Task(training, tuning, columns, label, self.spec.problem_type, self.spec.metric,
                    weights, division.groups)  # fmt: skip
        with working_folder("tuning") as folder:
            engine.train(task, folder, lambda _: None)
            loaded = engine.load(folder)
            predicted = loaded.predict(division.judging[list(columns)].copy())
            rule = decided_by(self.spec, task, lambda: unseen_answers(task, engine, loaded)).rule
        evaluation = evaluate(
            division.judging[label],
            predicted,
            problem_type=self.spec.problem_type,
            training_labels=division.training[label],
            metric=self.metric,
            rule=rule,
            positive_class=self.spec.positive_class,
        )
        return evaluation.metrics[self.metric]

    def _stop_at(self, error: ModelError, parameters: Parameters) -> None:
        where = _where(self.spec, self.modality)
        if error.code in NOT_OF_A_TRIAL:
            raise error
        if error.code == "metric_not_measurable":
            raise ModelError(
                code="tuning_not_judged",
                what=f"trials cannot be judged: {error.what}",
                where=where,
                todo="Send more labelled records, so that every class is among the judging "
                "records, set fewer `folds`, or choose another `metric`.",
            ) from error
        if error.code == "hyperparameter_unknown":
            # The first that it names; others may follow as a suggestion.
            places = {name: error.what.find(repr(name)) for name in parameters}
            named = [name for name in parameters if places[name] >= 0]
            if not named:  # it is in `hyperparameters`, not in the search space
                raise error
            raise ModelError(
                code="search_space_unfit",
                what=f"the search space does not fit the engine: {error.what}",
                where=f"{where}.search: {min(named, key=places.__getitem__)}",
                todo="Take it out, or correct its name.",
            ) from error


def _divided(
    spec: DatasetSpec,
    modality: Modality,
    folds: int,
    parts: Mapping[str, pd.DataFrame],
    groups: Mapping[str, Sequence[str]],
) -> list[_Division]:
    """What each engine of a trial learns from, stops early by, and is judged on.

    Where the model is for records with an image, it is judged on those alone.
    """
    where = _where(spec, modality)
    if {*parts, *groups} != {"training", "tuning"}:
        raise ModelError(
            code="tuning_sees_holdout",
            what=f"tuning was handed the parts {', '.join(sorted({*parts, *groups}))}",
            where=where,
            todo="This is a fault of the program, report it: it may see `training` and `tuning`.",
        )
    if folds == 1:
        names = [name for part in ("training", "tuning") for name in groups[part]]
        divisions = [_Division(parts["training"], parts["tuning"], parts["tuning"], names)]
    else:
        divisions = _folds(parts, groups, folds)
    if modality is Modality.WITH_IMAGE:
        divisions = [
            replace(one, judging=one.judging[one.judging[IMAGE].notna()]) for one in divisions
        ]
    for number, one in enumerate(divisions, start=1):
        for name in PARTS:
            if getattr(one, name).empty:
                raise ModelError(
                    code="tuning_not_judged",
                    what=f"there are no records for {name} in part {number} of {folds}",
                    where=where,
                    todo="Send more labelled records, or set fewer `folds` in the dataset's YAML.",
                )
    return [
        replace(one, **{name: getattr(one, name).reset_index(drop=True) for name in PARTS})
        for one in divisions
    ]


def _folds(
    parts: Mapping[str, pd.DataFrame], groups: Mapping[str, Sequence[str]], folds: int
) -> list[_Division]:
    """Cross-validation over all parts. A record's fold is a function of its group's name alone."""
    import numpy as np
    import pandas as pd

    names = ("training", "tuning")
    records = pd.concat([parts[name] for name in names], ignore_index=True)
    together = np.array([group for name in names for group in groups[name]], dtype=object)
    places = [_places(group) for group in together]
    fold = np.array([int(place * folds) for place, _ in places])
    early = np.array([place < EARLY_STOPPING_SHARE for _, place in places])
    return [
        _Division(
            records[(fold != number) & ~early],
            records[(fold != number) & early],
            records[fold == number],
            [*together[(fold != number) & ~early], *together[(fold != number) & early]],
        )
        for number in range(folds)
    ]


def _places(name: str) -> tuple[float, float]:
    """Two numbers from 0 to below 1, from parts of the hash that the split does not look at."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    fold, early = (int.from_bytes(digest[start : start + 6], "big") for start in (16, 24))
    return fold / 2**48, early / 2**48


def _study_name(
    spec: DatasetSpec, modality: Modality, chosen: EngineSpec, training_fingerprint: str
) -> str:
    """What changes a trial's value or what is tried; the budget does not (16 hex digits)."""
    engine = chosen.model_dump(mode="json")
    for name in ("trials", "seconds"):
        del engine["tuning"][name]
    what = {
        "format": FORMAT,
        "training": training_fingerprint,
        "engine": engine,
        "columns": list(spec.features(modality).items()),
        "problem_type": spec.problem_type,
        "metric": _metric(spec),
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


# -- telling --------------------------------------------------------------------------------------


def _told(trials: Sequence[Trial], space: Space, metric: str) -> str:
    """One line about the last trial."""
    trial, best = trials[-1], space.best(trials)
    if trial.value is None or best is None:
        outcome = f"failed: {trial.reason}"
    else:
        outcome = f"{metric.replace('_', ' ')} {trial.value:.4g} (best {best.value:.4g})"
    named = [f"{name} {_written(value)}" for name, value in trial.parameters.items()]
    if trial.number == 1:
        named.append("as the YAML has it")
    return ", ".join([f"trial {trial.number} of {space.tuning.trials}: {outcome}", *named])


def _written(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _result(
    study: str, judge: _Judge, space: Space, trials: Sequence[Trial], best: Trial
) -> TuningResult:
    values = [trial.value for trial in trials]
    n_done = sum(trial.state == FINISHED for trial in trials)
    drawn = history_picture(values, judge.metric, lower_is_better=space.lower_is_better)
    pictures = {"tuning history": drawn}
    if found := space.importance(trials):
        pictures["hyperparameter importance"] = importance_picture(*found)
    return TuningResult(
        study=study,
        metric=judge.metric,
        value=cast("float", best.value),
        best=best.number,
        hyperparameters=judge.merged(best.parameters),
        n_done=n_done,
        n_failed=len(trials) - n_done,
        tuning=space.tuning,
        trials=as_table(trials, space.tuning),
        pictures=pictures,
    )
