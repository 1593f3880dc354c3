"""DatasetSpec: the contract that a dataset's YAML fills in.

One file `dagster_project/defs/<dataset>/defs.yaml` describes one dataset. It is read and checked
here, the same for Dagster and for `mm`; each mistake is answered with file, line and what to write.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterable
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mm_assets.errors import SpecError
from mm_assets.ids import normalised

COMPONENT = "mm_assets.pipeline.DatasetPipeline"
IMAGE = "image"


class Modality(StrEnum):
    """Whether a record has a picture that really decodes."""

    WITH_IMAGE = "with_image"
    WITHOUT_IMAGE = "without_image"


class ColumnKind(StrEnum):
    NUMBER = "number"
    CATEGORY = "category"
    TEXT = "text"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Column(_Strict):
    """One feature column. In YAML `age: number` is short for `age: {kind: number}`."""

    kind: ColumnKind
    required: bool = Field(False, description="Reject a row in which this value is missing.")


class EngineSpec(_Strict):
    """What trains the model of one modality."""

    engine: str = Field(
        "autogluon", description="autogluon, or an engine of your own: package.module:ClassName."
    )
    preset: Literal["from_scratch", "pretrained"] = "from_scratch"
    image_backbone: str | None = Field(None, description="A local folder or a timm hub name.")
    text_backbone: str | None = Field(None, description="A local folder or a Hugging Face name.")
    hyperparameters: dict[str, Any] = Field(
        default_factory=dict, description="Passed through to the engine; they override the preset."
    )
    time_limit_seconds: float | None = Field(None, gt=0)
    seed: int = 0

    @field_validator("engine")
    @classmethod
    def _known_engine(cls, value: str) -> str:
        if value != "autogluon" and not re.fullmatch(r"\w+(\.\w+)*:\w+", value):
            raise ValueError("use autogluon, or name a class of yours: package.module:ClassName")
        return value


class Limits(_Strict):
    """When an asset check complains. Shares are between 0 and 1."""

    minimum_image_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    maximum_unreadable_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    maximum_reject_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    maximum_low_confidence_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    maximum_drift: Annotated[float, Field(gt=0)] = 0.25


class DatasetSpec(_Strict):
    """All that the pipeline needs to know about one dataset."""

    dataset: str = Field(description="Short name: letters a-z, digits and _.")
    description: str = ""
    id_column: str
    label_column: str
    problem_type: Literal["binary", "multiclass", "regression"]
    classes: tuple[str, ...] | None = Field(None, description="The allowed labels, if fixed.")
    columns: dict[str, Column]
    missing_values: tuple[str, ...] = Field(
        ("",), description="What stands for a missing value, compared exactly after trimming."
    )
    encoding: Literal["utf-8", "utf-16", "latin-1"] = "utf-8"
    image_name: str = Field(
        "{id}",
        description="How a picture's file name without suffix yields its ID: `{id}` or `{id}-{n}`; "
        "`*` stands for anything.",
    )
    image_longest_side: int = Field(256, ge=16, le=4096, description="Pixels after normalising.")
    image_maximum_megapixels: float = Field(25, gt=0)
    model_with_image: EngineSpec = EngineSpec()
    model_without_image: EngineSpec = EngineSpec()
    review_threshold: float = Field(0.6, ge=0, le=1, description="Less confident goes to review.")
    regression_tolerance: float | None = Field(
        None,
        gt=0,
        description="Regression: confidence is the chance to be this close to the truth. "
        "Default: the mean baseline's mean absolute error.",
    )
    holdout_share: float = Field(0.2, gt=0, lt=0.9)
    promotion_tolerance: float = Field(
        0.01, ge=0, description="How much worse than the champion a promoted model may be."
    )
    minimum_training_records: int = Field(50, ge=10)
    retrain_growth: float = Field(
        0.2, gt=0, description="Train when labelled records grew by this share."
    )
    train_schedule: str | None = Field(None, description="A cron line, in UTC.")
    limits: Limits = Limits()
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

    @field_validator("columns", mode="before")
    @classmethod
    def _short_columns(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {
            name: {"kind": column} if isinstance(column, str) else column
            for name, column in value.items()
        }

    @field_validator("image_name")
    @classmethod
    def _has_id(cls, value: str) -> str:
        if value.count("{id}") != 1 or value.count("{n}") > 1:
            raise ValueError("write {id} once, and {n} at most once, for example {id}-{n}")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> DatasetSpec:
        if self.id_column == self.label_column:
            raise ValueError("id_column and label_column name the same column")
        for name in (self.id_column, self.label_column):
            if name in self.columns:
                raise ValueError(f"'{name}' is the ID or the label: take it out of `columns`")
        if IMAGE in self.columns or self.label_column == IMAGE:
            raise ValueError("'image' is the picture's own column: rename the table's column")
        reserved = [name for name in self.columns if name.startswith("_")]
        if reserved:
            raise ValueError(f"names that start with _ are reserved: {', '.join(reserved)}")
        if self.classes is not None:
            if self.problem_type == "regression":
                raise ValueError("a regression has no `classes`: take them out")
            if len(set(self.classes)) < 2 or len(set(self.classes)) != len(self.classes):
                raise ValueError("`classes` needs at least two different names")
            if self.problem_type == "binary" and len(self.classes) != 2:
                raise ValueError("a binary problem has exactly two `classes`")
        return self

    # -- what follows from it -----------------------------------------------------------------

    @cached_property
    def is_regression(self) -> bool:
        return self.problem_type == "regression"

    @cached_property
    def kinds(self) -> dict[str, str]:
        """Feature columns in order and their kinds, without the image."""
        return {name: column.kind.value for name, column in self.columns.items()}

    def features(self, modality: Modality) -> dict[str, str]:
        """What a model of this modality sees: columns in order and their kinds."""
        image = {IMAGE: "image"} if modality is Modality.WITH_IMAGE else {}
        return {**self.kinds, **image}

    def engine_for(self, modality: Modality) -> EngineSpec:
        with_image = modality is Modality.WITH_IMAGE
        return self.model_with_image if with_image else self.model_without_image

    @cached_property
    def image_name_pattern(self) -> re.Pattern[str]:
        pattern = re.escape(self.image_name)
        for escaped, group in (("\\{id\\}", "(?P<id>.+)"), ("\\{n\\}", "(?P<n>[0-9]+)")):
            pattern = pattern.replace(escaped, group)
        return re.compile(pattern.replace("\\*", ".*"))

    def image_id(self, file: str) -> tuple[str, int] | None:
        """The record ID and the picture's number that a file's path stands for, or None."""
        name = normalised(file.rpartition("/")[2])
        stem = name.rpartition(".")[0] or name
        match = self.image_name_pattern.fullmatch(stem)
        if match is None:
            return None
        return match["id"], int(match.groupdict().get("n") or 0)

    @cached_property
    def fingerprint(self) -> str:
        """Changes when rows or pictures would be read differently (12 hex digits)."""
        fields = {
            "id_column", "label_column", "problem_type", "classes", "columns", "missing_values",
            "encoding", "image_name", "image_longest_side", "image_maximum_megapixels",
        }  # fmt: skip
        text = json.dumps(self.model_dump(mode="json", include=fields), sort_keys=False)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @cached_property
    def answer_fingerprint(self) -> str:
        """Changes when the same model would give another row in the predictions table."""
        text = f"{self.fingerprint} {self.review_threshold}"
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def load_spec(file: Path, shown_as: str | None = None) -> DatasetSpec:
    """Read one dataset's YAML. Raises SpecError that lists every mistake with its line."""
    shown = shown_as or str(file)
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(
            code="spec_unreadable",
            what=error.strerror or str(error),
            where=shown,
            todo="Create it with `mm init`, or check the path.",
        ) from None
    except UnicodeDecodeError:
        raise SpecError(
            code="spec_not_yaml",
            what="the file is not UTF-8 text",
            where=shown,
            todo="Save it as UTF-8.",
        ) from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        _refuse_doubles(root, shown)
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise SpecError(
            code="spec_not_yaml",
            what=str(getattr(error, "problem", error)),
            where=f"{shown}:{mark.line + 1}" if mark else shown,
            todo="Correct the YAML: mind the indentation, quotes and colons.",
        ) from None
    if not isinstance(document, dict) or not isinstance(document.get("attributes"), dict):
        raise SpecError(
            code="spec_invalid",
            what="the file holds no `attributes:`",
            where=f"{shown}:1",
            todo=f"Write `type: {COMPONENT}` and below it `attributes:` with `dataset:`, "
            "`id_column:`, `label_column:`, `problem_type:` and `columns:`.",
        )
    try:
        return DatasetSpec.model_validate(document["attributes"])
    except ValidationError as error:
        lines = [_explain(item, root, shown) for item in error.errors()]
        raise SpecError(
            code="spec_invalid",
            what=f"{len(lines)} mistake{'s' if len(lines) > 1 else ''}:\n  " + "\n  ".join(lines),
            where=shown,
            todo="Correct the lines above; docs/your-own-dataset.md explains every key.",
        ) from None


