"""Reading the predictions table: as a frame, as an Arrow table, as dictionaries."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
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
    review (only those that need it, or only the others), upload (key or name), ids, since (ISO time
    of the prediction; UTC, if it names no zone), limit. Raises UsageError or UploadError for what
    can mean nothing.
    """

    def __init__(self, table: Store, dataset: str, key_of: Callable[[str], str]) -> None:
        """key_of: the key of an upload that is named in any way."""
        self._table = table
        self._dataset = dataset
        self._key_of = key_of

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
        ids: str | Iterable[str] | None = None,
        since: str | None = None,
        limit: int | None = None,
    ) -> pa.Table:
        """The same as an Arrow table; probabilities are JSON text."""
        import pyarrow.compute as pc

        from mm_assets.tables.store import Query

        wanted_modality = modality_of(modality)
        if limit is not None and limit < 0:
            raise UsageError(code="arguments", what=f"limit={limit}: write 0 or more")
        ids = [ids] if isinstance(ids, str) else ids
        wanted = None if ids is None else [str(one) for one in ids]
        key = None if upload is None else self._key_of(upload)
        most = None if wanted_modality else limit
        query = Query(wanted, key, review, None if since is None else _time(since), most)
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


def _time(since: str) -> str:
    """As times stand in the table, so that text can be compared."""
    try:
        time = datetime.fromisoformat(since)
    except ValueError:
        raise UsageError(
            code="arguments",
            what=f"since {since!r} is no time: write it as 2026-11-28 or 2026-11-28T14:30",
        ) from None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC).isoformat()


def modality_of(name: str | None) -> Modality | None:
    """The modality of this name. Raises UsageError that names them."""
    if name is not None and name not in set(Modality):
        raise UsageError(
            code="arguments",
            what=f"there is no modality {name!r}; name one of {', '.join(Modality)}",
        )
    return None if name is None else Modality(name)
