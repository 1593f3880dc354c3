"""All answers of a dataset, for whoever looks at all of them again and again.

DuckDB reads its columns at once. DynamoDB gives every item whole, in pages, at a price: there the
columns are kept in the lake as well, and a look reads of the table only records that may have
changed since the last one (`Store.changes`). What it gives is the same, to the byte of each value.

A copy is a document under `answers/` and Parquet files, oldest first: what a newer file says of a
record counts, and a row without an upload says that the record has no answer any more. A look
writes one file more, of what changed, joined with those before it that are not much larger; so
there are few, and none is written again at every look. Which copy counts stands in the table. One
that is lost, damaged, or of another version is as none: all is read, and a new one made. So it is
once a week as well, for what somebody did to the table by other means.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_assets.contract.errors import LakeError
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import answers_prefix
from mm_assets.lake.local import working_folder
from mm_assets.tables.store import Changes, NotesChanges, Query, Store, schema_of

if TYPE_CHECKING:
    import pyarrow as pa

# Of every prediction; the rest of it, the larger part, is not read.
ANSWERS = (
    "record_id", "prediction", "lower", "upper", "confidence", "needs_review", "modality",
    "model_version", "upload", "label",
)  # fmt: skip
LOOKS = 5  # how often others may look at the same moment
FEW = 1000  # so many records are always read one by one
DEAR = 20  # reading a record by its ID costs as much as so many among all
LARGER = 4  # so many times larger than the next newer one a file is at least
KEPT = timedelta(days=7)
LEFT = timedelta(hours=1)  # after which nobody reads, or makes, a copy that does not count


def read_answers(lake: Lake, store: Store, dataset: str) -> pa.Table:
    """ANSWERS of every record that has an answer, in any order, as `Store.read` gives them."""
    if isinstance(store, NotesChanges):
        for _ in range(LOOKS):
            found = _look(lake, store, store.changes(dataset), dataset)
            if found is not None:
                return found
    return store.read(dataset, Query(columns=ANSWERS, in_order=False))


@dataclass(frozen=True, slots=True)
class _Copy:
    """document: as published, with `parts`: names of its files; tables: these, oldest first."""

    name: str
    document: dict[str, Any]
    tables: list[pa.Table]

    @classmethod
    def read(cls, lake: Lake, dataset: str, name: str | None) -> _Copy | None:
        """None where there is none that can be used."""
        try:
            document = lake.read_json(_key(dataset, name)) if name is not None else None
            if name is None or document is None or document.get("made_by") != _made_by():
                return None
            if datetime.now(UTC) - datetime.fromisoformat(document["read_at"]) > KEPT:
                return None
            tables = [_table(lake, document, part) for part in document["parts"]]
        except LakeError as error:
            if error.code not in ("lake_not_found", "lake_damaged"):
                raise
            return None
        return cls(name, document, tables)


def _look(lake: Lake, store: Any, seen: Changes, dataset: str) -> pa.Table | None:
    """All answers; None if somebody else looked meanwhile."""
    copy = _Copy.read(lake, dataset, seen.copy)
    changed: list[str] | None = None
    if copy is not None:
        known = _newest(copy.tables)
        # Of a record without an answer no label is of interest; that it has one by now is noted.
        changed = sorted(seen.answers.union(_of(known, seen.labels)))
    if copy is None or changed is None or len(changed) > max(FEW, known.num_rows // DEAR):
        now = datetime.now(UTC).isoformat()
        found = store.read(dataset, Query(columns=ANSWERS, in_order=False))
        name = _publish(lake, dataset, [], found, now)
        return _settled(lake, store, dataset, seen, name, seen.shown, found)
    if not changed:
        if not seen.over:
            return known
        return _settled(lake, store, dataset, seen, copy.name, seen.over, known)
    query = Query(record_ids=changed, columns=ANSWERS, in_order=False)
    new = _with_gone(store.read(dataset, query), changed)
    found = _newest([known, new])
    if not seen.over:  # what goes on is read again by the next look
        return found
    name = _publish_next(lake, dataset, copy, new)
    return _settled(lake, store, dataset, seen, name, seen.over, found)


def _settled(
    lake: Lake, store: NotesChanges, dataset: str, seen: Changes, name: str,
    notes: Sequence[str], found: pa.Table,
) -> pa.Table | None:  # fmt: skip
    if not store.settle(dataset, seen, name, notes):
        return None
    if name != seen.copy:
        _clean_up(lake, dataset, name)
    return found


def _newest(tables: Sequence[pa.Table]) -> pa.Table:
    """What the newest of these tables, oldest first, says of each record that has an answer."""
    return _standing(_joined(tables))


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    parts: list[pa.Table] = []
    for table in reversed(tables):
        left = table
        for newer in parts:
            replaced = pc.is_in(left["record_id"], newer["record_id"])
            if pc.any(replaced).as_py():
                left = left.filter(pc.invert(replaced))
        parts.append(left)
    return pa.concat_tables(reversed(parts)) if parts else schema_of(ANSWERS).empty_table()


def _standing(table: pa.Table) -> pa.Table:
    """Without the records that have no answer any more."""
    import pyarrow.compute as pc

    return table.filter(pc.is_valid(table["upload"])) if table["upload"].null_count else table


def _of(table: pa.Table, record_ids: Collection[str]) -> list[str]:
    """Those of these records that it has."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not record_ids:
        return []
    asked = pc.is_in(table["record_id"], pa.array(list(record_ids), pa.string()))
    found: list[str] = table["record_id"].filter(asked).to_pylist()
    return found


