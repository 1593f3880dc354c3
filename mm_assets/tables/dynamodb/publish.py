"""How an upload's rows and images are published in DynamoDB, whatever happens meanwhile.

DynamoDB has no "replace all of this upload's items", so each upload keeps a *list* of what it may
have in the table: the key of each entry with a digest of its value, in compressed chunks under a
*head*. Publishing goes:

1. Read the list. If it is complete and equal to what shall be published, nothing is to do.
2. Put everything that was there and everything that will be there on the list, state `writing`.
3. Write the entries that a complete list does not show to be there; delete those not wanted.
4. Put the final list there, state `complete`.

**A crash** between any two requests leaves a list that names every entry that can be there. Who
finds the state `writing` trusts no entry: all are written again, what is not wanted is deleted.

**Two runs of one upload at the same moment.** The head has a version, and both its writes are
conditional on the one that was read: of two runs one loses, and knows.
- Both publish the same (the usual case: an upload's bytes never change): both write equal entries,
  neither deletes what the other wrote, so every order of their requests ends in the same items.
  The one that loses its last step has written all entries and leaves the list to the other.
- They publish different things (the YAML was changed in between): the one that came later took the
  earlier one's entries over into its list before it wrote. The earlier one finds at its last step
  that it lost, waits for the other to end, and publishes again, trusting nothing. So the one that
  ends last decides. Should it die before it does that, entries that it wrote late may be left;
  therefore a run that took over from a different one ends in the state `contested`, which still
  names them and trusts nothing: the next run of either cleans up and completes.

Chunks are never changed and their names never used again, so a head always names whole ones.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mm_assets.contract.errors import StoreError
from mm_assets.tables.dynamodb.changes import Changelog
from mm_assets.tables.dynamodb.items import (
    LONGEST_KEY,
    Item,
    cell_item,
    cells_item,
    file_item,
    image_item,
    key_fits,
    key_of,
    list_partition,
    name_partition,
    partition,
    plain,
    record_of,
    refusal_item,
    row_item,
)
from mm_assets.tables.dynamodb.requests import ConditionFailedError, Requests
from mm_assets.tables.named import Cell, cell_of, file_of

if TYPE_CHECKING:
    import pyarrow as pa

Key = tuple[str, str]  # partition key and sort key of an entry
Entries = dict[Key, str]  # with a digest of the item; '' where no digest is known

CHUNK = 200_000  # bytes of a chunk before compression; an item may have 400 KB
ROUNDS = 5  # how often one run lets another one, which publishes something else, go first

NEW, WRITING, CONTESTED, COMPLETE = "new", "writing", "contested", "complete"


@dataclass
class Publication:
    """An upload's list as it was read or written."""

    version: int = 0
    state: str = NEW
    is_clean: bool = True  # no run with something else to publish may still be writing
    wants: str = ""  # a digest of what the run that wrote it publishes
    chunks: list[str] = field(default_factory=list)  # sort keys
    entries: Entries = field(default_factory=dict)
    dead_chunks: list[str] = field(default_factory=list)  # seen, but not of this list


