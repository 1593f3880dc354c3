"""Rows and images that meet by a name in DynamoDB (see `mm_assets.tables.named`)."""

from __future__ import annotations

from collections.abc import Iterable, Set

from mm_assets.tables.dynamodb import items
from mm_assets.tables.dynamodb.items import Item
from mm_assets.tables.dynamodb.publish import Publisher
from mm_assets.tables.dynamodb.requests import Requests
from mm_assets.tables.named import Cell, Meeting, meet


class Names:
    """Those of one dataset. What is asked is strongly consistent: one Query a name."""

    def __init__(self, requests: Requests, dataset: str) -> None:
        self.requests = requests
        self.dataset = dataset

    def naming(self, upload: str) -> set[str]:
        """The records of which a row may name an image of this upload."""
        names = Publisher(self.requests, self.dataset, upload).file_names()
        return {items.plain(item["record_id"]) for item in self._under(names, "cell|")}

    def meeting(self, cells: Iterable[Cell], withdrawn: Set[str]) -> Meeting:
        """What these cells mean, of uploads that count."""
        cells = [cell for cell in cells if cell.upload not in withdrawn]
        if not cells:
            return Meeting({}, {})
        files = map(items.file_of, self._under({cell.name for cell in cells}, "file|"))
        return meet(cells, (file for file in files if file.upload not in withdrawn))

    def _under(self, names: Iterable[str], beginning: str) -> list[Item]:
        def of_name(name: str) -> list[Item]:
            key = items.name_partition(self.dataset, name)
            if not items.key_fits(key):
                return []
            sort = ("sk", "begins_with", {"S": beginning})
            return list(self.requests.query(("pk", key), sort))

        return [one for some in self.requests.each(of_name, sorted(names)) for one in some]
