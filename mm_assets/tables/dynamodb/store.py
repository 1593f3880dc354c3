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
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from mm_assets.tables.dynamodb import items
from mm_assets.tables.dynamodb.items import SHARDS, Index, Item, index_key, partition, record_of
from mm_assets.tables.dynamodb.publish import Publisher
from mm_assets.tables.dynamodb.requests import READS, ConditionFailedError, Requests, batches
from mm_assets.tables.store import COLUMNS, MergeResult, Query

if TYPE_CHECKING:
    import pyarrow as pa

FOUND = (
    "record_id", "unlabelled_upload", "labelled_upload", "label", "label_upload", "image_upload",
    "image_sha256", "image_file",
)  # fmt: skip

# Up to so many answers are asked for their labels one by one, more by reading all labels.
FEW = 1000

Prediction = dict[str, Any]


class DynamoDBStore:
    """The store in the DynamoDB table `table`, which `mm table --create` makes."""

    def __init__(self, client: Any, table: str, patience: float = 60.0) -> None:
        self.requests = Requests(client, table, patience)

    # -- the index ----------------------------------------------------------------------------

    def publish(self, dataset: str, upload: str, rows: pa.Table, images: pa.Table) -> None:
        Publisher(self.requests, dataset, upload).publish(rows, images)

    def look_up(self, dataset: str, record_ids: pa.Array | None) -> pa.Table:
        import pyarrow as pa

        wanted = self._labels(dataset) if record_ids is None else set(record_ids.to_pylist())
        ids = sorted(i for i in wanted if i is not None)
        known = (items.known_of(i, some) for i, some in self._partitions(dataset, ids))
        if record_ids is None:  # the index may name one whose label has gone since
            known = (one for one in known if one.get("label") is not None)
        schema = pa.schema([(name, pa.string()) for name in FOUND])
        return pa.Table.from_pylist(list(known), schema=schema)

    def count_labelled(self, dataset: str) -> int:
        return len(self._labels(dataset))

    # -- predictions --------------------------------------------------------------------------

    def merge(self, dataset: str, offered: pa.Table) -> MergeResult:
        offered = offered.select(list(items.STORED))
        best: dict[str, tuple[str, int]] = {}
        for position, one in enumerate(_rows(offered)):
            items.check_prediction(dataset, one)
            order = items.order_key(one)
            if one["record_id"] not in best or order > best[one["record_id"]][0]:
                best[one["record_id"]] = (order, position)
        if not best:
            return MergeResult(0, 0, offered.num_rows)
        chosen = offered.take(sorted(position for _, position in best.values()))
        inserted = updated = 0
        for was_there in self.requests.each(
            lambda one: self._put(dataset, *one), self._greater(dataset, chosen)
        ):
            inserted += was_there is False
            updated += was_there is True
        return MergeResult(inserted, updated, offered.num_rows - inserted - updated)

    def _greater(self, dataset: str, offered: pa.Table) -> Iterator[tuple[Prediction, str, bool]]:
        """Which of the offered are greater than what is there, and whether something is."""

        def compare(some: list[Prediction]) -> list[tuple[Prediction, str, bool]]:
            keys = [
                items.key_of(partition(dataset, one["record_id"]), items.PREDICTION) for one in some
            ]
            found = self.requests.get_many(keys, ["pk", "order_key"])
            there = {record_of(item["pk"]["S"]): item["order_key"]["S"] for item in found}
            compared = ((one, items.order_key(one), there.get(one["record_id"])) for one in some)
            return [(o, new, old is not None) for o, new, old in compared if new > (old or "")]

        return chain.from_iterable(self.requests.each(compare, batches(_rows(offered), READS)))

    def _put(self, dataset: str, one: Prediction, order: str, was_there: bool) -> bool | None:
        """Write it unless something as great is there.

        Returns whether it replaced a prediction; None if it was not written.
        """
        item = items.prediction_item(dataset, one, order)
        try:
            self.requests.call(
                "put_item",
                Item=item,
                ConditionExpression="attribute_not_exists(pk) OR order_key < :new",
                ExpressionAttributeValues={":new": {"S": order}},
            )
        except ConditionFailedError:
            # Somebody wrote something as great since we looked. If a reply was lost on the way
            # and the request repeated, that somebody is us.
            key = items.key_of(item["pk"]["S"], items.PREDICTION)
            now = self.requests.call("get_item", Key=key, ConsistentRead=True).get("Item", {})
            ours = ("order_key", "run_id", "predicted_at")
            if any(now.get(name) != item.get(name) for name in ours):
                return None
        return was_there

    def read(self, dataset: str, query: Query = Query()) -> pa.Table:  # noqa: B008
        import pyarrow as pa

        columns = [*COLUMNS, "image_upload", "label"]
        numbers = dict.fromkeys(("lower", "upper", "confidence"), pa.float64())
        types = {**numbers, "needs_review": pa.bool_()}
        schema = pa.schema([(name, types.get(name, pa.string())) for name in columns])
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

    # -- finding ------------------------------------------------------------------------------

    def _find(self, dataset: str, query: Query) -> list[Prediction]:
        """The predictions that `query` asks for, in order, with their labels."""
        fits = _condition(query)
        if query.record_ids is not None:
            found = []
            for _, some in self._partitions(dataset, sorted(set(query.record_ids))):
                for item in some:
                    if item["sk"]["S"] == items.PREDICTION:
                        one = items.prediction_of(item) | {"label": items.newest_label(some)}
                        found += [one] if fits(one) else []
            return _in_order(found, query.limit)
        chosen = self._from_indexes(dataset, query, fits)
        found = _in_order(chosen, query.limit)
        labels = self._labels_of(dataset, [one["record_id"] for one in found])
        return [one | {"label": labels.get(one["record_id"])} for one in found]

    def _from_indexes(
        self, dataset: str, query: Query, fits: Callable[[Prediction], bool]
    ) -> list[Prediction]:
        """From the index that narrows most, what fits; of each record once."""
        found: Iterator[Prediction]
        if query.upload:
            owner = f"{dataset}|{query.upload}"
            found = chain(
                self._everywhere(items.UPLOAD, owner), self._everywhere(items.IMAGE_UPLOAD, owner)
            )
        elif query.changed_since and not query.needs_review:
            since = (items.CHANGED.range_key or "", ">=", {"S": query.changed_since})
            found = self._everywhere(items.CHANGED, dataset, since)
        else:
            index = items.REVIEW if query.needs_review else items.ALL
            if query.limit is not None:
                return self._least_confident(index, dataset, fits, query.limit)
            found = self._everywhere(index, dataset)
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
        newest: dict[str, tuple[str, str]] = {}
        for item in self._index_items(items.LABELS, dataset):
            record_id, told = record_of(item["pk"]["S"]), (item["sk"]["S"], item["label"]["S"])
            newest[record_id] = max(told, newest.get(record_id, told))
        return {record_id: label for record_id, (_, label) in newest.items()}

    def _labels_of(self, dataset: str, ids: Sequence[str]) -> dict[str, str]:
        if len(ids) > FEW:
            return self._labels(dataset)
        told = self._partitions(dataset, ids)
        labels = ((record_id, items.newest_label(some)) for record_id, some in told)
        return {record_id: label for record_id, label in labels if label is not None}


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