class Publisher:
    """Publishes one upload. Raises StoreError; safe to repeat after any failure."""

    def __init__(self, requests: Requests, dataset: str, upload: str) -> None:
        self.requests = requests
        self.dataset = dataset
        self.upload = upload
        self.home = list_partition(dataset, upload)
        self.changes = Changelog(requests, dataset)

    def publish(
        self, rows: pa.Table, images: pa.Table, refused: pa.Table, names: pa.Table
    ) -> tuple[set[str], set[str]]:
        """Returns the records whose row is refused or gone, and those of which it was before."""
        import pyarrow as pa

        first = self._read()
        before, told = _records(first.entries, "refusal"), set(rows["record_id"].to_pylist())
        gone = before | _records(first.entries, "row")
        gone -= told | set(refused["record_id"].to_pylist())
        if gone:
            nulls = pa.nulls(len(gone), pa.string())
            more = pa.table({"record_id": pa.array(sorted(gone), pa.string()), "code": nulls})
            refused = pa.concat_tables([refused.cast(more.schema), more])
        self._publish(first, rows, images, refused, names)
        return set(refused["record_id"].to_pylist()), before

    def stated(self) -> set[str]:
        """Every record of the list."""
        own = partition(self.dataset, "")
        return {record_of(pk) for pk, _ in self._read().entries if pk.startswith(own)}

    def file_names(self) -> set[str]:
        """The names of the images on the list that no row of the upload names."""
        own = name_partition(self.dataset, "")
        listed = self._read().entries
        return {
            pk.removeprefix(own)
            for pk, sk in listed
            if pk.startswith(own) and sk.startswith("file|")
        }

    def _publish(
        self,
        first: Publication,
        rows: pa.Table,
        images: pa.Table,
        refused: pa.Table,
        names: pa.Table,
    ) -> None:
        wanted: Entries = {}
        for item in self._items(rows, images, refused, names):
            wanted[_key(item)] = _digest(item)
        self._check(wanted)
        wants = _digest(sorted([*key, digest] for key, digest in wanted.items()))
        written = False  # whether a round that lost wrote all of our entries
        labelled = set(rows.filter(rows["label"].is_valid())["record_id"].to_pylist())
        for attempt in range(ROUNDS):
            before = self._read() if attempt else first
            if before.state in (NEW, COMPLETE) and before.entries == wanted:
                return  # whatever we wrote in a round that lost belongs to it
            if attempt and before.state == WRITING:
                if written and before.wants == wants:
                    return  # the other run publishes the same and ends the list
                before = self._wait_for_the_other(before)
            certain = before.entries if before.state == COMPLETE and not written else {}
            both = {**dict.fromkeys(before.entries, ""), **wanted}
            same = before.wants == wants and before.is_clean
            is_clean = before.state != WRITING or same
            begun = self._replace(before, WRITING, both, wants, is_clean)
            if begun is None:
                continue
            changed = (
                item
                for item in self._items(rows, images, refused, names)
                if certain.get(key := _key(item)) != wanted[key]
            )
            relabelled = _relabelled(before.entries, certain, wanted, labelled)
            with self.changes.noted(relabelled, labels_only=True):
                self.requests.write_all({"PutRequest": {"Item": item}} for item in changed)
                self._delete(key for key in before.entries if key not in wanted)
            written = True
            if is_clean:
                ended = self._replace(begun, COMPLETE, wanted, wants, is_clean)
            else:
                ended = self._replace(begun, CONTESTED, both, wants, is_clean)
            if ended is not None:
                dead = {*before.chunks, *before.dead_chunks, *begun.chunks} - {*ended.chunks}
                self._delete((self.home, name) for name in dead)
                return
        raise StoreError(
            code="table_busy",
            what="other runs publish other rows or images of the same upload at this moment",
            where=f"upload {self.upload} of {self.dataset}",
            todo="Run it again when they are through.",
        )

    def _items(
        self, rows: pa.Table, images: pa.Table, refused: pa.Table, names: pa.Table
    ) -> Iterator[Item]:
        """The entries as items, made a batch at a time."""
        for batch in rows.select(["record_id", "labels_only", "label"]).to_batches(10_000):
            for row in batch.to_pylist():
                yield row_item(self.dataset, self.upload, *row.values())
        for batch in images.select(["record_id", "image_sha256", "image_file"]).to_batches(10_000):
            for row in batch.to_pylist():
                yield image_item(self.dataset, self.upload, *row.values())
        for row in refused.select(["record_id", "code"]).to_pylist():
            yield refusal_item(self.dataset, self.upload, *row.values())
        yield from self._named_items(names)

    def _named_items(self, names: pa.Table) -> Iterator[Item]:
        cells: dict[str, list[Cell]] = {}
        for batch in names.to_batches(10_000):
            for row in batch.to_pylist():
                row["upload"] = self.upload
                if row["image_sha256"] is not None:
                    yield file_item(self.dataset, file_of(row))
                else:
                    cells.setdefault(row["record_id"], []).append(cell_of(row))
        for record_id, own in cells.items():
            yield cells_item(self.dataset, self.upload, record_id, own)
            yield from (cell_item(self.dataset, one) for one in {c.name: c for c in own}.values())

    def _check(self, wanted: Entries) -> None:
        too_long = next((key for key, _ in wanted if not key_fits(key)), None)
        if too_long is not None:
            raise StoreError(
                code="table_refused",
                what=f"a record's ID is longer than {LONGEST_KEY:,} bytes",
                where=f"record {too_long[:80]!r} … of upload {self.upload}",
                todo="Shorten the ID. Nothing was written.",
            )

    def _delete(self, keys: Iterator[Key]) -> None:
        self.requests.write_all({"DeleteRequest": {"Key": key_of(*key)}} for key in keys)

    # -- the list -----------------------------------------------------------------------------

    def _read(self, tries: int = ROUNDS) -> Publication:
        """The list as it stands."""
        found = {item["sk"]["S"]: item for item in self.requests.query(("pk", self.home))}
        head = found.pop("head", None)
        if head is None:
            return Publication(dead_chunks=list(found))
        names = [chunk["S"] for chunk in head["chunks"]["L"]]
        is_whole = all(name in found for name in names)
        if not is_whole and tries > 1:  # another run replaced it while its pages were read
            return self._read(tries - 1)
        names = [name for name in names if name in found]
        entries: Entries = {}
        for name in names:
            for pk, sk, digest in json.loads(zlib.decompress(found[name]["entries"]["B"])):
                entries[pk, sk] = digest
        return Publication(
            version=plain(head["version"]),
            # A chunk that somebody deleted by hand: nothing is trusted.
            state=plain(head["state"]) if is_whole else CONTESTED,
            is_clean=plain(head["is_clean"]),
            wants=plain(head["wants"]),
            chunks=names,
            entries=entries,
            dead_chunks=[name for name in found if name not in names],
        )

    def _replace(
        self, before: Publication, state: str, entries: Entries, wants: str, is_clean: bool
    ) -> Publication | None:
        """Put another list in the place of `before`; None if another run was faster."""
        chunks = before.chunks
        if entries != before.entries:
            chunks = self._write_chunks(entries)
        ticket = uuid.uuid4().hex  # by which we know our own head after a lost reply
        head = {
            **key_of(self.home, "head"),
            "version": {"N": str(before.version + 1)},
            "state": {"S": state},
            "is_clean": {"BOOL": is_clean},
            "wants": {"S": wants},
            "ticket": {"S": ticket},
            "chunks": {"L": [{"S": name} for name in chunks]},
        }
        as_it_was: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(pk)"}
        if before.version:
            as_it_was = {
                "ConditionExpression": "version = :before",
                "ExpressionAttributeValues": {":before": {"N": str(before.version)}},
            }
        try:
            self.requests.call("put_item", Item=head, **as_it_was)
        except ConditionFailedError:
            now = self._head()
            if now is None or plain(now["ticket"]) != ticket:
                if chunks is not before.chunks:
                    self._delete((self.home, name) for name in chunks)
                return None
        return Publication(before.version + 1, state, is_clean, wants, chunks, entries)

    def _write_chunks(self, entries: Entries) -> list[str]:
        name = uuid.uuid4().hex
        items = [
            {**key_of(self.home, f"list|{name}|{number:06d}"), "entries": {"B": body}}
            for number, body in enumerate(_packed(entries))
        ]
        self.requests.write_all({"PutRequest": {"Item": item}} for item in items)
        return [item["sk"]["S"] for item in items]

    def _head(self) -> Item | None:
        key = key_of(self.home, "head")
        return self.requests.call("get_item", Key=key, ConsistentRead=True).get("Item")

    def _wait_for_the_other(self, seen: Publication) -> Publication:
        """Until the other run has ended, or its patience would be over: then it may be dead."""
        end = time.monotonic() + self.requests.patience
        while time.monotonic() < end:
            time.sleep(random.uniform(0.05, 0.5))  # noqa: S311  jitter, no secret
            head = self._head()
            if head is None or plain(head["state"]) != WRITING:
                break
            if plain(head["version"]) != seen.version:
                break
        return self._read()


