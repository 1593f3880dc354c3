"""From what a request asks to its answers: the one way, whatever protocol it came by."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from mm_assets.contract.dataset import IMAGE, DatasetSpec
from mm_assets.contract.ids import normalised
from mm_assets.serving.batching import Overloaded
from mm_assets.serving.notes import READ, note
from mm_assets.serving.predictor import WAITING, Answer, Predictor
from mm_assets.serving.problems import Problem
from mm_assets.serving.reading import Fault, Images, Read, Reader
from mm_assets.serving.record import Recorder
from mm_assets.serving.service import Service, Unavailable

Record = Mapping[str, Any]
# What fetches an image of a dataset: by its URL, `s3://…` or the name of one in the lake.
Fetch = Callable[[DatasetSpec, str], Awaitable[Images]]
AT_ONCE = 8  # images of one request that are fetched at the same time
_IMAGE_KEYS = ("base64", "url", "s3", "name")


@dataclass(frozen=True)
class Asked:
    """What a request asks about one dataset: records, or a table of them.

    images: for each record what its key `image` holds (base64, an address, …), the bytes of a
    file, None, or a list of these. named: files that came beside the records, by their names.
    faults: why the record at a place could not be read. number_rows: of a table without IDs.
    is_kept: whether a recorder keeps what is answered.
    """

    records: Sequence[Record] = ()
    images: Sequence[Any] = ()
    table: bytes | None = None
    named: Mapping[str, bytes] | None = None
    faults: Mapping[int, Fault] = field(default_factory=dict)
    number_rows: bool = False
    is_kept: bool = True

    @classmethod
    def of_json(cls, document: Any, named: Mapping[str, bytes] | None = None) -> Asked:
        """One record, a list of them, or `{"records": […]}`. Raises Problem."""
        if isinstance(document, dict) and isinstance(document.get("records"), list):
            document = document["records"]
        records = document if isinstance(document, list) else [document]
        for place, record in enumerate(records):
            if not isinstance(record, dict):
                raise Problem(
                    422,
                    "records_expected",
                    f"element {place} is no JSON object",
                    'Send one object for each record: {"records": [{"column": value, …}, …]}.',
                )
        return cls(records, [record.get(IMAGE) for record in records], named=named)


@dataclass(frozen=True)
class Answered:
    """answers: one for each record. unused: names of images that belong to no record."""

    answers: list[Answer]
    unused: Sequence[str] = ()


class Answering:
    """Answers what is asked of the datasets of a service. `fetch` gets images by address."""

    def __init__(self, service: Service, fetch: Fetch, recorder: Recorder | None = None) -> None:
        """recorder: keeps what is answered; None: nobody does."""
        self.service = service
        self.fetch = fetch
        self._reading: Counter[str] = Counter()  # records of each dataset that are being read
        self.recorder = recorder
        # Decoding releases the interpreter's lock, so threads are enough.
        self.pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="decode")

    async def predictor(self, name: str) -> Predictor:
        """The dataset's models, loaded if need be. Raises Problem."""
        visible = self.service.visible()
        if name not in visible:
            known = ", ".join(sorted(visible)) or "none"
            raise Problem(
                404, "dataset_not_served", f"no dataset {name!r} is served", f"Served: {known}."
            )
        note().dataset = name
        try:
            return (await self.service.use(name))[0]
        except Unavailable as error:
            raise Problem(
                503, "models_unavailable", error.reason, headers={"Retry-After": "5"}
            ) from None

    async def answer(self, name: str, asked: Asked) -> Answered:
        """Raises Problem where nothing can be answered."""
        seconds = self.service.options.seconds
        try:
            async with asyncio.timeout(seconds):
                found = await self._answered(name, asked)
        except TimeoutError:
            raise Problem(
                504,
                "answer_timeout",
                f"no answer within {seconds:g} seconds",
                "Ask for fewer records.",
            ) from None
        except Overloaded as error:
            raise Problem(
                503,
                "too_many_waiting",
                "as many records as may wait are waiting",
                f"Try again in {error.retry_after} s.",
                headers={"Retry-After": str(error.retry_after)},
            ) from None
        except Unavailable as error:
            raise Problem(
                503, "models_unavailable", error.reason, headers={"Retry-After": "5"}
            ) from None
        note().answers = found.answers
        _refuse_if_nothing(found)
        return found

    async def _answered(self, name: str, asked: Asked) -> Answered:
        predictor = await self.predictor(name)
        reader = predictor.reader
        unused: Sequence[str] = ()
        sent: dict[int, Images] = {}
        if asked.table is not None:
            with self._room(name, 1):
                reads = await self._table(reader, asked.table, number_rows=asked.number_rows)
        else:
            records, images, unused = _beside(predictor.spec, asked)
            self._bounded(len(records))
            self._bounded(sum(len(one) for one in images if isinstance(one, list)), "images")
            with self._room(name, len(records)):
                reads = await self._records(reader, records, images, asked.faults, sent)
        note().stage(READ, note().began, time.perf_counter())
        answers = await self.service.answers(name, reads)
        if self.recorder is not None and asked.is_kept:
            self.recorder.keep(predictor.spec, reads, sent, answers)
        return Answered(answers, unused)

    @contextmanager
    def _room(self, name: str, count: int) -> Iterator[None]:
        """Room for records that are going to be read, which can take longer than to answer them.

        Raises Overloaded where as many as may wait are being read, or wait already.
        """
        lane = self.service.served[name].lane
        waiting = self._reading[name] + (lane.waiting if lane else 0)
        if waiting and waiting + count > self.service.options.most_waiting:
            raise Overloaded(1)
        self._reading[name] += count
        try:
            yield
        finally:
            self._reading[name] -= count

    def _bounded(self, count: int, what: str = "records") -> None:
        most = self.service.options.most_records
        if count > most:
            raise Problem(
                413, "too_many_records", f"{count:,} {what}; at most {most:,} in one request",
                "Send several requests, or an upload (`mm upload`).",
            )  # fmt: skip
        if not count and what == "records":
            raise Problem(422, "records_expected", "the request holds no record",
                          'Send {"records": [{"column": value, …}, …]}.')  # fmt: skip

    async def _table(self, reader: Reader, data: bytes, *, number_rows: bool) -> list[Read]:
        if reader.spec.records == "images":
            raise Problem(415, "images_expected", "each record of this dataset is an image")
        found = await self._in_pool(partial(reader.table, data, number_rows=number_rows))
        if isinstance(found, Fault):
            raise Problem(422, found.code, found.reason, found.todo)
        self._bounded(len(found))
        return found

    async def _records(
        self,
        reader: Reader,
        records: Sequence[Record],
        images: Sequence[Any],
        faults: Mapping[int, Fault],
        sent: dict[int, Images],
    ) -> list[Read]:
        """Plain records without images are read here and now, all else in a thread.

        sent: is given the images as they came, by the record's place, if answers are kept.
        """
        plain = not faults and all(image is None for image in images)
        if plain and all(map(reader.is_plain, records)):
            return [reader.record(record, place) for place, record in enumerate(records)]
        limit = asyncio.Semaphore(AT_ONCE)

        async def one(place: int) -> Read:
            if place in faults:
                return Read(str(place + 1), None, fault=faults[place])
            async with limit:
                data: Images
                if isinstance(images[place], list) and reader.spec.all_images:
                    data = await self._several(reader, images[place], place, sent)
                else:
                    data = await self._bytes(reader.spec, images[place])
                    if self.recorder is not None and not isinstance(data, Fault | None):
                        sent[place] = data
                return await self._in_pool(reader.record, records[place], place, data)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(place)) for place in range(len(records))]
        return [task.result() for task in tasks]

    async def _several(
        self, reader: Reader, said: Sequence[Any], place: int, sent: dict[int, Images]
    ) -> list[Any]:
        """A record's images as models see them, or why one is none; one after the other, so that
        only the small ones are in memory. What was sent twice comes once, as in uploads."""
        found: list[Any] = []
        copies: set[str] = set()
        for one in said:
            data = await self._bytes(reader.spec, one)
            own = data if isinstance(data, list) else [data]
            for image in own:
                if isinstance(image, bytes):
                    name = hashlib.sha256(image).hexdigest()
                    if name in copies:
                        continue
                    copies.add(name)
                (seen, fault) = await self._in_pool(reader.images, image)
                found += [*seen, *([fault] if fault else [])]
                if self.recorder is not None and seen:
                    kept = sent.setdefault(place, [])
                    assert isinstance(kept, list)  # noqa: S101  nobody else fills this place
                    kept.append(image)
        return found

    async def _bytes(self, spec: DatasetSpec, said: Any) -> Images:
        """The bytes of an image, as a request names it."""
        if said is None or isinstance(said, bytes):
            return said
        if isinstance(said, list):
            words = "several images of a record need `images: all` in the dataset's YAML"
            return Fault("image_reference", words)
        if isinstance(said, str):
            said = {_kind_of(said): said}
        kinds = [key for key in _IMAGE_KEYS if isinstance(said, dict) and key in said]
        if len(kinds) != 1 or len(said) != 1 or not isinstance(said[kinds[0]], str):
            return Fault("image_reference", "an image is one of " + ", ".join(_IMAGE_KEYS))
        (kind,) = kinds
        if kind == "base64":
            decoded: bytes | Fault = await self._in_pool(_decoded, said[kind])
            return decoded
        return await self.fetch(spec, said[kind])

    async def _in_pool(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.pool, work, *arguments)


