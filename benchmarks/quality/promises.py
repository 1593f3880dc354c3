"""`python -m benchmarks.quality.promises`: does what is promised hold on records never seen?

Each set is split again and again; the automatic engine learns, what it says out of fold makes the
promise, and the held-out records judge it. What was said is kept, so that another rule for the
promise is judged without another training.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from rich.console import Console

from benchmarks.quality.rivals import parted
from benchmarks.quality.sets import LABEL, DataSet, every_set
from benchmarks.quality.stored import CELLS
from benchmarks.quality.vectors import KeptVectors
from mm_assets.contract.engine_spec import EngineSpec
from mm_assets.contract.review import Review, Tolerance
from mm_assets.doubt.calibration import Calibration
from mm_assets.doubt.confidence import VALUE
from mm_assets.engines.make import make_engine
from mm_assets.engines.protocol import Task

HELD_OUT = 0.2
TARGETS = (0.8, 0.9, 0.95, 0.98)
MEMBERS = ["linear", "trees", "linear with image", "trees with image"]
KEPT = CELLS / "promises"
Said = dict[str, Any]


def said_of(chosen: DataSet, split: int, minutes: float) -> Said:
    """What the engine says out of fold and of the held-out records of one split, with the truth."""
    training, held_out = parted(chosen.records, chosen, HELD_OUT, split)
    learn, tune = parted(training[[*chosen.columns, LABEL]], chosen, 0.15, split)
    task = Task(learn, tune, chosen.columns, LABEL, chosen.problem_type)
    hyperparameters = {"members": MEMBERS}
    spec = EngineSpec(
        engine="automatic", seed=split, time_limit_seconds=minutes * 60,
        hyperparameters=hyperparameters,
    )  # fmt: skip
    engine = make_engine(spec, vectors=KeptVectors())
    with tempfile.TemporaryDirectory(prefix="mm-promises-") as folder:
        engine.train(task, Path(folder), lambda _: None)
        predicted = engine.load(Path(folder)).predict(held_out[list(chosen.columns)])
    out_of_fold: pd.DataFrame = engine.out_of_fold  # type: ignore[attr-defined]
    labels = pd.concat([learn[LABEL], tune[LABEL]])
    asked = out_of_fold.notna().all(axis=1).to_numpy()
    return {
        "classes": np.array(list(out_of_fold.columns), dtype=str),
        "out_of_fold": out_of_fold[asked].to_numpy(dtype=np.float64),
        "labels": np.asarray(labels[asked]).astype(float if chosen.is_regression else str),
        "predicted": predicted.to_numpy(dtype=np.float64),
        "truth": np.asarray(chosen.truth.loc[held_out.index]).astype(
            float if chosen.is_regression else str
        ),
    }


def judged(said: Said, review: Review, *, of_numbers: bool, level: float = 0.9) -> dict[str, float]:
    """What one split's promise came to on its held-out records."""
    out_of_fold = pd.DataFrame(said["out_of_fold"], columns=list(said["classes"]))
    predicted = pd.DataFrame(said["predicted"], columns=list(said["classes"]))
    if of_numbers:
        guess = float(np.median(said["labels"]))
        tolerance = Tolerance(float(np.abs(said["truth"] - guess).mean()))
        calibration = Calibration.of_numbers(
            out_of_fold[VALUE], said["labels"], source="", level=level, tolerance=tolerance
        )
        sure = calibration.sure(predicted, None)
        right = np.abs(predicted[VALUE].to_numpy() - said["truth"]) <= tolerance.amount
    else:
        places = out_of_fold.to_numpy().argmax(axis=1)
        calibration = Calibration.of_classes(
            out_of_fold, said["labels"], places, sureness=1.0, source=""
        )
        asked = predicted.to_numpy().argmax(axis=1)
        sure = calibration.sure(predicted, asked)
        right = said["classes"][asked] == said["truth"]
    promise = calibration.promise(review)
    review_them = promise.to_review(sure.confidence, sure.width)
    rest, wrong = right[~review_them], ~right
    found = {
        "share": float(review_them.mean()),
        "reached": float(promise.reached),
        "accuracy": float(rest.mean()) if len(rest) else np.nan,
        "caught": float((wrong & review_them).sum() / wrong.sum()) if wrong.any() else np.nan,
        "errors": float(wrong.mean()),
    }
    if sure.lower is not None and sure.upper is not None and sure.width is not None:
        inside = (sure.lower <= said["truth"]) & (said["truth"] <= sure.upper)
        found |= {"coverage": float(inside.mean()), "width": float(np.median(sure.width))}
    else:
        from mm_assets.training.evaluation import calibration_error

        found["calibration_error"] = calibration_error(sure.confidence, right)
    return found


def run(
    sets: Annotated[str, typer.Option(help="Some of them, with commas.")] = "",
    splits: Annotated[int, typer.Option(min=1)] = 20,
    minutes: Annotated[float, typer.Option(min=0.05, help="For one training.")] = 1.0,
    folder: Annotated[Path, typer.Option(help="Where what was said is kept.")] = KEPT,
) -> None:
    """Judge promises on many splits of each set; what was said before is not said again."""
    out = Console(width=150)
    for name in [one.strip() for one in sets.split(",") if one.strip()] or list(every_set()):
        chosen = every_set()[name]()
        if chosen is None:
            continue
        found = []
        for split in range(splits):
            file = folder / chosen.fingerprint() / f"{name}-{split}.npz"
            if not file.is_file():
                file.parent.mkdir(parents=True, exist_ok=True)
                np.savez_compressed(file, **said_of(chosen, split, minutes))
            found.append(dict(np.load(file, allow_pickle=False)))
        for line in lines_of(name, chosen, found):
            out.print(line)


def lines_of(name: str, chosen: DataSet, found: list[Said]) -> list[str]:
    """The results of one set, in words."""
    of_numbers, n = chosen.is_regression, len(found)
    lines = []
    wishes: list[tuple[str, Review, float | None]] = [
        (f"target {t}", Review(target_accuracy=t), t) for t in TARGETS
    ]
    wishes.append(("largest share 0.1", Review(largest_share=0.1), None))
    for words, review, target in wishes:
        rows = pd.DataFrame([judged(one, review, of_numbers=of_numbers) for one in found])
        promised = rows[rows["reached"] > 0]
        kept = int((promised["accuracy"].fillna(1) >= (target or 0)).sum())
        line = (
            f"{name} {words}: promised {len(promised)} of {n}, kept {kept}; share "
            f"{rows['share'].mean():.3f}, accuracy {rows['accuracy'].mean():.3f}, errors "
            f"{rows['errors'].mean():.3f}, caught {rows['caught'].mean():.2f}"
        )
        for extra in ("calibration_error", "coverage", "width"):
            if extra in rows and target in (None, TARGETS[0]):
                line += f", {extra} {rows[extra].mean():.3f}"
        if "coverage" in rows and target is None:
            line += f" (lowest {rows['coverage'].min():.3f}, within 3 points "
            line += f"{int((rows['coverage'] >= 0.87).sum())} of {n})"
        lines.append(line)
    return lines


app = typer.Typer(add_completion=False)
app.command()(run)

if __name__ == "__main__":
    app()
