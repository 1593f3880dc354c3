"""Findings as one HTML page that stands alone: no script, nothing from elsewhere, in any width.

The words are in `page.html.j2`; here is how figures are written. All text is escaped, and letters
that act are shown instead (display/cells.py).
"""

from __future__ import annotations

import base64
from functools import lru_cache
from pathlib import Path
from typing import Any

from mm_assets.display.cells import written_out
from mm_assets.display.templates import templates
from mm_assets.training.report.gather import Findings
from mm_assets.training.report.pictures import SHARES

TEMPLATE = "page.html.j2"
METRICS = {  # to its name on the page, and what it means
    "accuracy": ("share of right answers", "how many of the records are answered rightly"),
    "balanced_accuracy": (
        "share of right answers, each class alike",
        "averaged over the classes, so that rare ones count as much",
    ),
    "macro_f1": (
        "F1, each class alike",
        "how well each class is found and how rarely it is named wrongly; 1 is perfect",
    ),
    "f1": ("F1", "how well the class is found and how rarely it is named wrongly; 1 is perfect"),
    "roc_auc": (
        "ROC AUC",
        "how often a record of a class is ranked above one that is none; 0.5 is chance",
    ),
    "average_precision": (
        "average precision",
        "how pure the top of a list is, ordered by the chance of the class; 1 is perfect",
    ),
    "log_loss": ("log loss", "how much the answers surprise: wrong and sure costs most"),
    "expected_cost": ("cost of a record", "what the errors cost, by the costs in the YAML"),
    "mean_absolute_error": (
        "average error",
        "how far the answers are from the truth, in the unit of the label",
    ),
    "root_mean_squared_error": (
        "average error (squared)",
        "how far the answers are from the truth, where large errors count more than small ones",
    ),
}


def page_of(findings: Findings) -> str:
    """The report as HTML."""
    figures = findings.figures
    metric = figures["headline"]["metric"]
    name, meaning = METRICS.get(metric, (metric.replace("_", " "), ""))
    return str(
        _template().render(
            **figures,
            pictures=findings.pictures,
            metric_name=name,
            metric_meaning=meaning,
            of_numbers=figures["model"]["problem"] == "regression",
            fig=lambda value: figure(value, metric),
            gain=lambda value: difference(value, metric),
            stamp=lambda text: text[:16].replace("T", " ") + " UTC",
        )
    )


def figure(value: float | None, metric: str) -> str:
    """A figure of a metric, as people read it."""
    if value is None:
        return "–"
    return percent(value) if metric in SHARES else written_out(value)


def difference(value: float | None, metric: str) -> str:
    """With its sign; of shares in points."""
    if value is None:
        return "–"
    if metric in SHARES:
        return f"{100 * value:+.1f} points".replace("-", "−")
    return ("+" if value >= 0 else "−") + written_out(abs(value))


def percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def data_uri(image: bytes) -> str:
    """An image or a picture of ours, in place."""
    kind = "jpeg" if image.startswith(b"\xff\xd8\xff") else "png"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}"


@lru_cache(maxsize=1)
def _template() -> Any:
    environment = templates(Path(__file__).parent)
    environment.filters |= {
        "percent": percent,
        "number": lambda value: "–" if value is None else written_out(value),
        "data_uri": data_uri,
        "sentence": lambda text: f"{text[:1].upper()}{text[1:]}.",
        "words": lambda name: name.replace("_", " "),
    }
    return environment.get_template(TEMPLATE)
