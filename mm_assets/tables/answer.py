"""A row of the predictions table as people and programs are answered, outside of the table."""

from __future__ import annotations

import json
from typing import Any

from mm_assets.contract.dataset import DatasetSpec

ANSWER = (
    "prediction", "lower", "upper", "probabilities", "confidence", "needs_review", "doubts",
    "modality", "model_version", "reasons",
)  # fmt: skip
REFUSED = ("code", "reason", "todo")
COLUMNS = ("record_id", *ANSWER, *REFUSED)


def as_answer(spec: DatasetSpec, row: dict[str, Any]) -> dict[str, Any]:
    """`record_id` and ANSWER of a row: probabilities as a dict, a number as a float."""
    answer = {name: row[name] for name in ("record_id", *ANSWER)}
    answer["probabilities"] = json.loads(row["probabilities"] or "null")
    if spec.is_regression:
        answer["prediction"] = float(row["prediction"])
    return answer
