"""Limits: when an asset check of a dataset complains. Part of `DatasetSpec` (dataset.py)."""

from __future__ import annotations

from typing import Annotated

from pydantic import AliasChoices, Field, model_validator

from mm_assets.contract.engine_spec import Strict
from mm_assets.contract.image_feature import ImageFeature


class Range(Strict):
    """What is normal for one feature of the images."""

    minimum: float | None = None
    maximum: float | None = None

    @model_validator(mode="after")
    def _fits(self) -> Range:
        if self.minimum is None and self.maximum is None:
            raise ValueError("write `minimum`, `maximum` or both")
        if None not in (self.minimum, self.maximum) and self.minimum > self.maximum:  # type: ignore[operator]
            raise ValueError("`minimum` is above `maximum`")
        return self


class Limits(Strict):
    """When an asset check complains. Shares are between 0 and 1."""

    minimum_image_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    maximum_unreadable_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    maximum_refused_share: Annotated[float, Field(ge=0, le=1)] = Field(
        0.2,
        validation_alias=AliasChoices("maximum_refused_share", "maximum_reject_share"),
        description="Of an upload's rows, and of its files, no more may be refused. The old name, "
        "maximum_reject_share, is understood.",
    )
    maximum_low_confidence_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    maximum_unlike_share: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5,
        description="Of an upload's records, no more may be unlike all that the model learnt from.",
    )
    maximum_drift: Annotated[float, Field(gt=0)] = 0.25
    minimum_live_accuracy: Annotated[float, Field(ge=0, le=1)] = 0.0
    maximum_calibration_error: Annotated[float, Field(ge=0, le=1)] = 1.0
    image_features: dict[ImageFeature, Range] = Field(
        default_factory=dict, description="What is normal for an image, such as its brightness."
    )
    maximum_unfit_image_share: Annotated[float, Field(ge=0, le=1)] = 0.1
