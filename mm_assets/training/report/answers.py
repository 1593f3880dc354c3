"""The answers one by one: each class by itself, intervals of numbers, and the worst mistakes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mm_assets.contract.dataset import IMAGE
from mm_assets.display.side_by_side import side_by_side
from mm_assets.doubt.promise import RISK, lower_bound, upper_bound
from mm_assets.engines.shared.several import Cell, images_in
from mm_assets.training.report.judged import Judged

MOST_MISTAKES = 20
MOST_CLASSES = 60
SIDE = 240  # pixels of an image on the page
QUARTERS = ("lowest quarter", "second quarter", "third quarter", "highest quarter")

Row = dict[str, Any]
Places = npt.NDArray[np.intp]


def classes(judged: Judged) -> list[Row]:
    """Of each class, the one that is found worst first: `name`, `records`, `found` (the share of
    its records that got it), `right` (of the answers that name it), `said`, `confidence`, `review`.

    A share is None where there is nothing to take a share of.
    """
    truth = judged.data.truth.astype(str).to_numpy()
    rows = []
    for name in sorted({*truth, *judged.said}):
        there, said = truth == name, judged.said == name
        rows.append(
            {
                "name": str(name),
                "records": int(there.sum()),
                "said": int(said.sum()),
                "found": _share(judged.right, there),
                "right": _share(judged.right, said),
                "confidence": float(judged.sure.confidence[said].mean()) if said.any() else None,
                "review": _share(judged.in_review, there),
            }
        )
    rows.sort(key=lambda row: (2.0 if row["found"] is None else row["found"], row["name"]))
    return rows[:MOST_CLASSES]


def intervals(judged: Judged) -> Row | None:
    """Of numbers: `level`, `coverage` and between what it lies, the median `width` in the label's
    unit and as a share of the number; `rows`: the same for each quarter of the predictions."""
    lower, upper, width = judged.sure.lower, judged.sure.upper, judged.sure.width
    if lower is None or upper is None or width is None:
        return None
    truth = judged.data.truth.to_numpy(dtype=np.float64)
    inside = (lower <= truth) & (truth <= upper)

    def row(name: str, some: Any) -> Row:
        hits, n = int(inside[some].sum()), len(inside[some])
        return {
            "name": name,
            "records": n,
            "coverage": hits / n,
            "low": lower_bound(hits, n, RISK / 2),
            "high": upper_bound(hits, n, RISK / 2),
            "width": float(np.median((upper - lower)[some])),
            "share": float(np.median(width[some])),
        }

    order = np.argsort(judged.said, kind="stable")
    parts = np.array_split(order, 4) if len(order) >= 20 else []
    return {
        **row("all", slice(None)),
        "level": judged.spec.interval_level,
        "rows": [row(name, part) for name, part in zip(QUARTERS, parts, strict=False)],
    }


def mistakes(judged: Judged) -> list[Row]:
    """The worst twenty: of classes the wrong answers that were surest (or cost most), of numbers
    those farthest off. `id`, `truth`, `answer`, `confidence`, `lower`, `upper`, `off`, `reasons`,
    `doubts`, `review` (whether a person would have looked at it), `image` (JPEG bytes, or None)."""
    worst = _worst(judged)
    reasons = _reasons(judged, worst)
    sure = judged.sure
    rows = []
    for place, reason in zip(worst.tolist(), reasons, strict=True):
        truth, answer = judged.data.truth.iloc[place], judged.said[place]
        rows.append(
            {
                "id": str(judged.ids[place]),
                "truth": float(truth) if judged.spec.is_regression else str(truth),
                "answer": float(answer) if judged.spec.is_regression else str(answer),
                "off": float(answer - truth) if judged.spec.is_regression else None,
                "confidence": float(sure.confidence[place]),
                "lower": None if sure.lower is None else float(sure.lower[place]),
                "upper": None if sure.upper is None else float(sure.upper[place]),
                "review": bool(judged.in_review[place]),
                "reasons": reason,
                "doubts": judged.doubts[place],
                "image": small(judged.holdout[IMAGE].iloc[place])
                if IMAGE in judged.holdout
                else None,
            }
        )
    return rows


def _worst(judged: Judged) -> Places:
    if judged.spec.is_regression:
        off = np.abs(judged.said - judged.data.truth.to_numpy(dtype=np.float64))
        worst: Places = np.argsort(-off, kind="stable")[:MOST_MISTAKES]
        return worst[off[worst] > 0]
    wrong = np.flatnonzero(~judged.right)
    truth = judged.data.truth.astype(str).to_numpy()
    costs = [
        judged.rule.cost(truth[place], str(judged.said[place])) if judged.rule else 1.0
        for place in wrong
    ]
    order = np.lexsort((-judged.sure.confidence[wrong], -np.array(costs)))
    found: Places = wrong[order][:MOST_MISTAKES]
    return found


def _reasons(judged: Judged, places: Places) -> Sequence[str | None]:
    """Why the model said so, where it can tell."""
    frame = judged.holdout.iloc[places].reset_index(drop=True)
    if not len(frame):
        return []
    if not judged.spec.is_regression and hasattr(judged.predictor, "reasons_for"):
        said: Sequence[str | None] = judged.predictor.reasons_for(
            frame, [str(judged.said[place]) for place in places]
        )
    elif hasattr(judged.predictor, "reasons"):
        said = judged.predictor.reasons(frame)
    else:
        said = [None] * len(frame)
    return said


def _share(flags: Any, among: Any) -> float | None:
    return float(flags[among].mean()) if among.any() else None


def small(cell: Cell) -> bytes | None:
    """A normalised image as a small JPEG, or several side by side; None for none."""
    if cell is None:
        return None
    image = side_by_side(images_in(cell))
    from PIL import Image

    with Image.open(io.BytesIO(image), formats=["JPEG", "PNG"]) as opened:
        shown = opened.convert("RGB")
    shown.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    shown.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
