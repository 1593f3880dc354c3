"""The outbox: what subscribers have still to be told of the predictions table.

Before a merge a note is written into the lake, with what the table says of the records then. After
the merge the table is read again: what differs is told, and then the note is deleted. Whatever
dies in between, the note is still there, and `finish` goes on with it; so each change is told at
least once. A note that is told twice sends the same IDs.

Several may tell of one record at the same moment. Each stamps what it sends with the time before
it read the table, and whoever changed the table reads it after that; so the event with the greatest
stamp tells what the table holds.
"""

from __future__ import annotations

import hashlib
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_assets.contract.errors import LakeError
from mm_assets.lake.errors import lake_error
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import outbox_prefix
from mm_assets.predictions.event import Kind, answer_of, content_of, event, now
from mm_assets.queues.targets import Message, Target, open_target, send
from mm_assets.tables.store import Query, Store

if TYPE_CHECKING:
    import pyarrow as pa

RECORDS = 20_000  # read from the table at once
SUFFIX = ".parquet"
STAMP = "%Y%m%d-%H%M%S%f"  # how a note's name begins
UNIQUE = 8  # digits in its name that tell it from others; its hash follows them
UNKNOWN_SECONDS = 86_400.0  # after which a run that is not known here must have ended


@dataclass(frozen=True, slots=True)
class Note:
    """A note that this process has just written, with what it says."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Told:
    """How many events were sent, and how many notes are left, with the first reason."""

    sent: int = 0
    left: int = 0
    reason: str = ""


def note(
    lake: Lake,
    store: Store,
    dataset: str,
    record_ids: pa.Array | pa.ChunkedArray,
    upload: str,
    run_id: str,
    taken_back: Iterable[dict[str, Any]] = (),
) -> Note | None:
    """Note what the table says of records that are about to change.

    taken_back: rows that the table held until now, of records that nothing was told of since.
    Nothing is noted (None) if nobody is to be told.
    """
    import pyarrow.parquet as pq

    if not lake.settings.results:
        return None
    gone = {row["record_id"]: row for row in taken_back}
    ids = sorted({*record_ids.to_pylist(), *gone})
    if not ids:
        return None
    moment = datetime.now(UTC)
    schema = _schema()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "note.parquet"
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for some in _portions(ids):
                rows = _read(store, dataset, some)
                before = [_before(one, rows.get(one) or gone.get(one)) for one in some]
                writer.write_table(_table(before, schema))
        data = path.read_bytes()
    name = f"{moment:{STAMP}}-{upload}-{uuid.uuid4().hex[:UNIQUE]}{_hash(data)}_{run_id}"
    lake.write(_key(dataset, name), data)
    return Note(name, data)


def publish_changes(lake: Lake, store: Store, dataset: str, noted: Note | None) -> Told:
    """Tell what became of a note's records, then delete it. Raises nothing for a queue that is
    away: the note stays, and `finish` goes on with it."""
    if noted is None:
        return Told()
    try:
        return Told(_tell(lake, store, open_target(lake.settings), dataset, noted))
    except LakeError as error:
        return Told(0, 1, f"[{error.code}] {error.what} ({error.where})")


def finish(lake: Lake, store: Store, dataset: str, is_over: Callable[[str], bool | None]) -> Told:
    """Go on with notes that were left behind, the oldest first.

    is_over: whether a run, by its ID, has ended, None if it is not known here; a note of one that
    has not may be of a merge that is still to come.
    """
    sent = 0
    damaged: list[str] = []
    for name in left_behind(lake, dataset):
        over = is_over(_run_of(name))
        if not (_age(name) > UNKNOWN_SECONDS if over is None else over):
            continue
        try:
            noted = _read_note(lake, dataset, name)
        except LakeError as error:
            if error.code != "lake_damaged":
                raise
            damaged.append(f"[{error.code}] {error.what} ({error.where})")
            continue
        told = publish_changes(lake, store, dataset, noted)
        sent += told.sent
        if told.left:
            left = len(left_behind(lake, dataset))
            return Told(sent, left, told.reason)  # the others would fail as well
    return Told(sent, len(damaged), "; ".join(damaged))


def left_behind(lake: Lake, dataset: str) -> list[str]:
    """The names of the notes that are there, the oldest first."""
    prefix = outbox_prefix(dataset)
    return sorted(
        item.key[len(prefix) :].removesuffix(SUFFIX)
        for item in lake.list(prefix)
        if item.key.endswith(SUFFIX)
    )


def _read_note(lake: Lake, dataset: str, name: str) -> Note | None:
    """A note that another process wrote; None if somebody else has told it by now.

    Raises LakeError (lake_damaged) for one that was changed.
    """
    try:
        data = lake.read(_key(dataset, name))
    except LakeError as error:
        if error.code != "lake_not_found":
            raise
        return None
    written = name.partition("_")[0].rpartition("-")[2][UNIQUE:]
    if written not in ("", _hash(data)):  # "": of a version that noted no hash
        where = f"{lake.url}/{_key(dataset, name)}"
        raise lake_error("lake_damaged", "this note of changes is not what was written", where)
    return Note(name, data)


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _tell(lake: Lake, store: Store, target: Target, dataset: str, noted: Note) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sent = 0
    for batch in pq.ParquetFile(pa.BufferReader(noted.data)).iter_batches(RECORDS):
        sent += send(target, _messages(lake, store, dataset, noted.name, batch.to_pylist()))
    lake.delete(_key(dataset, noted.name))
    return sent


def _messages(
    lake: Lake, store: Store, dataset: str, name: str, noted: list[dict[str, Any]]
) -> Iterator[Message]:
    sequence = now()
    rows = _read(store, dataset, [one["record_id"] for one in noted])
    for before in noted:
        row = rows.get(before["record_id"])
        if content_of(row) == before["content"]:
            continue
        kind = _kind(before, row)
        if is_wanted(lake.settings.results_send, kind, before, row):
            yield event(dataset, before["record_id"], kind, row, name, sequence)


def _kind(before: dict[str, Any], row: dict[str, Any] | None) -> Kind:
    if row is None:
        return "withdrawn"
    if not before["content"]:
        return "new"
    return "renewed" if answer_of(row) == before["answer"] else "changed"


def is_wanted(
    send_what: str, kind: Kind, before: dict[str, Any], row: dict[str, Any] | None
) -> bool:
    """Whether MM_RESULTS_SEND asks for it. `review` also tells of what leaves the queue."""
    if kind == "renewed":
        return send_what == "all"
    in_review = before["needs_review"] or (row is not None and row["needs_review"])
    return send_what != "review" or bool(in_review)


def _read(store: Store, dataset: str, record_ids: list[str]) -> dict[str, dict[str, Any]]:
    found = store.read(dataset, Query(record_ids=record_ids))
    return {row["record_id"]: row for row in found.to_pylist()}


def _before(record_id: str, row: dict[str, Any] | None) -> dict[str, Any]:
    in_review = row is not None and row["needs_review"]
    return {
        "record_id": record_id, "content": content_of(row), "answer": answer_of(row),
        "needs_review": in_review,
    }  # fmt: skip


def _schema() -> pa.Schema:
    """What a note says of a record before the merge: hashes of all of its row and of its answer
    ('' for no row), and whether it was in review."""
    import pyarrow as pa

    text = pa.string()
    columns = [("record_id", text), ("content", text), ("answer", text)]
    return pa.schema([*columns, ("needs_review", pa.bool_())])


def _table(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_pylist(rows, schema=schema)


def _run_of(name: str) -> str:
    """The run that wrote a note."""
    return name.partition("_")[2]


def _age(name: str) -> float:
    """How many seconds ago a note was written."""
    day, moment, *_ = name.split("-")
    written = datetime.strptime(f"{day}-{moment}", STAMP).replace(tzinfo=UTC)
    return (datetime.now(UTC) - written).total_seconds()


def _portions(ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), RECORDS):
        yield ids[start : start + RECORDS]


def _key(dataset: str, name: str) -> str:
    return f"{outbox_prefix(dataset)}{name}{SUFFIX}"
