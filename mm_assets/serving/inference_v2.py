"""The Open Inference Protocol, version 2, over REST: for clients of KServe and Triton.

A dataset is a model. Its version is that of the champions that answer, so it changes with each
promotion. Inputs are the ID, the columns and the image; outputs are the columns of the table.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.responses import JSONResponse

from mm_assets.contract.dataset import IMAGE, DatasetSpec
from mm_assets.serving.answering import Answering, Asked
from mm_assets.serving.inference_answer import outputs_of, tensors_out
from mm_assets.serving.predictor import Predictor, to_json
from mm_assets.serving.problems import Problem
from mm_assets.serving.request import body_of, json_of
from mm_assets.serving.service import State
from mm_assets.serving.tensors import HEADER_LENGTH, Tensor, refused, split_body, tensors_of

PLATFORM = "mm-assets"
_STATES: dict[State, str] = {"ready": "READY", "resting": "READY", "loading": "LOADING"}


class _Route(APIRoute):
    """Says what is wrong as this protocol does."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def speaking(request: Request) -> Response:
            try:
                return await handler(request)
            except Problem as problem:
                return JSONResponse({"error": in_words(problem)}, problem.status, problem.headers)

        return speaking


def in_words(problem: Problem) -> str:
    """A problem in one line; of several refused records the first three."""
    told = f"[{problem.code}] {problem.what}"
    each = problem.more.get("errors") or ()
    if len(each) > 1:
        some = (f"{one['record_id']}: [{one['code']}] {one['reason']}" for one in each[:3])
        told += f" ({'; '.join(some)}{'; …' if len(each) > 3 else ''})"
    return f"{told}. {problem.todo}" if problem.todo else told


def routes(answering: Answering) -> APIRouter:
    """The endpoints below /v2."""
    router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"], route_class=_Route)
    _of_server(router, answering)
    _of_models(router, answering)
    return router


def _of_server(router: APIRouter, answering: Answering) -> None:
    service = answering.service

    @router.get("", summary="The server, and the extensions that it understands")
    async def server() -> dict[str, Any]:
        from importlib.metadata import version

        return {
            "name": PLATFORM,
            "version": version("mm-assets"),
            "extensions": ["binary_tensor_data", "model_repository"],
        }

    @router.get("/health/live", summary="Whether the process answers")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @router.get("/health/ready", summary="Whether every dataset can answer")
    async def ready() -> Response:
        told = service.readiness()
        return JSONResponse(told, 200 if told["ready"] else 503)

    @router.post("/repository/index", summary="The datasets that are served, and their states")
    async def index(request: Request) -> list[dict[str, Any]]:
        body = await body_of(request)
        wish = json_of(body) if body.strip() else {}
        only_ready = isinstance(wish, dict) and wish.get("ready") is True
        found = []
        for name, told in service.readiness()["datasets"].items():
            state = _STATES.get(told["state"], "UNAVAILABLE")
            if state == "READY" or not only_ready:
                version = _version(told.get("models", {}))
                reason = told.get("reason", "")
                found.append({"name": name, "version": version, "state": state, "reason": reason})
        return found


def _of_models(router: APIRouter, answering: Answering) -> None:
    service = answering.service

    async def described(model: str, version: str | None = None) -> dict[str, Any]:
        return metadata(await _predictor(answering, model, version))

    async def ready(model: str, version: str | None = None) -> Response:
        told = service.readiness()["datasets"].get(model)
        if told is None or version is not None:
            await _predictor(answering, model, version)  # raises what is to be said
        can = told is not None and _STATES.get(told["state"]) == "READY"
        return JSONResponse({"name": model, "ready": can}, 200 if can else 503)

    async def infer(request: Request, model: str, version: str | None = None) -> Response:
        return await _inferred(answering, request, model, version)

    for path in ("/models/{model}", "/models/{model}/versions/{version}"):
        router.add_api_route(path, described, summary="Inputs and outputs of a dataset")
        router.add_api_route(f"{path}/ready", ready, summary="Whether it can answer")
        router.add_api_route(
            f"{path}/infer", infer, methods=["POST"], summary="An answer for each record"
        )


