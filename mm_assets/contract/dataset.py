"""DatasetSpec: the contract that a dataset's YAML fills in.

One file `dagster_project/defs/<dataset>/defs.yaml` describes one dataset; spec_file.py reads it,
engine_spec.py has the part about engines.
"""

from __future__ import annotations

import hashlib
import json
import re
from enum import StrEnum
from functools import cached_property
from typing import Any, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from mm_assets.contract.cron import fault_of_cron
from mm_assets.contract.decisions import (
    LOWER_IS_BETTER,
    OF_REGRESSION,
    ClassWeights,
    Costs,
    DecideFor,
    Metric,
    check_decisions,
    implied_metric,
)
from mm_assets.contract.engine_spec import EngineSpec, Strict
from mm_assets.contract.ids import normalised
from mm_assets.contract.image_feature import ImageFeature
from mm_assets.contract.limits import Limits
from mm_assets.contract.modality import Modality as Modality  # noqa: PLC0414  meant to be had here
from mm_assets.contract.review import Review, Tolerance
from mm_assets.contract.text_codecs import is_text_codec

IMAGE = "image"
AUTO_ENCODING = "auto"
WHOLE_NAME = "{file}"  # `image_name` where the ID is the file's whole name
# What comes close enough to a host to be looked at when something is fetched.
_HOST = re.compile(r"(\*\.)?([^\s/@:*?#\[\]]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
CONTENT_ID = 16  # hexadecimal digits of an ID that is made of an image's bytes


class ColumnKind(StrEnum):
    NUMBER = "number"
    CATEGORY = "category"
    TEXT = "text"


class Column(Strict):
    """One feature column. In YAML `age: number` is short for `age: {kind: number}`."""

    kind: ColumnKind
    required: bool = Field(False, description="Reject a row in which this value is missing.")
    description: str = Field("", description="What it means, for people.")


class NamedImage(NamedTuple):
    """What the path of an image says: its record, its number among that record's, its label."""

    record_id: str
    number: int
    label: str | None


# Tags of Dagster's own that a person may set.
_DAGSTERS = ("dagster/priority", "dagster/max_runtime", "dagster/max_retries")


class DatasetSpec(Strict):
    """All that the pipeline needs to know about one dataset."""

    dataset: str = Field(description="Short name: letters a-z, digits and _.")
    description: str = ""
    owners: tuple[str, ...] = Field(
        (), description="Who answers for it, in Dagster's pages: an e-mail address or team:name."
    )
    records: Literal["table", "images"] = Field(
        "table", description="images: each image is a record, and no table is needed."
    )
    id_column: str
    label_column: str
    problem_type: Literal["binary", "multiclass", "regression"]
    classes: tuple[str, ...] | None = Field(None, description="The allowed labels, if fixed.")
    columns: dict[str, Column]
    missing_values: tuple[str, ...] = Field(
        ("",), description="What stands for a missing value, compared exactly after trimming."
    )
    encoding: str = Field(
        AUTO_ENCODING,
        description="Of tables. auto: found for each file; else any text encoding that Python "
        "knows, taken strictly, for example cp1252.",
    )
    decimal: Literal[".", ","] | None = Field(
        None,
        description="The decimal sign of numbers in CSV and TSV. Default: what the values of a "
        "column say.",
    )
    image_name: str | None = Field(
        "{id}",
        description="How an image's file name without suffix yields its ID: `{id}` or `{id}-{n}`; "
        "`*` stands for anything. `{file}`: the ID is the whole file name, with its suffix. With "
        "`records: images` also the label: `{label}/{id}` (the folder), `{label}_{id}`; without "
        "`{id}`, as in `{label}/*`, the ID is made of the image's bytes. null: there are none.",
    )
    image_column: str | None = Field(
        None,
        description="The column that holds the file name or path of a record's image in the "
        "upload. Then names of files yield no IDs, unless there is an `image_name`, too.",
    )
    image_separator: str | None = Field(
        None,
        min_length=1,
        description="Between several files in `image_column`; the first one that is an image is "
        "used, unless `images: all`.",
    )
    images: Literal["first", "all"] = Field(
        "first",
        description="Of several images of one record in one upload: the first one, or all of "
        "them, which models then see as one.",
    )
    allow_urls: tuple[str, ...] = Field(
        (),
        description="Hosts from which images are fetched where `image_column` holds http(s) "
        "addresses: example.org, *.example.org, example.org:8443.",
    )
    image_features: tuple[ImageFeature, ...] = Field(
        (), description="Numbers about the image that models see beside the columns."
    )
    image_longest_side: int = Field(256, ge=16, le=4096, description="Pixels after normalising.")
    image_maximum_megapixels: float = Field(50, gt=0)
    model_with_image: tuple[EngineSpec, ...] = Field(
        (EngineSpec(),), description="One engine, or a list of engines that compete."
    )
    model_without_image: tuple[EngineSpec, ...] = (EngineSpec(),)
    training_tags: dict[str, str | int | dict[str, Any] | list[Any]] = Field(
        {},
        description="Tags of the runs that train, for whatever starts them: `ecs/memory`, "
        "`dagster-k8s/config`.",
    )
    training_minutes: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="For all models together that have no `time_limit_seconds` of their own. "
        "Default: 2 for the engine automatic; other engines take what they need.",
    )
    review: Review = Field(
        Review.usual(),
        description="Which answers a person looks at. Default: the fewest, so that 95% of the "
        "rest is right, but at most 20% of the records.",
    )
    review_threshold: float | None = Field(
        None, ge=0, le=1, description="The same as `review: {threshold: …}`."
    )
    interval_level: float = Field(
        0.9,
        gt=0.5,
        lt=1,
        description="Regression: the share of records whose truth lies from `lower` to `upper`.",
    )
    regression_tolerance: float | str | None = Field(
        None,
        description="Regression: an answer this close to the truth is right, and confidence is "
        "the chance of that; 5000, or 20% of the answer. Default: the mean absolute error of "
        "always guessing the median.",
    )
    holdout_share: float = Field(0.2, gt=0, lt=0.9)
    group_column: str | None = Field(
        None,
        description="A patient, a house, a seller: records that share its value are never on two "
        "sides of a split.",
    )
    time_column: str | None = Field(
        None, description="Held out are the records that are newest by it, not some by chance."
    )
    metric: Metric | None = Field(
        None,
        description="What decides which model is better. Default: what `costs`, `decide_for` or "
        "`class_weights` ask for, else accuracy, or for regression mean_absolute_error.",
    )
    positive_class: str | None = Field(None, description="Binary: the class one looks for.")
    costs: Costs | None = Field(
        None, description="True class, predicted class, what that error costs; others cost 1."
    )
    decide_for: DecideFor = Field(
        None, description="What the decision is made best for: a metric, or a recall or precision."
    )
    class_weights: ClassWeights = Field(
        None, description="How much records count in training: balanced, or class and weight."
    )
    minimum_score: float | None = Field(
        None, description="A model whose `metric` is worse than this is not promoted."
    )
    promotion_tolerance: float = Field(
        0.01, ge=0, description="How much worse than the champion a promoted model may be."
    )
    minimum_training_records: int = Field(50, ge=10)
    retrain_growth: float = Field(
        0.2, gt=0, description="Train when labelled records grew by this share."
    )
    train_schedule: str | None = Field(None, description="A cron line, in UTC.")
    limits: Limits = Limits()
    tolerated_failure_share: float | None = Field(
        None, ge=0, le=1,
        description="Of an upload's items (files, rows, predictions), so many may fail: those "
        "are named, the rest is predicted. Default: a failing prediction fails the run.",
    )  # fmt: skip
    keep_inbox: bool = Field(
        False, description="Leave received uploads in the inbox instead of moving them out."
    )
    upload_tries: int = Field(
        5, ge=1, description="An upload whose run fails this often is set aside; see `mm retry`."
    )
    retry_pause_seconds: float = Field(
        15, ge=0, description="The pause after a failed try; it grows fourfold with each one."
    )

    @field_validator("dataset")
    @classmethod
    def _safe_name(cls, value: str) -> str:
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", value):
            raise ValueError("use a-z, 0-9 and _, a letter first, at most 40 characters")
        return value

    @field_validator("train_schedule")
    @classmethod
    def _cron_line(cls, value: str | None) -> str | None:
        if value is not None and (fault := fault_of_cron(value)) is not None:
            raise ValueError(fault)
        return value

    @field_validator("encoding")
    @classmethod
    def _text_encoding(cls, value: str) -> str:
        if value != AUTO_ENCODING and not is_text_codec(value):
            raise ValueError(
                f"'{value}' is no text encoding that Python knows: write auto, or a name such as "
                "utf-8, cp1252, latin-1, utf-16"
            )
        return value

    @field_validator("columns", mode="before")
    @classmethod
    def _short_columns(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {
            name: {"kind": column} if isinstance(column, str) else column
            for name, column in value.items()
        }

    @field_validator("regression_tolerance")
    @classmethod
    def _amount_or_share(cls, value: float | str | None) -> float | str | None:
        if value is not None and not Tolerance.parsed(value).amount > 0:
            raise ValueError("it has to be greater than 0")
        return value

    @model_validator(mode="before")
    @classmethod
    def _column_instead_of_name(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("image_column") is not None:
            return {"image_name": None, **value}
        return value

    @model_validator(mode="before")
    @classmethod
    def _images_alone(cls, value: Any) -> Any:
        """Where the images are the records, no table names the ID and the label."""
        if isinstance(value, dict) and value.get("records") == "images":
            named = {"id_column": "id", "label_column": "label", "columns": {}}
            return {**named, **value}
        return value

    @field_validator("model_with_image", "model_without_image", mode="before")
    @classmethod
    def _one_engine_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, dict | EngineSpec) else value

    @field_validator("model_with_image", "model_without_image")
    @classmethod
    def _some_engine(cls, value: tuple[EngineSpec, ...]) -> tuple[EngineSpec, ...]:
        if not value:
            raise ValueError("name at least one engine")
        return value

    @field_validator("owners")
    @classmethod
    def _people(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for owner in value:
            if not re.fullmatch(r"team:.+|[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}", owner):
                raise ValueError(f"'{owner}' is neither an e-mail address nor team:name")
        return value

    @field_validator("training_tags")
    @classmethod
    def _not_ours(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if not re.fullmatch(r"[A-Za-z0-9_.-]{1,63}/[A-Za-z0-9_.-]{1,63}", name):
                raise ValueError(f"'{name}' is no tag: write who reads it, / and a name")
            if name.startswith(("mm/", ".dagster/", "dagster/")) and name not in _DAGSTERS:
                raise ValueError(f"'{name}' is set by mm-assets or Dagster itself")
        return value

    @field_validator("allow_urls")
    @classmethod
    def _hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for host in value:
            if not re.fullmatch(
                r"(\*\.)?([^\s/@:*?#\[\]]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?", host
            ):
                raise ValueError(
                    f"'{host}' is no host: write it without https://, for example example.org, "
                    "*.example.org or example.org:8443"
                )
        return value

    @field_validator("image_name")
    @classmethod
    def _has_id(cls, value: str | None) -> str | None:
        if value is None or value == WHOLE_NAME:
            return value
        counts = [value.count(part) for part in ("{id}", "{n}", "{label}", "/")]
        by_content = counts[0] == 0 and counts[1] == 0 and counts[2] == 1
        ending = re.search(r"\.(jpe?g|png|tiff?|webp|heic|gif|bmp)$", value, re.IGNORECASE)
        if ending is not None:
            raise ValueError(
                f"names are compared without their ending: write {value[: ending.start()]}"
            )
        if max(counts) > 1 or not (counts[0] or by_content):
            raise ValueError("write {id} once, and {n} at most once, for example {id}-{n}")
        return value

    @model_validator(mode="before")
    @classmethod
    def _threshold_is_review(cls, value: Any) -> Any:
        """`review_threshold` came first; it stays a shorter way to say the same."""
        if not isinstance(value, dict) or value.get("review_threshold") is None:
            return value
        own = {"threshold": value["review_threshold"]}
        said = value.get("review", own)
        if isinstance(said, Review):
            said = said.model_dump()
        asked = {}
        if isinstance(said, dict):
            said = {name: wish for name, wish in said.items() if wish is not None}
            asked = {"answered_twice": said.pop("answered_twice", 0.0)}  # that is no wish
        if said not in (own, {}):
            raise ValueError("write `review` or `review_threshold`, not both")
        valid = isinstance(own["threshold"], int | float) and 0 <= own["threshold"] <= 1
        return {**value, "review": own | asked} if valid else value

    @model_validator(mode="after")
    def _consistent(self) -> DatasetSpec:
        found: list[str] = []
        for judge in (
            self._columns_fit, self._split_fits, self._images_fit, self._classes_fit,
            self._problem_fits, self._decisions_fit,
        ):  # fmt: skip
            try:
                judge()
            except ValueError as error:
                found.append(str(error))
        if found:
            raise ValueError("\n".join(found))
        return self

    def _columns_fit(self) -> None:
        if self.id_column == self.label_column:
            raise ValueError("`label_column` and `id_column` name the same column")
        both = (self.id_column, self.label_column)
        if found := [f"'{name}'" for name in both if name in self.columns]:
            is_one = (
                "is the ID or the label: take it"
                if len(found) == 1
                else ("are the ID and the label: take them")
            )
            raise ValueError(f"{' and '.join(found)} {is_one} out of `columns`")
        own = {IMAGE, *(feature.column for feature in ImageFeature)}
        if taken := sorted(own & {*self.columns, self.label_column}):
            raise ValueError(
                f"`columns`: '{taken[0]}' is the image's own column: rename the table's column"
            )
        reserved = [name for name in self.columns if name.startswith("_")]
        if reserved:
            raise ValueError(
                f"`columns`: names that start with _ are reserved: {', '.join(reserved)}"
            )

    def _split_fits(self) -> None:
        named = {"group_column": self.group_column, "time_column": self.time_column}
        told = {key: name for key, name in named.items() if name is not None}
        for key, name in told.items():
            if self.records == "images":
                raise ValueError(f"with `records: images` no table has a `{key}`: take it out")
            if name == self.id_column:
                raise ValueError(f"`{key}` is the ID, which is another one in each record")
            if name == self.label_column:
                raise ValueError(f"`{key}` is the label: name another column")
        if len(set(told.values())) < len(told):
            raise ValueError("`time_column` and `group_column` name the same column")

    def _problem_fits(self) -> None:
        if self.metric and (self.metric in OF_REGRESSION) != self.is_regression:
            raise ValueError(f"`metric: {self.metric}` does not fit a {self.problem_type} problem")
        measured = self.limits.minimum_live_accuracy > 0, self.limits.maximum_calibration_error < 1
        if self.is_regression and any(measured):
            raise ValueError(
                "a regression has no accuracy and no calibration: take `minimum_live_accuracy` and "
                "`maximum_calibration_error` out of `limits`"
            )
        if self.review.widest_interval is not None and not self.is_regression:
            raise ValueError("`widest_interval` is for regression: only numbers have intervals")
        share = self.judged_by or "accuracy"
        of_share = not self.is_regression and share not in LOWER_IS_BETTER
        if of_share and self.minimum_score is not None and self.minimum_score > 1:
            raise ValueError(
                f"`minimum_score: {self.minimum_score:g}` is never reached: {share} is at most 1"
            )

    def _classes_fit(self) -> None:
        if self.classes is None:
            return
        if self.problem_type == "regression":
            raise ValueError("a regression has no `classes`: take them out")
        if len(set(self.classes)) < 2 or len(set(self.classes)) != len(self.classes):
            raise ValueError("`classes` needs at least two different names")
        if self.problem_type == "binary" and len(self.classes) != 2:
            raise ValueError(
                f"a binary problem has exactly two `classes`, and these are {len(self.classes)}: "
                "write `problem_type: multiclass`"
            )
        if lost := [name for name in self.classes if name.strip() in ("", *self.missing_values)]:
            raise ValueError(
                f"`classes` has '{lost[0]}', which stands for a missing value: take it out of one "
                "of `classes` and `missing_values`"
            )

    def _decisions_fit(self) -> None:
        check_decisions(
            self.problem_type, self.classes, self.positive_class, self.costs, self.decide_for,
            self.class_weights, self.metric,
        )  # fmt: skip
        engines = {one.engine for one in (*self.model_with_image, *self.model_without_image)}
        if self.class_weights is not None and "rules" in engines:
            raise ValueError(
                "`class_weights` do nothing in the engine rules: write `costs` instead"
            )

    def _images_fit(self) -> None:
        name = self.image_name
        self._image_column_fits()
        if self.records == "images":
            if name is None:
                raise ValueError("`records: images` needs `image_name`")
            if self.columns:
                raise ValueError("with `records: images` there are no `columns`: take them out")
        elif name is not None and ("{label}" in name or "/" in name):
            raise ValueError("{label} and folders in `image_name` need `records: images`")
        if not self.has_images and (self.image_features or self.limits.image_features):
            raise ValueError("`image_features` need images, but `image_name` is null")
        if len(set(self.image_features)) < len(self.image_features):
            raise ValueError("`image_features` names one of them twice")
        if self.all_images:
            self._all_images_fit()
        if not self.has_images and not self.columns:
            raise ValueError("there is nothing to learn from: name `columns`, or an `image_name`")

    def _all_images_fit(self) -> None:
        if not self.has_images:
            raise ValueError("`images: all` needs images, but `image_name` is null")
        for one in self.model_with_image:
            if one.engine == "autogluon" or one.names_autogluon:
                raise ValueError(
                    "AutoGluon is given one image of a record, and `images: all` asks for all of "
                    "them: use the engine automatic, or write `images: first`"
                )

    def _image_column_fits(self) -> None:
        column = self.image_column
        if column is None:
            if self.image_separator is not None:
                raise ValueError("`image_separator` is for `image_column`: name that, too")
            if self.allow_urls:
                raise ValueError("`allow_urls` is for `image_column`: name that, too")
            return
        if self.records == "images":
            raise ValueError("with `records: images` no table has an `image_column`: take it out")
        used = {self.id_column: "the ID", self.label_column: "the label"}
        used |= dict.fromkeys(self.columns, "one of `columns`, from which models learn")
        used |= dict.fromkeys(self.split_columns.values(), "what records are split by")
        if column in used:
            raise ValueError(f"`image_column` is {used[column]}: name another column")

    # -- what follows from it -----------------------------------------------------------------

    @property
    def written_encoding(self) -> str:
        """In what we write tables ourselves: UTF-8, if the YAML names nothing else."""
        return "utf-8" if self.encoding == AUTO_ENCODING else self.encoding

    @cached_property
    def is_regression(self) -> bool:
        return self.problem_type == "regression"

    @property
    def tolerance(self) -> Tolerance | None:
        """How near a number is right, where the YAML says so."""
        said = self.regression_tolerance
        return None if said is None else Tolerance.parsed(said)

    @property
    def judged_by(self) -> Metric | None:
        """What decides which model is better; None: what is usual for the problem."""
        return self.metric or implied_metric(self.costs, self.decide_for, self.class_weights)

    @cached_property
    def has_images(self) -> bool:
        """Whether records can have images."""
        return self.image_name is not None or self.image_column is not None

    @property
    def all_images(self) -> bool:
        """Whether models see all images of a record, not only the first."""
        return self.images == "all"

    @cached_property
    def kinds(self) -> dict[str, str]:
        """Feature columns in order and their kinds, without the image."""
        return {name: column.kind.value for name, column in self.columns.items()}

    def features(self, modality: Modality) -> dict[str, str]:
        """What a model of this modality sees: columns in order and their kinds."""
        if modality is Modality.WITHOUT_IMAGE:
            return self.kinds
        numbers = {feature.column: "number" for feature in self.image_features}
        return {**self.kinds, **numbers, IMAGE: "image"}

    @cached_property
    def split_columns(self) -> dict[str, str]:
        """Columns of the table that only say how records are split: `group` and `time`, if any."""
        named = {"group": self.group_column, "time": self.time_column}
        return {what: name for what, name in named.items() if name is not None}

    @cached_property
    def modalities(self) -> tuple[Modality, ...]:
        """Those that this dataset can have: not both where only tables or only images come."""
        possible = {
            Modality.WITH_IMAGE: self.has_images,
            Modality.WITHOUT_IMAGE: self.records == "table",
        }
        return tuple(modality for modality, there in possible.items() if there)

    def candidates(self, modality: Modality) -> tuple[EngineSpec, ...]:
        """The engines that compete for this modality; often only one."""
        with_image = modality is Modality.WITH_IMAGE
        return self.model_with_image if with_image else self.model_without_image

    @cached_property
    def image_name_pattern(self) -> re.Pattern[str]:
        parts = (("\\{id\\}", "(?P<id>[^/]+)"), ("\\{n\\}", "(?P<n>[0-9]+)"),
                 ("\\{label\\}", "(?P<label>[^/]*?)"))  # fmt: skip
        pattern = re.escape(self.image_name or "")
        for escaped, group in parts:
            pattern = pattern.replace(escaped, group)
        return re.compile(pattern.replace("\\*", "[^/]*"))

    def named_image(self, file: str, sha256: str = "") -> NamedImage | None:
        """What an image's path stands for, or None if it does not fit `image_name`.

        An image that lies in no folder, where the label would be the folder, has no label. Where
        `image_name` has no `{id}`, the ID is the beginning of `sha256`, that of the file's bytes.
        """
        if self.image_name is None:
            return None
        folder, _, name = normalised(file).rpartition("/")
        if self.image_name == WHOLE_NAME:
            return NamedImage(name, 0, None)
        stem = name.rpartition(".")[0] or name
        if "/" in self.image_name:
            stem = f"{folder.rpartition('/')[2]}/{stem}"
        match = self.image_name_pattern.fullmatch(stem)
        if match is None:
            return None
        found = match.groupdict()
        record_id = found["id"] if "id" in found else sha256[:CONTENT_ID]
        return NamedImage(record_id, int(found.get("n") or 0), found.get("label") or None)

    @cached_property
    def fingerprint(self) -> str:
        """Changes when rows or images would be read differently (12 hex digits)."""
        fields = {
            "id_column", "label_column", "problem_type", "classes", "columns", "missing_values",
            "encoding", "decimal", "records", "image_name", "image_column", "image_separator",
            "images", "image_longest_side", "image_maximum_megapixels", "image_features",
            "group_column", "time_column",
        }  # fmt: skip
        said = self.model_dump(mode="json", include=fields)
        for name in ("decimal", "group_column", "time_column", "image_column", "image_separator"):
            if said[name] is None:  # as it was before there was one
                del said[name]
        for column in said["columns"].values():
            del column["description"]  # for people
        if not self.all_images:
            del said["images"]
        if said["image_maximum_megapixels"] == 50:
            said["image_maximum_megapixels"] = 25.0  # as it was when that was the default
        if said["encoding"] == AUTO_ENCODING:
            said["encoding"] = "utf-8"
        text = json.dumps(said, sort_keys=False)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @cached_property
    def answer_fingerprint(self) -> str:
        """Changes when the same model would give another row in the predictions table."""
        wanted = self.review.wish
        text = f"{self.fingerprint} {json.dumps(wanted, sort_keys=True)}"
        if self.is_regression:
            text += f" {self.interval_level} {self.regression_tolerance}"
        if self.costs is not None:  # what was learnt for a decision stands in the model
            text += f" {json.dumps(self.costs, sort_keys=True)}"
        return hashlib.sha256(text.encode()).hexdigest()[:12]
