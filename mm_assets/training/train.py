"""From the training set to a trained, evaluated, stored and perhaps promoted model.

Where the YAML names several engines for one modality, each is a candidate (candidates.py), and the
best of them faces the champion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.errors import MMError, ModelError
from mm_assets.doubt.familiar import Familiar
from mm_assets.doubt.pictures import review_picture
from mm_assets.doubt.promise import Curve
from mm_assets.engines.protocol import Progress
from mm_assets.engines.shared.stopping import is_asked
from mm_assets.lake.lake import Lake
from mm_assets.lake.local import working_folder
from mm_assets.registry.loading import load_model
from mm_assets.registry.store import Champion, ModelStore, StoredModel
from mm_assets.training.calibrate import answered
from mm_assets.training.candidates import Candidate, compete, evaluated, not_learnt
from mm_assets.training.decide import (
    refuse_other_classes,
)
from mm_assets.training.decision import rule_of
from mm_assets.training.decision_picture import decision_picture
from mm_assets.training.evaluation import Evaluation, reliability
from mm_assets.training.evaluation_pictures import (
    calibration_picture,
    confusion_picture,
    residual_picture,
)
from mm_assets.training.familiar import learn_familiar
from mm_assets.training.gate import Decision, gate
from mm_assets.training.leaderboard import (
    Leaderboard,
    image_adds,
)
from mm_assets.training.leaderboard_picture import leaderboard_picture
from mm_assets.training.records import TrainingRecords, read_records

if TYPE_CHECKING:
    from mm_assets.training.tuning import TuningResult


@dataclass(frozen=True)
class TrainingResult:
    """What became of one training. `champion` is set only if the new model was promoted.

    `candidates` has one row an engine: its name, the seconds it took, and its metrics or, under
    `failure`, why it has none. `rule` says how classes are decided; "" for the most probable one.
    """

    version: str
    engine: str
    evaluation: Evaluation
    decision: Decision
    champion: Champion | None
    pictures: dict[str, bytes]
    counts: dict[str, int]
    candidates: list[dict[str, Any]]
    tunings: dict[str, TuningResult] = field(default_factory=dict)
    tracked: str = ""
    warnings: tuple[str, ...] = ()
    stopped: bool = False  # by Ctrl-C, so that it is the best so far
    leaderboard: Leaderboard = field(default_factory=lambda: Leaderboard([]))
    rule: str = ""
    promise: dict[str, Any] = field(default_factory=dict)


def train_model(
    lake: Lake,
    models: ModelStore,
    spec: DatasetSpec,
    modality: Modality,
    *,
    run_id: str,
    progress: Progress,
    tracking_uri: str | None = None,
    minutes: float | None = None,
) -> TrainingResult:
    """Train on the published training set, evaluate, store, and promote through the gate.

    Raises ModelError, before anything is stored, when there is too little to learn from or no
    engine could learn. With `tracking_uri`, MLflow is told; if it can't be, that is a warning.
    minutes: for all models of the dataset together (budget.py).
    """
    if is_asked():  # while another model of the dataset learnt
        raise not_learnt(modality.value)
    models.refuse_unable(modality)
    data = read_records(lake, spec, modality)
    refuse_other_classes(spec, data.parts)
    with working_folder("model") as folder:
        trained, failures = compete(lake, spec, modality, data, folder, progress, minutes)
        best = max(trained, key=lambda one: one.evaluation.score)  # the first of equals
        if modality is Modality.WITH_IMAGE:
            best.leaderboard.image_adds = image_adds(
                models, spec, data.parts["holdout"], best.evaluation,
                partial(evaluated, spec, data, rule=best.decided.rule),
            )  # fmt: skip
        if words := best.leaderboard.image_words:
            progress(f"{modality}: {words}")
        progress(f"{modality}: {best.promise['words']}")
        familiar = learn_familiar(spec, modality, data, best.engine, progress)
        for words in familiar.words if familiar else []:
            progress(f"{modality}: {words}")
        stored = models.save(
            modality, best.folder, _manifest(spec, modality, data, best, trained, run_id, familiar)
        )
        rival = _champion_evaluation(models, spec, modality, data, progress)
        decision = gate(best.evaluation, rival, spec.promotion_tolerance, spec.minimum_score)
        progress(f"{modality}: {decision.reason}")
        champion = None
        if decision.promote:
            champion = models.promote(
                modality,
                stored.version,
                decision.reason,
                manifest_sha256=stored.manifest_sha256,
            )
        pictures = _pictures(spec, data, best, trained)
        warnings = [*data.warnings, *(f"{name}: {why}" for name, why in failures.items())]
        warnings += [best.decided.warning] if best.decided.warning else []
        tracked = ""
        if tracking_uri:
            try:
                tracked = _track(
                    tracking_uri, models, spec, stored, run_id, trained, best, pictures,
                    promoted=champion is not None,
                )  # fmt: skip
            except MMError as error:
                warnings.append(f"not tracked: {error}")
    return TrainingResult(
        version=stored.version,
        engine=best.name,
        evaluation=best.evaluation,
        decision=decision,
        champion=champion,
        pictures=pictures,
        counts=data.counts,
        candidates=[*map(_row, trained), *_failed_rows(failures)],
        tunings={one.name: one.tuning for one in trained if one.tuning},
        tracked=tracked,
        warnings=tuple(warnings),
        stopped=is_asked(),
        leaderboard=best.leaderboard,
        rule=best.decided.in_words(best.evaluation.classes or [], spec.positive_class),
        promise=best.promise,
    )


# -- the champion ---------------------------------------------------------------------------------


def _champion_evaluation(
    models: ModelStore,
    spec: DatasetSpec,
    modality: Modality,
    data: TrainingRecords,
    progress: Progress,
) -> Evaluation | None:
    """How the champion does on the same held-out records; None where there is none to beat."""
    champion = models.champion(modality)
    if champion is None:
        return None
    try:
        loaded = load_model(models, spec, modality, champion, data.vectors)
        predicted = loaded.predict(data.parts["holdout"])
        rule = rule_of(spec, models.manifest(modality, champion.version))
    except ModelError as error:  # a lake that cannot be read is no reason to replace anything
        progress(f"{modality}: the champion cannot be used, so it is replaced: {error}")
        return None
    return evaluated(spec, data, predicted, rule)


# -- what is noted --------------------------------------------------------------------------------


def _manifest(
    spec: DatasetSpec,
    modality: Modality,
    data: TrainingRecords,
    best: Candidate,
    trained: list[Candidate],
    run_id: str,
    familiar: Familiar | None,
) -> dict[str, Any]:
    evaluation = best.evaluation
    return {
        "engine": best.engine.model_dump(mode="json"),
        "problem_type": spec.problem_type,
        "classes": evaluation.classes,
        "columns": spec.features(modality),
        "spellings": data.spellings.to_json(),
        "metric": evaluation.metric,
        "metrics": evaluation.metrics,
        "baseline": evaluation.baseline,
        "n": evaluation.n,
        "training_fingerprint": data.document["fingerprint"],
        "training_counts": data.counts,
        "spec_fingerprint": spec.fingerprint,
        "calibration": best.calibration.to_json(),
        "promise": best.promise,
        "familiar": familiar.keep(best.folder) if familiar else None,
        "decision": best.decided.document,
        "reliability": None
        if spec.is_regression
        else reliability(data.truth, best.predicted, best.decided.rule),
        "tuning": best.tuning.to_json() if best.tuning else None,
        "candidates": [_row(one) for one in trained],
        "run_id": run_id,
        "stopped_early": is_asked(),
        **best.leaderboard.to_json(),
    }


def _row(candidate: Candidate) -> dict[str, Any]:
    return {
        "name": candidate.name,
        "seconds": round(candidate.seconds, 1),
        "metrics": candidate.evaluation.metrics,
        "failure": "",
    }


def _failed_rows(failures: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {"name": name, "seconds": None, "metrics": {}, "failure": why}
        for name, why in failures.items()
    ]


def _pictures(
    spec: DatasetSpec, data: TrainingRecords, best: Candidate, trained: list[Candidate]
) -> dict[str, bytes]:
    pictures = {}
    if len(trained) > 1:
        from mm_assets.training.competition import competition_picture

        rows = [{**_row(one), "promoted": one is best} for one in trained]
        evaluation = best.evaluation
        pictures["candidates"] = competition_picture(
            rows, evaluation.metric, evaluation.baseline[evaluation.metric]
        )
    if png := leaderboard_picture(best.leaderboard.rows):
        pictures["leaderboard"] = png
    if png := _review_picture(spec, data, best):
        pictures["review"] = png
    if spec.is_regression:
        pictures["residuals"] = residual_picture(data.truth, best.predicted)
    else:
        rule = best.decided.rule
        pictures["confusion matrix"] = confusion_picture(data.truth, best.predicted, rule)
        if rule is not None and len(best.predicted.columns) == 2:
            pictures["threshold"] = decision_picture(
                data.truth, best.predicted, rule, spec.positive_class
            )
        pictures["calibration"] = calibration_picture(data.truth, best.predicted, rule)
    for one in trained:
        if one.tuning:
            named = {f"{what} ({one.name})": png for what, png in one.tuning.pictures.items()}
            pictures |= named
    return pictures


def _review_picture(spec: DatasetSpec, data: TrainingRecords, best: Candidate) -> bytes | None:
    """What the review queue gains, and how the promise stands to the held-out records."""
    calibration = best.calibration
    sure, right = answered(calibration, best.predicted, data.truth, best.decided.rule)
    held_out = Curve(sure.confidence, right, sure.width)
    return review_picture(calibration.curve, calibration.promise(spec.review), held_out)


def _track(
    uri: str,
    models: ModelStore,
    spec: DatasetSpec,
    stored: StoredModel,
    run_id: str,
    trained: list[Candidate],
    best: Candidate,
    pictures: dict[str, bytes],
    *,
    promoted: bool,
) -> str:
    """Tell MLflow of every candidate; returns where to look at the best one."""
    from mm_assets.registry.mlflow_model import write_trained
    from mm_assets.registry.tracking import track_training

    found = ""
    with working_folder("tracking") as here:
        write_trained(models, spec, stored, here / "model")
        for one in trained:
            is_best = one is best
            tracked = track_training(
                uri,
                dataset=spec.dataset,
                modality=stored.modality.value,
                version=stored.version,
                run_id=run_id,
                candidate=one.name,
                parameters=one.engine.model_dump(mode="json", exclude={"tuning"}),
                metrics=one.evaluation.metrics,
                baseline=one.evaluation.baseline,
                tags={"seconds": f"{one.seconds:.1f}"},
                artefacts=pictures if is_best else {},
                folder=here / "model" if is_best else None,
                trials=one.tuning.trials if one.tuning else None,
                promoted=promoted and is_best,
            )
            found = tracked.url if is_best else found
    return found
