"""Label Studio's formats: tasks with predictions, the labelling config, and what it exports.

Sources: labelstud.io/guide/tasks, guide/predictions, guide/export, tags/choices and tags/number.
Its JSON-MIN and CSV put an annotation's values beside the task's data and so overwrite what has
the same name; none of our names meets one of theirs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any
from xml.etree import ElementTree as ET

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.review.answers import Answer
from mm_assets.review.queue import Item
from mm_assets.review.sheet import own_name

CONTROL = "label"  # the name of the control that people answer with
UNSURE = "unsure"  # the name of the control by which they say that they can't tell
CANT_TELL = "can't tell"
RECORD = "record"  # the name of the object that both belong to
# Of all predictions, whichever of our models made them: Label Studio shows those of one version.
MODEL = "mm-assets"
# How the image begins that is shown for a record without one, so that it is not taken for its own.
NONE_SHOWN = "data:image/png;name=none.png;base64,"
# Columns that every CSV export of Label Studio has.
CSV_COLUMNS = {"annotation_id", "annotator", "lead_time"}


def labelling_config(spec: DatasetSpec, classes: Sequence[str]) -> str:
    """The labelling interface: the record, the choice above what may be large, image, columns."""
    view = ET.Element("View")
    ET.SubElement(view, "Text", name=RECORD, value="$record_id")
    if spec.is_regression:
        ET.SubElement(view, "Number", name=CONTROL, toName=RECORD, step="any")
    else:
        control = ET.SubElement(
            view, "Choices", name=CONTROL, toName=RECORD, choice="single", showInLine="true"
        )
        for name in classes:
            ET.SubElement(control, "Choice", value=name)
    unsure = ET.SubElement(view, "Choices", name=UNSURE, toName=RECORD, choice="multiple")
    ET.SubElement(unsure, "Choice", value=CANT_TELL)
    if spec.has_images:
        ET.SubElement(view, "Image", name="image", value="$image")
    ET.SubElement(view, "Table", name="columns", value="$columns")
    ET.indent(view)
    return ET.tostring(view, encoding="unicode") + "\n"


def unfit(spec: DatasetSpec, classes: Sequence[str], config: str) -> str:
    """What a project's labelling interface lacks to answer with, in words, or ''."""
    try:
        view = ET.fromstring(config or "<View/>")  # noqa: S314  of the server that we work for
    except ET.ParseError as error:
        return f"it cannot be read: {error}"
    tag = "Number" if spec.is_regression else "Choices"
    control = next((one for one in view.iter(tag) if one.get("name") == CONTROL), None)
    if control is None:
        return f'it has no <{tag} name="{CONTROL}">'
    offered = {one.get("alias") or one.get("value") for one in control.iter("Choice")}
    missing = [name for name in classes if name not in offered]
    return f"it does not offer {', '.join(missing[:5])}" if missing else ""


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
    data["features"] = {name: value for name, value in features.items() if value is not None}
    if image_url is not None:
        data["image"] = image_url
    return {
        "data": data,
        "meta": meta(item),
        "predictions": [prediction(spec, item.prediction, item.confidence, MODEL)],
    }


def meta(item: Item) -> dict[str, str]:
    """What lies beside a task's data. said: a hash of all that is said of the record."""
    said = hashlib.sha256(json.dumps(asdict(item), sort_keys=True).encode()).hexdigest()
    return {
        "record_id": item.record_id,
        "prediction": item.prediction,
        "model_version": item.model_version,
        "said": said[:32],
    }


def prediction(
    spec: DatasetSpec, label: str, confidence: float | None, model_version: str
) -> dict[str, Any]:
    """An answer of a model as Label Studio shows it before a person answers."""
    result = [_result(spec, label)]
    return {"model_version": model_version, "score": confidence, "result": result}


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _result(spec: DatasetSpec, label: str) -> dict[str, Any]:
    named = {"from_name": CONTROL, "to_name": RECORD}
    if spec.is_regression:
        return {**named, "type": "number", "value": {"number": float(label)}}
    return {**named, "type": "choices", "value": {"choices": [label]}}


# -- what it exports ------------------------------------------------------------------------------


def answers_of_json(document: Sequence[Any]) -> Iterator[Answer]:
    """What people answered, from the JSON or the JSON-MIN export."""
    for number, entry in enumerate(document, 1):
        if not isinstance(entry, dict):
            yield Answer("", f"entry {number}", problem="it is no task")
        elif isinstance(entry.get("data"), dict):
            yield from _of_task(entry, f"task {entry.get('id', number)}")
        else:
            where, label = f"task {entry.get('id', number)}", entry.get(CONTROL)
            yield _unless_unsure(entry.get("record_id"), where, label, bool(entry.get(UNSURE)))


def answer_of_cell(record_id: str, where: str, cell: str, unsure: str = "") -> Answer:
    """What a person answered, from cells of the CSV export: text, or JSON for what is no text."""
    value: Any = cell
    if cell.startswith(("[{", '{"')):
        try:
            value = json.loads(cell)
        except ValueError:
            value = cell  # a class may be called like this
    return _unless_unsure(record_id, where, value, bool(unsure))


def _of_task(entry: dict[str, Any], where: str) -> Iterator[Answer]:
    record_id = entry["data"].get("record_id")
    given = entry.get("annotations")
    given = [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []
    if not given:
        yield _answer(record_id, where, None)
    for annotation in given:
        yield answer_of(record_id, where, annotation)


def answer_of(record_id: Any, where: str, annotation: Mapping[str, Any]) -> Answer:
    """What a person answered in one annotation of a task."""
    if annotation.get("was_cancelled") or annotation.get("skipped"):
        return _answer(record_id, where, None, blank="skipped")
    results = annotation.get("result")
    results = [one for one in results if isinstance(one, dict)] if isinstance(results, list) else []
    ours = [one.get("value") for one in results if one.get("from_name") == CONTROL]
    unsure = any(one.get("from_name") == UNSURE for one in results)
    return _unless_unsure(record_id, where, ours, unsure)


def _unless_unsure(record_id: Any, where: str, value: Any, unsure: bool) -> Answer:
    """The label that the model chose is still there when somebody says that they can't tell."""
    return (
        _answer(record_id, where, None, CANT_TELL) if unsure else _answer(record_id, where, value)
    )


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
