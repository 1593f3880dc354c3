"""The newest promotion of a log that anyone has told of: one item, which only goes up.

It stands beside the predictions and not in the lake, so who may write to the bucket alone can't
take it back. `<dataset>#promotions` holds one item for each modality.
"""

from __future__ import annotations

from mm_assets.tables.dynamodb.items import Item, key_of, promotions_partition
from mm_assets.tables.dynamodb.requests import ConditionFailedError, Requests


class NewestPromotion:
    """That of one dataset and modality. Raises StoreError."""

    def __init__(self, requests: Requests, dataset: str, modality: str) -> None:
        self.requests = requests
        self.partition, self.modality = promotions_partition(dataset), modality

    def newest(self) -> tuple[int, str] | None:
        """Generation and digest; None if nobody told of one. One request, strongly consistent."""
        for item in self.requests.query(("pk", self.partition)):
            if item["sk"]["S"] == self.modality:
                return int(item["generation"]["N"]), item["digest"]["S"]
        return None

    def note(self, generation: int, digest: str) -> None:
        """Unless a newer one, or another of this number, is there."""
        try:
            self.requests.call(
                "put_item",
                Item=self._item(generation, digest),
                ConditionExpression="attribute_not_exists(pk) OR generation < :generation",
                ExpressionAttributeValues={":generation": {"N": str(generation)}},
            )
        except ConditionFailedError:
            return

    def replace(self, generation: int, digest: str) -> None:
        """Whatever is there: somebody looked at the log and signed it as it is."""
        self.requests.call("put_item", Item=self._item(generation, digest))

    def _item(self, generation: int, digest: str) -> Item:
        said: Item = {"generation": {"N": str(generation)}, "digest": {"S": digest}}
        return {**key_of(self.partition, self.modality), **said}
