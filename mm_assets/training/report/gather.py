"""All that a report says, as plain data and pictures, before it becomes a page."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.decisions import LOWER_IS_BETTER
from mm_assets.display.cells import written_out
from mm_assets.doubt.pictures import interval_picture, review_picture
from mm_assets.doubt.promise import risk_coverage
from mm_assets.engines.protocol import Progress
from mm_assets.lake.lake import Lake
from mm_assets.lake.local import utc_now
from mm_assets.registry.store import ModelStore
from mm_assets.training.calibrate import kept_promise
from mm_assets.training.evaluation import off_by, reliability
from mm_assets.training.evaluation_pictures import (
    confusion_picture,
    reliability_picture,
    residual_picture,
)
from mm_assets.training.leaderboard import Leaderboard
from mm_assets.training.leaderboard_picture import leaderboard_picture
from mm_assets.training.report.answers import classes, intervals, mistakes
from mm_assets.training.report.compared import Compared, certainty, rival, without_image
from mm_assets.training.report.importance import SECONDS, importance
from mm_assets.training.report.judged import Judged, judge
from mm_assets.training.report.pictures import importance_picture

Section = dict[str, Any]


@dataclass(frozen=True)
class Findings:
    """figures: a section of the report to what it says. pictures: name to PNG."""

    figures: dict[str, Any]
    pictures: dict[str, bytes]


def gather(
    lake: Lake,
    models: ModelStore,
    spec: DatasetSpec,
    modality: Modality,
    version: str,
    progress: Progress = lambda _: None,
    *,
    importance_seconds: float = SECONDS,
) -> Findings:
    """Ask a stored model about the held-out records, and all else that a report needs.

    Nothing is stored. Raises ModelError: what `judge` raises.
    """
    progress("asking the model about the held-out records")
    judged = judge(lake, models, spec, modality, version)
    board = Leaderboard.from_json(judged.manifest)
    figures = {
        "model": _model(judged, models),
        "records": _records(judged),
        "headline": _headline(judged, progress),
        "members": board.rows,
        "image": _image(judged, board, models),
        "importance": asdict(importance(judged, progress, importance_seconds)),
        "calibration": _calibration(judged),
        "intervals": intervals(judged),
        "review": _review(judged),
        "classes": [] if spec.is_regression else classes(judged),
        "mistakes": mistakes(judged),
    }
    progress("drawing")
    return Findings(figures, _pictures(judged, board, figures))


def _model(judged: Judged, models: ModelStore) -> Section:
    spec, manifest = judged.spec, judged.manifest
    champion = models.champion(judged.modality)
    return {
        "dataset": spec.dataset,
        "description": spec.description,
        "label": spec.label_column,
        "problem": spec.problem_type,
        "modality": judged.modality.value,
        "version": judged.version,
        "champion": champion is not None and champion.version == judged.version,
        "engine": manifest["engine"]["engine"],
        "created_at": manifest["created_at"],
        "reported_at": utc_now(),
        "columns": dict(manifest["columns"]),
        "classes": manifest.get("classes"),
        "decides": judged.rule.in_words(manifest.get("classes") or [], spec.positive_class)
        if judged.rule
        else "",
        "stopped_early": bool(manifest.get("stopped_early")),
        "tolerance": _tolerance(judged),
    }


def _tolerance(judged: Judged) -> str | None:
    """How far off a number may be that counts as right, in words; None for classes."""
    if judged.calibration.intervals is None:
        return None
    found = judged.calibration.intervals.tolerance
    return f"{found} of the answer" if found.is_share else written_out(found.amount)


def _records(judged: Judged) -> Section:
    """Of which records the report speaks; `figures_then`: the primary metric at training."""
    then = judged.manifest["metrics"].get(judged.evaluation.metric)
    return {
        "held_out": len(judged.holdout),
        "learned_from": judged.manifest["training_counts"],
        "is_new": judged.is_new,
        "held_out_then": judged.manifest["n"],
        "figure_then": then,
    }


def _headline(judged: Judged, progress: Progress) -> Section:
    evaluation = judged.evaluation
    found = rival(judged, progress)
    return {
        "metric": evaluation.metric,
        "lower_is_better": evaluation.metric in LOWER_IS_BETTER,
        **certainty(judged).to_json(),
        "baseline": evaluation.baseline[evaluation.metric],
        "metrics": evaluation.metrics,
        "baselines": evaluation.baseline,
        "n": evaluation.n,
        **_other("rival", found),
    }


def _image(judged: Judged, board: Leaderboard, models: ModelStore) -> Section:
    """What the image adds; `out_of_fold`: as the training's ensemble saw it."""
    return {
        "sees": judged.modality is Modality.WITH_IMAGE,
        "figure": judged.evaluation.metrics[judged.evaluation.metric],
        "out_of_fold": board.image_gain,
        **_other("blind", without_image(judged, models)),
    }


def _other(name: str, found: Compared | str) -> Section:
    if isinstance(found, str):
        return {name: None, f"{name}_why_not": found}
    return {name: found.to_json(), f"{name}_why_not": ""}


def _calibration(judged: Judged) -> Section | None:
    """None for numbers, whose intervals say it."""
    if judged.spec.is_regression:
        return None
    bins = reliability(judged.data.truth, judged.predicted, judged.rule)
    return {"error": off_by(bins), "bins": bins, "source": judged.calibration.source}


def _review(judged: Judged) -> Section:
    """The promise as the YAML words it now, the curve it was read off, and how it is kept.

    `doubted`: records that are unlike all that the model learnt from.
    """
    promise, curve = judged.promise, judged.calibration.curve
    known = len(curve.right) > 0
    kept = kept_promise(
        judged.spec, judged.calibration, judged.predicted, judged.data.truth, judged.rule
    )
    return {
        **kept,
        "at_training": (judged.manifest.get("promise") or {}).get("words", ""),
        "rows": risk_coverage(curve, promise.by if curve.width is not None else "confidence")
        if known
        else [],
        "doubted": sum(one is not None for one in judged.doubts),
    }


def _pictures(judged: Judged, board: Leaderboard, figures: Section) -> dict[str, bytes]:
    spec, truth, sure = judged.spec, judged.data.truth, judged.sure
    found: dict[str, bytes | None] = {
        "leaderboard": leaderboard_picture(board.rows),
        "importance": importance_picture(
            figures["importance"]["rows"], figures["headline"]["metric"]
        ),
        "review": review_picture(judged.calibration.curve, judged.promise, judged.curve),
    }
    if spec.is_regression:
        found["residuals"] = residual_picture(truth, judged.predicted)
        if sure.lower is not None:
            found["intervals"] = interval_picture(
                judged.said, truth, sure.lower, sure.upper, spec.interval_level
            )
    else:
        found["confusion"] = confusion_picture(truth, judged.predicted, judged.rule)
        found["calibration"] = reliability_picture(figures["calibration"]["bins"])
    return {name: png for name, png in found.items() if png}
