"""A form for one record, made from the dataset's contract, and what the models answer; or a table.

Nothing is stored: the image that was chosen goes with the page, as the models see it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fastapi import APIRouter, Request, Response
from starlette.datastructures import FormData, UploadFile

from mm_assets.contract.dataset import IMAGE
from mm_assets.serving.answering import Asked
from mm_assets.serving.csv_body import as_csv
from mm_assets.serving.people import shell
from mm_assets.serving.people.charts import scale_of
from mm_assets.serving.people.moved import Moved, Regions, columns_moved, regions
from mm_assets.serving.people.room import Room
from mm_assets.serving.predictor import Answer, Predictor
from mm_assets.serving.problems import Problem
from mm_assets.serving.reading import Images, Read
from mm_assets.training.known_records import KnownRecords, Neighbour, Usual

router = APIRouter(prefix="/try", include_in_schema=False)
MOST_IMAGES = 50  # of one record in the form
KEPT = "kept_image"  # the field of each image that was chosen before
CHOICES = 12  # of a category, up to which it is a list to choose from
SHARES = 10
NEIGHBOURS = 4
SHOWN_ROWS = 200  # of a table; the download has all


@dataclass(frozen=True)
class Field:
    """One column of the form. value: what was typed before."""

    name: str
    kind: str
    required: bool
    value: str
    usual: Usual


class Kept(NamedTuple):
    """An image as the model sees it. data: base64."""

    data: str
    kind: str


@dataclass
class Shown:
    """What the page shows beside its form. images: normalised."""

    typed: Mapping[str, str] = field(default_factory=dict)
    images: list[bytes] = field(default_factory=list)
    found: Answer | None = None
    fault: str = ""
    todo: str = ""
    explained: Explained | None = None
    rows: list[Answer] = field(default_factory=list)


@dataclass(frozen=True)
class Explained:
    """columns: what moved the answer. regions: of the (first) image. nearest: by columns, and by
    image. late: whether there was no time for all of it."""

    columns: list[Moved]
    regions: Regions | None
    nearest: list[Neighbour]
    nearest_images: list[Neighbour]
    late: bool = False


@router.get("/{dataset}")
async def empty(dataset: str, request: Request) -> Response:
    predictor = await shell.rooms(request).predictor(dataset)
    return await _page(request, dataset, predictor, Shown())


@router.get("/{dataset}/image")
async def image(dataset: str, record: str, request: Request) -> Response:
    room = await shell.rooms(request).room(dataset)
    return shell.image(await asyncio.to_thread(room.known_image, record), record)


@router.post("/{dataset}")
async def answer(dataset: str, request: Request) -> Response:
    shell.refuse_other_sites(request)
    predictor = await shell.rooms(request).predictor(dataset)
    most = request.app.state.options.most_bytes
    many = MOST_IMAGES if predictor.spec.all_images else 1
    async with request.form(max_files=many, max_fields=len(predictor.spec.columns) + many + 5,
                            max_part_size=2 * most) as form:  # fmt: skip
        typed = {name: str(form.get(f"column:{name}", "")) for name in predictor.spec.columns}
        sent = _one_or_all(await _images_of(form))
        explain = "explain" in form
    shown = Shown(typed)
    record: dict[str, Any] = {name: value.strip() or None for name, value in typed.items()}
    read = await asyncio.to_thread(predictor.reader.record, record, 0, sent)
    shown.images = [one.data for one in read.images]
    try:
        answering = request.app.state.answering
        found = await answering.answer(dataset, Asked([record], [sent]))
        shown.found = found.answers[0]
        if explain and found.answers[0]["prediction"] is not None:
            shown.explained = await _explained(request, dataset, predictor, read, shown.found)
    except Problem as problem:
        shown.fault, shown.todo = problem.what, problem.todo
    return await _page(request, dataset, predictor, shown)


@router.post("/{dataset}/table")
async def table(dataset: str, request: Request) -> Response:
    """Answers for each row of a file: as a page, or to download."""
    shell.refuse_other_sites(request)
    predictor = await shell.rooms(request).predictor(dataset)
    most = request.app.state.options.most_bytes
    async with request.form(max_files=1, max_fields=2, max_part_size=most) as form:
        file = form.get("table")
        data = await file.read(most + 1) if isinstance(file, UploadFile) else b""
        download = "download" in form
    shown = Shown()
    try:
        if not data:
            raise Problem(422, "records_expected", "Choose a file first")
        if len(data) > most:
            raise Problem(413, "body_too_large", f"The file is larger than {most >> 20} MB",
                          "Send it as an upload (`mm upload`).")  # fmt: skip
        answering = request.app.state.answering
        found = await answering.answer(dataset, Asked(table=data, number_rows=True))
    except Problem as problem:
        shown.fault, shown.todo = problem.what, problem.todo
        return await _page(request, dataset, predictor, shown)
    if download:
        headers = shell.HEADERS | {"Content-Disposition": 'attachment; filename="answers.csv"'}
        return Response(as_csv(found.answers, named=True), media_type="text/csv", headers=headers)
    shown.rows = found.answers
    return await _page(request, dataset, predictor, shown)


async def _images_of(form: FormData) -> list[bytes]:
    """The images that were chosen now, else those that were chosen before."""
    files = [file for file in form.getlist(IMAGE) if isinstance(file, UploadFile)]
    if chosen := [data for file in files if (data := await file.read())]:
        return chosen
    if "without" in form:
        return []
    with suppress(binascii.Error, ValueError):
        kept = [base64.b64decode(str(one), validate=True) for one in form.getlist(KEPT)]
        return [data for data in kept if data]
    return []


def _one_or_all(images: list[bytes]) -> Images:
    if len(images) > 1:
        return [*images]
    return images[0] if images else None


async def _explained(
    request: Request, dataset: str, predictor: Predictor, read: Read, answer: Answer
) -> Explained:
    """What moved the answer, in the time that an answer may take."""
    service, known = request.app.state.service, await _known(request, dataset)
    found: dict[str, Any] = {"columns": [], "regions": None, "nearest": [], "nearest_images": []}

    async def ask(reads: Any) -> list[Answer]:
        answers: list[Answer] = await service.answers(dataset, reads)
        return answers

    def near() -> tuple[list[Neighbour], list[Neighbour]]:
        assert known is not None  # noqa: S101
        seen = known.nearest_images(read.images[0].data, NEIGHBOURS) if read.images else []
        return known.nearest(read.features or {}, NEIGHBOURS), seen

    try:
        async with asyncio.timeout(request.app.state.options.seconds):
            if known is not None:
                found["columns"] = await columns_moved(ask, read, answer, known.usual)
                found["nearest"], found["nearest_images"] = await asyncio.to_thread(near)
            if read.images and answer["modality"] == "with_image":
                found["regions"] = await regions(ask, predictor.reader, read, answer)
    except TimeoutError:
        return Explained(**found, late=True)
    return Explained(**found)


async def _known(request: Request, dataset: str) -> KnownRecords | None:
    """None for an exported model, to which no training set belongs."""
    try:
        room: Room = await shell.rooms(request).room(dataset)
    except Problem:
        return None
    return await asyncio.to_thread(room.known)


async def _page(request: Request, dataset: str, predictor: Predictor, shown: Shown) -> Response:
    spec, found = predictor.spec, shown.found
    known = await _known(request, dataset)
    usual = await asyncio.to_thread(lambda: known.usual) if known is not None else {}
    fields = [
        Field(name, column.kind.value, column.required, shown.typed.get(name, ""),
              usual.get(name, Usual(None)))
        for name, column in spec.columns.items()
    ]  # fmt: skip
    shares: list[tuple[str, float]] = []
    if found and found["probabilities"]:
        shares = sorted(found["probabilities"].items(), key=lambda one: -one[1])[:SHARES]
    return shell.page(
        request, "try", own_images=bool(shown.images), dataset=dataset, place="try",
        spec=spec, fields=fields, shown=shown, found=found, shares=shares, choices=CHOICES,
        scale=scale_of(found["prediction"], found["lower"], found["upper"]) if found else None,
        kept=[Kept(base64.b64encode(one).decode(), shell.kind_of(one)) for one in shown.images],
        rows=shown.rows[:SHOWN_ROWS],
        ready=predictor.is_ready, most_records=request.app.state.options.most_records,
    )  # fmt: skip
