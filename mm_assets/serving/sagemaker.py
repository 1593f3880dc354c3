"""SageMaker's container contract: `/ping`, `/invocations`, and the address that its SDKs post to.

Which dataset is asked stands in the custom attributes (`dataset=pets`), the target model or the
endpoint's name; where one dataset is served, nowhere.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request, Response

from mm_assets.serving.answering import Answered, Answering, Asked
from mm_assets.serving.csv_body import as_csv, has_header, with_header
from mm_assets.serving.native import as_document
from mm_assets.serving.predictor import to_json
from mm_assets.serving.problems import Problem
from mm_assets.serving.reading import Fault
from mm_assets.serving.request import body_of, json_of, media_type, parameters_of, preferred

JSON = "application/json"
LINES = ("application/jsonlines", "application/x-jsonlines", "application/jsonl",
         "application/x-ndjson")  # fmt: skip
CSV = "text/csv"
TABLES = ("text/tab-separated-values", "application/x-parquet", "application/parquet",
          "application/vnd.apache.parquet", "application/octet-stream",
          "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet")  # fmt: skip
ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"
TARGET = "x-amzn-sagemaker-target-model"
_TAKEN = f"{JSON}, {LINES[0]}, {CSV}, {TABLES[1]} or image/*"


def routes(answering: Answering) -> APIRouter:
    """The endpoints that SageMaker, and its clients, ask."""
    router = APIRouter(tags=["SageMaker"])
    service = answering.service

    @router.get("/ping", summary="200 once every dataset can answer, else 503 with the reason")
    async def ping() -> Response:
        told = service.readiness()
        if told["ready"]:
            return Response(to_json({"ready": True}), media_type=JSON)
        reasons = [
            f"{name}: {one.get('reason') or one['state']}"
            for name, one in told["datasets"].items()
            if one["state"] != "ready"
        ]
        why = "the service is going down" if told["draining"] else "; ".join(reasons)
        raise Problem(503, "not_ready", why or "no dataset is served")

    @router.get("/execution-parameters", summary="What batch transform may send")
    async def execution() -> dict[str, Any]:
        return {
            "MaxConcurrentTransforms": 4,
            "BatchStrategy": "SINGLE_RECORD",  # many may hold more records than one request may
            "MaxPayloadInMB": max(1, min(service.options.most_bytes >> 20, 100)),
        }

    @router.post("/invocations", summary="An answer for each record")
    async def invocations(request: Request) -> Response:
        return await _invoked(answering, request)

    @router.post(
        "/endpoints/{endpoint}/invocations",
        summary="The same, where a client of `sagemaker-runtime` looks for it",
    )
    async def endpoint(endpoint: str, request: Request) -> Response:
        try:
            return await _invoked(answering, request, endpoint)
        except Problem as problem:
            return _model_error(problem)

    return router


async def _invoked(answering: Answering, request: Request, endpoint: str = "") -> Response:
    name = _dataset(answering, request, endpoint)
    kind = media_type(request)
    asked, named = await _asked(answering, name, request, kind)
    usual = LINES[0] if kind in LINES else JSON
    form = preferred(request.headers.get("accept", ""), (usual, JSON, *LINES, CSV))
    if form is None:
        raise Problem(406, "not_acceptable", "the answer has none of the accepted media types",
                      f"Accept {JSON}, {LINES[0]} or {CSV}.")  # fmt: skip
    found = await answering.answer(name, asked)
    return _as(form, name, found, named=named)


def _dataset(answering: Answering, request: Request, endpoint: str) -> str:
    """Which dataset is asked. Raises Problem."""
    served = answering.service.visible()
    for part in request.headers.get(ATTRIBUTES, "").replace(";", ",").split(","):
        key, _, value = part.partition("=")
        if key.strip().lower() == "dataset":
            return value.strip()
    if target := request.headers.get(TARGET, "").strip("/ "):
        return target.removesuffix(".tar.gz")
    if endpoint in served:
        return endpoint
    if len(served) == 1:
        return next(iter(served))
    raise Problem(
        422, "dataset_needed", "several datasets are served, and none is named",
        f"Name one in the custom attributes: dataset=NAME. Served: {', '.join(sorted(served))}.",
    )  # fmt: skip


async def _asked(
    answering: Answering, name: str, request: Request, kind: str
) -> tuple[Asked, bool]:
    """What is asked, and whether an answer as CSV is to name its columns. Raises Problem."""
    body = await body_of(request)
    if kind in LINES:
        return _lines(body), True
    if kind == CSV:
        spec = (await answering.predictor(name)).spec
        named = has_header(body, spec, parameters_of(request).get("header"))
        return Asked(table=body if named else with_header(body, spec), number_rows=True), named
    if kind in TABLES:
        return Asked(table=body, number_rows=True), True
    if kind.startswith("image/") or kind == "application/x-image":
        return Asked(named={request.headers.get("x-file-name", "image"): body}), True
    if kind in ("", JSON, "text/json"):
        return Asked.of_json(_records(json_of(body))), True
    raise Problem(415, "media_type", f"{kind} is not understood", f"Send {_TAKEN}.")


def _records(document: Any) -> Any:
    """The records in whatever JSON clients wrap them: those of TensorFlow, pandas and MLflow."""
    if not isinstance(document, dict):
        return document
    for key in ("instances", "dataframe_records"):
        if isinstance(document.get(key), list):
            return document[key]
    split = document.get("dataframe_split", document)
    if not isinstance(split, dict):
        return document
    columns, rows = split.get("columns"), split.get("data")
    if not isinstance(columns, list) or not isinstance(rows, list):
        return document
    if not all(isinstance(name, str) for name in columns) or len({*columns}) < len(columns):
        raise Problem(422, "records_expected", "`columns` has to name each column once, as text")
    for place, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(columns):
            what = f"row {place} of `data` has not one value for each of {len(columns)} columns"
            raise Problem(422, "records_expected", what)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _lines(body: bytes) -> Asked:
    """A record for each line that is not empty; what is no record is refused by itself."""
    records: list[dict[str, Any]] = []
    faults: dict[int, Fault] = {}
    for line in filter(None, map(bytes.strip, body.removeprefix(b"\xef\xbb\xbf").split(b"\n"))):
        try:
            record = json_of(line)
        except Problem as problem:
            record = None
            what = problem.what.replace("the body", "the line", 1)
            faults[len(records)] = Fault("row_json", what)
        if not isinstance(record, dict):
            faults.setdefault(len(records), Fault("row_json", "the line is no JSON object"))
            record = {}
        records.append(record)
    return Asked(records, [one.get("image") for one in records], faults=faults)


def _as(form: str, name: str, found: Answered, *, named: bool) -> Response:
    if form == JSON:
        return Response(to_json(as_document(name, found)), media_type=JSON)
    if form == CSV:
        return Response(as_csv(found.answers, named=named), media_type=CSV)
    lines: Sequence[bytes] = [to_json(answer) + b"\n" for answer in found.answers]
    return Response(b"".join(lines), media_type=form)


def _model_error(problem: Problem) -> Response:
    """How SageMaker hands on what a container did not answer; its SDKs raise ModelError."""
    document = {
        "Message": f"Received {problem.status} from the model: {problem.what}",
        "OriginalStatusCode": problem.status,
        "OriginalMessage": json.dumps(problem.as_document(), ensure_ascii=False),
    }
    headers = {**problem.headers, "x-amzn-errortype": "ModelError"}
    return Response(to_json(document), 424, headers, JSON)
