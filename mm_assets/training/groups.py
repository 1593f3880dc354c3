"""Which labelled records belong together, so that no split and no fold divides them.

A group are the records that one value of `group_column` names, those with equal rows (twins.py),
those whose images are nearly the same (near_images.py), and whoever these lead to. What very many
records share is no evidence: one image for all that have none is a placeholder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.engines.frames import feature_frame
from mm_assets.training.near_images import is_flat, near_pairs
from mm_assets.training.twins import MISSED, twins

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    Places = npt.NDArray[np.intp]

SHARED_BY = 20  # records, or this share of all: what more of them share is no evidence
SHARED_SHARE = 0.01


@dataclass(frozen=True)
class Groups:
    """names: of each record's group; a record that is alone has its own ID.

    The name is that of one member: where a member has a value of `group_column`, `column=value`,
    else its ID. sizes: [records] how large each record's group is. by: how many records each kind
    of evidence brought together. ignored: records that share what is no evidence.
    """

    names: list[str]
    sizes: Places
    by: dict[str, int]
    ignored: dict[str, int]
    without_value: int


def groups_of(
    records: pa.Table, spec: DatasetSpec, likenesses: Sequence[Sequence[bytes]]
) -> Groups:
    """The groups of labelled records; a function of the set of them, whatever their order.

    records: record_id, features, and split_group where the spec names a group_column. likenesses:
    of each record's images.
    """
    import numpy as np

    ids = records["record_id"].to_pylist()
    values = [None] * len(ids)
    if spec.group_column is not None:
        values = records["split_group"].to_pylist()
    most = max(SHARED_BY, SHARED_SHARE * len(ids))
    frame = feature_frame(records, spec, Modality.WITHOUT_IMAGE, {})
    rows, by_chance = twins(frame, spec.kinds)
    rows, many_rows = _without_crowds(rows, most)
    images, placeholders = _image_clusters(likenesses, most)
    kinds = {
        "group_column": _clusters(values),
        "equal_rows": rows,
        "near_images": images,
    }
    group = _joined(list(kinds.values()), len(ids))
    sizes = np.bincount(group, minlength=1)[group]
    told = [
        one if value is None else f"{spec.group_column}={value}"
        for one, value in zip(ids, values, strict=True)
    ]
    return Groups(
        _named(told, group, sizes),
        sizes,
        {kind: _together(clusters) for kind, clusters in kinds.items()},
        {
            "equal_rows_by_chance": int(by_chance.sum()) + many_rows,
            "images_shared_by_many": placeholders,
        },
        sum(value is None for value in values) if spec.group_column is not None else 0,
    )


def _named(told: list[str], group: Places, sizes: Places) -> list[str]:
    """Each group by one of its members' names: whichever has the smallest hash.

    That hash is another one than what decides the split, or large groups would have a favoured
    side. A group that grows keeps its name unless the newcomer's hash is smaller still.
    """
    best: dict[int, tuple[bytes, str]] = {}
    for place, (name, number) in enumerate(zip(told, group.tolist(), strict=True)):
        if sizes[place] > 1:
            digest = hashlib.sha256(b"group " + name.encode("utf-8", "surrogatepass")).digest()
            best[number] = min(best.get(number, (digest, name)), (digest, name))
    return [
        best[number][1] if number in best else name
        for name, number in zip(told, group.tolist(), strict=True)
    ]


# -- evidence -------------------------------------------------------------------------------------


def _clusters(values: Sequence[Any]) -> Places:
    import numpy as np
    import pandas as pd

    codes: Places = pd.factorize(np.array([*values, None], dtype=object)[:-1])[0]
    return codes  # MISSED for None


def _without_crowds(clusters: Places, most: float) -> tuple[Places, int]:
    """Without the clusters that more than `most` records share, and how many records those are."""
    import numpy as np

    known = clusters != MISSED
    if not known.any():
        return clusters, 0
    crowded = known & (np.bincount(clusters[known])[np.where(known, clusters, 0)] > most)
    return np.where(crowded, MISSED, clusters), int(crowded.sum())


def _image_clusters(likenesses: Sequence[Sequence[bytes]], most: float) -> tuple[Places, int]:
    """Clusters of records with images that are nearly the same, and how many have a placeholder.

    likenesses: of each record's images.
    """
    import numpy as np
    from scipy.sparse import coo_array, eye_array

    # Sorted, so that the order of the records tells nothing.
    different = sorted({one for own in likenesses for one in own})
    place_of = {one: place for place, one in enumerate(different)}
    of = [(place_of[one], record) for record, own in enumerate(likenesses) for one in {*own}]
    image, record = np.array(of, dtype=np.intp).reshape(-1, 2).T
    pairs = near_pairs(different)
    n = len(different)
    near = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n)).tocsr()
    holds = coo_array((np.ones(len(of)), (image, record)), shape=(n, len(likenesses))).tocsr()
    around = ((near + near.T + eye_array(n)) @ holds).tocsr()
    crowded = np.diff(around.indptr) > most  # records with this image or one near it
    pairs = pairs[~crowded[pairs].any(axis=1)]
    joined = _components(pairs, n)
    joined = np.where(crowded | is_flat(different), MISSED, joined)[image]
    placeholders = len(np.unique(record[crowded[image]]))
    known = joined != MISSED
    return _of_records(record[known], joined[known], len(likenesses)), placeholders


def _of_records(record: Places, cluster: Places, records: int) -> Places:
    """One cluster a record, of those that its images are in, and whoever these lead to."""
    import numpy as np

    edges = np.stack([record, records + cluster], axis=1)
    found = _components(edges, records + int(cluster.max(initial=MISSED)) + 1)[:records]
    there = np.zeros(records, dtype=bool)
    there[record] = True
    return np.where(there, found, MISSED)


# -- joining --------------------------------------------------------------------------------------


def _joined(kinds: list[Places], records: int) -> Places:
    """The connected components of records that share a cluster of any kind."""
    import numpy as np

    edges, nodes = [], records
    for clusters in kinds:
        known = np.flatnonzero(clusters != MISSED)
        edges.append(np.stack([known, nodes + clusters[known]], axis=1))
        nodes += int(clusters.max(initial=MISSED)) + 1
    return _components(np.concatenate(edges), nodes)[:records]


def _components(pairs: Places, nodes: int) -> Places:
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = (np.ones(len(pairs), dtype=np.int8), (pairs[:, 0], pairs[:, 1]))
    found: Places = connected_components(coo_array(links, shape=(nodes, nodes)), directed=False)[1]
    return found.astype(np.intp)


def _together(clusters: Places) -> int:
    """How many records share their cluster with another one."""
    import numpy as np

    known = clusters[clusters != MISSED]
    return int((np.bincount(known)[known] > 1).sum()) if len(known) else 0
