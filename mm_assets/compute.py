"""The same work on many items: in this process, or spread over the workers of a Ray cluster.

`MM_COMPUTE` says where; who has the work says only what is done to one item. Results come back in
the order of the items, and only so many are under way that memory stays bounded. What is done to an
item must depend on nothing but the item, so that it is the same wherever it is done, and again
where a worker was lost in the middle of it.

What belongs here: all that knows of Ray. What does not: any work.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import chain, islice
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from mm_assets.contract.errors import ComputeError, MMError
from mm_assets.contract.settings import Settings, present_settings

SENT_BYTES = 8 << 20  # to a worker at once, if the items are bytes
MOST_SENT = 64  # parcels that are under way, however large the cluster is
TRIES = 4  # of a parcel whose worker dies
STORE_BYTES = 1 << 30  # of a cluster that is started here; what is more goes to its disk
REACH_SECONDS = 5.0
FUNCTIONS = 2  # that a worker keeps, with what they have loaded

Tag = TypeVar("Tag")
Item = TypeVar("Item")
Result = TypeVar("Result")


class InOrder(Generic[Tag, Item, Result]):
    """Does `function` to each item that is put in; to be used in a `with`.

    With Ray, `function` is pickled once and a worker keeps it while parcels of it come, so what it
    loads when it is first called (a model) is loaded once a worker. An MMError that it raises ends
    the work, and reaches the caller as itself.
    """

    def __init__(
        self, function: Callable[[Item], Result], *, threads: int = 1, together: int = 1
    ) -> None:
        """threads: how many do it in this process; with 1 it is done at once, in the caller's.
        together: so many items go to a worker in one parcel.
        """
        self._function = function
        self._here = _Here[Tag, Item, Result](function, threads)
        self._together = together
        settings = present_settings()
        self._settings = settings if settings.compute == "ray" and not _at_work else None
        self._waiting: list[tuple[Tag, Item]] = []
        self._bytes = 0
        self._sent: deque[tuple[list[Tag], Any]] = deque()
        self._workers: _Workers | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._here.close()
        if self._workers is not None:
            self._workers.drop(parcel for _, parcel in self._sent)

    def put(self, tag: Tag, item: Item) -> Iterator[tuple[Tag, Result]]:
        """Takes one more item; gives what is done and must go before more can be taken.

        To be iterated to its end. tag: comes back beside the result.
        """
        if self._settings is None:
            yield from self._here.put(tag, item)
            return
        if len(self._waiting) >= self._together or self._bytes >= SENT_BYTES:
            yield from self._send()
        self._waiting.append((tag, item))
        self._bytes += len(item) if isinstance(item, bytes) else 0

    def rest(self) -> Iterator[tuple[Tag, Result]]:
        """All that is not done yet."""
        if self._workers is None:  # what fits into one parcel is faster done than sent
            for tag, item in self._waiting:
                yield from self._here.put(tag, item)
            yield from self._here.rest()
        elif self._waiting:
            yield from self._send()
        self._waiting = []
        while self._sent:
            yield from self._received()

    def _send(self) -> Iterator[tuple[Tag, Result]]:
        if self._workers is None:
            assert self._settings is not None  # noqa: S101  or nothing would wait
            self._workers = _Workers(self._settings, self._function)
        tags = [tag for tag, _ in self._waiting]
        self._sent.append((tags, self._workers.send([item for _, item in self._waiting])))
        self._waiting, self._bytes = [], 0
        while len(self._sent) > self._workers.most:
            yield from self._received()

    def _received(self) -> Iterator[tuple[Tag, Result]]:
        assert self._workers is not None  # noqa: S101  something was sent
        tags, parcel = self._sent.popleft()
        results, error = self._workers.received(parcel)
        yield from zip(tags, results, strict=False)
        if error is not None:
            raise error


def map_ordered(
    function: Callable[[Item], Result], items: Iterable[Item], *, together: int = 1
) -> Iterator[Result]:
    """What `function` makes of each item, in order. Items are taken when there is room for them."""
    items = iter(items)
    first = list(islice(items, 2))
    if len(first) < 2:  # one image of a request: no time for settings
        yield from map(function, first)
        return
    with InOrder[None, Item, Result](function, together=together) as work:
        for item in chain(first, items):
            for _, result in work.put(None, item):
                yield result
        for _, result in work.rest():
            yield result


class _Here(Generic[Tag, Item, Result]):
    """In this process."""

    def __init__(self, function: Callable[[Item], Result], threads: int) -> None:
        self._function = function
        self._most = 4 * threads
        self._pool = ThreadPoolExecutor(threads, "in-order") if threads > 1 else None
        self._pending: deque[tuple[Tag, Future[Result]]] = deque()

    def put(self, tag: Tag, item: Item) -> Iterator[tuple[Tag, Result]]:
        if self._pool is None:
            yield tag, self._function(item)
            return
        self._pending.append((tag, self._pool.submit(self._function, item)))
        while len(self._pending) > self._most:
            yield self._done()

    def rest(self) -> Iterator[tuple[Tag, Result]]:
        while self._pending:
            yield self._done()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _done(self) -> tuple[Tag, Result]:
        tag, future = self._pending.popleft()
        return tag, future.result()


# -- Ray ------------------------------------------------------------------------------------------


class _Workers:
    """The workers of a cluster, and one function that they do."""

    def __init__(self, settings: Settings, function: Callable[[Any], Any]) -> None:
        self._ray = connected(settings)
        self._where = settings.ray_address or "ray, on this machine"
        self._task = self._ray.remote(_work).options(num_cpus=1, max_retries=TRIES - 1)
        self._function = self._ray.put(function)
        self._key = secrets.token_hex(8)

    @property
    def most(self) -> int:
        """Parcels that may be under way; a cluster may grow meanwhile."""
        return min(2 * max(1, int(self._ray.cluster_resources().get("CPU", 1))), MOST_SENT)

    def send(self, items: list[Any]) -> Any:
        return self._task.remote(self._key, [self._function], items)

    def received(self, parcel: Any) -> tuple[list[Any], MMError | None]:
        """The results up to the first MMError, and that. Raises what else the function raised."""
        failures = self._ray.exceptions
        try:
            answer: tuple[list[Any], MMError | None] = self._ray.get(parcel)
            return answer
        except failures.RayTaskError as error:
            raise (error.cause or error) from error
        except (failures.RayError, ConnectionError) as error:
            raise ComputeError(
                code="compute_lost",
                what=f"the work was lost: {_first_line(error)}",
                where=self._where,
                todo="Run it again. If it is lost again, look at the cluster (memory, `ray status`)"
                " or leave MM_COMPUTE out.",
            ) from error

    def drop(self, parcels: Iterable[Any]) -> None:
        for parcel in parcels:
            with suppress(Exception):  # nobody waits for it any more
                self._ray.cancel(parcel)


_at_work = False  # whether this process is a worker
_functions: OrderedDict[str, Callable[[Any], Any]] = OrderedDict()


def _work(
    key: str, function: Sequence[Any], items: Sequence[Any]
) -> tuple[list[Any], MMError | None]:
    """In a worker. function: a reference to it, in a list so that Ray does not read it each time.

    What a worker does has no workers of its own.
    """
    global _at_work  # noqa: PLW0603
    _at_work = True
    if key not in _functions:
        import ray

        while len(_functions) >= FUNCTIONS:
            _functions.popitem(last=False)
        _functions[key] = ray.get(function[0])
    done: list[Any] = []
    for item in items:
        try:
            done.append(_functions[key](item))
        except MMError as error:
            return done, error
    return done, None


# Before it is imported: it sends nothing home, and is silent of what nobody waits for any more.
_TOLD_RAY = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_IGNORE_UNHANDLED_ERRORS": "1"}
_starting = threading.Lock()


def connected(settings: Settings) -> Any:
    """Ray, connected to RAY_ADDRESS, or to a cluster that is started here for this process.

    Who has connected this process before has chosen. Raises ComputeError (package_missing,
    compute_unreachable).
    """
    ray = _imported()
    with _starting:
        if not ray.is_initialized():
            _connect(ray, settings.ray_address)
    return ray


def look(settings: Settings) -> str:
    """In words, who would do the work; a worker of RAY_ADDRESS has done some. Raises ComputeError.

    A cluster that is started for a run is not there before it.
    """
    if not settings.ray_address:
        return f"Ray {_imported().__version__}; a run that has enough to do starts a cluster here"
    workers = _Workers(settings, str)
    workers.received(workers.send([0]))
    resources = connected(settings).cluster_resources()
    return f"{settings.ray_address}: a worker answers, of {resources.get('CPU', 0):g} processors"


def _imported() -> Any:
    for name, value in _TOLD_RAY.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise ComputeError(
            code="package_missing",
            what=f"MM_COMPUTE=ray needs the package ray: {error}",
            where="MM_COMPUTE",
            todo='Install it: pip install "autogluon.core[ray]"; or leave MM_COMPUTE out.',
        ) from None
    return ray


def _connect(ray: Any, address: str) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        with _signals_kept():
            if address:
                _knock(address)
                ray.init(address=address, **quiet)
            else:
                _lock_up(ray)
                ray.init(
                    address="local", include_dashboard=False, object_store_memory=STORE_BYTES,
                    **quiet,
                )  # fmt: skip
    except Exception as error:  # Ray raises a dozen kinds
        raise ComputeError(
            code="compute_unreachable",
            what=f"Ray can't be had: {_first_line(error)}",
            where=f"RAY_ADDRESS={address}" if address else "MM_COMPUTE",
            todo="Check that the cluster runs, with the same image, and that RAY_ADDRESS is "
            "host:port on one of its machines and ray://host:10001 elsewhere; or leave MM_COMPUTE "
            "out.",
        ) from error


def _knock(address: str) -> None:
    """Ray itself would try for a minute. Raises OSError."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), REACH_SECONDS).close()


def _lock_up(ray: Any) -> None:
    """A cluster listens on all of a machine's addresses, and who reaches it may run what he likes.

    So it asks for a token that this process and its workers have.
    """
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        # It has read the environment when it was imported.
        ray._raylet.Config.initialize("")  # noqa: SLF001  there is no public way


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray takes SIGTERM for itself; how a run ends is not its business."""
    here = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if here else None
    try:
        yield
    finally:
        if here and before is not None:
            signal.signal(signal.SIGTERM, before)


def _first_line(error: BaseException) -> str:
    said = str(error).strip().split("\n")[0][:300]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
