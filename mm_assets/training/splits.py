"""On which side each labelled record stands: a function of its group, or of time.

The split is decided by a hash of the group's name, which for a record alone is its ID, so a record
stays on its side however much data comes later. With a `time_column` the newest groups are held
out instead. Held-out records are never seen in training or tuning, not even for early stopping.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.errors import ModelError
from mm_assets.training.groups import Groups
from mm_assets.training.times import Times, read_times

if TYPE_CHECKING:
    import pyarrow as pa

TUNING_SHARE = 0.15  # of the records that are not held out; for early stopping and tuning
SPLITS = ("training", "tuning", "holdout")


def split_of(name: str, holdout_share: float) -> str:
    """`holdout`, `tuning` or `training`: a function of a group's name and nothing else."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    return "holdout" if place < holdout_share else _seen(digest)


def _seen(digest: bytes) -> str:
    rest = int.from_bytes(digest[8:16], "big") / 2**64
    return "tuning" if rest < TUNING_SHARE else "training"


@dataclass(frozen=True)
class Split:
    """sides: of each record. document: what the training set notes of it."""

    sides: list[str]
    document: dict[str, Any]


def split(records: pa.Table, spec: DatasetSpec, groups: Groups) -> Split:
    """records: record_id, and split_time where the spec names a time_column.

    Raises ModelError: split_column_empty, and what `read_times` raises.
    """
    ids = records["record_id"].to_pylist()
    where = f"{spec.dataset}/training_set"
    _refuse_empty("group", spec.group_column, groups.without_value, len(ids), where)
    share, times = spec.holdout_share, None
    if spec.time_column is None:
        sides, alone = ([split_of(name, share) for name in names] for names in (groups.names, ids))
    else:
        times = read_times(records["split_time"].to_pylist(), spec.time_column, where)
        none = records["split_time"].null_count
        _refuse_empty("time", spec.time_column, none, len(ids), where)
        sides, alone = (_by_time(names, times, share) for names in (groups.names, ids))
    together = groups.sizes > 1
    document = {
        "grouped": int(together.sum()),
        "groups": len({n for n, size in zip(groups.names, together, strict=True) if size}),
        "moved": sum(side != own for side, own in zip(sides, alone, strict=True)),
        "largest": int(groups.sizes.max(initial=0)),
        "by": groups.by,
        "ignored": groups.ignored,
        "without_group": groups.without_value,
        **(_of_times(times) if times else {}),
    }
    return Split(sides, document | {"words": in_words(document, spec)})


def _refuse_empty(what: str, column: str | None, none: int, records: int, where: str) -> None:
    if column is not None and records and none == records:
        raise ModelError(
            code="split_column_empty",
            what=f"none of the {records} labelled records has a value in `{column}`",
            where=where,
            todo=f"Correct `{what}_column` in the dataset's YAML, or send tables that have it.",
        )


def _by_time(names: Sequence[str], times: Times, share: float) -> list[str]:
    """Groups from the newest on are held out, as many as come nearest to the share of records.

    A group is as new as its newest record. Without any time it is older than all others.
    """
    import numpy as np

    members: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        members.setdefault(name, []).append(place)
    digests = {name: hashlib.sha256(name.encode("utf-8", "surrogatepass")) for name in members}
    newest = {name: float(np.fmax.reduce(times.values[own])) for name, own in members.items()}
    order = sorted(
        (name for name, time in newest.items() if not np.isnan(time)),
        key=lambda name: (-newest[name], digests[name].digest()),
    )
    held: set[str] = set()
    count, wanted = 0, share * len(names)
    for name in order:
        after = count + len(members[name])
        if held and abs(after - wanted) >= abs(count - wanted):
            break
        if after == len(names):  # nothing would be left to learn from
            break
        held.add(name)
        count = after
    return ["holdout" if name in held else _seen(digests[name].digest()) for name in names]


def _of_times(times: Times) -> dict[str, Any]:
    import numpy as np

    without = int(np.isnan(times.values).sum())
    return {
        "without_time": without,
        "unreadable_times": times.unreadable,
        "unreadable_examples": times.examples,
    }


# -- telling --------------------------------------------------------------------------------------

_EVIDENCE = {"equal_rows": "equal rows", "near_images": "nearly the same image"}


def in_words(document: Mapping[str, Any], spec: DatasetSpec) -> str:
    """One line for people; '' where there is nothing to tell."""
    parts = []
    if grouped := document["grouped"]:
        evidence = _EVIDENCE | {"group_column": f"`{spec.group_column}`"}
        because = [
            f"{evidence[kind]} ({number})" for kind, number in document["by"].items() if number
        ]
        parts.append(
            f"{grouped} records stay together in {document['groups']} groups of up to "
            f"{document['largest']}, by {' and '.join(because)}: {document['moved']} were moved"
        )
    if none := document["without_group"]:
        parts.append(f"{none} records have no `{spec.group_column}`")
    if spec.time_column is not None:
        parts.append(f"the newest by `{spec.time_column}` are held out")
        if none := document["without_time"]:
            parts.append(f"{none} records without a time are not")
        if bad := document["unreadable_times"]:
            shown = ", ".join(f"'{one[:60]}'" for one in document["unreadable_examples"])
            parts.append(f"{bad} times could not be read [time_unreadable]: {shown}")
    ignored = document["ignored"]
    if chance := ignored["equal_rows_by_chance"]:
        parts.append(f"{chance} records have rows that are equal by chance")
    if many := ignored["images_shared_by_many"]:
        parts.append(f"{many} records share an image with so many that it is taken for no evidence")
    return "; ".join(parts)


def refuse_few_groups(
    spec: DatasetSpec, names: Sequence[str], counts: Mapping[str, int], where: str
) -> None:
    """Raises ModelError (too_few_groups) where a side is empty because records stay together."""
    empty = [side for side in SPLITS if not counts[side]]
    groups = len(set(names))
    if not empty or groups == len(names):
        return
    by_column = spec.group_column is not None
    what = f"groups by `{spec.group_column}`" if by_column else "groups of near-duplicates"
    raise ModelError(
        code="too_few_groups",
        what=f"the {len(names)} labelled records are {groups} {what}, which stay together, and "
        f"none fell to {' and '.join(empty)}",
        where=where,
        todo="Send labelled records of other groups; with 30 groups each side has some."
        + (" Or take `group_column` out of the dataset's YAML." if by_column else ""),
    )
