"""Many small documents at once: their requests wait for the store, not for one another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from mm_assets.lake.lake import Lake

T = TypeVar("T")
READERS = 16


def of_each(lake: Lake, do: Callable[[str], T], keys: Sequence[str]) -> list[T]:
    """What `do` answers for each key, in their order."""
    if not keys:
        return []
    lake.store  # noqa: B018  connects, before threads share it
    with ThreadPoolExecutor(READERS, thread_name_prefix="lake") as pool:
        return list(pool.map(do, keys))
