"""Work with a running Label Studio: the queue to its tasks, what people answered back as labels."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.errors import ReviewError
from mm_assets.contract.ids import normalised
from mm_assets.lake.lake import Lake
from mm_assets.review.answers import KNOWN, Answer, Judged, judge, send_labels
from mm_assets.review.export import images_of, no_image
from mm_assets.review.features import features_of
from mm_assets.review.label_studio import (
    NONE_SHOWN,
    answer_of,
    labelling_config,
    meta,
    task,
    unfit,
)
from mm_assets.review.label_studio_api import LabelStudio
from mm_assets.review.one_by_one import Given, note_sent, standing
from mm_assets.review.queue import Item, review_classes, review_queue
from mm_assets.tables.store import Store
from mm_assets.uploads.send import Sent

AT_ONCE = 25  # tasks in one request: each has its image in it
MOST_TITLE = 50  # letters of a project's title


@dataclass(frozen=True, slots=True)
class Pushed:
    """project: its number, and where people find it. created: tasks that are new. changed: that
    nobody had answered and that say something new now. there: that were there already, as they
    are. done: open ones whose record does not wait any more. lost: images that are not in the lake
    any more."""

    project: int
    url: str
    created: int
    changed: int
    there: int
    done: int
    lost: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Task:
    number: int
    record_id: str
    said: str  # the hash of what it says of the record
    is_open: bool  # nobody began to answer


# -- to Label Studio ------------------------------------------------------------------------------


def push_review(
    lake: Lake,
    store: Store,
    spec: DatasetSpec,
    studio: LabelStudio,
    *,
    project: int | None = None,
    limit: int | None = None,
) -> Pushed:
    """Make a task of every record of the queue that has none. The project is made if need be.

    project: its number; without one it is ours of this dataset. Doing it twice is doing it once,
    and one that was interrupted is completed by the next. Raises ReviewError, ModelError.
    """
    classes = review_classes(lake, spec)
    home = _project_to_push(studio, spec, classes, project)
    queue = review_queue(store, spec)
    tasks = {one.record_id: one for one in _tasks(studio, home)}
    waiting = {normalised(item.record_id) for item in queue}
    fresh, stale, there = [], [], 0
    for item in queue[:limit]:
        known = tasks.get(normalised(item.record_id))
        if known is None:
            fresh.append(item)
        elif known.is_open and known.said != meta(item)["said"]:
            stale.append(item)
        else:
            there += 1
    lost = 0
    for some, made in _made(lake, spec, fresh):
        studio.create_tasks(home, made)
        lost += _lost(some, made)
    for some, made in _made(lake, spec, stale):
        for item, one in zip(some, made, strict=True):
            studio.change_task(tasks[normalised(item.record_id)].number, one)
        lost += _lost(some, made)
    done = sum(one.is_open and name not in waiting for name, one in tasks.items())
    where = f"{studio.url}/projects/{home}/data"
    return Pushed(home, where, len(fresh), len(stale), there, done, lost)


def _project_to_push(
    studio: LabelStudio, spec: DatasetSpec, classes: Sequence[str], number: int | None
) -> int:
    """The project's number; it is made, or given our interface, where it has none."""
    config = labelling_config(spec, classes)
    found = studio.project(number) if number is not None else _ours(studio, spec)
    if found is None:
        found = studio.create_project(
            title=_title(spec),
            description=spec.description or "",
            label_config=config,
            show_collab_predictions=True,
        )
    elif not found.get("label_config", "").removeprefix("<View>").removesuffix("</View>").strip():
        studio.change_project(found["id"], label_config=config)
    elif fault := unfit(spec, classes, found["label_config"]):
        raise ReviewError(
            code="label_studio_interface",
            what=f"the project's labelling interface does not fit {spec.dataset}: {fault}",
            where=f"{studio.url}/projects/{found['id']}/settings/labeling",
            todo="Add it there (`mm review export` writes a labelling.xml that fits), or name "
            "another project with --project.",
        )
    return int(found["id"])


def _ours(studio: LabelStudio, spec: DatasetSpec) -> dict[str, Any] | None:
    """The project that an earlier push made."""
    named = (one for one in studio.projects() if one.get("title") == _title(spec))
    first = min(named, key=lambda one: int(one["id"]), default=None)
    return studio.project(first["id"]) if first else None


def _title(spec: DatasetSpec) -> str:
    return f"mm-assets {spec.dataset}"[:MOST_TITLE]


def _tasks(studio: LabelStudio, project: int) -> Iterator[_Task]:
    """The tasks that are ours; of two for one record the later one."""
    for one in studio.tasks(project):
        told = _told(studio, one)
        if record_id := told.get("record_id"):
            touched = one.get("annotations") or one.get("drafts")
            said = str(told.get("said", ""))
            yield _Task(one["id"], normalised(str(record_id)), said, not touched)


