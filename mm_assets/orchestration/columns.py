"""What the columns of the assets' tables mean, for the catalog of Dagster's UI.

What belongs here: names, types and words. What does not: the tables themselves (`manifest/`,
`tables/store.py`); a test compares the names.
"""

from __future__ import annotations

from typing import Any

import dagster as dg

from mm_assets.contract.dataset import Column, ColumnKind, DatasetSpec
from mm_assets.display.cells import visible

Described = tuple[str, str, str]  # name, type, words

PREDICTIONS: tuple[Described, ...] = (
    ("record_id", "string", "The record's ID."),
    ("prediction", "string", "The class, or the number."),
    ("lower", "double", "Of a number: where the truth begins, at the dataset's interval_level."),
    ("upper", "double", "Of a number: where it ends."),
    ("probabilities", "string", "Of each class, as JSON."),
    ("confidence", "double", "How likely the prediction is right, calibrated: 0 to 1."),
    ("needs_review", "boolean", "Whether a person should look."),
    ("doubts", "string", "What the model never saw of the record; null for nothing."),
    ("modality", "string", "with_image or without_image: which model said it."),
    ("model_version", "string", "The model's version."),
    ("upload", "string", "The upload that the record's row came in."),
    ("input_hash", "string", "A hash of the row and the image that were predicted."),
    ("run_id", "string", "The run of Dagster that predicted."),
    ("predicted_at", "timestamp", "When."),
    ("reasons", "string", "What the model says of its own answer, where it says something."),
)
TRAINING_SET = (
    "record_id", "label", "row_upload", "image_upload", "image_sha256", "split", "group",
)  # fmt: skip
OF_A_ROW: dict[str, str] = {
    "record_id": "The record's ID.",
    "row_upload": "The upload of its newest row.",
    "purpose": "train, if it has a label; else predict.",
    "label": "What is true, where it is known.",
    "label_upload": "The upload that says so.",
    "row_file": "The table that its row stands in.",
    "row_line": "The line there.",
    "image_sha256": "A hash of that image.",
    "image_file": "The file of that image.",
    "image_upload": "The upload of its newest image; null without one.",
    "input_hash": "A hash of the row and the image together.",
    "split": "train, tuning or holdout.",
    "group": "What stays together in the split: the record alone, or all that share its group.",
}
KINDS = {
    ColumnKind.NUMBER: ("double", ""),
    ColumnKind.CATEGORY: ("string", "category"),
    ColumnKind.TEXT: ("string", "text"),
}


def of_predictions() -> dict[str, Any]:
    """The predictions table, as metadata of its asset."""
    return _schema(PREDICTIONS)


def of_records(spec: DatasetSpec, own: tuple[str, ...]) -> dict[str, Any]:
    """A table of records: its own columns, then the dataset's, as metadata of its asset."""
    numbers = {"row_line": "integer"}
    rows = [(name, numbers.get(name, "string"), OF_A_ROW.get(name, "")) for name in own]
    return _schema((*rows, *(_of_dataset(name, one) for name, one in spec.columns.items())))


def _of_dataset(name: str, column: Column) -> Described:
    kind, called = KINDS[column.kind]
    said = (column.description, called, "required" if column.required else "")
    return f"features.{name}", kind, "; ".join(filter(None, said))


def _schema(columns: tuple[Described, ...]) -> dict[str, Any]:
    shown = [
        dg.TableColumn(visible(name), kind, description=visible(words) or None)
        for name, kind, words in columns
    ]
    return {"dagster/column_schema": dg.TableSchema(shown)}
