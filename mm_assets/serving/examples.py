"""Requests that run, made up for each dataset that is served: for its description and its page."""

from __future__ import annotations

import base64
import csv
import io
import json
from shlex import quote
from typing import Any

from mm_assets.contract.dataset import IMAGE
from mm_assets.serving.predictor import Predictor

MOST_KNOWN = 50  # a column with more values may hold names: of those none is shown
NAME = "example"
_IMAGE_FILE = "photo.jpg"


def record(predictor: Predictor) -> dict[str, Any]:
    """A record that nobody sent: an ordinary value in each column, as far as a model knows one."""
    spec = predictor.spec
    values: dict[str, Any] = {spec.id_column: NAME}
    for name, kind in spec.kinds.items():
        values[name] = _number(predictor, name) if kind == "number" else _word(predictor, name)
    if spec.records == "images":
        values[IMAGE] = grey_image()
    return values


def _word(predictor: Predictor, column: str) -> str:
    for used in predictor.champions.in_use.values():
        known = used.loaded.spellings.columns.get(column)
        if known is not None and 0 < len(known.values) <= MOST_KNOWN:
            return next((value for value in known.values if value.strip()), "text")
    return "text"


def _number(predictor: Predictor, column: str) -> float:
    for used in predictor.champions.in_use.values():
        familiar = used.loaded.familiar
        seen = familiar.table.ranges.get(column) if familiar is not None else None
        if seen is not None:
            middle = (seen.smallest + seen.largest) / 2
            short = float(f"{middle:.2g}")
            return short if seen.smallest <= short <= seen.largest else middle
    return 1.0


def grey_image() -> str:
    """A small grey image, in base64."""
    from PIL import Image

    written = io.BytesIO()
    Image.new("RGB", (64, 64), (128, 128, 128)).save(written, "PNG")
    return base64.b64encode(written.getvalue()).decode()


def tensors(predictor: Predictor) -> dict[str, Any]:
    """The record as a request of the Open Inference Protocol."""
    kinds = predictor.spec.kinds
    return {
        "inputs": [
            {
                "name": name,
                "datatype": "FP64" if kinds.get(name) == "number" else "BYTES",
                "shape": [1],
                "data": [value],
            }
            for name, value in record(predictor).items()
        ]
    }


def table(predictor: Predictor, *, header: bool = True) -> str:
    """The record as CSV."""
    values = record(predictor)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerows([list(values), list(values.values())][0 if header else 1 :])
    return text.getvalue()


def commands(predictor: Predictor, address: str, key: str = "") -> dict[str, str]:
    """What it is called, and a line for a shell. address: of the service. key: a header more."""
    spec = predictor.spec
    name, values = spec.dataset, record(predictor)
    curl = f"curl {f'-H {quote(key)} ' if key else ''}"
    to_native = quote(f"{address}/v1/datasets/{name}/predictions")
    invoke = f"{curl}{quote(f'{address}/invocations')}"
    attributes = f"-H 'X-Amzn-SageMaker-Custom-Attributes: dataset={name}'"
    json_type = "-H 'Content-Type: application/json'"
    found = {"a record": f"{curl}{to_native} {json_type} -d {_json(values)}"}
    if spec.records == "images":
        found["an image"] = f"{curl}{to_native} -F image=@{_IMAGE_FILE}"
    elif spec.has_images:
        found["a record with its image"] = (
            f"{curl}{to_native} -F records={_json(values)} -F image=@{_IMAGE_FILE}"
        )
    if spec.columns:
        found["a table"] = f"{curl}{to_native} -H 'Content-Type: text/csv' --data-binary @table.csv"
    found["as SageMaker asks"] = f"{invoke} {json_type} {attributes} -d {_json([values])}"
    infer = quote(f"{address}/v2/models/{name}/infer")
    found["as KServe and Triton ask"] = f"{curl}{infer} {json_type} -d {_json(tensors(predictor))}"
    return found


def _json(document: Any) -> str:
    return quote(json.dumps(document, ensure_ascii=False))
