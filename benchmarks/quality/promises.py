"""`python -m benchmarks.quality.promises`: does what is promised hold on records never seen?

Each set is split again and again; the automatic engine learns, what it says out of fold makes the
promise, and the held-out records judge it. What was said is kept, so that another rule for the
promise is judged without another training.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from rich.console import Console
from rich.markdown import Markdown

from benchmarks.quality import page
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

Row = dict[str, Any]
BEGIN = "<!-- made by `python -m benchmarks.quality.promises --write`: do not edit -->"
RESULTS = Path(__file__).with_name("promises.json")
HELD_OUT = 0.2
LEVEL = 0.9
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


def judged(said: Said, review: Review, *, of_numbers: bool) -> dict[str, float]:
    """What one split's promise came to on its held-out records."""
    out_of_fold = pd.DataFrame(said["out_of_fold"], columns=list(said["classes"]))
    predicted = pd.DataFrame(said["predicted"], columns=list(said["classes"]))
    if of_numbers:
        guess = float(np.median(said["labels"]))
        tolerance = Tolerance(float(np.abs(said["truth"] - guess).mean()))
        calibration = Calibration.of_numbers(
            out_of_fold[VALUE], said["labels"], source="", level=LEVEL, tolerance=tolerance
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


def measured(name: str, chosen: DataSet, found: list[Said]) -> Row:
    """What became of the wishes in all splits of one set: means, and how many kept what."""
    of_numbers = chosen.is_regression

    def rows(review: Review) -> pd.DataFrame:
        return pd.DataFrame([judged(one, review, of_numbers=of_numbers) for one in found])

    targets: dict[str, Row] = {}
    for target in TARGETS:
        of = rows(Review(target_accuracy=target))
        promised = of[of["reached"] > 0]
        kept = promised["accuracy"].fillna(1.0) >= target
        targets[f"{target:g}"] = {
            "promised": len(promised),
            "kept": int(kept.sum()),
            "share": _mean(promised["share"]),
        }
    tenth = rows(Review(largest_share=0.1))
    row: Row = {
        "set": name,
        "data": chosen.fingerprint(),
        "splits": len(found),
        "held_out": len(found[0]["truth"]),
        "errors": _mean(tenth["errors"]),
        "targets": targets,
        "caught": _mean(tenth["caught"]),
        "share": _mean(tenth["share"]),
    }
    if of_numbers:
        row |= {
            "coverage": _mean(tenth["coverage"]),
            "near_level": int((tenth["coverage"] >= LEVEL - 0.03).sum()),
            "width": _mean(tenth["width"]),
        }
    else:
        row["calibration_error"] = _mean(tenth["calibration_error"])
    return row


def _mean(values: pd.Series) -> float | None:
    return round(float(values.mean()), 4) if values.notna().any() else None


def section(rows: list[Row]) -> str:
    """The section of docs/results.md, as Markdown between its marks."""
    promised = [
        [
            f"`{row['set']}`", str(row["held_out"]), f"{row['errors']:.1%}",
            *(_kept(row, f"{target:g}") for target in TARGETS),
        ]
        for row in rows
    ]  # fmt: skip
    classes = [
        [f"`{row['set']}`", f"{row['share']:.1%}", f"{row['caught']:.0%}",
         f"{row['calibration_error']:.3f}"]
        for row in rows if "calibration_error" in row
    ]  # fmt: skip
    numbers = [
        [f"`{row['set']}`", f"{row['share']:.1%}", f"{row['caught']:.0%}",
         f"{row['coverage']:.1%}", f"{row['near_level']} of {row['splits']}", f"{row['width']:.2f}"]
        for row in rows if "coverage" in row
    ]  # fmt: skip
    splits = max(row["splits"] for row in rows)
    what = (
        f"{splits} splits of each set into 80% and 20%; the automatic engine without AutoGluon, a "
        "minute for each training. The promise is made from answers out of fold, and judged by the "
        "held-out records. Numbers are right within the mean error of guessing the median."
    )
    of_targets = (
        "Targets: in how many splits it was promised, in how many of these it was kept by the "
        "held-out records' own count, and the mean share in review where it was promised."
    )
    of_classes = (
        "With a tenth of the records in review, the share of all errors that is among them (by "
        "chance it would be a tenth), and how far confidence is off on the average:"
    )
    of_numbers = (
        f"Numbers: the same, and how many truths lie in the intervals at {LEVEL:.0%}, in how many "
        "splits no more than three points fewer, and their median width as a share of the number. "
        "Some labels of `houses` and `claims` are mistyped on purpose; the intervals are learnt "
        "from labels as typed and judged by the truth, so they hold more of it."
    )
    right = [f"{target:.0%} right" for target in TARGETS]
    caught = ["set", "in review", "errors caught"]
    parts = [
        BEGIN,
        what,
        of_targets,
        page.table(["set", "held out", "errors", *right], promised),
        of_classes,
        page.table([*caught, "calibration error"], classes),
        of_numbers,
        page.table([*caught, "coverage", "near the level", "width"], numbers),
        page.END,
    ]
    return "\n\n".join(parts) + "\n"


def _kept(row: Row, target: str) -> str:
    of = row["targets"][target]
    if not of["promised"]:
        return "never promised"
    return f"{of['promised']} promised, {of['kept']} kept, {of['share']:.0%} in review"


def run(
    sets: Annotated[str, typer.Option(help="Some of them, with commas.")] = "",
    splits: Annotated[int, typer.Option(min=1)] = 20,
    minutes: Annotated[float, typer.Option(min=0.05, help="For one training.")] = 1.0,
    folder: Annotated[Path, typer.Option(help="Where what was said is kept.")] = KEPT,
    write: Annotated[bool, typer.Option(help="Make promises.json and docs/results.md.")] = False,
) -> None:
    """Judge promises on many splits of each set; what was said before is not said again."""
    rows = []
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
        rows.append(measured(name, chosen, found))
    Console().print(Markdown(section(rows)))
    if write:
        lines = ",\n".join(" " + json.dumps(row) for row in rows)
        RESULTS.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
        page.replace(section(rows), BEGIN)


app = typer.Typer(add_completion=False)
app.command()(run)

if __name__ == "__main__":
    app()
