"""The description of the service for programs: what each endpoint takes, with requests that run.

It is made when it is asked for, of the datasets that are in memory at that moment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from mm_assets.contract.dataset import IMAGE, DatasetSpec
from mm_assets.serving import examples
from mm_assets.serving.predictor import Predictor
from mm_assets.serving.service import Service
from mm_assets.tables.answer import COLUMNS

Document = dict[str, Any]
_REFUSALS = {
    400: "The request can't be read.",
    404: "No such dataset is served.",
    413: "The body, or the number of records, is over its limit.",
    415: "The media type or the encoding of the body is not understood.",
    422: "No record could be answered; `errors` has a reason for each.",
    503: "No model can answer now, or too many requests wait: see Retry-After.",
    504: "It took too long.",
}
_TEXT = {"type": ["string", "null"]}
_NUMBER = {"type": ["number", "null"]}
_ANSWER: dict[str, Document] = {
    "record_id": {"type": "string"},
    "prediction": {"type": ["string", "number", "null"], "description": "null: see `code`."},
    "lower": {**_NUMBER, "description": "Of a number: where the interval begins."},
    "upper": {**_NUMBER, "description": "Of a number: where the interval ends."},
    "probabilities": {
        "type": ["object", "null"],
        "additionalProperties": {"type": "number"},
        "description": "Of classes: how likely each is.",
    },
    "confidence": {**_NUMBER, "description": "The chance that the prediction is right."},
    "needs_review": {"type": ["boolean", "null"]},
    "doubts": {**_TEXT, "description": "What of the record no model saw in training."},
    "code": {**_TEXT, "description": "Of a refusal: of the record, or of its image alone."},
}


def describing(app: FastAPI, service: Service) -> Callable[[], Document]:
    """What makes the document of /openapi.json."""

    def described() -> Document:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes)
        loaded = {
            name: one.predictor
            for name, one in service.visible().items()
            if one.predictor is not None
        }
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas |= {"Answer": _answer(), "Problem": _problem()}
        schemas |= {f"{name}-record": record(one.spec) for name, one in loaded.items()}
        _fill_native(document, sorted(service.visible()), loaded)
        _fill_sagemaker(document, loaded)
        _fill_inference(document, sorted(service.visible()), loaded)
        return document

    return described


def record(spec: DatasetSpec) -> Document:
    """The schema of one record. Numbers may be written as text, as tables have them."""
    properties: dict[str, Document] = {
        spec.id_column: {"type": ["string", "integer"], "description": "Default: its place."}
    }
    for name, kind in spec.kinds.items():
        types = ["number", "string"] if kind == "number" else ["string", "number", "boolean"]
        properties[name] = {"type": [*types, "null"], "description": f"{kind}"}
    needed = list(spec.columns)
    if spec.has_images:
        properties[IMAGE] = {
            "type": ["string", "object", "null"],
            "description": 'base64, an URL, s3://…, or {"name": …} of one in the lake.',
        }
        if spec.all_images:
            properties[IMAGE]["type"].append("array")
            properties[IMAGE]["description"] += " Or a list of such: all images of the record."
        needed += [IMAGE] if spec.records == "images" else []
    return {"type": "object", "properties": properties, "required": needed}


def _answer() -> Document:
    return {
        "type": "object",
        "properties": {name: _ANSWER.get(name, _TEXT) for name in COLUMNS},
        "required": list(COLUMNS),
    }


def _problem() -> Document:
    told: dict[str, Document] = {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "A word for programs."},
        "detail": {"type": "string"},
        "todo": {"type": "string", "description": "What a person does about it."},
        "errors": {"type": "array", "items": {"type": "object"}},
    }
    needed = ["type", "title", "status", "code", "detail"]
    return {"type": "object", "properties": told, "required": needed}


def _fill_native(document: Document, names: list[str], loaded: Mapping[str, Predictor]) -> None:
    for path, operations in document["paths"].items():
        if path.startswith("/v1/datasets/{dataset}"):
            for operation in operations.values():
                _name_values(operation, "dataset", names)
    operation = document["paths"]["/v1/datasets/{dataset}/predictions"]["post"]
    with_images = {name: one for name, one in loaded.items() if one.spec.has_images}
    content = _content(loaded)
    if with_images:
        content["multipart/form-data"] = {
            "schema": {
                "type": "object",
                "properties": {
                    "records": {"type": "string", "description": "JSON, as the body may be."},
                    IMAGE: {"type": "string", "format": "binary"},
                },
                "description": "Files belong to records by the IDs in their names.",
            }
        }
    operation["requestBody"] = {"required": True, "content": content}
    _answers(operation)


def _fill_sagemaker(document: Document, loaded: Mapping[str, Predictor]) -> None:
    for path in ("/invocations", "/endpoints/{endpoint}/invocations"):
        operation = document["paths"][path]["post"]
        content = _content(loaded)
        content["application/jsonlines"] = {"schema": {"type": "string"}}
        operation["requestBody"] = {"required": True, "content": content}
        _answers(operation)
        operation.setdefault("parameters", []).append(
            {
                "name": "X-Amzn-SageMaker-Custom-Attributes",
                "in": "header",
                "required": False,
                "schema": {"type": "string"},
                "description": "dataset=NAME, where several are served.",
            }
        )


def _fill_inference(document: Document, names: list[str], loaded: Mapping[str, Predictor]) -> None:
    for path, operations in document["paths"].items():
        if not path.startswith("/v2/models/{model}"):
            continue
        for operation in operations.values():
            _name_values(operation, "model", names)
        if not path.endswith("/infer"):
            continue
        told = {name: {"value": examples.tensors(one)} for name, one in loaded.items()}
        content: Document = {"schema": {"type": "object", "required": ["inputs"]}}
        content |= {"examples": told} if told else {}
        operations["post"]["requestBody"] = {
            "required": True,
            "content": {"application/json": content},
        }


def _content(loaded: Mapping[str, Predictor]) -> Document:
    """Records as JSON and as a table, with an example for each dataset."""
    records = [{"$ref": f"#/components/schemas/{name}-record"} for name in loaded]
    one: Document = {"anyOf": records} if records else {"type": "object"}
    many = {"type": "array", "items": one}
    wrapped = {"type": "object", "properties": {"records": many}, "required": ["records"]}
    told = {name: {"value": {"records": [examples.record(p)]}} for name, p in loaded.items()}
    tables = {name: {"value": examples.table(p)} for name, p in loaded.items() if p.spec.columns}
    content: Document = {
        "application/json": {"schema": {"anyOf": [wrapped, many, one]}},
        "text/csv": {"schema": {"type": "string"}},
        "application/vnd.apache.parquet": {"schema": {"type": "string", "format": "binary"}},
    }
    if told:
        content["application/json"]["examples"] = told
    if tables:
        content["text/csv"]["examples"] = tables
    return content


def _answers(operation: Document) -> None:
    answer = {"$ref": "#/components/schemas/Answer"}
    answers: Document = {
        "type": "object",
        "properties": {
            "dataset": {"type": "string"},
            "predictions": {"type": "array", "items": answer},
            "images_not_used": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["dataset", "predictions"],
    }
    problem = {"schema": {"$ref": "#/components/schemas/Problem"}}
    operation["responses"] = {
        "200": {
            "description": "An answer for each record, in their order.",
            "content": {"application/json": {"schema": answers}},
        },
        **{
            str(status): {"description": words, "content": {"application/problem+json": problem}}
            for status, words in _REFUSALS.items()
        },
    }


def _name_values(operation: Document, parameter: str, names: list[str]) -> None:
    for one in operation.get("parameters", ()):
        if one["name"] == parameter:
            one["schema"]["enum"] = names