def load_specs(folder: Path) -> dict[str, DatasetSpec]:
    """Every dataset below the defs folder, by name. Raises SpecError for the first bad file."""
    specs: dict[str, DatasetSpec] = {}
    for file in sorted(folder.glob("*/defs.yaml")):
        if COMPONENT not in file.read_text(encoding="utf-8"):
            continue
        spec = load_spec(file)
        if spec.dataset in specs:
            raise SpecError(
                code="spec_twice",
                what=f"two files describe the dataset '{spec.dataset}'",
                where=str(file),
                todo="Give each dataset a name of its own.",
            )
        specs[spec.dataset] = spec
    return specs


def _refuse_doubles(node: Any, shown: str) -> None:
    """YAML keeps the last of two equal keys; here that is a mistake."""
    if not isinstance(node, yaml.MappingNode):
        return
    seen: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if key.value in seen:
            raise SpecError(
                code="spec_invalid",
                what=f"`{key.value}` stands here and in line {seen[key.value]}",
                where=f"{shown}:{line}",
                todo="Keep one of them.",
            )
        seen[key.value] = line
        _refuse_doubles(value, shown)


def _explain(item: Any, root: Any, shown: str) -> str:
    location = [part for part in item["loc"] if part != "[key]"]
    line = _line_of(root, ["attributes", *location])
    name = ".".join(str(part) for part in location)
    where = f"{shown}:{line}"
    kind = item["type"]
    if kind == "extra_forbidden":
        close = difflib.get_close_matches(str(location[-1]), _known_keys(location[:-1]), n=1)
        hint = f"did you mean `{close[0]}`?" if close else "take it out."
        return f"{where}: unknown key `{name}`; {hint}"
    if kind == "missing":
        field = DatasetSpec.model_fields.get(str(location[0]))
        meaning = f"  # {field.description}" if field and field.description else ""
        return f"{where}: `{name}` is missing; write `{location[-1]}: …`{meaning}"
    if kind in ("literal_error", "enum"):
        choices = item["ctx"].get("expected", "")
        return f"{where}: `{name}` is {item['input']!r}; write one of {choices}"
    if location[:1] == ["classes"] and isinstance(item["input"], bool):
        word = "yes/no, true/false or on/off"
        return f'{where}: YAML reads {word} as a truth value; write it in quotes: "yes"'
    message = str(item["msg"]).removeprefix("Value error, ")
    return f"{where}: {f'`{name}`: ' if name else ''}{message}"


def _known_keys(location: list[Any]) -> Iterable[str]:
    models: dict[str, type[BaseModel]] = {
        "model_with_image": EngineSpec,
        "model_without_image": EngineSpec,
        "limits": Limits,
        "columns": Column,
    }
    model = models.get(str(location[0]), DatasetSpec) if location else DatasetSpec
    return list(model.model_fields)


def _line_of(node: Any, path: list[Any]) -> int:
    """The line of the deepest part of `path` that exists in the YAML tree (1-based)."""
    line = 1
    for part in path:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line
