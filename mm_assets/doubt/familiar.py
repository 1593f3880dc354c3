"""What a model saw in training, and what of a record is unlike all of that.

Learnt from the records that a model is made from, kept with it (the manifest under `familiar`, and
a file for its images), and asked for each record by itself. Engines whose answers a person wrote
(`rules`) learn nothing, so nothing is unlike it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_assets.contract.dataset import IMAGE
from mm_assets.contract.errors import ModelError
from mm_assets.doubt.familiar_image import FamiliarImages
from mm_assets.doubt.familiar_table import MOST_NAMED, FamiliarTable
from mm_assets.doubt.unlike import Code, Doubt
from mm_assets.engines.protocol import Progress, Vectors
from mm_assets.engines.shared.several import are_images, images_in
from mm_assets.engines.shared.spellings import Spellings

if TYPE_CHECKING:
    import pandas as pd

WRITTEN = ("rules",)  # engines that learn nothing


@dataclass(frozen=True)
class Familiar:
    """n: the records that it was learnt from. images: None where there are none, or where they
    could not be looked at. why_not: that in words; it is told, and not kept.
    """

    table: FamiliarTable
    n: int
    images: FamiliarImages | None = field(default=None, compare=False)
    why_not: str = field(default="", compare=False)

    @classmethod
    def learn(
        cls,
        frame: pd.DataFrame,
        columns: Mapping[str, str],
        spellings: Spellings,
        *,
        groups: Sequence[str] | None = None,
        vectors: Vectors | None = None,
        seconds: float = 0.0,
        progress: Progress = lambda _: None,
    ) -> Familiar:
        """frame: every record that the model is made from, in the spelling that it knows.

        columns: feature column to kind. groups: the name of each record's group, None: each is its
        own. vectors: what is known of images; seconds: for looking at the others. The order of the
        records makes no difference.
        """
        images, why_not = None, ""
        names = list(groups) if groups is not None else [str(n) for n in range(len(frame))]
        if IMAGE in columns:
            pairs = zip(frame[IMAGE], names, strict=True)
            there = {one: name for cell, name in pairs if are_images(cell)
                     for one in images_in(cell)}  # fmt: skip
            images, why_not = FamiliarImages.learn(there, vectors, seconds, progress)
        table = FamiliarTable.learn(frame, columns, spellings, names)
        return cls(table, len(frame), images, why_not)

    def doubts(self, frame: pd.DataFrame) -> list[list[Doubt]]:
        """What is unlike training, for each record; in any spelling. The frame is not changed."""
        found = self.table.doubts(frame)
        if self.images is not None:
            for place, words in self.images.foreign(frame[IMAGE].tolist()).items():
                found[place].append(Doubt("foreign_image", IMAGE, words))
        return found

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
        told = [self.why_not] if self.why_not else []
        if said:
            told.append(
                f"new values are ordinary, and send no record to review, in {', '.join(said)}"
            )
        return told

    def keep(self, folder: Path) -> dict[str, Any]:
        """What a manifest keeps; the images' points go into the model's folder."""
        images = self.images.write(folder) if self.images is not None else None
        return {"n": self.n, "table": self.table.to_json(), "images": images}

    @classmethod
    def of_manifest(
        cls,
        manifest: Mapping[str, Any],
        spellings: Spellings,
        folder: Path,
        vectors: Vectors | None = None,
    ) -> Familiar | None:
        """Of a stored model; None if it learns nothing, or is from before this was noted.

        folder: its files, as they were verified. Raises ModelError (familiar_invalid; and what
        `kept_eyes` raises where this machine lacks its backbone).
        """
        document = manifest.get("familiar")
        if document is None:
            return None
        try:
            images = document["images"]
            return cls(
                FamiliarTable.from_json(document["table"], spellings),
                int(document["n"]),
                FamiliarImages.read(images, folder, vectors) if images is not None else None,
            )
        except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
            raise ModelError(
                code="familiar_invalid",
                what=f"what the stored model saw in training cannot be read: {error}",
                todo="Train and promote the model again.",
            ) from None
