"""EngineSpec: what a dataset's YAML says about one model: which engine, how it trains and tunes.

Part of `DatasetSpec` (dataset.py). The engines themselves are in the room `engines`.
"""

from __future__ import annotations

import math
import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

# Our engines, and which keys of the YAML each has beside those that all have.
ENGINES: dict[str, tuple[str, ...]] = {
    "automatic": ("image_backbone",),
    "autogluon": ("preset", "image_backbone", "text_backbone"),
    "gradient_boosting": ("image_backbone",),
    "rules": (),
    "sklearn": (),
}
# Keys that say how an engine learns: without an engine they were meant for AutoGluon.
OF_AUTOGLUON = frozenset(
    ("preset", "image_backbone", "text_backbone", "hyperparameters", "tuning", "time_limit_seconds")
)
Number = int | float


class Strict(BaseModel):
    """What all parts of a dataset's YAML share: unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Search(Strict):
    """One dimension of a search space: `{low: 2, high: 8}` or `{choices: [a, b]}`.

    Two whole numbers are searched in whole numbers; write 2.0 for a continuous range.
    """

    low: Number | None = None
    high: Number | None = None
    log: bool = Field(False, description="Search orders of magnitude alike.")
    choices: tuple[str | bool | int | float, ...] | None = None

    @property
    def is_integer(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    @model_validator(mode="after")
    def _fits(self) -> Search:
        if self.choices is not None:
            if self.low is not None or self.high is not None or self.log:
                raise ValueError("write either `choices` or `low` and `high`")
            if len(set(map(repr, self.choices))) != len(self.choices) or len(self.choices) < 2:
                raise ValueError("`choices` needs at least two different values")
            return self
        if self.low is None or self.high is None:
            raise ValueError("write `low` and `high`, or `choices`")
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"`low` ({self.low}) must be below `high` ({self.high})")
        if self.log and self.low <= 0:
            raise ValueError("with `log: true`, `low` must be above 0")
        return self


class Tuning(Strict):
    """Which hyperparameters are searched, and for how long."""

    search: dict[str, Search] = Field(
        min_length=1, description="A hyperparameter of the engine to its range or choices."
    )
    trials: int = Field(20, ge=1, le=10_000)
    seconds: float | None = Field(
        None, gt=0, description="No new trial starts after so many seconds of trials."
    )
    folds: int = Field(
        1, ge=1, le=10,
        description="1: a trial is judged on the tuning records. More: on each of so many parts "
        "of training and tuning records in turn.",
    )  # fmt: skip


class EngineSpec(Strict):
    """What trains the model of one modality."""

    engine: str = Field(
        "automatic",
        description="automatic (an ensemble of all that helps), autogluon, gradient_boosting, "
        "rules, sklearn, or an engine of your own: package.module:ClassName. Default: automatic; "
        "autogluon, where only keys of AutoGluon are given.",
    )
    preset: Literal["embedded", "from_scratch", "pretrained", "high", "best"] = "embedded"
    image_backbone: str | None = Field(
        None,
        description="A local folder, a timm hub name, or `embedded`, which is installed and needs "
        "no network.",
    )
    text_backbone: str | None = Field(None, description="A local folder or a Hugging Face name.")
    hyperparameters: dict[str, Any] = Field(
        default_factory=dict, description="Passed through to the engine; they override the preset."
    )
    tuning: Tuning | None = None
    time_limit_seconds: float | None = Field(None, gt=0)
    seed: int = 0

    @model_validator(mode="before")
    @classmethod
    def _autogluon_as_before(cls, value: Any) -> Any:
        """AutoGluon was the default: a YAML that only says how it learns still means it."""
        if isinstance(value, dict) and "engine" not in value and OF_AUTOGLUON & value.keys():
            return {"engine": "autogluon", **value}
        return value

    @field_validator("engine")
    @classmethod
    def _known_engine(cls, value: str) -> str:
        if value not in ENGINES and not re.fullmatch(r"\w+(\.\w+)*:\w+", value):
            raise ValueError(
                f"there is no engine {value!r}; use {', '.join(ENGINES)}, "
                "or name a class of yours: package.module:ClassName"
            )
        return value

    @model_validator(mode="after")
    def _only_what_the_engine_has(self) -> EngineSpec:
        if self.engine in ENGINES:
            of_others = {key for keys in ENGINES.values() for key in keys} - {*ENGINES[self.engine]}
            for key in sorted(of_others):
                if getattr(self, key) != type(self).model_fields[key].default:
                    raise ValueError(f"the engine {self.engine} has no `{key}`; take it out")
        return self

    @property
    def names_autogluon(self) -> bool:
        """Whether the YAML asks for AutoGluon as a member of the ensemble."""
        members = self.hyperparameters.get("members")
        return self.engine == "automatic" and isinstance(members, list) and "autogluon" in members
