"""The table store in one DynamoDB table, for many writers at the same moment.

What is asked by ID (`look_up`, `read` with record IDs) is strongly consistent: one Query of the
record's partition, which is what "publish first, then look for the other's part" stands on. What
is asked of an index (`read` otherwise, `counts`, `count_labelled`, and which records `look_up`
without IDs finds) may lag by a moment.

A merge is all or none for each record, not for the batch: every prediction is a conditional write
of its own, so concurrent merges end in the greatest of each record. After a crash, repeating the
merge writes what is missing.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from mm_assets.tables.dynamodb import items
from mm_assets.tables.dynamodb.changes import Changelog
from mm_assets.tables.dynamodb.items import SHARDS, Index, Item, index_key, partition, record_of
from mm_assets.tables.dynamodb.names import Names
from mm_assets.tables.dynamodb.publish import Publisher
from mm_assets.tables.dynamodb.requests import READS, ConditionFailedError, Requests, batches
from mm_assets.tables.dynamodb.withdrawals import Withdrawals, as_seen, expression
from mm_assets.tables.merge_rule import BY_UPLOAD, is_void
from mm_assets.tables.named import is_file_id, no_names
from mm_assets.tables.store import (
    WITHDRAWN,
    Changes,
    MergeResult,
    Published,
    Query,
    columns_of,
    found_schema,
    no_refusals,
    schema_of,
    with_own,
)

if TYPE_CHECKING:
    import pyarrow as pa

NOTED = 16  # batches of a merge in one note of what may change
AT_ONCE = 10_000  # records of which names are looked up together
# Up to so many answers are asked for their labels one by one, more by reading all labels.
FEW = 1000
# What is asked of a prediction to find it, and its place among the others.
_JUDGED_BY = (
    "record_id", "order_key", "confidence", "upload", "image_upload", "needs_review",
    "predicted_at",
)  # fmt: skip

Prediction = dict[str, Any]


class DynamoDBStore:
    """The store in the DynamoDB table `table`, which `mm table --create` makes."""

    def __init__(self, client: Any, table: str, patience: float = 60.0) -> None:
        self.requests = Requests(client, table, patience)

    @contextmanager
    def held(self) -> Iterator[None]:
        yield  # any number of writers, and nothing to open

    # -- the index ----------------------------------------------------------------------------

    def publish(
        self,
        dataset: str,
        upload: str,
        rows: pa.Table,
        images: pa.Table,
        refused: pa.Table | None = None,
        names: pa.Table | None = None,
    ) -> pa.Array:
        import pyarrow as pa

        refused = no_refusals() if refused is None else refused
        names = no_names() if names is None else names
        publisher = Publisher(self.requests, dataset, upload)
        fallen, before = publisher.publish(rows, images, refused, names)
        named: set[str] = set()
        if names.num_rows:  # what others' rows name may be unclear by now
            named = {one for one in names["record_id"].to_pylist() if not is_file_id(one)}
            named |= Names(self.requests, dataset).naming(upload)
        self._withdrawals(dataset).consider(fallen | before | named)
        return pa.array(sorted(fallen), pa.string())

    def withdraw(self, dataset: str, uploads: Collection[str]) -> None:
        if uploads:
            self._withdrawals(dataset).withdraw(uploads)

    def stated(self, dataset: str, upload: str) -> pa.Array:
        import pyarrow as pa

        found = Publisher(self.requests, dataset, upload).stated()
        found |= Names(self.requests, dataset).naming(upload)
        return pa.array(sorted(found), pa.string())

    def naming(self, dataset: str, upload: str) -> pa.Array:
        import pyarrow as pa

        return pa.array(sorted(Names(self.requests, dataset).naming(upload)), pa.string())

    def _withdrawals(self, dataset: str) -> Withdrawals:
        return Withdrawals(self.requests, dataset)

    def look_up(
        self, dataset: str, record_ids: pa.Array | None, own: Published | None = None
    ) -> pa.Table:
        import pyarrow as pa

        record_ids = with_own(record_ids, own)
        withdrawn = self._withdrawals(dataset).uploads()
        wanted = self._labels(dataset) if record_ids is None else set(record_ids.to_pylist())
        ids = sorted(i for i in wanted if i is not None)
        names, known = Names(self.requests, dataset), []
        for batch in batches(self._partitions(dataset, ids), AT_ONCE):
            cells = chain.from_iterable(items.cells_of(*one) for one in batch)
            meeting = names.meeting(cells, withdrawn)
            known += [items.known_of(*one, withdrawn, meeting) for one in batch]
        if record_ids is None:  # the index may name one whose label has gone since
            known = [one for one in known if one["label"] is not None]
        return pa.Table.from_pylist(known, schema=found_schema())

    def count_labelled(self, dataset: str) -> int:
        return len(self._labels(dataset))

    # -- predictions --------------------------------------------------------------------------

    def merge(self, dataset: str, offered: pa.Table) -> MergeResult:
        offered = offered.select(list(items.STORED))
        candidates: dict[str, list[int]] = {}
        for position, one in enumerate(_rows(offered)):
            items.check_prediction(dataset, one)
            items.order_key(one)
            candidates.setdefault(one["record_id"], []).append(position)
        inserted = updated = void = 0
        gone = dict.fromkeys(self._withdrawals(dataset).uploads(), BY_UPLOAD)

        def judge(some: list[list[int]]) -> tuple[list[_Greater], int]:
            return self._judge(dataset, offered.take(list(chain.from_iterable(some))), gone)

        judged = self.requests.each(judge, batches(candidates.values(), READS))
        for some in batches(judged, NOTED):
            void += sum(n_void for _, n_void in some)
            greater = [one for own, _ in some for one in own]
            with self._changes(dataset).noted(one.prediction["record_id"] for one in greater):
                for was_there in self.requests.each(lambda one: self._put(dataset, one), greater):
                    inserted += was_there is False
                    updated += was_there is True
        same = offered.num_rows - inserted - updated - void
        return MergeResult(inserted, updated, same, void)

    def _judge(
        self, dataset: str, offered: pa.Table, gone: dict[str, str]
    ) -> tuple[list[_Greater], int]:
        """Of some records, which of the offered are greater than what is there; and how many are
        void."""
        own: dict[str, list[Prediction]] = {}
        for one in offered.to_pylist():
            own.setdefault(one["record_id"], []).append(one)
        keys = [items.key_of(partition(dataset, i), items.PREDICTION) for i in own]
        found = self.requests.get_many(keys, ["pk", "order_key", "fallen"])
        there = {record_of(item["pk"]["S"]): item for item in found}
        greater, n_void = [], 0
        for record_id, some in own.items():
            fallen = items.fallen_at(there.get(record_id))
            counts = _counting(some, fallen | gone)
            if len(counts) < len(some):  # few: is it still so?
                fallen = self._withdrawals(dataset).fallen(record_id)
                counts = _counting(some, fallen | gone)
            n_void += len(some) - len(counts)
            if counts:
                best = max(counts, key=items.order_key)
                old = items.plain(there.get(record_id, {}).get("order_key"))
                if items.order_key(best) > (old or ""):
                    greater.append(_Greater(best, items.order_key(best), old is not None, fallen))
        return greater, n_void

    def _put(self, dataset: str, one: _Greater) -> bool | None:
        """Write it unless something as great is there, or it became void.

        Returns whether it replaced a prediction; None if it was not written.
        """
        item = items.prediction_item(dataset, one.prediction, one.order)
        condition, values = as_seen(one.fallen, None)
        condition = condition.replace(
            "attribute_not_exists(order_key)",
            "(attribute_not_exists(order_key) OR order_key < :new)",
        )
        if one.fallen:
            item["fallen"] = values[":fallen"]
        values[":new"] = {"S": one.order}
        try:
            self.requests.call(
                "put_item", Item=item, ConditionExpression=condition, **expression(values)
            )
        except ConditionFailedError:
            # Somebody wrote something as great since we looked. If a reply was lost on the way
            # and the request repeated, that somebody is us.
            key = items.key_of(item["pk"]["S"], items.PREDICTION)
            now = self.requests.call("get_item", Key=key, ConsistentRead=True).get("Item", {})
            ours = ("order_key", "run_id", "predicted_at")
            if all(now.get(name) == item.get(name) for name in ours):
                return one.was_there
            fallen, old = items.fallen_at(now), items.plain(now.get("order_key"))
            if (
                fallen != one.fallen
                and _counting([one.prediction], fallen)
                and one.order > (old or "")
            ):
                return self._put(dataset, replace(one, fallen=fallen, was_there=old is not None))
            return None
        return one.was_there

    def read_withdrawn(self, dataset: str, record_ids: Sequence[str] | None = None) -> pa.Table:
        import pyarrow as pa

        if record_ids is None:
            owner = items.withdrawn_partition(dataset)
            listed = self._index_items(items.ALL, owner, attributes=["pk"])
            record_ids = [record_of(item["pk"]["S"]) for item in listed]
        found = []
        for _, some in self._partitions(dataset, sorted(set(record_ids))):
            by_key = {item["sk"]["S"]: item for item in some}
            answered = "order_key" in by_key.get(items.PREDICTION, {})
            if items.TAKEN_BACK in by_key and not answered:
                found.append(items.last_answer_of(by_key[items.TAKEN_BACK]))
        return pa.Table.from_pylist(found, schema=schema_of(WITHDRAWN))

    def read(self, dataset: str, query: Query = Query()) -> pa.Table:  # noqa: B008
        import pyarrow as pa

        schema = schema_of(columns_of(query))
        found = [] if query.limit == 0 else self._find(dataset, query)
        for one in found:
            one["image_upload"] = one["image_upload"] or None
        return pa.Table.from_pylist(found, schema=schema)

    def counts(self, dataset: str) -> dict[str, Any]:
        counts = dict.fromkeys(("records", "needs_review", "with_image", "without_image"), 0)
        shown = ["record_id", "order_key", "needs_review", "modality"]
        for record in _newest(self._everywhere(items.ALL, dataset, attributes=shown)):
            counts["records"] += 1
            counts["needs_review"] += record["needs_review"]
            if record["modality"] in counts:
                counts[record["modality"]] += 1
        return counts

    # -- what changes -------------------------------------------------------------------------

    def changes(self, dataset: str) -> Changes:
        return self._changes(dataset).read()

    def settle(self, dataset: str, seen: Changes, copy: str, notes: Sequence[str]) -> bool:
        return self._changes(dataset).settle(seen.copy, copy, notes)

    def _changes(self, dataset: str) -> Changelog:
        return Changelog(self.requests, dataset)

    # -- finding ------------------------------------------------------------------------------

    def _find(self, dataset: str, query: Query) -> list[Prediction]:
        """The predictions that `query` asks for, in order, with their labels."""
        fits = _condition(query)
        if query.record_ids is not None:
            found = []
            withdrawn = self._withdrawals(dataset).uploads()
            for _, some in self._partitions(dataset, sorted(set(query.record_ids))):
                label = items.newest_label(some, withdrawn)
                for item in some:
                    if item["sk"]["S"] == items.PREDICTION and "order_key" in item:
                        one = items.prediction_of(item) | {"label": label}
                        found += [one] if fits(one) else []
            return _in_order(found, query.limit)
        chosen = self._from_indexes(dataset, query, fits)
        found = _in_order(chosen, query.limit) if query.in_order else chosen
        if "label" not in columns_of(query):
            return found
        labels = self._labels_of(dataset, [one["record_id"] for one in found])
        return [one | {"label": labels.get(one["record_id"])} for one in found]

    def _from_indexes(
        self, dataset: str, query: Query, fits: Callable[[Prediction], bool]
    ) -> list[Prediction]:
        """From the index that narrows most, what fits; of each record once."""
        found: Iterator[Prediction]
        attributes = sorted({*columns_of(query), *_JUDGED_BY} - {"label"})
        if query.upload:
            owner = f"{dataset}|{query.upload}"
            found = chain(
                self._everywhere(items.UPLOAD, owner, attributes=attributes),
                self._everywhere(items.IMAGE_UPLOAD, owner, attributes=attributes),
            )
        elif query.changed_since and not query.needs_review:
            since = (items.CHANGED.range_key or "", ">=", {"S": query.changed_since})
            found = self._everywhere(items.CHANGED, dataset, since, attributes)
        else:
            index = items.REVIEW if query.needs_review else items.ALL
            if query.limit is not None:
                return self._least_confident(index, dataset, fits, query.limit)
            found = self._everywhere(index, dataset, attributes=attributes)
        return [one for one in _newest(found) if fits(one)]

    def _least_confident(
        self, index: Index, dataset: str, fits: Callable[[Prediction], bool], limit: int
    ) -> list[Prediction]:
        """What fits of an index by confidence, no further than `limit` of each shard.

        An index does not say which of two equally confident comes first, so all are read that are
        as confident as the last one taken.
        """

        def of_shard(number: int) -> list[Prediction]:
            taken: list[Prediction] = []
            key = (index.hash_key, index_key(dataset, number))
            # A page has room for those that do not fit, or that are as confident as the last.
            pages = self.requests.query(key, index=index.name, page=min(limit + 20, 1000))
            for one in map(items.prediction_of, pages):
                if len(taken) >= limit and one["confidence"] > taken[limit - 1]["confidence"]:
                    break
                if fits(one):
                    taken.append(one)
            return taken

        return list(_newest(chain.from_iterable(self.requests.each(of_shard, range(SHARDS)))))

    def _partitions(self, dataset: str, ids: Sequence[str]) -> Iterator[tuple[str, list[Item]]]:
        """Everything of each record, strongly consistent, in the order of `ids`."""

        def of_record(record_id: str) -> list[Item]:
            key = partition(dataset, record_id)
            return list(self.requests.query(("pk", key))) if items.key_fits(key) else []

        return zip(ids, self.requests.each(of_record, ids), strict=True)

    def _everywhere(
        self,
        index: Index,
        owner: str,
        sort: tuple[str, str, dict[str, Any]] | None = None,
        attributes: Sequence[str] | None = None,
    ) -> Iterator[Prediction]:
        """All predictions in every shard of an index."""
        return map(items.prediction_of, self._index_items(index, owner, sort, attributes))

    def _index_items(
        self,
        index: Index,
        owner: str,
        sort: tuple[str, str, dict[str, Any]] | None = None,
        attributes: Sequence[str] | None = None,
    ) -> Iterator[Item]:
        def of_shard(number: int) -> list[Item]:
            key = (index.hash_key, index_key(owner, number))
            return list(self.requests.query(key, sort, index=index.name, attributes=attributes))

        return chain.from_iterable(self.requests.each(of_shard, range(SHARDS)))

    # -- labels -------------------------------------------------------------------------------

    def _labels(self, dataset: str) -> dict[str, str]:
        """The newest label of every record that carries one, from the index."""
        withdrawn = self._withdrawals(dataset).uploads()
        newest: dict[str, tuple[str, str]] = {}
        refused: set[str] = set()
        for item in self._index_items(items.LABELS, dataset):
            record_id, (kind, _, upload) = (
                record_of(item["pk"]["S"]), item["sk"]["S"].partition("|")
            )  # fmt: skip
            if kind == "refusal":
                refused.add(record_id)
            elif upload not in withdrawn:
                told = (upload, item["label"]["S"])
                newest[record_id] = max(told, newest.get(record_id, told))
        labels = {record_id: label for record_id, (_, label) in newest.items()}
        # The index does not say which of their labels stand in rows with features.
        for record_id, some in self._partitions(dataset, sorted(refused & labels.keys())):
            label = items.newest_label(some, withdrawn)
            labels |= {record_id: label} if label is not None else {}
            if label is None:
                del labels[record_id]
        return labels

    def _labels_of(self, dataset: str, ids: Sequence[str]) -> dict[str, str]:
        if len(ids) > FEW:
            return self._labels(dataset)
        withdrawn = self._withdrawals(dataset).uploads() if ids else set()
        told = self._partitions(dataset, ids)
        labels = ((record_id, items.newest_label(some, withdrawn)) for record_id, some in told)
        return {record_id: label for record_id, label in labels if label is not None}


@dataclass(frozen=True, slots=True)
class _Greater:
    """A prediction to be written: its place in the order, whether it replaces one, and by what it
    was judged to count."""

    prediction: Prediction
    order: str
    was_there: bool
    fallen: dict[str, str]


def _counting(some: Iterable[Prediction], fallen: dict[str, str]) -> list[Prediction]:
    """Those of one record's predictions that are not void."""
    return [one for one in some if not is_void(one, fallen)]


def _condition(query: Query) -> Callable[[Prediction], bool]:
    """Whether a prediction is asked for; record IDs and limit aside."""

    def fits(one: Prediction) -> bool:
        return (
            (query.upload is None or query.upload in (one["upload"], one["image_upload"]))
            and (query.needs_review is None or one["needs_review"] is query.needs_review)
            and (query.changed_since is None or one["predicted_at"] >= query.changed_since)
        )

    return fits


def _newest(found: Iterable[Prediction]) -> Iterable[Prediction]:
    """Each record once: one that changes while an index is read may be seen twice."""
    newest: dict[str, Prediction] = {}
    for one in found:
        other = newest.get(one["record_id"])
        if other is None or one["order_key"] > other["order_key"]:
            newest[one["record_id"]] = one
    return newest.values()


def _in_order(found: Iterable[Prediction], limit: int | None) -> list[Prediction]:
    def by(one: Prediction) -> tuple[float, str]:
        return one["confidence"], one["record_id"]

    return sorted(found, key=by) if limit is None else heapq.nsmallest(limit, found, key=by)


def _rows(table: pa.Table) -> Iterator[Prediction]:
    for batch in table.to_batches(10_000):
        yield from batch.to_pylist()
