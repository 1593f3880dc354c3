"""Label Studio's ML backend protocol: it asks of a task what our models say, and shows that.

The address to give it is `…/label-studio/DATASET`. Sources: ml/api_connector.py and ml/models.py of
Label Studio. What else it sends (its address, a token of its own) is not used and not kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.review.label_studio import NONE_SHOWN, prediction, unfit
from mm_assets.serving.answering import Answering, Asked
from mm_assets.serving.predictor import Answer, Predictor, to_json
from mm_assets.serving.problems import Problem
from mm_assets.serving.request import body_of, json_of

JSON = "application/json"
_ADDRESSES = ("data:", "http://", "https://", "s3://")


def routes(answering: Answering) -> APIRouter:
    """The endpoints below /label-studio/DATASET that Label Studio asks."""
    router = APIRouter(prefix="/label-studio/{dataset}", tags=["Label Studio"])

    @router.get("/health", summary="Whether the dataset is served; answers at once")
    async def health(dataset: str) -> dict[str, Any]:
        if dataset not in answering.service.visible():
            await answering.predictor(dataset)  # says so
        return {"status": "UP", "model_class": "mm-assets"}

    @router.post("/setup", summary="Which models answer; whether the project's interface fits")
    async def setup(dataset: str, request: Request) -> dict[str, Any]:
        document = _object(json_of(await body_of(request)))
        predictor = await answering.predictor(dataset)
        classes = {
            name: None for one in predictor.champions.in_use.values() for name in one.classes
        }
        if fault := unfit(predictor.spec, tuple(classes), str(document.get("schema") or "")):
            raise Problem(
                422, "label_studio_interface", f"the labelling interface does not fit: {fault}",
                "Make the project with `mm review push`, or add to its interface what is missing.",
            )  # fmt: skip
        return {"model_version": _version(predictor)}

    @router.get("/versions", summary="The version that answers")
    async def versions(dataset: str) -> dict[str, Any]:
        return {"versions": [_version(await answering.predictor(dataset))]}

    @router.post("/predict", summary="An answer for each task")
    async def predict(dataset: str, request: Request) -> Response:
        document = _object(json_of(await body_of(request)))
        tasks = document.get("tasks")
        if not isinstance(tasks, list):
            raise Problem(422, "records_expected", "there is no list `tasks`")
        predictor = await answering.predictor(dataset)
        version = _version(predictor)
        data = [_object(_object(one).get("data")) for one in tasks]
        records = [_record(predictor.spec, one) for one in data]
        images = [_image(predictor.spec, one) for one in data]
        found = await answering.answer(dataset, Asked(records, images, is_kept=False))
        said = [_said(predictor.spec, answer, version) for answer in found.answers]
        return Response(to_json({"results": said}), media_type=JSON)

    @router.post("/webhook", summary="What Label Studio tells of; nothing is done with it")
    async def webhook() -> dict[str, Any]:
        """It tells each backend what people do. Their answers come by `mm review pull` alone."""
        return {}

    return router


def _object(document: Any) -> Mapping[str, Any]:
    if not isinstance(document, dict):
        raise Problem(422, "records_expected", "a JSON object is expected here")
    return document


def _version(predictor: Predictor) -> str:
    """All models that answer now as one name: Label Studio shows what one version said."""
    used = predictor.champions.in_use.values()
    return " + ".join(sorted(one.champion.version for one in used)) or "no champion"


def _record(spec: DatasetSpec, data: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a task: one that was pushed has its `features`, any other its columns."""
    features = data.get("features", data)
    found = {name: features[name] for name in spec.columns if name in _object(features)}
    record_id = data.get("record_id", data.get(spec.id_column))
    return found if record_id is None else {spec.id_column: record_id, **found}


def _image(spec: DatasetSpec, data: Mapping[str, Any]) -> Any:
    """Where a task's image is: inside of it, at an address, or else in the lake."""
    image = data.get("image")
    if not spec.has_images or not isinstance(image, str) or image.startswith(NONE_SHOWN):
        return None
    if spec.all_images and "record_id" in data:  # the task shows all of them in one picture
        return {"name": str(data["record_id"])}
    return image if image.startswith(_ADDRESSES) else {"name": str(data.get("record_id", image))}


def _said(spec: DatasetSpec, answer: Answer, version: str) -> dict[str, Any]:
    if answer["prediction"] is None:
        return {"model_version": version, "score": 0.0, "result": []}
    return prediction(spec, str(answer["prediction"]), answer["confidence"], version)
