"""What no longer counts in DynamoDB: withdrawn uploads, refused rows, and predictions taken back.

Whoever makes something of a record not count (a withdrawal, a refused row) writes that first and
then *considers* the record: reads all that there is of it, writes what no longer counts as `fallen`
at its prediction, and takes the prediction back if it is void. A merge writes a prediction only
where `fallen` is still what it judged by. So of a merge and of what makes its prediction void,
whichever comes second sees the other; and repeating either does no harm and writes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any

from mm_assets.contract.errors import StoreError
from mm_assets.tables.dynamodb import items
from mm_assets.tables.dynamodb.changes import Changelog
from mm_assets.tables.dynamodb.items import Item, key_of, partition, withdrawn_partition
from mm_assets.tables.dynamodb.names import Names
from mm_assets.tables.dynamodb.publish import Publisher
from mm_assets.tables.dynamodb.requests import ConditionFailedError, Requests
from mm_assets.tables.merge_rule import BY_UPLOAD, void_for
from mm_assets.tables.named import named_by

ROUNDS = 50  # how often others may change one record while it is considered


class Withdrawals:
    """What no longer counts of one dataset. Raises StoreError; safe to repeat after any failure."""

    def __init__(self, requests: Requests, dataset: str) -> None:
        self.requests = requests
        self.dataset = dataset
        self.names = Names(requests, dataset)
        self.changes = Changelog(requests, dataset)

    def uploads(self) -> set[str]:
        """The withdrawn ones. One request, strongly consistent."""
        return set(self._noted())

    def _noted(self) -> dict[str, bool]:
        """The withdrawn uploads, and whether every record of each was considered."""
        found = self.requests.query(("pk", withdrawn_partition(self.dataset)))
        return {item["sk"]["S"]: "considered" in item for item in found}

    def withdraw(self, uploads: Collection[str]) -> None:
        noted = self._noted()
        new = [upload for upload in sorted(set(uploads)) if not noted.get(upload)]
        notes = {one: key_of(withdrawn_partition(self.dataset), one) for one in new}
        known = {record_id for upload in new for record_id in self._concerned(upload)}
        with self.changes.noted(known):  # their labels count no more as soon as it is written
            for upload in new:
                if upload not in noted:
                    self.requests.call("put_item", Item=notes[upload])
            for upload in new:
                concerned = self._concerned(upload)
                with self.changes.noted(concerned - known):  # it was published meanwhile
                    self.consider(concerned, noted=True)
                done = {**notes[upload], "considered": {"BOOL": True}}
                self.requests.call("put_item", Item=done)

    def _concerned(self, upload: str) -> set[str]:
        stated = Publisher(self.requests, self.dataset, upload).stated()
        return stated | self.names.naming(upload) | self._answered_by(upload)

    def _answered_by(self, upload: str) -> set[str]:
        """Records whose answer names the upload, which may be more than it spoke of in this table:
        one that was made anew. By indexes that may lag."""
        owner, found = f"{self.dataset}|{upload}", set()
        for index in (items.UPLOAD, items.IMAGE_UPLOAD):
            for number in range(items.SHARDS):
                key = (index.hash_key, items.index_key(owner, number))
                listed = self.requests.query(key, index=index.name, attributes=["pk"])
                found |= {items.record_of(item["pk"]["S"]) for item in listed}
        return found

    def consider(self, record_ids: Iterable[str], *, noted: bool = False) -> None:
        """Write what no longer counts of these records, and take back what is void.

        noted: it is noted already that they may change.
        """
        record_ids = sorted(record_ids)
        if record_ids:
            withdrawn = self.uploads()
            for _ in self.requests.each(lambda one: self.fallen(one, withdrawn, noted), record_ids):
                pass

    def fallen(
        self, record_id: str, withdrawn: set[str] | None = None, noted: bool = False
    ) -> dict[str, str]:
        """Consider one record; returns what no longer counts of it."""
        withdrawn = self.uploads() if withdrawn is None else withdrawn
        key = partition(self.dataset, record_id)
        for _ in range(ROUNDS):
            there = {i["sk"]["S"]: i for i in self.requests.query(("pk", key))}
            cells = items.cells_of(record_id, there.values())
            unclear = self.names.meeting(cells, withdrawn).unclear.get(record_id, ())
            fallen = items.fallen_of(there.values(), withdrawn, unclear)
            answer = items.prediction_of(there.get(items.PREDICTION, {}))
            said = {answer["upload"], answer["image_upload"], named_by(answer["image_order"] or "")}
            fallen |= dict.fromkeys(sorted(said & withdrawn), BY_UPLOAD)
            if self._write(there.get(items.PREDICTION), key, fallen, noted):
                return fallen
        raise StoreError(
            code="table_busy",
            what="other runs change the same record at this moment",
            where=f"record {record_id!r} of {self.dataset}",
            todo="Run it again when they are through.",
        )

    def _write(self, seen: Item | None, key: str, fallen: dict[str, str], noted: bool) -> bool:
        """Put `fallen` at the prediction that was seen; False if another is there by now."""
        order = items.plain((seen or {}).get("order_key"))
        if seen is None or order is None:
            return self._put(seen, seen or key_of(key, items.PREDICTION), fallen)
        why = void_for(items.prediction_of(seen), fallen)
        if why is None:
            return self._put(seen, seen, fallen)
        with nullcontext() if noted else self.changes.noted([items.record_of(key)]):
            now = datetime.now(UTC).isoformat(timespec="microseconds")
            self.requests.call("put_item", Item=items.taken_back(self.dataset, seen, *why, now))
            return self._put(seen, key_of(key, items.PREDICTION), fallen)

    def _put(self, seen: Item | None, left: Item, fallen: dict[str, str]) -> bool:
        """Put `left`, with `fallen`, where `seen` was; False if another is there by now."""
        new = dict(left)
        if fallen:
            new["fallen"] = {"S": items.fallen_text(fallen)}
        else:
            new.pop("fallen", None)
        if new == seen or (seen is None and not fallen):
            return True
        order = items.plain((seen or {}).get("order_key"))
        condition, values = as_seen(items.fallen_at(seen), order)
        written: dict[str, Any] = {"Item": new}
        if not fallen and "order_key" not in new:  # nothing is left to be said
            written = {"Key": key_of(left["pk"]["S"], items.PREDICTION)}
        operation = "put_item" if "Item" in written else "delete_item"
        try:
            self.requests.call(
                operation, **written, ConditionExpression=condition, **expression(values)
            )
        except ConditionFailedError:
            return False
        return True


def as_seen(fallen: dict[str, str], order: str | None) -> tuple[str, dict[str, Any]]:
    """The condition that a prediction is still the one with this order, and with this fallen."""
    values: dict[str, Any] = {}
    conditions = ["attribute_not_exists(fallen)", "attribute_not_exists(order_key)"]
    if fallen:
        conditions[0], values[":fallen"] = "fallen = :fallen", {"S": items.fallen_text(fallen)}
    if order is not None:
        conditions[1], values[":order"] = "order_key = :order", {"S": order}
    return " AND ".join(conditions), values


def expression(values: dict[str, Any]) -> dict[str, Any]:
    """Values of a condition as a request has them, if there are any."""
    return {"ExpressionAttributeValues": values} if values else {}