def _kind_of(text: str) -> str:
    head = text[:10].lower()
    if head.startswith(("http://", "https://")):
        return "url"
    return "s3" if head.startswith("s3://") else "base64"


def _decoded(text: str) -> bytes | Fault:
    if text[:5].lower() == "data:":
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        return Fault("image_base64", "the text is no base64")


def _beside(spec: DatasetSpec, asked: Asked) -> tuple[Sequence[Record], list[Any], list[str]]:
    """The records, their images, and the names of files that belong to none of them."""
    records, images = list(asked.records), list(asked.images)
    images += [None] * (len(records) - len(images))
    named = dict(asked.named or {})
    if not records and spec.records == "images":
        for file, data in named.items():
            found = spec.named_image(file)
            has_id = found is not None and "{id}" in (spec.image_name or "{id}")
            records.append({spec.id_column: found.record_id} if found and has_id else {})
            images.append(data)
        return (*_one_a_record(spec, records, images, named), [])
    if len(records) == len(named) == 1 and images[0] is None:
        return records, list(named.values()), []
    if len(records) == 1 and spec.image_column is not None and spec.all_images and not images[0]:
        return records, [list(named.values()) or None], []
    places: dict[str, int] = {}
    for number, record in enumerate(records, 1):
        given = record.get(spec.id_column, str(number))
        places.setdefault(normalised(given if isinstance(given, str) else str(given)), number - 1)
    taken = {place for place, image in enumerate(images) if image is not None}
    unused: list[str] = []
    # Of several images of one record the first by number, then by name, as in uploads.
    for _, file, at in sorted((number, file, at) for file, at, number in _ids(spec, named)):
        place = places.get(at)
        if place is not None and place in taken and isinstance(images[place], _Several):
            images[place].append(named[file])
        elif place is None or place in taken:
            unused.append(file)
        else:
            taken.add(place)
            images[place] = _Several([named[file]]) if spec.all_images else named[file]
    return records, images, unused


