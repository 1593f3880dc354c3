"""Which answers in DynamoDB may have changed since somebody looked at all of them.

Whoever changes a record's answer or label notes it before (`noted`), and when the work is through
that it is over. `<dataset>#changes` holds

| sort key | what it is |
|---|---|
| `note\\|<unique>` | IDs of records, compressed; `labels_only`; whether it is `over`; since when |
| `copy` | the name of the newest copy of all answers (`mm_assets.tables.answers`) |

**A copy is right but for what is noted.** A note is gone only when there is a copy whose maker saw
it over before he read its records by their IDs, which is strongly consistent, and when that copy is
the newest, which one condition sees to. Work that still goes on, or that died, keeps its note: its
records are read anew at every look. So whatever ends in whatever order, what the copy does not hold
is noted. A note that was never over is given up after a day: no run lives as long
(`max_runtime_seconds`), and who does the same again notes it again.
"""

from __future__ import annotations

import json
import time
import uuid
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mm_assets.tables.dynamodb.items import Item, changes_partition, key_of, plain
from mm_assets.tables.dynamodb.requests import ConditionFailedError, Requests, batches
from mm_assets.tables.store import Changes

NOTE = "note|"
COPY = "copy"
IDS = 5_000  # in one note; each is 2 KB at most, and a note may have 400 KB once it is compressed
LONGEST = 300_000  # bytes of the IDs of one note, before they are compressed
DEAD_SECONDS = 86_400.0  # after which work that a note tells of must have ended
LAG_SECONDS = 600.0  # after which an index shows what was written; it usually takes a moment


class Changelog:
    """That of one dataset. Raises StoreError."""

    def __init__(self, requests: Requests, dataset: str) -> None:
        self.requests = requests
        self.home = changes_partition(dataset)

    @contextmanager
    def noted(self, record_ids: Iterable[str], *, labels_only: bool = False) -> Iterator[None]:
        """Within it the answers of these records, or only their labels, may change.

        If it ends by an exception they may have changed, too: the note stays as it is.
        """
        notes = [
            {
                **key_of(self.home, f"{NOTE}{uuid.uuid4().hex}"),
                "ids": {"B": zlib.compress(json.dumps(ids, ensure_ascii=False).encode(), 1)},
                "labels_only": {"BOOL": labels_only},
            }
            for ids in _portions(sorted(set(record_ids)))
        ]
        self._put(notes, is_over=False)
        yield
        self._put(notes, is_over=True)

    def _put(self, notes: Sequence[Item], *, is_over: bool) -> None:
        said = {"over": {"BOOL": is_over}, "at": {"N": repr(time.time())}}

        def put(one: Item) -> None:
            self.requests.call("put_item", Item={**one, **said})

        for _ in self.requests.each(put, notes):
            pass

    def read(self) -> Changes:
        """What is noted. The copy's name is asked for last: a note that another look settled
        meanwhile is in that copy."""
        answers: set[str] = set()
        labels: set[str] = set()
        over, shown, now = [], [], time.time()
        for item in self.requests.query(("pk", self.home), ("sk", "begins_with", {"S": NOTE})):
            ids = json.loads(zlib.decompress(item["ids"]["B"]))
            (labels if plain(item["labels_only"]) else answers).update(ids)
            age = now - float(item["at"]["N"])
            if plain(item["over"]) or age > DEAD_SECONDS:
                over.append(item["sk"]["S"])
                shown += [item["sk"]["S"]] if age > LAG_SECONDS else []
        key = key_of(self.home, COPY)
        copy = self.requests.call("get_item", Key=key, ConsistentRead=True).get("Item", {})
        return Changes(
            plain(copy.get("name")), frozenset(answers), frozenset(labels), tuple(over),
            tuple(shown),
        )  # fmt: skip

    def settle(self, before: str | None, copy: str, notes: Iterable[str]) -> bool:
        """Name the copy that holds what these notes tell of, unless it is not `before` that is
        named; then delete the notes."""
        as_it_was: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(pk)"}
        if before is not None:
            as_it_was = {
                "ConditionExpression": "#name = :before",
                "ExpressionAttributeNames": {"#name": "name"},
                "ExpressionAttributeValues": {":before": {"S": before}},
            }
        item = {**key_of(self.home, COPY), "name": {"S": copy}}
        try:
            self.requests.call("put_item", Item=item, **as_it_was)
        except ConditionFailedError:
            return False  # or it was ours, and the reply was lost: the notes are read once more
        self.requests.write_all(
            {"DeleteRequest": {"Key": key_of(self.home, name)}} for name in notes
        )
        return True


def _portions(ids: Sequence[str]) -> Iterator[list[str]]:
    for some in batches(ids, IDS):
        size, portion = 0, list[str]()
        for one in some:
            size += len(one.encode()) + 4
            if size > LONGEST and portion:
                yield portion
                size, portion = len(one.encode()) + 4, []
            portion.append(one)
        yield portion
