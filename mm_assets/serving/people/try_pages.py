"""A form for one record, made from the dataset's contract, and what the models answer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.datastructures import FormData, UploadFile

from mm_assets.contract.dataset import IMAGE
from mm_assets.serving.answering import Asked
from mm_assets.serving.people import shell
from mm_assets.serving.predictor import Predictor
from mm_assets.serving.problems import Problem

MOST_IMAGES = 50  # of one record in the form

router = APIRouter(prefix="/try", include_in_schema=False)


@dataclass(frozen=True)
class Field:
    """One column of the form. value: what was typed before."""

    name: str
    kind: str
    required: bool
    value: str


@router.get("/{dataset}")
async def empty(dataset: str, request: Request) -> Response:
    predictor = await shell.rooms(request).predictor(dataset)
    return _page(request, dataset, predictor, {})


@router.post("/{dataset}")
async def answer(dataset: str, request: Request) -> Response:
    shell.refuse_other_sites(request)
    predictor = await shell.rooms(request).predictor(dataset)
    most = request.app.state.options.most_bytes
    many = MOST_IMAGES if predictor.spec.all_images else 1
    async with request.form(max_files=many, max_fields=len(predictor.spec.columns) + 5,
                            max_part_size=most) as form:  # fmt: skip
        typed = {name: str(form.get(f"column:{name}", "")) for name in predictor.spec.columns}
        images = await _images_of(form)
    record: dict[str, Any] = {name: value.strip() or None for name, value in typed.items()}
    try:
        answering = request.app.state.answering
        found = await answering.answer(dataset, Asked([record], [_one_or_all(images)]))
    except Problem as problem:
        return _page(request, dataset, predictor, typed, fault=problem.what, todo=problem.todo)
    return _page(request, dataset, predictor, typed, found=found.answers[0])


async def _images_of(form: FormData) -> list[bytes]:
    files = [file for file in form.getlist(IMAGE) if isinstance(file, UploadFile)]
    return [data for file in files if (data := await file.read())]


def _one_or_all(images: list[bytes]) -> bytes | list[bytes] | None:
    if len(images) > 1:
        return images
    return images[0] if images else None


def _page(
    request: Request, dataset: str, predictor: Predictor, typed: dict[str, str], *,
    found: dict[str, Any] | None = None, fault: str = "", todo: str = "",
) -> Response:  # fmt: skip
    spec = predictor.spec
    fields = [
        Field(name, column.kind.value, column.required, typed.get(name, ""))
        for name, column in spec.columns.items()
    ]
    shares: list[tuple[str, float]] = []
    if found and found["probabilities"]:
        said = found["probabilities"]
        said = json.loads(said) if isinstance(said, str) else said
        shares = sorted(said.items(), key=lambda one: -one[1])[:10]
    return shell.page(
        request, "try", dataset=dataset, place="try", spec=spec, fields=fields, found=found,
        shares=shares, fault=fault, todo=todo,
        ready=predictor.is_ready,
    )  # fmt: skip