class _Several(list[bytes]):
    """The files of one record, as they are found among those that came beside the records."""


def _one_a_record(
    spec: DatasetSpec, records: list[Record], images: list[Any], files: Iterable[str]
) -> tuple[list[Record], list[Any]]:
    """Where each image is a record: with `images: all`, those of one ID are one record's."""
    if not spec.all_images:
        return records, images
    order = sorted(
        zip(_ids(spec, files), records, images, strict=True), key=lambda one: (one[0][2], one[0][0])
    )
    of_id: dict[str, _Several] = {}
    for _, record, data in order:
        if spec.id_column in record:
            of_id.setdefault(record[spec.id_column], _Several()).append(data)
    first: dict[str, Record] = {}
    alone: list[tuple[Record, Any]] = []
    for record, data in zip(records, images, strict=True):
        if spec.id_column not in record:
            alone.append((record, data))
        elif record[spec.id_column] not in first:
            first[record[spec.id_column]] = record
            alone.append((record, of_id[record[spec.id_column]]))
    return [record for record, _ in alone], [data for _, data in alone]


def _ids(spec: DatasetSpec, named: Iterable[str]) -> Iterator[tuple[str, str, int]]:
    """The files, the ID in each one's name, and its number."""
    for file in named:
        found = spec.named_image(file)
        yield (file, normalised(found.record_id), found.number) if found else (file, "", 0)


def _refuse_if_nothing(found: Answered) -> None:
    """Raises Problem where no record has an answer."""
    if any(answer["prediction"] is not None for answer in found.answers):
        return
    errors = [
        {name: answer[name] for name in ("record_id", "code", "reason", "todo")}
        for answer in found.answers
    ]
    if all(answer["code"] == WAITING for answer in found.answers):
        raise Problem(503, "no_champion", found.answers[0]["reason"] or "no model can answer",
                      headers={"Retry-After": "60"})  # fmt: skip
    first = next(error for error in errors if error["code"] != WAITING)
    what = first["reason"] if len(errors) == 1 else f"none of {len(errors)} records has an answer"
    code = first["code"] if len(errors) == 1 else "nothing_answered"
    raise Problem(422, code, what, first["todo"] or "", errors=errors)
