"""The leaderboard of an ensemble, and what the image adds: figures for people, of stored models.

What belongs here: figures of members and their words. What does not: their picture
(leaderboard_picture.py), and which model is better (evaluation.py, gate.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.errors import ModelError
from mm_assets.engines.shared.progress import short
from mm_assets.registry.loading import load_model
from mm_assets.registry.store import ModelStore
from mm_assets.training.evaluation import Evaluation

if TYPE_CHECKING:
    import pandas as pd

Judge = Callable[["pd.DataFrame"], Evaluation]
Row = dict[str, Any]


@dataclass
class Leaderboard:
    """What is known of a model's members, and of what the image adds.

    rows: the ensemble first; none for a model that has no members. image_gain: `metric`,
    `with_image`, `without_image`, `n`, out of fold. image_adds: the same on held-out records, and
    the `version` of the champion that did not see the image.

    Each row: `name`, `sees_image`, `metric` and `out_of_fold` (its figure, None if there is none),
    `held_out` (by metric: the same one, and the one that decides in this dataset; empty for a
    member that is not stored), `weight`, `seconds`, `stored`, `note`.
    """

    rows: list[Row]
    image_gain: Row | None = None
    image_adds: Row | None = None

    @property
    def image_words(self) -> str:
        """Such as `the image adds: accuracy 0.861 -> 0.889 on 212 held-out records; …`, or ''."""
        held_out, out_of_fold = self.image_adds, self.image_gain
        said = []
        if held_out:
            said.append(f"{_step(held_out)} on {held_out['n']:,} held-out records")
        if out_of_fold:
            said.append(f"out of fold {_step(out_of_fold)}")
        return f"the image adds: {'; '.join(said)}" if said else ""

    @property
    def weights_in_words(self) -> str:
        """The members that answer and how much each counts, the most first; '' without any."""
        members = sorted((r for r in self.rows[1:] if r["weight"] > 0), key=lambda r: -r["weight"])
        return ", ".join(f"{row['name']} {row['weight']:.0%}" for row in members)

    @property
    def table(self) -> list[Row]:
        """For people: one flat row a member, columns named by metric."""
        there = {name for row in self.rows for name in row["held_out"]}
        own = {row["metric"] for row in self.rows}
        names = sorted(there, key=lambda name: (name not in own, name))
        return [
            {
                "member": row["name"],
                "sees the image": "yes" if row["sees_image"] else "",
                f"out of fold {_named(self.rows[0]['metric'])}": row["out_of_fold"],
                **{f"held-out {_named(name)}": row["held_out"].get(name) for name in names},
                "weight": row["weight"],
                "seconds": row["seconds"],
                "kept": "yes" if row["stored"] else "",
                "note": row["note"],
            }
            for row in self.rows
        ]

    def to_json(self) -> dict[str, Any]:
        """What a model's manifest keeps of it."""
        return {
            "leaderboard": self.rows, "image_gain": self.image_gain, "image_adds": self.image_adds
        }  # fmt: skip

    @classmethod
    def from_json(cls, manifest: Mapping[str, Any]) -> Leaderboard:
        """From a manifest; of a model that was stored before there were leaderboards: none."""
        names = ("image_gain", "image_adds")
        return cls(manifest.get("leaderboard") or [], **{n: manifest.get(n) for n in names})


def leaderboard_of(
    predictor: Any, ensemble: Evaluation, holdout: pd.DataFrame, judge: Judge
) -> Leaderboard:
    """Of a loaded model; it is an ensemble if it has `leaderboard` and `said_by_members`.

    ensemble: what it reached itself on `holdout`, the held-out records without their label.
    """
    told: Sequence[Mapping[str, Any]] = getattr(predictor, "leaderboard", None) or []
    if not told:
        return Leaderboard([])
    found = {
        name: judge(predicted) for name, predicted in predictor.said_by_members(holdout).items()
    }
    found[str(told[0]["name"])] = ensemble
    rows = [_row(row, found.get(str(row["name"]))) for row in told]
    return Leaderboard(rows, _gain(getattr(predictor, "image_gain", None)))


def _row(row: Mapping[str, Any], evaluation: Evaluation | None) -> Row:
    metric = str(row["metric"])
    held_out = {}
    if evaluation is not None:
        names = dict.fromkeys((metric, evaluation.metric))
        held_out = {n: evaluation.metrics[n] for n in names if n in evaluation.metrics}
    return {
        "name": str(row["name"]),
        "sees_image": bool(row["sees_image"]),
        "metric": metric,
        "out_of_fold": _finite(row["out_of_fold"]),
        "held_out": held_out,
        "weight": _finite(row["weight"]) or 0.0,
        "seconds": _finite(row["seconds"]),
        "stored": bool(row["stored"]),
        "note": str(row["note"]),
    }


def image_adds(
    models: ModelStore, spec: DatasetSpec, holdout: pd.DataFrame, seen: Evaluation, judge: Judge
) -> Row | None:
    """The new model with images against the champion without, on the same held-out records.

    None where there is no such champion, or it cannot be asked.
    """
    champion = models.champion(Modality.WITHOUT_IMAGE)
    if champion is None or Modality.WITHOUT_IMAGE not in spec.modalities:
        return None
    columns = list(spec.features(Modality.WITHOUT_IMAGE))
    try:
        blind = load_model(models, spec, Modality.WITHOUT_IMAGE, champion)
        unseen = judge(blind.predict(holdout[columns]))
    except ModelError:  # what it is like is said where it is trained and where it answers
        return None
    return {
        "metric": seen.metric,
        "with_image": seen.metrics[seen.metric],
        "without_image": unseen.metrics[seen.metric],
        "n": seen.n,
        "version": champion.version,
    }


def _gain(told: Mapping[str, Any] | None) -> Row | None:
    if not told:
        return None
    figures = {name: _finite(told[name]) for name in ("with_image", "without_image")}
    if None in figures.values():
        return None
    return {"metric": str(told["metric"]), **figures, "n": int(told["n"])}


def _step(figures: Mapping[str, Any]) -> str:
    without, with_image = figures["without_image"], figures["with_image"]
    return f"{_named(figures['metric'])} {short(without)} -> {short(with_image)}"


def _named(metric: str) -> str:
    return metric.replace("_", " ")


def _finite(value: Any) -> float | None:
    number = math.nan if value is None else float(value)
    return number if math.isfinite(number) else None
