"""Images at many addresses, several at a time: hosts and buckets that were allowed (fetch.py).

What may pass is tried again, a bounded number of times. A host that answers to nothing for a while
is not asked any more, so that a dead one costs seconds and not hours.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from mm_assets.reading.addresses import AllowList, FetchRefused
from mm_assets.reading.buckets import SCHEME, Buckets

if TYPE_CHECKING:
    from mm_assets.reading.fetch import Fetcher

PAUSES = (0.5, 2.0)  # seconds before the second and the third try
GIVEN_UP = 8  # addresses of a host that fail one after the other, each after all its tries
Answer = bytes | FetchRefused
# Is told of each address what came, in whatever order.
Keep = Callable[[str, Answer], None]


def is_address(text: str) -> bool:
    """Whether a text begins as an address that something might be fetched from."""
    return text[:8].lower().startswith(("http://", "https://", SCHEME))


class Addresses:
    """What may be fetched: URLs of some hosts, objects of some buckets."""

    def __init__(
        self, allowed: AllowList, buckets: Buckets, *, most_bytes: int, seconds: float
    ) -> None:
        """most_bytes, seconds: of one image and one try."""
        self._allowed = allowed
        self._buckets = buckets
        self._most_bytes = most_bytes
        self._seconds = seconds

    def place(self, address: str) -> str:
        """The host or bucket. Raises FetchRefused for what may not be fetched; asks nobody."""
        if address[: len(SCHEME)].lower() == SCHEME:
            return SCHEME + self._buckets.target(address)[0]
        target = self._allowed.target(address)
        return f"{target.host}:{target.port}"

    def fetch(self, addresses: Sequence[str], keep: Keep) -> None:
        """Fetch them all. At most AT_ONCE images are in memory."""
        with ThreadPoolExecutor(1, thread_name_prefix="fetch") as apart:  # here a loop may run
            apart.submit(asyncio.run, self._fetch(addresses, keep)).result()

    async def _fetch(self, addresses: Sequence[str], keep: Keep) -> None:
        from mm_assets.reading.fetch import AT_ONCE, Fetcher  # httpcore: who fetches, pays

        left = iter(addresses)
        silent = Counter[str]()
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="objects") as threads:
            asyncio.get_running_loop().set_default_executor(threads)
            async with (
                Fetcher(
                    self._allowed, most_bytes=self._most_bytes, seconds=self._seconds
                ) as fetcher,
                asyncio.TaskGroup() as group,
            ):
                for _ in range(min(AT_ONCE, len(addresses))):
                    group.create_task(self._some(left, fetcher, silent, keep))

    async def _some(
        self, left: Iterator[str], fetcher: Fetcher, silent: Counter[str], keep: Keep
    ) -> None:
        for address in left:
            try:
                place = self.place(address)
                answer: Answer = await self._patiently(address, place, fetcher, silent)
            except FetchRefused as error:
                answer = error
            keep(address, answer)

    async def _patiently(
        self, address: str, place: str, fetcher: Fetcher, silent: Counter[str]
    ) -> bytes:
        code = "object_failed" if place.startswith(SCHEME) else "url_failed"
        for pause in (*PAUSES, None):
            if silent[place] >= GIVEN_UP:
                said = f"{place} did not answer to {GIVEN_UP} others, so it was not asked"
                raise FetchRefused(code, said, passing=True)
            try:
                data = await self._once(address, place, fetcher)
            except FetchRefused as error:
                if not error.passing:
                    silent[place] = 0
                    raise
                if pause is None:
                    silent[place] += 1
                    raise
                await asyncio.sleep(pause)
            else:
                silent[place] = 0
                return data
        raise AssertionError  # the last try returned or raised

    async def _once(self, address: str, place: str, fetcher: Fetcher) -> bytes:
        if place.startswith(SCHEME):
            return await asyncio.to_thread(self._buckets.get, address)
        return await fetcher.get(address)
