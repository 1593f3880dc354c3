"""Reading a dataset's YAML: each mistake is answered with file, line and what to write.

The same for Dagster and for `mm`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from mm_assets.contract.dataset import Column, DatasetSpec
from mm_assets.contract.engine_spec import EngineSpec, Search, Tuning
from mm_assets.contract.errors import SpecError
from mm_assets.contract.limits import Limits, Range
from mm_assets.contract.review import Review

COMPONENT = "mm_assets.pipeline.DatasetPipeline"
# The keys that Dagster reads in the YAML of a component.
BESIDE = ("type", "attributes", "template_vars_module", "requirements", "post_processing")
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's, ten times faster


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
        loader = LOADER(text)
        root = loader.get_single_node()
        _refuse_doubles(root, shown)
        document = loader.construct_document(root) if root else None
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
    _refuse_strays(root, shown)
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


def _refuse_strays(root: Any, shown: str) -> None:
    """A key beside `attributes:` would be read by nobody."""
    for key, _ in root.value:
        if key.value not in BESIDE:
            raise SpecError(
                code="spec_invalid",
                what=f"`{key.value}` stands outside of `attributes:`, where nothing reads it",
                where=f"{shown}:{key.start_mark.line + 1}",
                todo="Indent it by two spaces, among the other keys of the dataset."
                if str(key.value) in DatasetSpec.model_fields
                else "Take it out.",
            )


def _explain(item: Any, root: Any, shown: str) -> str:
    location = [part for part in item["loc"] if part != "[key]"]
    if location[1:2] == [0] and not _is_list(root, str(location[0])):
        del location[1]  # one engine, written without a list
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
    if (meant := _as_meant(kind, location, item["input"])) is not None:
        return f"{where}: `{name}` is {item['input']!r}; write {meant}"
    message = str(item["msg"]).removeprefix("Value error, ")
    return f"{where}: {f'`{name}`: ' if name else ''}{message}"


def _as_meant(kind: str, location: list[Any], value: Any) -> str | None:
    """How a value is written that stands where a list or keys belong; None for other mistakes."""
    if kind not in ("tuple_type", "list_type", "dict_type", "model_type"):
        return None
    if location[:1] in (["model_with_image"], ["model_without_image"]) and isinstance(value, str):
        return f"the engine's name as `{{engine: {value}}}`"
    if kind in ("dict_type", "model_type"):
        keys = "" if kind == "dict_type" else ", ".join(_known_keys(location, or_of_all=False))
        return f"keys with values below it, of {keys}" if keys else "keys with values below it"
    return f"a list: `[{value}]`" if isinstance(value, str | int | float) else "a list"


def _is_list(root: Any, key: str) -> bool:
    """Whether the attribute `key` is written as a list."""
    attributes = next((v for k, v in root.value if k.value == "attributes"), None)
    values = attributes.value if isinstance(attributes, yaml.MappingNode) else []
    return any(k.value == key and isinstance(v, yaml.SequenceNode) for k, v in values)


def _known_keys(location: list[Any], *, or_of_all: bool = True) -> Iterable[str]:
    """Of the part of the YAML that is there; where there is none, of all of it or none."""
    models: dict[str, type[BaseModel]] = {
        "model_with_image": EngineSpec,
        "model_without_image": EngineSpec,
        "tuning": Tuning,
        "search": Search,
        "limits": Limits,
        "columns": Column,
        "review": Review,
        "image_features": Range,  # of `limits`
    }
    named = [models[part] for part in map(str, location) if part in models]
    if not named and not or_of_all:
        return []
    return list((named or [DatasetSpec])[-1].model_fields)


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
