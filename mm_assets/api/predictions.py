"""Reading the predictions table: as a frame, as an Arrow table, as dictionaries."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mm_assets.contract.dataset import Modality
from mm_assets.contract.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from mm_assets.tables.store import Store


class Predictions:
    """The predictions of a dataset, least confident first; call it for a frame.

    Every argument that is given narrows the answer: modality ("with_image", "without_image"),
    review (only those that need it, or only the others), upload (key), ids, since (ISO time of the
    prediction), limit.
    """

    def __init__(self, table: Store, dataset: str) -> None:
        self._table = table
        self._dataset = dataset

    def __call__(self, **narrowed: Any) -> pd.DataFrame:
        """A frame: COLUMNS, image_upload, label; probabilities are dicts, None for regression."""
        table = self.arrow(**narrowed)
        frame = table.to_pandas()
        frame["probabilities"] = [_parsed(text) for text in frame["probabilities"]]
        return frame

    def arrow(
        self,
        *,
        modality: str | None = None,
        review: bool | None = None,
        upload: str | None = None,
        ids: Iterable[str] | None = None,
        since: str | None = None,
        limit: int | None = None,
    ) -> pa.Table:
        """The same as an Arrow table; probabilities are JSON text."""
        import pyarrow.compute as pc

        from mm_assets.tables.store import Query

        wanted_modality = modality_of(modality)
        wanted = None if ids is None else [str(one) for one in ids]
        query = Query(wanted, upload, review, since, None if wanted_modality else limit)
        found = self._table.read(self._dataset, query)
        if wanted_modality is None:
            return found
        return found.filter(pc.equal(found["modality"], wanted_modality.value)).slice(0, limit)

    def rows(self, **narrowed: Any) -> list[dict[str, Any]]:
        """The same as dictionaries."""
        rows: list[dict[str, Any]] = self.arrow(**narrowed).to_pylist()
        for row in rows:
            row["probabilities"] = _parsed(row["probabilities"])
        return rows

    @property
    def columns(self) -> tuple[str, ...]:
        """What each row holds."""
        from mm_assets.tables.store import COLUMNS

        return (*COLUMNS, "image_upload", "label")

    def __repr__(self) -> str:
        counts = self._table.counts(self._dataset)
        said = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in counts.items())
        return f"<predictions of {self._dataset}: {said}; call it for a frame>"


def _parsed(probabilities: str | None) -> dict[str, float] | None:
    found: dict[str, float] | None = json.loads(probabilities or "null")
    return found


def modality_of(name: str | None) -> Modality | None:
    """The modality of this name. Raises UsageError that names them."""
    if name is not None and name not in set(Modality):
        raise UsageError(
            code="arguments",
            what=f"there is no modality {name!r}; name one of {', '.join(Modality)}",
        )
    return None if name is None else Modality(name)