def _told(studio: LabelStudio, one: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a task says of its record; one that came another way has it in its data alone."""
    told = one.get("meta")
    if isinstance(told, dict) and told.get("record_id"):
        return told
    data = one["data"] if "data" in one else studio.task(one["id"]).get("data")
    return data if isinstance(data, dict) else {}


def _made(
    lake: Lake, spec: DatasetSpec, items: Sequence[Item]
) -> Iterator[tuple[Sequence[Item], list[dict[str, Any]]]]:
    """The items as tasks with their images inside, some at a time.

    Inside, because Label Studio takes files only for projects with one thing to show, cannot look
    into a folder of ours, and links to buckets run out.
    """
    none = f"{NONE_SHOWN}{base64.b64encode(no_image()).decode()}" if spec.has_images else None
    for start in range(0, len(items), AT_ONCE):
        some = items[start : start + AT_ONCE]
        features = features_of(lake, spec, some)
        images = {name: _as_url(data) for name, data in images_of(lake, spec, some)}
        yield (
            some,
            [
                task(spec, one, features.get(one.record_id, {}), images.get(one.record_id, none))
                for one in some
            ],
        )


def _as_url(image: bytes) -> str:
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def _lost(items: Iterable[Item], made: Iterable[Mapping[str, Any]]) -> int:
    """How many should have an image and have none."""
    return sum(
        item.image_sha256 is not None and one["data"]["image"].startswith(NONE_SHOWN)
        for item, one in zip(items, made, strict=True)
    )


# -- and back -------------------------------------------------------------------------------------


def pull_review(
    lake: Lake, store: Store, spec: DatasetSpec, studio: LabelStudio, project: int | None = None
) -> tuple[Judged, Sent | None]:
    """Send what people answered as labels, through the door that files of answers take.

    Who answered what, and when, is kept beside (`review/sent/`). What was pulled before is known
    already. Raises ReviewError, ModelError.
    """
    found = studio.project(project) if project is not None else _ours(studio, spec)
    if found is None:
        raise ReviewError(
            code="label_studio_no_project",
            what=f"there is no project '{_title(spec)}', or this key's owner does not see it",
            where=studio.url,
            todo="Run `mm review push` first, or name a project with --project.",
        )
    said = list(_said(studio, found["id"]))
    judged = judge((answer for answer, _ in said), store, spec, review_classes(lake, spec))
    refused = {one.record_id for one in judged.refused}
    before = set(standing(lake, spec.dataset).given())
    new = [
        replace(one, label=answer.label.strip())
        for answer, one in said
        if answer.label.strip() and one.record_id not in refused
    ]
    new = [one for one in new if one not in before and one.label not in spec.missing_values]
    told = {one.record_id for one in new}
    for record_id in judged.labels.keys() - told:  # sent before, and not taken in yet
        del judged.labels[record_id], judged.before[record_id]
        judged.left_out[KNOWN] += 1
    sent = send_labels(lake, spec, judged)
    if new:
        note_sent(lake, spec.dataset, sent, new)
    return judged, sent


def _said(studio: LabelStudio, project: int) -> Iterator[tuple[Answer, Given]]:
    """What people answered; of several answers of one person for a record the latest."""
    people: dict[int, str] | None = None
    latest: dict[tuple[str, str], tuple[Answer, Given]] = {}
    for one in studio.tasks(project):
        annotations = one.get("annotations") or []
        if not annotations:
            continue
        told = _told(studio, one)
        people = studio.people() if people is None else people
        for annotation in annotations:
            who = _who(annotation, people)
            where = f"task {one['id']} ({who})"
            answer = answer_of(told.get("record_id"), where, annotation)
            at = _at(annotation)
            given = Given(
                normalised(answer.record_id), answer.label, who, at,
                str(told.get("prediction", "")), str(told.get("model_version", "")),
            )  # fmt: skip
            key = (given.record_id or where, who)
            if key not in latest or latest[key][1].at <= at:
                latest[key] = answer, given
    yield from latest.values()


def _who(annotation: Mapping[str, Any], people: Mapping[int, str]) -> str:
    by = annotation.get("completed_by")
    if isinstance(by, dict):
        return str(by.get("email") or by.get("id"))
    return people.get(by) or f"user {by}" if isinstance(by, int) else "somebody"


def _at(annotation: Mapping[str, Any]) -> str:
    """When it was answered last: ISO 8601, UTC."""
    told = str(annotation.get("updated_at") or annotation.get("created_at") or "")
    try:
        at = datetime.fromisoformat(told).astimezone(UTC)
    except ValueError:
        at = datetime.fromtimestamp(0, UTC)
    return at.isoformat(timespec="milliseconds")
