"""The demo's dataset `cancer`: a table and no images.

Wisconsin's breast cancer data (Wolberg, Mangasarian, Street and Street, 1993), as it comes with
scikit-learn: 30 measurements of cell nuclei in a biopsy, and the diagnosis. The IDs are made up,
and which records have no diagnosis yet. The same seed gives the same bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mm_assets.demo.story import TAKEN_IN, Step, Story

if TYPE_CHECKING:
    import pandas as pd

TABLE = "biopsies.csv"
ID, LABEL = "biopsy_id", "diagnosis"
# Which records are held out hangs on their IDs, and 90 of them are few: over 16 seeds the ROC AUC
# of gradient boosting was 0.991 on average, from 0.972 to 1, and 11 reached 0.99. This seed is one
# of the middling ones.
SEED = 5


def make_cancer(
    folder: Path, *, seed: int = SEED, unlabelled: int = 100, late_labels: int = 50
) -> dict[str, str]:
    """Write three uploads into `folder`; returns the diagnosis of each unlabelled record.

    `labelled/` and `unlabelled/` share the 569 records; `late-labels/` brings the diagnosis of the
    first `late_labels` unlabelled ones, as a table with the ID and the diagnosis alone.
    """
    records = all_records(seed)
    known, unknown = records[unlabelled:], records[:unlabelled]
    for name, table in (
        ("labelled", known),
        ("unlabelled", unknown.drop(columns=LABEL)),
        ("late-labels", unknown[[ID, LABEL]][:late_labels]),
    ):
        (folder / name).mkdir(parents=True, exist_ok=True)
        table.to_csv(folder / name / TABLE, index=False, lineterminator="\n")
    return dict(zip(unknown[ID], unknown[LABEL], strict=True))


STORY = Story(
    dataset="cancer",
    making="writing tables",
    make=make_cancer,
    steps=(
        Step(
            "Biopsies with their diagnosis arrive: a table and nothing else.",
            TAKEN_IN, "labelled", ("labelled",),
        ),
        Step(
            "Enough labelled records are there: the training sensor asks for a model.",
            "XGBoost is tuned, trained, evaluated and promoted", "training",
        ),
        Step(
            "Biopsies without diagnosis arrive.",
            "they are predicted", "unlabelled", ("unlabelled",),
        ),
        Step(
            "Half of their diagnoses become known: a table with the ID and the diagnosis.",
            "each stands beside its prediction", "late labels", ("late-labels",),
        ),
    ),
)  # fmt: skip


def all_records(seed: int = SEED) -> pd.DataFrame:
    """[569, 32]: the ID, the 30 measurements (float) and the diagnosis, in an order of chance."""
    import numpy as np
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer(as_frame=True)
    records = data.data.rename(columns=lambda name: name.replace(" ", "_"))
    chance = np.random.default_rng(seed)
    numbers = chance.choice(np.arange(10_000, 100_000), len(records), replace=False)
    records.insert(0, ID, [f"B{number}" for number in numbers])
    records[LABEL] = [str(data.target_names[number]) for number in data.target]
    return records.sample(frac=1, random_state=seed)
