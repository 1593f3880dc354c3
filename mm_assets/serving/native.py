"""/v1: the datasets that are served, and predictions for records as JSON, a table or images."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.serving.answering import Answered, Answering, Asked
from mm_assets.serving.predictor import Predictor, to_json
from mm_assets.serving.problems import Problem
from mm_assets.serving.request import body_of, json_of, media_type

TABLES = (
    "text/csv", "text/tab-separated-values", "application/x-ndjson", "application/jsonlines",
    "application/jsonl", "application/vnd.apache.parquet", "application/x-parquet",
    "application/octet-stream",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
)  # fmt: skip
MOST_PARTS = 1_000


def routes(answering: Answering) -> APIRouter:
    """The endpoints below /v1."""
    router = APIRouter(prefix="/v1/datasets", tags=["predictions"])
    service = answering.service

    @router.get("", summary="The datasets that are served")
    async def datasets() -> dict[str, Any]:
        return {"datasets": service.readiness()["datasets"]}

    @router.get("/{dataset}", summary="What a record of a dataset holds, and what answers")
    async def dataset_(dataset: str) -> dict[str, Any]:
        return described(await answering.predictor(dataset))

    @router.post("/{dataset}/predictions", summary="An answer for each record")
    async def predictions(dataset: str, request: Request) -> Response:
        asked = await asked_of(request)
        found = await answering.answer(dataset, asked)
        return Response(to_json(as_document(dataset, found)), media_type="application/json")

    return router


def described(predictor: Predictor) -> dict[str, Any]:
    """What a client has to know of a dataset."""
    spec: DatasetSpec = predictor.spec
    champions = predictor.champions
    return {
        "dataset": spec.dataset,
        "description": spec.description,
        "id": spec.id_column,
        "columns": {
            name: {"kind": column.kind.value, "required": column.required}
            for name, column in spec.columns.items()
        },
        "image": "required" if spec.records == "images" else (
            "optional" if spec.has_images else "none"
        ),
        "problem_type": spec.problem_type,
        "models": {m.value: champions.version(m) for m in spec.modalities},
        "review": {m.value: used.loaded.promise.words for m, used in champions.in_use.items()},
    }  # fmt: skip


def as_document(dataset: str, found: Answered) -> dict[str, Any]:
    """The body of an answer."""
    document: dict[str, Any] = {"dataset": dataset, "predictions": found.answers}
    if found.unused:
        document["images_not_used"] = list(found.unused)
    return document


async def asked_of(request: Request) -> Asked:
    """What a request asks, by its media type. Raises Problem."""
    kind = media_type(request)
    if kind == "multipart/form-data":
        return await _multipart(request)
    body = await body_of(request)
    if kind.startswith("image/"):
        return Asked(named={request.headers.get("x-file-name", "image"): body})
    if kind in TABLES:
        return Asked(table=body)
    if kind in ("", "application/json", "text/json") or kind.endswith("+json"):
        return Asked.of_json(json_of(body))
    raise Problem(
        415, "media_type", f"{kind} is not understood",
        "Send application/json, multipart/form-data, text/csv, application/x-ndjson, "
        "application/vnd.apache.parquet or image/*.",
    )  # fmt: skip


async def _multipart(request: Request) -> Asked:
    """`records` as JSON, and files whose names yield their IDs, as in uploads."""
    body = await body_of(request)

    async def stream() -> Any:
        yield body

    try:
        form = await MultiPartParser(
            request.headers, stream(), max_files=MOST_PARTS, max_fields=MOST_PARTS,
            max_part_size=request.app.state.options.most_bytes,
        ).parse()  # fmt: skip
    except (MultiPartException, ValueError, KeyError, AssertionError) as error:
        what = getattr(error, "message", str(error)) or type(error).__name__
        raise Problem(400, "form_unreadable", f"the form can't be read: {what}") from None
    document: Any = None
    named: dict[str, bytes] = {}
    for key, value in form.multi_items():
        data = await value.read() if isinstance(value, UploadFile) else value.encode()
        if key in ("records", "record"):
            document = json_of(data)
        elif isinstance(value, UploadFile):
            named[value.filename or f"{key}-{len(named)}"] = data
        else:
            raise Problem(
                422, "form_unreadable", f"the field {key!r} is not understood",
                "Send `records` (JSON) and files named by their IDs.",
            )  # fmt: skip
    if document is None:
        return Asked(named=named)
    return Asked.of_json(document, named or None)
