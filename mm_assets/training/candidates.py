"""The candidates of one training: every engine that the YAML names, trained and evaluated alike.

Each learns from the same records, its hyperparameters tuned where the YAML asks for it, and is
judged by what it stored on the same held-out records. Which of them is kept is said in train.py.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.engine_spec import EngineSpec
from mm_assets.contract.errors import ModelError
from mm_assets.contract.review import Tolerance
from mm_assets.display.cells import written_out
from mm_assets.doubt.calibration import Calibration
from mm_assets.doubt.confidence import with_sureness
from mm_assets.engines.make import make_engine
from mm_assets.engines.protocol import Progress, Task
from mm_assets.engines.shared.spellings import spelled
from mm_assets.engines.shared.stopping import Stopped, interruptible, is_asked, learning
from mm_assets.lake.lake import Lake
from mm_assets.training.budget import within_budget
from mm_assets.training.calibrate import as_sure_as_right, calibrated, kept_promise
from mm_assets.training.decide import (
    Decided,
    decided_by,
    learnt_weights,
    refuse_one_image,
    unseen_answers,
)
from mm_assets.training.decision import DecisionRule
from mm_assets.training.evaluation import Evaluation, evaluate
from mm_assets.training.leaderboard import Leaderboard, leaderboard_of
from mm_assets.training.records import SEEN, TrainingRecords

if TYPE_CHECKING:
    import pandas as pd

    from mm_assets.training.tuning import TuningResult


@dataclass(frozen=True)
class Candidate:
    """One engine that was trained and evaluated; `engine` has the hyperparameters it ended with."""

    name: str
    engine: EngineSpec
    folder: Path
    predicted: pd.DataFrame
    evaluation: Evaluation
    seconds: float
    tuning: TuningResult | None
    leaderboard: Leaderboard
    decided: Decided
    calibration: Calibration
    promise: dict[str, Any]


def names_of(candidates: tuple[EngineSpec, ...]) -> list[str]:
    """A name for each engine: its own, with a number where one competes with itself."""
    engines = [chosen.engine for chosen in candidates]
    return [
        engine if engines.count(engine) == 1 else f"{engine} {engines[:place].count(engine) + 1}"
        for place, engine in enumerate(engines)
    ]


def compete(
    lake: Lake,
    spec: DatasetSpec,
    modality: Modality,
    data: TrainingRecords,
    folder: Path,
    progress: Progress,
    minutes: float | None,
) -> tuple[list[Candidate], dict[str, str]]:
    """Train every engine: the candidates, and why others could not learn. Raises if none could.

    Ctrl-C in the middle keeps what there is, and raises KeyboardInterrupt where there is nothing.
    """
    trained: list[Candidate] = []
    failures: dict[str, ModelError] = {}
    candidates = within_budget(spec, modality, minutes)
    for name, chosen in zip(names_of(candidates), candidates, strict=True):
        if is_asked():
            failures[name] = not_learnt(name)
            continue
        own = folder / name.replace(":", "-").replace(" ", "-")
        own.mkdir()
        try:
            done = _candidate(
                lake, spec, modality, data, name, chosen, own, progress, first=not trained
            )
            trained.append(done)
        except Stopped:
            failures[name] = not_learnt(name)
        except ModelError as error:
            if len(candidates) == 1:
                raise
            progress(f"{modality}: {name} could not learn: {error}")
            failures[name] = error
    if not trained:
        if is_asked():
            raise KeyboardInterrupt
        raise next(iter(failures.values()))
    return trained, {name: str(error) for name, error in failures.items()}


def not_learnt(what: str) -> ModelError:
    return ModelError(
        code="training_stopped",
        what=f"{what} has not learnt: the training was stopped by Ctrl-C",
        todo="Run `mm train` again.",
    )


def _candidate(
    lake: Lake,
    spec: DatasetSpec,
    modality: Modality,
    data: TrainingRecords,
    name: str,
    chosen: EngineSpec,
    folder: Path,
    progress: Progress,
    *,
    first: bool,
) -> Candidate:
    """Tune and train one engine, and evaluate what it stored on the held-out records.

    first: nothing is trained yet that could be kept if this one is stopped.
    """
    began = time.monotonic()

    def said(words: str) -> None:
        progress(f"{modality}: {name}: {words}")

    tuning = _tuned(lake, spec, modality, data, chosen, said)
    if tuning is not None:
        chosen = chosen.model_copy(update={"hyperparameters": tuning.hyperparameters})
    engine = make_engine(chosen, vectors=data.vectors)
    refuse_one_image(spec, modality, engine)
    task = Task(
        data.parts["training"],
        data.parts["tuning"],
        spec.features(modality),
        spec.label_column,
        spec.problem_type,
        spec.metric,
        learnt_weights(spec, engine, data.parts),
        [name for part in SEEN for name in data.groups[part]],
    )
    with learning(), nullcontext() if first else interruptible():
        engine.train(task, folder, said)
    if is_asked():
        said("stopped; the best so far is kept and judged, and a second Ctrl-C ends that, too")
    # Loaded again from its files, so that what is evaluated is what is stored.
    loaded = spelled(engine.load(folder), data.spellings)
    sureness, unseen = as_sure_as_right(spec, chosen.engine, unseen_answers(task, engine, loaded))
    loaded = with_sureness(loaded, sureness)
    decided = decided_by(spec, task, lambda: unseen)
    predicted = loaded.predict(data.parts["holdout"])
    evaluation = evaluated(spec, data, predicted, decided.rule)
    tolerance = spec.tolerance or Tolerance(evaluation.baseline.get("mean_absolute_error", 0.0))
    calibration = calibrated(spec, unseen, decided.rule, sureness, tolerance)
    said(f"{evaluation.metric} {written_out(evaluation.metrics[evaluation.metric])}")
    seconds = time.monotonic() - began
    board = leaderboard_of(
        loaded,
        evaluation,
        data.parts["holdout"],
        partial(evaluated, spec, data, rule=decided.rule),
    )
    promise = kept_promise(spec, calibration, predicted, data.truth, decided.rule)
    return Candidate(
        name, chosen, folder, predicted, evaluation, seconds, tuning, board, decided, calibration,
        promise,
    )  # fmt: skip


def _tuned(
    lake: Lake,
    spec: DatasetSpec,
    modality: Modality,
    data: TrainingRecords,
    chosen: EngineSpec,
    said: Progress,
) -> TuningResult | None:
    if chosen.tuning is None:
        return None
    from mm_assets.training.tuning import tune

    return tune(
        lake,
        spec,
        modality,
        chosen,
        {part: data.parts[part] for part in SEEN},
        {part: data.groups[part] for part in SEEN},
        training_fingerprint=data.document["fingerprint"],
        progress=said,
        vectors=data.vectors,
    )


def evaluated(
    spec: DatasetSpec, data: TrainingRecords, predicted: pd.DataFrame, rule: DecisionRule | None
) -> Evaluation:
    return evaluate(
        data.truth,
        predicted,
        problem_type=spec.problem_type,
        training_labels=data.learned_from(spec.label_column),
        metric=spec.judged_by,
        rule=rule,
        positive_class=spec.positive_class,
    )
