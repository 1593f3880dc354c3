"""Many small uploads that wait together: each has a receipt, checks, predictions of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.speed.line import OURS, Goal, Line

UPLOADS, ROWS = 100, 5
TRAINING = 400
DATASET = "parts"
COLUMNS = {"length": "number", "weight": "number", "colour": "category"}
ATTRIBUTES: dict[str, Any] = {
    "dataset": DATASET, "id_column": "id", "label_column": "good", "problem_type": "binary",
    "classes": ["no", "yes"], "columns": COLUMNS, "image_name": None,
    "model_without_image": {"engine": "gradient_boosting"}, "training_minutes": 1,
    "minimum_training_records": 100,
}  # fmt: skip


def make(data: Path) -> None:
    """A project with a champion, and small tables."""
    import os

    import yaml

    from mm_assets.contract.spec_file import COMPONENT

    project = data / "project"
    defs = project / "dagster_project" / "defs" / DATASET
    defs.mkdir(parents=True)
    text = yaml.safe_dump({"type": COMPONENT, "attributes": ATTRIBUTES})
    (defs / "defs.yaml").write_text(text, encoding="utf-8")
    (data / "first.csv").write_text(small_table(0, TRAINING, labelled=True), encoding="utf-8")
    for at in range(UPLOADS):
        (data / f"small-{at:04d}.csv").write_text(small_table(1 + at, ROWS), encoding="utf-8")
    before = dict(os.environ)
    try:
        ds = opened(project)
        send(ds, data / "first.csv")
        ds.sync(quiet=True)
        ds.train(quiet=True)
        ds.sync(quiet=True)  # what came before is predicted, too
    finally:
        os.environ.clear()
        os.environ.update(before)


def small_table(seed: int, rows: int, *, labelled: bool = False) -> str:
    import numpy as np

    random = np.random.default_rng(seed)
    lines = ["id,length,weight,colour,good"]
    for at in range(rows):
        length, weight = random.uniform(1, 9, 2).round(3)
        good = ("yes" if length > weight else "no") if labelled else ""
        colour = random.choice(["red", "blue", "green"])
        lines.append(f"P{seed:05d}-{at},{length},{weight},{colour},{good}")
    return "\n".join(lines) + "\n"


def opened(project: Path) -> Any:
    import os

    os.environ["MM_ROOT"] = str(project)
    os.environ["MM_DATA"] = str(project / "data")
    os.environ["DAGSTER_HOME"] = str(project / "data" / "dagster")
    import mm_assets as mm

    return mm.open(DATASET)


def send(ds: Any, file: Path) -> None:
    import pandas as pd

    ds.upload(pd.read_csv(file, dtype=str, keep_default_na=False), name=file.stem, quiet=True)


def ended_well(outcomes: Iterable[Any]) -> int:
    """How many uploads were used; monitoring, which is drawn once for all, is no upload."""
    return sum(one.upload is not None and one.end.name == "USED" for one in outcomes)


def ours(data: Path, folder: Path) -> Callable[[], int]:
    """`ds.sync()`: from the inbox to the table, with Dagster's history and all checks."""
    project = folder / "project"
    shutil.copytree(data / "project", project)
    ds = opened(project)
    for file in sorted(data.glob("small-*.csv")):
        send(ds, file)

    def run() -> int:
        return ended_well(ds.sync(quiet=True))

    return run


def by_hand(data: Path, folder: Path) -> Callable[[], int]:
    """As a Lambda does it: read the table, ask the model, write to the table. Nothing else."""
    import duckdb
    import joblib  # type: ignore[import-untyped]
    import pandas as pd
    from xgboost import XGBClassifier

    training = pd.read_csv(data / "first.csv")
    features = list(COLUMNS)
    kinds = pd.CategoricalDtype(["red", "blue", "green"])
    shown = training[features].astype({"colour": kinds})
    model = XGBClassifier(enable_categorical=True, n_jobs=1)
    model.fit(shown, training["good"] == "yes")
    joblib.dump(model, folder / "model")

    def run() -> int:
        done = 0
        for file in sorted(data.glob("small-*.csv")):
            frame = pd.read_csv(file)
            asked = frame[features].astype({"colour": kinds})
            frame["chance"] = joblib.load(folder / "model").predict_proba(asked)[:, 1]
            answers = frame[["id", "chance"]]
            with duckdb.connect(str(folder / "table.duckdb")) as db:
                db.execute("CREATE TABLE IF NOT EXISTS p (id VARCHAR PRIMARY KEY, chance DOUBLE)")
                db.register("answers", answers)
                db.execute("INSERT OR REPLACE INTO p FROM answers")
            done += 1
        return done

    return run


LINES = (
    Line(
        name="many-small",
        words=f"{UPLOADS} uploads of {ROWS} rows that wait together, to their predictions",
        amount=UPLOADS,
        unit="uploads",
        make=make,
        cases={OURS: ours, "by hand": by_hand},
        goals=(Goal("wall", UPLOADS / 10),),
    ),
)