def _with_gone(found: pa.Table, record_ids: Sequence[str]) -> pa.Table:
    """With a row, all null, of each of these records that was not found."""
    import pyarrow as pa

    gone = sorted(set(record_ids).difference(found["record_id"].to_pylist()))
    rows = [{"record_id": one} for one in gone]
    return pa.concat_tables([found, pa.Table.from_pylist(rows, schema=found.schema)])


# -- in the lake ----------------------------------------------------------------------------------


def _publish_next(lake: Lake, dataset: str, copy: _Copy, new: pa.Table) -> str:
    """The copy that follows this one."""
    tables, parts = list(copy.tables), list(copy.document["parts"])
    while tables and LARGER * new.num_rows >= tables[-1].num_rows:
        new = _joined([tables.pop(), new])
        parts.pop()
    kept = [copy.document["files"][part] for part in parts]
    new = new if tables else _standing(new)
    return _publish(lake, dataset, kept, new, copy.document["read_at"])


def _publish(
    lake: Lake, dataset: str, kept: Sequence[dict[str, Any]], new: pa.Table, read_at: str
) -> str:
    """Publish a copy of files that are there, and of a new one, the newest; returns its name."""
    import pyarrow.parquet as pq

    name = uuid.uuid4().hex
    parts = [f"{name}-{number}.parquet" for number in range(len(kept) + 1)]
    with working_folder("answers") as folder:
        path = folder / parts[-1]
        pq.write_table(new, path, compression="zstd")
        files: dict[str, Path | Mapping[str, Any]] = dict(zip(parts[:-1], kept, strict=True))
        files[parts[-1]] = path
        document = {
            "dataset": dataset, "made_by": _made_by(), "read_at": read_at, "parts": parts,
        }  # fmt: skip
        lake.publish(_key(dataset, name), files, document)
    return name


def _clean_up(lake: Lake, dataset: str, name: str) -> None:
    """Delete what belongs to other copies, unless somebody may still be reading or making them."""
    document = lake.read_json(_key(dataset, name)) or {"files": {}}
    own = {_key(dataset, name), *(file["key"] for file in document["files"].values())}
    before = datetime.now(UTC) - LEFT
    for item in lake.list(answers_prefix(dataset)):
        if item.key not in own and item.modified < before:
            lake.delete(item.key)


def _table(lake: Lake, document: dict[str, Any], part: str) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    return pq.read_table(pa.BufferReader(lake.read_published(document, part)))


def _made_by() -> str:
    """By which version, with which columns."""
    return " ".join([metadata.version("mm-assets"), *ANSWERS])


def _key(dataset: str, name: str) -> str:
    return f"{answers_prefix(dataset)}{name}.json"
