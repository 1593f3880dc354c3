"""What a model saw in training, and what of a record is unlike all of that.

Learnt from the records that a model is made from, kept with it (the manifest under `familiar`), and
asked for each record by itself. Engines whose answers a person wrote (`rules`) learn nothing, so
nothing is unlike it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mm_assets.contract.errors import ModelError
from mm_assets.doubt.familiar_table import MOST_NAMED, FamiliarTable
from mm_assets.doubt.unlike import Code, Doubt
from mm_assets.engines.shared.spellings import Spellings

if TYPE_CHECKING:
    import pandas as pd

WRITTEN = ("rules",)  # engines that learn nothing


@dataclass(frozen=True)
class Familiar:
    """n: the records that it was learnt from."""

    table: FamiliarTable
    n: int

    @classmethod
    def learn(
        cls, frame: pd.DataFrame, columns: Mapping[str, str], spellings: Spellings
    ) -> Familiar:
        """frame: every record that the model is made from, in the spelling that it knows.

        columns: feature column to kind. The order of the records makes no difference.
        """
        return cls(FamiliarTable.learn(frame, columns, spellings), len(frame))

    def doubts(self, frame: pd.DataFrame) -> list[list[Doubt]]:
        """What is unlike training, for each record; in any spelling. The frame is not changed."""
        return self.table.doubts(frame)

    def known(self, code: Code, column: str, at_most: int = MOST_NAMED) -> str:
        """What training had where a doubt is, in words."""
        return self.table.known(code, column, at_most)

    @property
    def words(self) -> list[str]:
        """What people are told once, at training."""
        said = [
            f"{name} ({share:.1%} of the records bring a new value)"
            for name, share in self.table.open_.items()
        ]
        if not said:
            return []
        return [f"new values are ordinary, and send no record to review, in {', '.join(said)}"]

    def to_json(self) -> dict[str, Any]:
        """What a manifest keeps."""
        return {"n": self.n, "table": self.table.to_json()}

    @classmethod
    def of_manifest(cls, manifest: Mapping[str, Any], spellings: Spellings) -> Familiar | None:
        """Of a stored model; None if it learns nothing, or is from before this was noted.

        Raises ModelError (familiar_invalid).
        """
        document = manifest.get("familiar")
        if document is None:
            return None
        try:
            return cls(FamiliarTable.from_json(document["table"], spellings), int(document["n"]))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelError(
                code="familiar_invalid",
                what=f"what the stored model saw in training cannot be read: {error}",
                todo="Train and promote the model again.",
            ) from None