def _packed(entries: Mapping[Key, str]) -> Iterator[bytes]:
    """The entries as compressed JSON, CHUNK bytes before compression in each."""
    lines: list[str] = []
    size = 0
    for key, digest in sorted(entries.items()):
        line = json.dumps([*key, digest], ensure_ascii=False)
        lines.append(line)
        size += len(line.encode()) + 1
        if size >= CHUNK:
            yield zlib.compress(f"[{','.join(lines)}]".encode(), 1)
            lines, size = [], 0
    if lines:
        yield zlib.compress(f"[{','.join(lines)}]".encode(), 1)


def _relabelled(
    before: Entries, certain: Entries, wanted: Entries, labelled: Set[str]
) -> Iterator[str]:
    """The records whose label may be another one once `wanted` stands where `before` did.

    certain: what of `before` is known to be there. labelled: whose new row has a label. A new row
    without one changes no label; a refusal may hide one.
    """
    for key in {**before, **wanted}:
        kind, record_id = key[1].partition("|")[0], record_of(key[0])
        if (
            kind in ("row", "refusal")
            and (key not in wanted or certain.get(key) != wanted[key])
            and (kind == "refusal" or key in before or record_id in labelled)
        ):
            yield record_id


def _records(entries: Iterable[Key], kind: str) -> set[str]:
    """The records of which there is an entry of this kind."""
    return {record_of(pk) for pk, sk in entries if sk.startswith(f"{kind}|")}


def _key(item: Item) -> Key:
    return item["pk"]["S"], item["sk"]["S"]


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
