"""One measurement: one rival learns one split of one set, and is judged on what was held out."""

from __future__ import annotations

import datetime as dt
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.quality.rivals import Answer, every_rival, is_skewed, parted
from benchmarks.quality.sets import LABEL, DataSet
from benchmarks.quality.stored import Cell
from mm_assets.doubt.confidence import VALUE
from mm_assets.training.evaluation import evaluate

HELD_OUT = 0.2
OF_CLASSES = ("accuracy", "log_loss", "roc_auc")
OF_NUMBERS = ("mean_absolute_error", "r2", "r2_log", "median_relative_error")
_PACKAGES = ("scikit-learn", "xgboost", "autogluon.multimodal", "torch", "pandas", "numpy")


def measure(chosen: DataSet, cell: Cell, minutes: float) -> dict[str, Any]:
    """What is stored of one measurement; `metrics` are of the held-out records."""
    training, held_out = parted(chosen.records, chosen, HELD_OUT, cell.split)
    features = held_out[list(chosen.columns)]
    shown = training[[*chosen.columns, LABEL]]
    answer: Answer = every_rival()[cell.rival](chosen, shown, features, cell.split, minutes)
    truth = chosen.truth.loc[held_out.index]
    return {
        **cell._asdict(),
        "data": chosen.fingerprint(),
        "problem_type": chosen.problem_type,
        "training": len(training),
        "held_out": len(held_out),
        "minutes": minutes,
        "train_seconds": round(answer.train_seconds, 2),
        "predict_seconds": round(answer.predict_seconds, 3),
        "metrics": figures(chosen, truth, answer.predicted, training[LABEL]),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
    }


def figures(
    chosen: DataSet, truth: pd.Series, predicted: pd.DataFrame, training_labels: pd.Series
) -> dict[str, float]:
    """The metrics of the page, as the pipeline measures them, and two that only prices need."""
    problem_type = chosen.problem_type
    said = evaluate(truth, predicted, problem_type=problem_type, training_labels=training_labels)
    found = dict(said.metrics)
    if chosen.is_regression:
        true, value = truth.to_numpy(dtype=np.float64), predicted[VALUE].to_numpy()
        found["median_relative_error"] = float(np.median(np.abs(value - true) / np.abs(true)))
        if is_skewed(chosen.truth.to_numpy(dtype=np.float64)):
            logs, guessed = np.log(true), np.log(np.maximum(value, true.min() / 100))
            rest = ((guessed - logs) ** 2).sum() / ((logs - logs.mean()) ** 2).sum()
            found["r2_log"] = float(1 - rest)
    names = OF_NUMBERS if chosen.is_regression else OF_CLASSES
    return {name: float(f"{found[name]:.6g}") for name in names if name in found}


def about() -> dict[str, str]:
    """The machine and the versions, without the machine's name or any path of it."""
    import psutil

    memory = psutil.virtual_memory().total / 2**30
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in _PACKAGES)
    return {
        "machine": f"{psutil.cpu_count()} cores of {_processor()}, {memory:.0f} GB of memory",
        "python": platform.python_version(),
        "versions": versions,
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
