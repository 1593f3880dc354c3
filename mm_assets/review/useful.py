"""The order in which answers teach most: doubtful records that are not like each other.

The least confident records are often the same case again and again. So of the most doubtful ones
each next record is that whose doubt, times its distance from all that were chosen before, is
largest: farthest-first (Gonzalez 1985; for learning: Sener and Savarese 2018), weighed by doubt.
Distance is by the columns and, where images were looked at before, by what the embedded backbone
makes of them. The model is not asked again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.errors import LakeError
from mm_assets.engines.shared.eyes import Eyes
from mm_assets.lake.lake import Lake
from mm_assets.review.features import features_of
from mm_assets.review.order import Order
from mm_assets.review.queue import Item, review_queue
from mm_assets.tables.store import Store
from mm_assets.training.alike import Alike
from mm_assets.uploads.image_vectors import known_vectors

POOL = 500  # of the most doubtful, that are put in order
FAR = 95  # the percentile of distances of images that counts as quite different
Floats = npt.NDArray[np.float64]


def ordered_queue(
    lake: Lake, store: Store, spec: DatasetSpec, order: Order, limit: int | None = None
) -> list[Item]:
    """The records to review in this order; the first `limit` of them."""
    if order is Order.DOUBTFUL:
        return review_queue(store, spec, limit)
    return most_useful(lake, spec, review_queue(store, spec))[:limit]


def most_useful(lake: Lake, spec: DatasetSpec, items: Sequence[Item]) -> list[Item]:
    """The first POOL of them, the most useful first; after them the others in their order.

    items: the most doubtful first. The same items always come in the same order.
    """
    pool, others = list(items[:POOL]), list(items[POOL:])
    if len(pool) > 2:
        order = farthest_first(_doubts(pool), _Distances(lake, spec, pool))
        pool = [pool[place] for place in order]
    return pool + others


def farthest_first(doubts: Floats, distances: _Distances) -> list[int]:
    """Places, the most useful first. doubts: from 0 to 1, of each."""
    nearest = np.ones(len(doubts))  # to what is chosen
    left = np.ones(len(doubts), dtype=bool)
    order: list[int] = []
    for _ in range(len(doubts)):
        # What equals a chosen one comes last, but by its doubt.
        worth = np.where(left, doubts * (nearest + 1e-6), -1.0)
        place = int(worth.argmax())
        order.append(place)
        left[place] = False
        nearest = np.minimum(nearest, distances.from_one(place))
    return order


def _doubts(pool: Sequence[Item]) -> Floats:
    """1 for what a model never saw; of others by confidence, so that even the surest counts."""
    return np.array([1.0 if one.doubts else max(1.0 - one.confidence, 0.01) for one in pool])


class _Distances:
    """From 0 for equal to 1."""

    def __init__(self, lake: Lake, spec: DatasetSpec, pool: Sequence[Item]) -> None:
        try:
            found = features_of(lake, spec, pool)
        except LakeError:  # an upload that is gone: by what else is known
            found = {}
        self._columns = Alike(spec, [found.get(one.record_id, {}) for one in pool])
        places = [(one.image_upload, one.image_sha256) for one in pool]
        there = [(up, sha) for up, sha in places if up is not None and sha is not None]
        known = known_vectors(lake, spec.dataset, Eyes().identity, there) if there else {}
        self._seen = np.array([place in known for place in places], dtype=bool)
        rows = [known[place] for place in places if place in known]
        self._vectors = np.array(rows, dtype=np.float32)
        self._rows = np.cumsum(self._seen) - 1
        self._far = self._usual_distance()

    def from_one(self, place: int) -> Floats:
        """Of one record from each; by the mean of columns and image, where both tell."""
        parts = []
        if self._columns.columns:
            parts.append(self._columns.from_one(place))
        if self._seen.any():
            apart = np.where(self._seen == self._seen[place], 0.0, 1.0)
            if self._seen[place]:
                alike = self._vectors @ self._vectors[self._rows[place]]
                apart[self._seen] = np.clip((1.0 - alike) / self._far, 0.0, 1.0)
            parts.append(apart)
        return np.asarray(np.mean(parts, axis=0)) if parts else np.ones(len(self._seen))

    def _usual_distance(self) -> float:
        if len(self._vectors) < 2:
            return 1.0
        some = self._vectors[:: -(-len(self._vectors) // 100)]
        return float(np.percentile(1.0 - some @ self._vectors.T, FAR)) or 1.0
