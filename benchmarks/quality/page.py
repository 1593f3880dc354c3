"""The section of docs/results.md that is made of the stored measurements, and of nothing else."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.quality.figures import LOWER, OURS, Measured, Verdict, spread
from benchmarks.quality.stored import ROOT

PAGE = ROOT / "docs" / "results.md"
BEGIN = "<!-- made by `python -m benchmarks.quality --write`: do not edit -->"
END = "<!-- end of what is made -->"
WORDS = {
    "accuracy": "accuracy", "log_loss": "log loss", "roc_auc": "ROC AUC",
    "mean_absolute_error": "mean absolute error", "r2": "R²", "r2_log": "R² of the logarithm",
    "median_relative_error": "median relative error",
}  # fmt: skip
RIVALS = {
    "guess": "simplest guess",
    "boosting_table": "boosting, table alone",
    "linear_table": "linear, table alone",
    "boosting": "boosting",
    "linear": "linear",
    "autogluon": "AutoGluon",
    OURS: "`automatic`",
}


def section(results: dict[str, Any]) -> str:
    """The section as Markdown, between its two marks."""
    measured = Measured(results["cells"])
    parts = [BEGIN, _opening(results, measured), _verdicts(measured), _ranks(measured)]
    parts += [_set(measured, name, results["sets"][name]) for name in measured.sets]
    return "\n\n".join([part for part in parts if part] + [END]) + "\n"


def put(results: dict[str, Any], page: Path = PAGE) -> None:
    """Replace the section in the page. The page must have both marks."""
    replace(section(results), BEGIN, page)


def replace(section: str, begin: str, page: Path = PAGE) -> None:
    """Put a section that begins with a mark and ends with END where the page has such a one."""
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(begin)
    after = rest.partition(END)[2].removeprefix("\n")
    page.write_text(f"{before}{section}{after}", encoding="utf-8")


def _opening(results: dict[str, Any], measured: Measured) -> str:
    about, cells = results["about"], results["cells"]
    dates = sorted({cell["date"] for cell in cells})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    splits = max(cell["split"] for cell in cells) + 1
    minutes = sorted({cell["minutes"] for cell in cells})
    limit = " or ".join(f"{number:g}" for number in minutes)
    return (
        f"{len(measured.sets)} sets, up to {splits} splits of each into 80% and 20%, the same for "
        "all rivals; each figure is the mean over the splits ± the standard deviation. Our "
        f"engines had {limit} minutes for each training.\n\n"
        f"Measured {when} with `make quality` (`python -m benchmarks.quality --write`) on "
        f"{about['machine']}, shared with other work, so seconds are rough; Python "
        f"{about['python']}, {about['versions']}."
    )


def _verdicts(measured: Measured) -> str:
    rows = []
    for name in measured.sets:
        for metric in measured.metrics(name)[:2]:
            verdict = measured.verdict(name, metric)
            if verdict:
                rows.append([f"`{name}`", WORDS[metric], *_judged(verdict, metric)])
    if not rows:
        return ""
    head = ["set", "metric", "best single rival", "`automatic` is", "standard error", "holds"]
    words = (
        "`automatic` against the best single rival of each set: the mean of the paired "
        "differences over the splits that both did, and its standard error. It holds where "
        "`automatic` is not worse by more than that."
    )
    return f"{words}\n\n{table(head, rows)}"


def _judged(verdict: Verdict, metric: str) -> list[str]:
    word = "worse" if verdict.behind > 0 else "better"
    by = f"{_number(abs(verdict.behind), metric)} {word}" if verdict.behind else "equal"
    error = f"{_number(verdict.error, metric)} ({verdict.splits} splits)"
    return [RIVALS[verdict.rival], by, error, "yes" if verdict.holds else "**no**"]


def _ranks(measured: Measured) -> str:
    first, second = measured.ranks(0), measured.ranks(1)
    if not first:
        return ""
    head = [f"mean rank over {len(measured.complete)} sets by", *(RIVALS[rival] for rival in first)]
    said = {"accuracy or mean absolute error": first, "log loss or R²": second}
    rows = [[words, *(f"{rank:.2f}" for rank in by.values())] for words, by in said.items() if by]
    return table(head, rows)


def _set(measured: Measured, name: str, words: str) -> str:
    metrics, rows = measured.metrics(name), []
    rivals = measured.rivals(name)
    best = {metric: _best(measured, name, metric) for metric in metrics}
    for rival in rivals:
        cells = measured.of(name, rival)
        row = [RIVALS[rival], str(len(cells))]
        for metric in metrics:
            text = _mean(list(measured.values(name, rival, metric).values()), metric)
            row.append(f"**{text}**" if best[metric] == rival else text)
        row.append(_seconds(median(cell["train_seconds"] for cell in cells)))
        row.append(_seconds(median(cell["predict_seconds"] for cell in cells)))
        rows.append(row)
    first = measured.of(name, rivals[0])[0]
    sizes = f"{first['training']} records to learn from, {first['held_out']} held out"
    head = ["rival", "splits", *(WORDS[metric] for metric in metrics), "training s", "prediction s"]
    return f"**`{name}`**: {words.rstrip('.')}; {sizes}.\n\n{table(head, rows)}"


def _best(measured: Measured, name: str, metric: str) -> str:
    sign = -1 if metric in LOWER else 1
    means = {
        rival: sign * float(np.mean(list(measured.values(name, rival, metric).values())))
        for rival in measured.rivals(name)
    }
    return max(means, key=lambda rival: means[rival])


def _mean(values: list[float], metric: str) -> str:
    off, mean = spread(values), float(np.mean(values))
    shown = _number(mean, metric)
    return shown if off is None else f"{shown} ± {_number(off, metric, like=mean)}"


def _number(value: float, metric: str, like: float | None = None) -> str:
    """like: a figure beside which it stands, and whose decimals it has."""
    if metric != "mean_absolute_error":
        return f"{value:.3f}"
    size = abs(value if like is None else like)
    return f"{value:,.{0 if size >= 1000 else 1 if size >= 100 else 2}f}"


def _seconds(value: float) -> str:
    return f"{value:.2f}" if value < 1 else f"{value:.0f}"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
