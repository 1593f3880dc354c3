"""Review: which answers a person is to look at. Part of `DatasetSpec` (dataset.py)."""

from __future__ import annotations

import re
from typing import Annotated, Any, NamedTuple

from pydantic import Field, model_validator

from mm_assets.contract.engine_spec import Strict

TARGET_ACCURACY = 0.95  # where the YAML says nothing
LARGEST_SHARE = 0.2


class Tolerance(NamedTuple):
    """How near the truth an answer is right: an amount, or a share of the answer."""

    amount: float
    is_share: bool = False

    @classmethod
    def parsed(cls, said: float | str) -> Tolerance:
        """`5000` or `20%`. Raises ValueError."""
        if not isinstance(said, str):
            return cls(float(said))
        found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*%\s*", said)
        if found is None or not 0 < float(found[1]) < 1000:
            raise ValueError(f"'{said}' is neither a number nor a share such as 20%")
        return cls(float(found[1]) / 100, is_share=True)

    def reach(self, values: Any) -> Any:
        """How far from each answer the truth may be (an array like `values`)."""
        return self.amount * abs(values) if self.is_share else self.amount + 0 * values

    def __str__(self) -> str:
        return f"{self.amount * 100:g}%" if self.is_share else f"{self.amount:g}"


class Review(Strict):
    """What the user wants of the review queue; what that means for a model is found in training.

    `target_accuracy`: the fewest records, so that the rest is right in so many. `largest_share`: no
    more than so many; both together are possible, and what the rest reaches then is said.
    `threshold`: those less confident than this. `widest_interval`: numbers whose interval is wider
    than this share of the number. `answered_twice` is no such wish, but how people are asked.
    """

    target_accuracy: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="Of the answers that nobody reviews, so many are to be right."
    )
    largest_share: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="No more than this share of the records goes to review."
    )
    threshold: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="Less confident goes to review."
    )
    widest_interval: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Regression: the interval's width, as a share of the number."
    )

    answered_twice: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="Of this share of the records two people are asked, on the page."
    )

    @model_validator(mode="before")
    @classmethod
    def _usual_wish(cls, value: Any) -> Any:
        """Who says only how people are asked wishes for what is usual."""
        if not isinstance(value, dict) or "answered_twice" not in value or len(value) > 1:
            return value
        return cls.usual().wish | value

    @model_validator(mode="after")
    def _one_wish(self) -> Review:
        wish = self.target_accuracy is not None or self.largest_share is not None
        if wish + (self.threshold is not None) + (self.widest_interval is not None) > 1:
            raise ValueError(
                "write either `target_accuracy` and/or `largest_share`, or `threshold`, or "
                "`widest_interval`"
            )
        return self

    @property
    def wish(self) -> dict[str, float]:
        """What decides which answers go to review."""
        return self.model_dump(mode="json", exclude_none=True, exclude={"answered_twice"})

    @classmethod
    def usual(cls) -> Review:
        """What holds where the YAML says nothing."""
        return cls(target_accuracy=TARGET_ACCURACY, largest_share=LARGEST_SHARE)
