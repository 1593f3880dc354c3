"""The champions of a dataset in this process, and what they say of records at once."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.predictions.ask import ask
from mm_assets.predictions.offer import offered
from mm_assets.registry.store import ModelStore
from mm_assets.serving.champions import Champions, InUse, by_name, one_batch, present
from mm_assets.serving.reading import Fault, Images, Read, Reader
from mm_assets.tables.answer import ANSWER, COLUMNS, as_answer

BATCH = 256  # records that a model is asked about at once
BATCH_BYTES = 64 << 20  # of images
WAITING = "waiting"
Answer = dict[str, Any]


class Predictor:
    """Answers records at once: as an upload with one of them alone would be answered.

    Get one with `ds.predictor()`. The models are verified, loaded and tried when it is made, and
    `refresh` takes up a promotion. Safe in threads; the model of a dataset is asked by one at a
    time.
    """

    def __init__(self, models: ModelStore, spec: DatasetSpec) -> None:
        """Raises LakeError. What keeps a champion from answering stands in `champions`."""
        self.models = models
        self.spec = spec
        self.reader = Reader(spec)
        self.champions = Champions()
        self._asking = threading.Lock()
        self._refreshing = threading.Lock()
        self.refresh()

    def refresh(self) -> bool:
        """Take up promotions since the last look; returns whether another model answers now.

        The newer model is loaded and tried beside the older one. Raises LakeError.
        """
        with self._refreshing:
            before = self.champions
            self.champions = present(self.models, self.spec, before)
            return any(self.champions.version(m) != before.version(m) for m in self.spec.modalities)

    @property
    def is_ready(self) -> bool:
        """Whether some records can be answered."""
        return bool(self.champions.in_use)

    def predict(
        self,
        records: Sequence[Mapping[str, Any]] | Mapping[str, Any],
        images: Sequence[Images] | bytes | None = None,
    ) -> list[Answer]:
        """An answer for each record, in their order.

        records: column names to None, bool, number or text, or one such record. images: the bytes
        of an image file for each, or None; with `images: all` also a list of such. An answer
        has the keys of `COLUMNS`: those of the predictions table, and `code`, `reason`, `todo`
        where the record, or its image, is refused or has to wait. Raises nothing for what a record
        holds.
        """
        many = [records] if isinstance(records, Mapping) else list(records)
        own: list[Images] = (
            [images] if images is None or isinstance(images, bytes) else list(images)
        )
        if isinstance(records, Mapping) and len(own) > 1:
            own = [[one for one in own if not isinstance(one, list)]]  # all of the one record
        own += [None] * (len(many) - len(own))
        pairs = zip(many, own, strict=True)
        return self.answer(
            [self.reader.record(record, n, image) for n, (record, image) in enumerate(pairs)]
        )

    def answer(self, reads: Sequence[Read]) -> list[Answer]:
        """The same of records that are read already."""
        champions = self.champions  # of this moment, to the end
        answers: list[Answer | None] = [None] * len(reads)
        waiting: dict[Modality, list[int]] = {}
        for place, read in enumerate(reads):
            if read.features is None:
                answers[place] = _refused(read.record_id, read.fault)
            else:
                waiting.setdefault(self._modality(champions, read), []).append(place)
        for modality, places in waiting.items():
            used = champions.in_use.get(modality)
            if used is None:
                reason = champions.why_not.get(modality, "")
                for place in places:
                    answers[place] = _refused(reads[place].record_id, Fault(WAITING, reason))
                continue
            for some in _bounded(reads, places):
                said = self._asked(used, modality, [reads[place] for place in some])
                for place, answer in zip(some, said, strict=True):
                    answers[place] = answer
        return [answer for answer in answers if answer is not None]

    def _modality(self, champions: Champions, read: Read) -> Modality:
        if not read.images or champions.stands_in:
            return Modality.WITHOUT_IMAGE
        return Modality.WITH_IMAGE

    def _asked(self, used: InUse, modality: Modality, reads: Sequence[Read]) -> list[Answer]:
        from mm_assets.engines.frames import feature_frame

        loaded, with_image = used.loaded, modality is Modality.WITH_IMAGE
        seen = [read.images if with_image else () for read in reads]
        batch = one_batch(
            self.spec,
            [str(place) for place in range(len(reads))],  # two records may have one ID
            [read.features or {} for read in reads],
            seen,
        )
        images = by_name(seen)
        with self._asking:
            if images:
                loaded.vectors.lie(None, images)
            frame = feature_frame(batch, self.spec, modality, images)
            answered, answers, failed = ask(loaded, self.spec, batch, frame, each=True)
        found: dict[int, Answer] = {}
        if answered.num_rows:
            rows = offered(0, answered, answers, loaded, modality, used.champion, "")
            for row in rows.select(["record_id", *ANSWER]).to_pylist():
                place = int(row["record_id"])
                own = {**row, "record_id": reads[place].record_id}
                found[place] = _whole(as_answer(self.spec, own), reads[place].fault)
        for one in failed:
            place = int(one.record_id or 0)
            found[place] = _refused(reads[place].record_id, Fault(one.code, one.reason))
        return [found[place] for place in range(len(reads))]


def _bounded(reads: Sequence[Read], places: Iterable[int]) -> Iterable[list[int]]:
    some: list[int] = []
    taken = 0
    for place in places:
        size = sum(len(image.data) for image in reads[place].images)
        taken += size
        if some and (len(some) >= BATCH or taken > BATCH_BYTES):
            yield some
            some, taken = [], size
        some.append(place)
    if some:
        yield some


def _whole(answer: Answer, fault: Fault | None) -> Answer:
    return {**dict.fromkeys(COLUMNS), **answer, **(fault.as_dict() if fault else {})}


def _refused(record_id: str, fault: Fault | None) -> Answer:
    return _whole({"record_id": record_id}, fault)


def to_json(answers: Any) -> bytes:
    """An answer as JSON: UTF-8, no NaN."""
    return json.dumps(answers, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
