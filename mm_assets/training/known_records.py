"""The records that models learnt from, as people look at them: what is usual, and what is alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mm_assets.contract.dataset import ColumnKind, DatasetSpec
from mm_assets.contract.errors import ModelError
from mm_assets.engines.shared.eyes import Eyes
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import TRAINING_SET, of_dataset
from mm_assets.training.alike import Alike
from mm_assets.uploads.image_vectors import at_length_one, known_vectors
from mm_assets.uploads.received import read_parquet

MOST = 20_000  # records that are held; of more every n-th
MOST_IMAGES = 2_000  # whose vectors are looked up: to name one takes its bytes
MOST_VALUES = 50  # of a category
EDGES = (1, 99)  # percentiles that are told of a number


@dataclass(frozen=True)
class Usual:
    """A column in training. value: what stands for it: the median, the most frequent category, or
    None (for texts). low, high: between which a number usually lies. values: of a category, the
    most frequent first; whole: whether these are all."""

    value: float | str | None
    low: float | None = None
    high: float | None = None
    values: tuple[str, ...] = ()
    whole: bool = True


@dataclass(frozen=True)
class Known:
    """One record. image: its upload and the sha256 of the original file, or None."""

    record_id: str
    label: str
    features: Mapping[str, Any]
    image: tuple[str, str] | None


@dataclass(frozen=True)
class Neighbour:
    """distance: 0 for equal."""

    record: Known
    distance: float


class KnownRecords:
    """The labelled records that are not held out."""

    def __init__(
        self, lake: Lake, spec: DatasetSpec, fingerprint: str, records: Sequence[Known]
    ) -> None:
        self.fingerprint, self.records = fingerprint, records
        self._lake, self._spec = lake, spec

    @cached_property
    def by_id(self) -> dict[str, Known]:
        return {one.record_id: one for one in self.records}

    @cached_property
    def usual(self) -> dict[str, Usual]:
        """By column."""
        return {
            name: _usual(kind, [one.features.get(name) for one in self.records])
            for name, kind in self._spec.kinds.items()
        }

    def nearest(self, features: Mapping[str, Any], count: int) -> list[Neighbour]:
        """By columns, the nearest first; none where no column tells records apart."""
        if not self._alike.columns:
            return []
        return self._first(self.records, self._alike.distances(features), count)

    def nearest_images(self, image: bytes, count: int) -> list[Neighbour]:
        """By what the embedded backbone makes of images; image: normalised.

        None where the backbone is not installed, or none of the images was looked at before.
        """
        some, vectors = self._seen
        if not some:
            return []
        try:
            asked = at_length_one(Eyes().embed([image])[0])
        except (ImportError, OSError, ModelError):
            return []
        return self._first(some, 1.0 - vectors @ asked, count)

    @cached_property
    def _alike(self) -> Alike:
        return Alike(self._spec, [one.features for one in self.records])

    @cached_property
    def _seen(self) -> tuple[list[Known], npt.NDArray[np.float32]]:
        """Records with an image whose vector is known, and these vectors."""
        there = [one for one in self.records if one.image is not None]
        there = there[:: -(-len(there) // MOST_IMAGES) or 1]
        places = [one.image for one in there if one.image is not None]
        known = known_vectors(self._lake, self._spec.dataset, Eyes().identity, places)
        some = [one for one in there if one.image in known]
        return some, np.array([known[one.image] for one in some if one.image], dtype=np.float32)

    @staticmethod
    def _first(
        records: Sequence[Known], distances: npt.NDArray[Any], count: int
    ) -> list[Neighbour]:
        order = np.argsort(distances, kind="stable")[:count]
        return [Neighbour(records[n], max(0.0, float(distances[n]))) for n in order]


def known_records(
    lake: Lake, spec: DatasetSpec, before: KnownRecords | None = None
) -> KnownRecords | None:
    """Of the published training set; None where there is none by this wording of the YAML.

    before: of an earlier look, which is returned where nothing has changed.
    """
    document = lake.read_json(of_dataset(spec.dataset, TRAINING_SET))
    if document is None or document.get("spec_fingerprint") != spec.fingerprint:
        return None
    if before is not None and before.fingerprint == document["fingerprint"]:
        return before
    table = read_parquet(lake, document, "training_set.parquet")
    names = ["record_id", "label", "features", "image_upload", "image_sha256", "split"]
    rows = table.select(names)
    if rows.num_rows > MOST:
        rows = rows.take(np.arange(0, rows.num_rows, -(-rows.num_rows // MOST)))
    records = [
        Known(
            row["record_id"],
            row["label"],
            row["features"] or {},
            (row["image_upload"], row["image_sha256"]) if row["image_sha256"] else None,
        )
        for row in rows.to_pylist()
        if row["split"] != "holdout"
    ]
    return KnownRecords(lake, spec, document["fingerprint"], records)


def _usual(kind: str, values: Sequence[Any]) -> Usual:
    there = [value for value in values if value is not None]
    if kind == ColumnKind.NUMBER:
        numbers = np.array([v for v in there if np.isfinite(v)], dtype=np.float64)
        if not len(numbers):
            return Usual(None)
        low, high = np.percentile(numbers, EDGES)
        return Usual(float(np.median(numbers)), float(low), float(high))
    if kind != ColumnKind.CATEGORY or not there:
        return Usual(None)
    counts = Counter(there)
    most = sorted(counts, key=lambda value: (-counts[value], value))
    return Usual(most[0], values=tuple(most[:MOST_VALUES]), whole=len(most) <= MOST_VALUES)