async def _inferred(
    answering: Answering, request: Request, model: str, version: str | None
) -> Response:
    predictor = await _predictor(answering, model, version)
    told, raw = split_body(await body_of(request), request.headers.get(HEADER_LENGTH))
    document = json_of(told)
    if not isinstance(document, dict):
        raise refused("the request has to be an object with `inputs`")
    asked = asked_of(predictor.spec, tensors_of(document.get("inputs"), raw))
    wanted = outputs_of(predictor, document)
    answers = (await answering.answer(model, asked)).answers
    written = [output.written(binary=binary) for output, binary in
               tensors_out(predictor, answers, wanted)]  # fmt: skip
    answer: dict[str, Any] = {
        "model_name": model,
        "model_version": version_of(predictor),
        "outputs": [head for head, _ in written],
    }
    if isinstance(document.get("id"), str):
        answer["id"] = document["id"]
    head, behind = to_json(answer), b"".join(raw for _, raw in written)
    if not any(binary for _, binary in wanted):
        return Response(head, media_type="application/json")
    headers = {HEADER_LENGTH: str(len(head))}
    return Response(head + behind, 200, headers, "application/octet-stream")


def asked_of(spec: DatasetSpec, tensors: Sequence[Tensor]) -> Asked:
    """The records that the tensors hold. A tensor that is absent is a column that is absent."""
    images: list[Any] = []
    columns: dict[str, list[Any]] = {}
    for tensor in tensors:
        if tensor.name == IMAGE:
            if tensor.datatype != "BYTES":
                raise refused(f"{IMAGE}: the datatype is {tensor.datatype}, and not BYTES")
            images = [_image(value) for value in tensor.values]
        else:
            columns[tensor.name] = [_value(tensor, value) for value in tensor.values]
    count = len(tensors[0].values)
    records = [{name: values[n] for name, values in columns.items()} for n in range(count)]
    if spec.id_column not in columns:
        return Asked(records, images)
    for record in records:  # an ID that is missing is counted, as one that is absent
        if record[spec.id_column] in (None, ""):
            del record[spec.id_column]
    return Asked(records, images)


def _image(value: str | bytes | None) -> str | bytes | None:
    """Text is base64 or an address, as in JSON; nothing is no image."""
    return value or None


def _value(tensor: Tensor, value: Any) -> Any:
    if isinstance(value, bytes):
        raise refused(f"{tensor.name}: a value is no UTF-8")
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return str(value)  # refused as a table's would be, with its name
    return value


async def _predictor(answering: Answering, model: str, version: str | None) -> Predictor:
    """Raises Problem for a dataset that is not served, or is answered by another version."""
    predictor = await answering.predictor(model)
    present = version_of(predictor)
    if version is not None and version != present:
        raise Problem(404, "version_unknown", f"{model} is not answered by the version {version}",
                      f"It is {present or 'none'}; leave the version out.")  # fmt: skip
    return predictor


def version_of(predictor: Predictor) -> str:
    """One name for the champions that answer now."""
    champions = predictor.champions
    return _version({m.value: champions.version(m) for m in predictor.spec.modalities})


def _version(models: dict[str, str | None]) -> str:
    return ".".join(version for version in models.values() if version)


def metadata(predictor: Predictor) -> dict[str, Any]:
    """What goes in and what comes out, and of which type."""
    spec = predictor.spec
    inputs = [{"name": spec.id_column, "datatype": "BYTES", "shape": [-1],
               "parameters": {"optional": True}}]  # fmt: skip
    for name, kind in spec.kinds.items():
        datatype = "FP64" if kind == "number" else "BYTES"
        inputs.append({"name": name, "datatype": datatype, "shape": [-1]})
    if spec.has_images:
        optional = spec.records == "table"
        inputs.append({"name": IMAGE, "datatype": "BYTES", "shape": [-1],
                       "parameters": {"optional": optional}})  # fmt: skip
    outputs = []
    for output, _ in tensors_out(predictor, [], outputs_of(predictor, {})):
        head: dict[str, Any] = {"name": output.name, "datatype": output.datatype,
                                "shape": [-1, *output.shape[1:]]}  # fmt: skip
        outputs.append({**head, **({"parameters": output.parameters} if output.parameters else {})})
    version = version_of(predictor)
    return {
        "name": spec.dataset,
        "versions": [version] if version else [],
        "platform": PLATFORM,
        "inputs": inputs,
        "outputs": outputs,
    }
