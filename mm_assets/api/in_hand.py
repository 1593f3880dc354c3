"""Answers for records in hand, put back beside the rows that they were asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from mm_assets.api.progress import Told
from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.errors import REFUSALS, UploadError
from mm_assets.contract.ids import normalised
from mm_assets.predictions.at_once import AtOnce, predict_at_once
from mm_assets.registry.store import ModelStore
from mm_assets.tables.answer import COLUMNS, REFUSED, as_answer
from mm_assets.uploads.in_hand import TABLE, InHand, in_hand

if TYPE_CHECKING:
    import pandas as pd


def predict_in_hand(
    models: ModelStore, spec: DatasetSpec, frame: pd.DataFrame | None, images: Any, told: Told
) -> pd.DataFrame:
    """See `Dataset.predict`."""
    import pandas as pd

    given = in_hand(spec, frame, images, labels=False, own_ids=True)
    names: list[str] = []
    found = predict_at_once(models, spec, _noting(given.files(), names), told.live)
    _refuse_unreadable(found)
    answers = {row["record_id"]: as_answer(spec, row) for row in found.predictions.to_pylist()}
    if given.table is not None:
        rows = _of_rows(spec, given, found, answers, told)
    else:
        rows = _of_files(spec, found, answers, names)
    index = frame.index if frame is not None and len(frame) == len(rows) else None
    whole = [{**dict.fromkeys(COLUMNS), **row} for row in rows]
    result = pd.DataFrame(whole, columns=list(COLUMNS), index=index)
    result = result.astype({"lower": "float64", "upper": "float64"})  # also where all are None
    for words in [*found.waiting, *found.unlike]:
        told.say(f"! {words}")
    return result


def _noting(files: Iterable[tuple[str, bytes]], names: list[str]) -> Iterator[tuple[str, bytes]]:
    """The files as they are; their names are put into `names`, in the order of the rows."""
    for name, data in files:
        names.append(name)
        yield name, data


def _refuse_unreadable(found: AtOnce) -> None:
    for file in found.files:
        if file["file"] == TABLE and file["code"]:
            raise UploadError(
                code=file["code"],
                what=file["reason"],
                where="the frame",
                todo=REFUSALS.get(file["code"], ""),
            )


def _of_rows(
    spec: DatasetSpec,
    given: InHand,
    found: AtOnce,
    answers: dict[str, dict[str, Any]],
    told: Told,
) -> list[dict[str, Any]]:
    """A row for each row of the table, in its order."""
    rejects = {one["line"]: one for one in found.rejects}
    failed = {one["record_id"]: one for one in found.failed}
    images = _refused_images(spec, found.files)
    waiting = "; ".join(found.waiting)
    rows = []
    for given_id, line in zip(given.ids, given.lines, strict=True):
        record_id = normalised(given_id)
        if line in rejects:
            rows.append({"record_id": given_id, **_part(rejects[line])})
            continue
        answer = answers.get(record_id)
        if answer is None:
            fault = failed.get(record_id) or {"reason": waiting}
            rows.append({"record_id": given_id, **_part(fault)})
            continue
        rows.append({**answer, **_part(images.pop(record_id, {}))})
    for record_id, image in images.items():
        told.say(f"! {record_id}: [{image['code']}] {image['reason']}. {image['todo']}")
    return rows


def _of_files(
    spec: DatasetSpec, found: AtOnce, answers: dict[str, dict[str, Any]], names: Iterable[str]
) -> list[dict[str, Any]]:
    """A row for each image, where images are the records, in the order of `names`."""
    rows = []
    waiting = "; ".join(found.waiting)
    files = {file["file"]: file for file in found.files}
    for file in (files[name] for name in names):
        named = spec.named_image(file["file"], file["sha256"])
        record_id = file["record_id"] or (named.record_id if named else file["file"])
        if file["code"]:
            rows.append({"record_id": record_id, **_part(_with_todo(file))})
        elif answer := answers.get(record_id):
            rows.append(answer)
        else:
            rows.append({"record_id": record_id, **_part({"reason": waiting})})
    return rows


def _refused_images(
    spec: DatasetSpec, files: Iterable[dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """The refused images by their records' IDs."""
    found = {}
    for file in files:
        named = spec.named_image(file["file"]) if file["code"] else None
        record_id = file["record_id"] or (named.record_id if named else None)
        if file["code"] and record_id:
            found[normalised(record_id)] = _with_todo(file)
    return found


def _with_todo(file: dict[str, Any]) -> dict[str, Any]:
    return {**file, "todo": REFUSALS.get(file["code"], "")}


def _part(refusal: dict[str, Any]) -> dict[str, Any]:
    return {name: refusal.get(name) for name in REFUSED}
