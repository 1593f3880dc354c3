"""Several pieces of work that use the table, each written as if it were alone, asking it together.

What one upload asks of the table costs a few statements, whatever its size. So the work of several
small uploads is done in threads of which exactly one runs at any moment: each stops where it asks
the table, and when all have stopped (or ended), what they ask alike is asked once for all.

What belongs here: whose turn it is, and dividing one answer. What does not: what is asked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from threading import Semaphore, Thread
from typing import TYPE_CHECKING, Any

from mm_assets.tables.store import (
    WITHDRAWN,
    MergeResult,
    Published,
    Query,
    SeveralAtOnce,
    Store,
    schema_of,
    with_own,
)

if TYPE_CHECKING:
    import pyarrow as pa

FEW = 20_000  # rows that are put together at most; beyond that a statement more costs nothing
Work = Callable[[Store], None]


def ask_together(store: Store, works: Sequence[Work]) -> None:
    """Do all of the work; each is given a store that answers as `store` does.

    The end of the work, an exception as well, is its own affair: none that is an `Exception` may
    leave it. What cannot be asked for several is asked for each, and fails for whom it fails.
    """
    if len(works) < 2:
        for work in works:
            work(store)
        return
    with _started(works) as threads:
        for thread in threads:
            thread.go_on()
        together = _Together(store)
        while asking := [thread for thread in threads if thread.asks is not None]:
            together.answer(asking)
            for thread in asking:
                thread.go_on()


@contextmanager
def _started(works: Sequence[Work]) -> Iterator[list[_Thread]]:
    threads = [_Thread(work) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield threads
    finally:
        for thread in threads:  # all have ended, or this one was interrupted
            thread.given_up = True
            thread.turn.release()
            thread.join()
    for thread in threads:
        if thread.broken is not None:
            raise thread.broken


@dataclass(frozen=True)
class _Asked:
    """A method of the store and what it was given, the dataset first."""

    method: str
    given: tuple[Any, ...]


class _GivenUpError(BaseException):
    """Ends the work of a thread that nobody waits for any more."""


class _Thread(Thread):
    """One piece of work. Between `go_on` and its next question it is the only one that runs."""

    def __init__(self, work: Work) -> None:
        super().__init__(name="several", daemon=True)
        self.work = work
        self.turn, self.stopped = Semaphore(0), Semaphore(0)
        self.asks: _Asked | None = None
        self.answer: Any = None  # to what it asked, or the exception
        self.given_up = False
        self.broken: BaseException | None = None

    def run(self) -> None:
        self.turn.acquire()
        try:
            if not self.given_up:
                self.work(_Store(self))
        except _GivenUpError:
            pass
        except BaseException as error:  # noqa: BLE001  raised again by who waits for it
            self.broken = error
        self.asks = None
        self.stopped.release()

    def go_on(self) -> None:
        """Let it run until it asks, or ends."""
        self.turn.release()
        self.stopped.acquire()

    def ask(self, method: str, *given: Any) -> Any:
        """In the thread itself: stop until there is an answer."""
        self.asks = _Asked(method, given)
        self.stopped.release()
        self.turn.acquire()
        if self.given_up:
            raise _GivenUpError
        answer, self.answer = self.answer, None
        if isinstance(answer, BaseException):
            raise answer
        return answer


class _Store:
    """The store as a thread sees it."""

    def __init__(self, thread: _Thread) -> None:
        self._ask = thread.ask

    def held(self) -> AbstractContextManager[None]:
        return nullcontext()

    def publish(
        self, dataset: str, upload: str, rows: pa.Table, images: pa.Table,
        refused: pa.Table | None = None, names: pa.Table | None = None,
    ) -> pa.Array:  # fmt: skip
        return self._ask("publish", dataset, upload, rows, images, refused, names)

    def withdraw(self, dataset: str, uploads: Collection[str]) -> None:
        if uploads:
            self._ask("withdraw", dataset, uploads)

    def stated(self, dataset: str, upload: str) -> pa.Array:
        return self._ask("stated", dataset, upload)

    def naming(self, dataset: str, upload: str) -> pa.Array:
        return self._ask("naming", dataset, upload)

    def look_up(
        self, dataset: str, record_ids: pa.Array | None, own: Published | None = None
    ) -> pa.Table:
        return self._ask("look_up", dataset, with_own(record_ids, own))

    def count_labelled(self, dataset: str) -> int:
        count: int = self._ask("count_labelled", dataset)
        return count

    def merge(self, dataset: str, offered: pa.Table) -> MergeResult:
        result: MergeResult = self._ask("merge", dataset, offered)
        return result

    def read(self, dataset: str, query: Query = Query()) -> pa.Table:  # noqa: B008
        return self._ask("read", dataset, query)

    def counts(self, dataset: str) -> dict[str, Any]:
        counts: dict[str, Any] = self._ask("counts", dataset)
        return counts

    def read_withdrawn(self, dataset: str, record_ids: Sequence[str] | None = None) -> pa.Table:
        if record_ids is not None and not record_ids:
            return schema_of(WITHDRAWN).empty_table()
        return self._ask("read_withdrawn", dataset, record_ids)


class _Together:
    """Asks the store for those who have stopped."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.few = True  # rows, as far as was seen

    def answer(self, asking: Sequence[_Thread]) -> None:
        """Answer what each asks, in their order; what they ask alike, at once."""
        alike: dict[Any, list[_Thread]] = defaultdict(list)
        for thread in asking:
            assert thread.asks is not None  # noqa: S101  or it would not be here
            alike[_likeness(thread.asks)].append(thread)
        for threads in alike.values():
            asked = [thread.asks for thread in threads if thread.asks is not None]
            for thread, answer in zip(threads, self._answers(asked), strict=True):
                thread.answer = answer

    def _answers(self, asked: Sequence[_Asked]) -> list[Any]:
        self.few = self.few and sum(map(_rows, asked)) <= FEW
        if len(asked) > 1 and self.few:
            given = [one.given[1:] for one in asked]
            with suppress(Exception):  # each is told its own below
                answers = self._at_once(asked[0].method, asked[0].given[0], given)
                if answers is not None:
                    return answers
        return [self._alone(one) for one in asked]

    def _alone(self, one: _Asked) -> Any:
        try:
            return getattr(self.store, one.method)(*one.given)
        except Exception as error:  # noqa: BLE001  raised where it was asked
            return error

    def _at_once(self, method: str, dataset: str, given: list[Any]) -> list[Any] | None:
        """An answer for each, or None where that has to be asked one by one."""
        store = self.store
        if method == "look_up" and all(ids is not None for (ids,) in given):
            found = store.look_up(dataset, _joined(ids for (ids,) in given))
            return [_of_records(found, ids) for (ids,) in given]
        if method == "read_withdrawn" and all(ids is not None for (ids,) in given):
            gone = store.read_withdrawn(dataset, [one for (ids,) in given for one in ids])
            return [_of_records(gone, ids) for (ids,) in given]
        if method == "withdraw":
            store.withdraw(dataset, {upload for (uploads,) in given for upload in uploads})
            return [None] * len(given)
        if method == "read":
            return self._read(dataset, [query for (query,) in given])
        if method == "publish" and isinstance(store, SeveralAtOnce):
            return list(store.publish_several(dataset, [Published(*one) for one in given]))
        if method == "merge" and isinstance(store, SeveralAtOnce):
            return list(store.merge_several(dataset, [offered for (offered,) in given]))
        return None

    def _read(self, dataset: str, queries: list[Query]) -> list[pa.Table] | None:
        import pyarrow.compute as pc

        if all(query == Query(record_ids=query.record_ids) for query in queries):
            ids = [one for query in queries for one in query.record_ids or ()]
            found = self.store.read(dataset, Query(record_ids=ids))
            return [_of_records(found, query.record_ids or ()) for query in queries]
        if isinstance(self.store, SeveralAtOnce):
            found = self.store.read_several(dataset, [query.upload or "" for query in queries])
            return [
                found.filter(
                    pc.or_kleene(
                        pc.equal(found["upload"], query.upload),
                        pc.equal(found["image_upload"], query.upload),
                    )
                ).slice(0, query.limit)
                for query in queries
            ]
        return None


def _likeness(asked: _Asked) -> Any:
    """What is equal may be asked at once."""
    query = asked.given[1] if asked.method == "read" else None
    if query is None:
        return asked.method, asked.given[0]
    if query.record_ids is not None and query == Query(record_ids=query.record_ids):
        return "read", asked.given[0], "records"
    if query.upload and query == Query(upload=query.upload, limit=query.limit):
        return "read", asked.given[0], "upload"
    return id(asked)


def _rows(asked: _Asked) -> int:
    """How many rows it brings, or asks for."""
    if asked.method == "read":
        return len(asked.given[1].record_ids or ())
    tables = [one for one in asked.given[1:] if one is not None and not isinstance(one, str)]
    return sum(len(one) for one in tables)


def _joined(arrays: Iterator[pa.Array]) -> pa.Array:
    import pyarrow as pa

    return pa.chunked_array([one.cast(pa.string()) for one in arrays]).combine_chunks()


def _of_records(found: pa.Table, ids: Any) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = ids if isinstance(ids, pa.Array) else pa.array(list(ids), pa.string())
    return found.filter(pc.is_in(found["record_id"].cast(pa.string()), wanted.cast(pa.string())))
