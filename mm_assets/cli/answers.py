"""`mm predictions`: what the models say."""

from __future__ import annotations

from typing import Annotated

import typer

import mm_assets as mm
from mm_assets.cli.errors import speaking_errors
from mm_assets.cli.options import DatasetOption, FormatOption
from mm_assets.display.console import Format, print_rows, say

SHOWN = (
    "record_id", "prediction", "lower", "upper", "confidence", "needs_review", "doubts", "modality",
    "label",
)  # fmt: skip
OFTEN_EMPTY = ("lower", "upper", "doubts", "label")  # a terminal shows them if anything is there


def predictions(
    dataset: DatasetOption = None,
    review: Annotated[bool, typer.Option("--review", help="Only those that need review.")] = False,
    upload: Annotated[str | None, typer.Option(help="Only those of this upload.")] = None,
    record: Annotated[list[str] | None, typer.Option("--id", help="Only these records.")] = None,
    since: Annotated[str | None, typer.Option(help="Only those predicted since (ISO).")] = None,
    limit: Annotated[int | None, typer.Option(min=1)] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Print the predictions table, least confident first."""
    with speaking_errors():
        ds = mm.open(dataset)
        shown = limit if limit or form is not Format.TABLE else 40
        rows = ds.predictions.rows(
            review=True if review else None, upload=upload, ids=record, since=since, limit=shown
        )
        columns = ds.predictions.columns
        if form is Format.TABLE:
            empty = {name for name in OFTEN_EMPTY if all(row[name] is None for row in rows)}
            if len(ds.spec.modalities) == 1:
                empty.add("modality")
            columns = tuple(name for name in SHOWN if name not in empty)
        print_rows(rows, columns, form, f"{ds.name}: predictions")
        if not rows:
            say(_why_none(ds, upload))
        if limit is None and len(rows) == shown:
            say(f"The first {shown}; --limit N shows more, --format json all.")


def _why_none(ds: mm.Dataset, upload: str | None) -> str:
    """What an empty answer means."""
    if ds.predictions.rows(limit=1):
        more = " An answer stands under the newest upload of its record." if upload else ""
        return f"Of the predictions none is like that.{more}"
    if {row["state"] for row in ds.uploads()} == {"withdrawn"}:
        return "No predictions: what was sent last is withdrawn. `mm uploads` shows it."
    if not any(champion["version"] for champion in ds.champions()):
        return "No predictions yet: there is no model. `mm train` makes one of labelled records."
    return (
        "No predictions yet: records with a label teach the models and get none. Send some without "
        f"a value in '{ds.spec.label_column}', then `mm sync`."
    )
