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


def groups_of(records: pa.Table, spec: DatasetSpec, likenesses: Sequence[bytes | None]) -> Groups:
    """The groups of labelled records; a function of the set of them, whatever their order.

    records: record_id, features, and split_group where the spec names a group_column. likenesses:
    of each record's image, None for none.
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


def _image_clusters(likenesses: Sequence[bytes | None], most: float) -> tuple[Places, int]:
    """Clusters of records whose images are nearly the same, and how many share a placeholder."""
    import numpy as np

    # Sorted, so that the order of the records tells nothing.
    different = sorted({one for one in likenesses if one is not None})
    place_of = {one: place for place, one in enumerate(different)}
    own = np.array([MISSED if one is None else place_of[one] for one in likenesses], dtype=np.intp)
    pairs = near_pairs(different)
    counts = np.bincount(own[own != MISSED], minlength=len(different))
    around = counts.copy()  # records whose image is this one or near it
    for here, there in ((0, 1), (1, 0)):
        np.add.at(around, pairs[:, here], counts[pairs[:, there]])
    crowded = around > most
    pairs = pairs[~crowded[pairs].any(axis=1)]
    joined = _components(pairs, len(different))
    joined = np.where(crowded | is_flat(different), MISSED, joined)
    placeholders = int(counts[crowded].sum())
    return np.where(own == MISSED, MISSED, np.append(joined, MISSED)[own]), placeholders


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
