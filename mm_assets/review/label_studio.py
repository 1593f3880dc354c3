"""Label Studio's formats: tasks with predictions, the labelling config, and what it exports.

Sources: labelstud.io/guide/tasks, guide/predictions, guide/export, tags/choices and tags/number.
Its JSON-MIN and CSV put an annotation's values beside the task's data and so overwrite what has
the same name; none of our names meets one of theirs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as ET

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.review.answers import Answer
from mm_assets.review.queue import Item
from mm_assets.review.sheet import own_name

CONTROL = "label"  # the name of the control that people answer with
RECORD = "record"  # the name of the object that it belongs to
# Columns that every CSV export of Label Studio has.
CSV_COLUMNS = {"annotation_id", "annotator", "lead_time"}


def labelling_config(spec: DatasetSpec, classes: Sequence[str]) -> str:
    """The labelling interface: the record, its image, its columns, and the choice."""
    view = ET.Element("View")
    ET.SubElement(view, "Text", name=RECORD, value="$record_id")
    if spec.has_images:
        ET.SubElement(view, "Image", name="image", value="$image")
    ET.SubElement(view, "Table", name="columns", value="$columns")
    if spec.is_regression:
        ET.SubElement(view, "Number", name=CONTROL, toName=RECORD, step="any")
    else:
        control = ET.SubElement(
            view, "Choices", name=CONTROL, toName=RECORD, choice="single", showInLine="true"
        )
        for name in classes:
            ET.SubElement(control, "Choice", value=name)
    ET.indent(view)
    return ET.tostring(view, encoding="unicode") + "\n"


def task(
    spec: DatasetSpec, item: Item, features: Mapping[str, Any], image_url: str | None
) -> dict[str, Any]:
    """One record as a task with its prediction; `image_url` is None for a dataset of tables."""
    interval = {"lower": item.lower, "upper": item.upper} if spec.is_regression else {}
    said: dict[str, Any] = {
        "prediction": item.prediction,
        **interval,
        "confidence": item.confidence,
        "why": item.why,
        "reasons": item.reasons or "",
    }
    shown = {own_name(spec, name): value for name, value in said.items()} | dict(features)
    data = {"record_id": item.record_id, **said, "columns": {n: _text(v) for n, v in shown.items()}}
    if image_url is not None:
        data["image"] = image_url
    return {
        "data": data,
        "predictions": [
            {
                "model_version": item.model_version,
                "score": item.confidence,
                "result": [_result(spec, item.prediction)],
            }
        ],
    }


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _result(spec: DatasetSpec, prediction: str) -> dict[str, Any]:
    named = {"from_name": CONTROL, "to_name": RECORD}
    if spec.is_regression:
        return {**named, "type": "number", "value": {"number": float(prediction)}}
    return {**named, "type": "choices", "value": {"choices": [prediction]}}


# -- what it exports ------------------------------------------------------------------------------


def answers_of_json(document: Sequence[Any]) -> Iterator[Answer]:
    """What people answered, from the JSON or the JSON-MIN export."""
    for number, entry in enumerate(document, 1):
        if not isinstance(entry, dict):
            yield Answer("", f"entry {number}", problem="it is no task")
        elif isinstance(entry.get("data"), dict):
            yield from _of_task(entry, f"task {entry.get('id', number)}")
        else:
            where = f"task {entry.get('id', number)}"
            yield _answer(entry.get("record_id"), where, entry.get(CONTROL))


def answer_of_cell(record_id: str, where: str, cell: str) -> Answer:
    """What a person answered, from a cell of the CSV export: text, or JSON for what is no text."""
    value: Any = cell
    if cell.startswith(("[{", '{"')):
        try:
            value = json.loads(cell)
        except ValueError:
            value = cell  # a class may be called like this
    return _answer(record_id, where, value)


def _of_task(entry: dict[str, Any], where: str) -> Iterator[Answer]:
    record_id = entry["data"].get("record_id")
    given = entry.get("annotations")
    given = [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []
    if not given:
        yield _answer(record_id, where, None)
    for annotation in given:
        if annotation.get("was_cancelled") or annotation.get("skipped"):
            yield _answer(record_id, where, None, blank="skipped")
            continue
        results = annotation.get("result")
        results = results if isinstance(results, list) else []
        ours = [
            one.get("value")
            for one in results
            if isinstance(one, dict) and one.get("from_name") == CONTROL
        ]
        yield _answer(record_id, where, ours)


def _answer(record_id: Any, where: str, value: Any, blank: str = "not answered") -> Answer:
    if not isinstance(record_id, str):
        return Answer("", where, problem="it has no record_id, so it is none of `mm review export`")
    values = list(_plain(value))
    if len(values) > 1:
        return Answer(record_id, where, problem=f"several labels at once: {', '.join(values)}")
    return Answer(record_id, where, values[0] if values else "", blank=blank)


def _plain(value: Any) -> Iterator[str]:
    """The labels in a result's value, in whichever of Label Studio's forms."""
    if isinstance(value, list):
        for one in value:
            yield from _plain(one)
    elif isinstance(value, dict):
        yield from _plain(value.get("choices", value.get("number")))
    elif isinstance(value, str) or (isinstance(value, int | float) and not isinstance(value, bool)):
        yield str(value)
