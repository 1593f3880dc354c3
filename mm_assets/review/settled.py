"""When people have said enough of a record: one of them, or two who say the same.

A share of the records is asked of two people (`review: {answered_twice: 0.1}`), always the same
ones: the hash of the ID decides. Their label stands when two people say the same; so it does for
any other record of which people said different things. Until then the next person is asked, who
does not see what the others said.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from mm_assets.contract.dataset import DatasetSpec


def is_asked_twice(spec: DatasetSpec, record_id: str) -> bool:
    """Whether two people are asked of this record, whatever they say."""
    said = f"twice {record_id}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(said).digest()[:8]) < spec.review.answered_twice * 2**64


def settled(spec: DatasetSpec, record_id: str, labels: Sequence[str]) -> str | None:
    """The label that stands, of one label of each person in the order in which they came."""
    if not labels:
        return None
    alike = [sum(is_same(spec, other, label) for other in labels) for label in labels]
    most = max(alike)
    label = labels[alike.index(most)]
    needed = 2 if most < len(labels) or is_asked_twice(spec, record_id) else 1
    others = (n for n, one in zip(alike, labels, strict=True) if not is_same(spec, one, label))
    return label if most >= needed and most > max(others, default=0) else None


def is_same(spec: DatasetSpec, label: str, other: str) -> bool:
    """Whether two labels say the same; of numbers those that are as near as counts as right."""
    if not spec.is_regression:
        return label == other
    try:
        one, two = float(label), float(other)
    except ValueError:
        return False
    if spec.tolerance is None:
        return one == two
    return bool(abs(one - two) <= spec.tolerance.reach(two))
