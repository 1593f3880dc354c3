"""The report of a stored model, from Python and from the command line.

What belongs here: which model is meant, and the page as people hold it. What does not: what a
report says (training/report).
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.errors import UsageError
from mm_assets.engines.protocol import Progress
from mm_assets.lake.lake import Lake
from mm_assets.registry.store import ModelStore
from mm_assets.training.stored_models import asked_model


@dataclass(frozen=True)
class ModelReport:
    """What a stored model is worth, as one page; a notebook shows it.

    figures: each section of the page to what it says, as plain data (training/report/gather.py).
    html: the page; it needs nothing from elsewhere. pictures: name to PNG.
    """

    modality: Modality
    version: str
    figures: dict[str, Any]
    html: str
    pictures: dict[str, bytes]

    def save(self, to: str | Path) -> Path:
        """Write the page into a file; one that is there is replaced. Raises UsageError."""
        file = Path(to)
        refuse_as_page(file)
        file.write_text(self.html, encoding="utf-8")
        return file

    def _repr_html_(self) -> str:
        return (
            f'<iframe srcdoc="{html.escape(self.html)}" sandbox style="width: 100%; height: 45em; '
            'border: 1px solid #ddd"></iframe>'
        )


def report_model(
    lake: Lake,
    spec: DatasetSpec,
    version: str | None = None,
    modality: Modality | None = None,
    *,
    progress: Progress = lambda _: None,
) -> ModelReport:
    """Ask a stored model (by default the champion) about the records that are held out today.

    version: or how it begins. Nothing is stored. Takes up to a minute: a rival is trained, and
    each column is shuffled. Raises ModelError (training_set_missing, model_other_wording, …),
    UsageError.
    """
    from mm_assets.training.report.gather import gather
    from mm_assets.training.report.page import page_of

    models = ModelStore(lake, spec.dataset)
    found = asked_model(models, spec, version, modality)
    findings = gather(lake, models, spec, found.modality, found.version, progress)
    return ModelReport(
        found.modality, found.version, findings.figures, page_of(findings), findings.pictures
    )


def refuse_as_page(file: Path) -> None:
    """Raises UsageError where no page could be written."""
    if file.is_dir() or not file.parent.is_dir():
        fault = "is a folder" if file.is_dir() else "lies in a folder that is not there"
        raise UsageError(code="arguments", what=f"{file} {fault}; name a file, as in report.html")
