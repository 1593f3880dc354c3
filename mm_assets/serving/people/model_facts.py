"""What the page of the models shows of one modality: read from what training and people left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.errors import ModelError
from mm_assets.display.cells import written_out
from mm_assets.doubt.calibration import Calibration
from mm_assets.doubt.promise import risk_coverage
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import of_dataset
from mm_assets.monitoring.promises import in_words
from mm_assets.monitoring.report import MONITORING
from mm_assets.registry.champions import line_of_champions
from mm_assets.registry.store import Champion, ModelStore
from mm_assets.serving.people.charts import Chart, calibration_chart, risk_coverage_chart
from mm_assets.training.evaluation import calibration_bins, off_by
from mm_assets.training.leaderboard import Leaderboard
from mm_assets.training.promised import promised
from mm_assets.training.report.page import METRICS, figure
from mm_assets.training.stored_models import list_models

OTHERS = 50  # stored models and promotions of a modality that are shown

NOTHING: dict[str, Any] = {  # is known of a champion
    "manifest": {}, "figures": [], "board": [], "image_adds": "", "words": "", "promise": [],
    "curve": None, "calibration": None,
}  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """A metric on the held-out records, and what the simplest guess reaches. meaning: in words."""

    name: str
    value: str
    baseline: str
    meaning: str


@dataclass(frozen=True)
class Shown:
    """One modality. champion: None where no model is promoted; then only `stored` says something.

    figures: the primary one first. board: rows of the leaderboard, with `share`, the weight.
    promise: rows of figures; live: what later labels say of it. stored: as `list_models` has them,
    `figure` in words. history: newest first. back_to: the version that a roll-back brings, or ''.
    fault: why the champion cannot be described.
    """

    modality: Modality
    champion: Champion | None
    manifest: Mapping[str, Any]
    figures: list[Figure]
    board: list[dict[str, Any]]
    image_adds: str
    words: str
    promise: list[dict[str, str]]
    live: str
    curve: Chart | None
    calibration: Chart | None
    stored: list[dict[str, Any]]
    history: list[Champion]
    back_to: str
    fault: str


def all_of(lake: Lake, spec: DatasetSpec) -> list[Shown]:
    """Of each modality. Raises LakeError, ModelError for a log of promotions that is damaged."""
    rows = [row | {"figure": _score(row)} for row in list_models(lake, spec)]
    monitored = lake.read_json(of_dataset(spec.dataset, MONITORING)) or {}
    told = {(one["modality"], one["version"]): one for one in monitored.get("promises", [])}
    return [_of(lake, spec, modality, rows, told) for modality in spec.modalities]


def live_words(lake: Lake, spec: DatasetSpec) -> list[str]:
    """What the labels that came later say of the answers, when it was last drawn; [] if nothing."""
    monitored = lake.read_json(of_dataset(spec.dataset, MONITORING)) or {}
    said = []
    if (n := monitored.get("live_n")) and "live_accuracy" in monitored:
        said.append(f"{monitored['live_accuracy']:.1%} of {n:,} labelled answers are right")
    elif n and "live_mean_absolute_error" in monitored:
        off = written_out(monitored["live_mean_absolute_error"])
        said.append(f"{n:,} labelled answers are off by {off} on average")
    if "live_calibration_error" in monitored:
        said.append(f"confidence is off by {100 * monitored['live_calibration_error']:.1f} points")
    return said + [in_words(one) for one in monitored.get("promises", [])]


def _of(
    lake: Lake, spec: DatasetSpec, modality: Modality, rows: list[dict[str, Any]],
    told: Mapping[tuple[str, str], Mapping[str, Any]],
) -> Shown:  # fmt: skip
    models = ModelStore(lake, spec.dataset)
    promotions = models.champions(modality)
    champion = promotions[-1] if promotions else None
    line = line_of_champions(promotions)
    found, fault = NOTHING, ""
    if champion is not None:
        try:
            found = NOTHING | _champion(spec, models.stored(modality, champion.version).manifest)
        except ModelError as error:
            fault = f"{error.what}. {error.todo}"
    live = told.get((modality.value, champion.version)) if champion else None
    return Shown(
        modality=modality,
        champion=champion,
        live=in_words(live).partition(": ")[2] if live else "",
        stored=[row for row in rows if row["modality"] == modality.value][:OTHERS],
        history=promotions[::-1][:OTHERS],
        back_to=line[-2].version if len(line) > 1 else "",
        fault=fault,
        **found,
    )


def _champion(spec: DatasetSpec, manifest: Mapping[str, Any]) -> dict[str, Any]:
    board = Leaderboard.from_json(manifest)
    found = promised(spec, manifest)
    charts: dict[str, Chart | None] = {}
    if found is not None:
        calibration = Calibration.of_manifest(spec, manifest)
        promise, curve = found.promise, calibration.curve
        if len(curve.right):
            by = promise.by if curve.width is not None else "confidence"
            charts["curve"] = risk_coverage_chart(
                risk_coverage(curve, by), promise.share, promise.target
            )
        if calibration.intervals is None and len(curve.right):
            bins = calibration_bins(curve.confidence, curve.right)
            charts["calibration"] = calibration_chart(bins, off_by(bins))
    return {
        "manifest": manifest,
        "figures": _figures(manifest),
        "board": board.rows,
        "image_adds": board.image_words,
        "words": found.words if found else "",
        "promise": found.table() if found else [],
        **charts,
    }


def _figures(manifest: Mapping[str, Any]) -> list[Figure]:
    metrics, baseline = manifest["metrics"], manifest["baseline"]
    first = manifest.get("metric")
    names = sorted((n for n in metrics if n in METRICS), key=lambda name: name != first)
    return [
        Figure(METRICS[n][0], figure(metrics[n], n), figure(baseline.get(n), n), METRICS[n][1])
        for n in names
    ]


def _score(row: Mapping[str, Any]) -> str:
    """A stored model's primary metric, in words."""
    metric, score = row["metric"], row["score"]
    if metric is None or score is None:
        return ""
    name = METRICS[metric][0] if metric in METRICS else metric.replace("_", " ")
    return f"{name}: {figure(score, metric)}"
