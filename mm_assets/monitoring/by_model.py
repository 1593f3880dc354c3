"""How good each model's answers turned out to be, also of models that were replaced meanwhile.

The predictions table holds the answers of now. So of a model that answers no more, the look that
saw most of its labels is kept in `monitoring.json`: it is what a later model is set beside.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.display.cells import written_out
from mm_assets.monitoring.charts import as_floats
from mm_assets.training.answered import Answered

MOST_MODELS = 50  # that are kept, the newest

Entry = Mapping[str, Any]


def by_model(
    spec: DatasetSpec,
    answers: Sequence[Answered],
    promises: Sequence[Entry],
    before: Sequence[Entry],
    champions: Collection[str],
) -> list[dict[str, Any]]:
    """`modality`, `version`, `n` labels that it did not learn from, how many of its answers are
    `right` (of numbers the `mean_absolute_error`), and its `promise`, as `promises` has it, or
    None.

    before: what this gave the last time. champions: versions that answer now.
    """
    told = {(one["modality"], one["version"]): one for one in promises}
    found = {(one["modality"], one["version"]): dict(one) for one in before}
    for one in answers:
        key = (one.modality.value, one.version)
        known = found.pop(key, None)
        entry: dict[str, Any] = {
            "modality": key[0], "version": key[1], **_figures(spec, one), "promise": told.get(key),
        }  # fmt: skip
        if known is not None and known["n"] > entry["n"] and one.version not in champions:
            entry = known
        found[key] = entry
    return list(found.values())[-MOST_MODELS:]


def _figures(spec: DatasetSpec, one: Answered) -> dict[str, float | int]:
    table = one.table
    if spec.is_regression:
        off = np.abs(as_floats(table["label"]) - as_floats(table["prediction"]))
        return {"n": table.num_rows, "mean_absolute_error": float(off.mean())}
    said, true = (table[name].to_numpy() for name in ("prediction", "label"))
    return {"n": table.num_rows, "right": int((said == true).sum())}


def live_in_words(entry: Entry) -> str:
    """How good its answers turned out to be, short."""
    if "right" in entry:
        return f"{entry['right'] / entry['n']:.1%} of {entry['n']:,} right"
    return f"off by {written_out(entry['mean_absolute_error'])} on average of {entry['n']:,}"
