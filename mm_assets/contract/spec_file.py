"""Reading a dataset's YAML: each mistake is answered with file, line and what to write.

The same for Dagster and for `mm`.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.errors import SpecError
from mm_assets.contract.spec_mistakes import Mistake, not_yaml, of_item, of_writing

COMPONENT = "mm_assets.pipeline.DatasetPipeline"
_NEAR = 0.8  # of `type`: misspelt, and no other component
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
    root, document = _parsed(text, shown)
    if not isinstance(document, dict) or not isinstance(document.get("attributes"), dict):
        if isinstance(document, dict) and {"id_column", "label_column"} & document.keys():
            raise SpecError(
                code="spec_invalid",
                what="the dataset's keys do not stand below `attributes:`",
                where=f"{shown}:1",
                todo="Write `attributes:` above them, and indent each of them by two spaces.",
            )
        raise SpecError(
            code="spec_invalid",
            what="the file holds no `attributes:`",
            where=f"{shown}:1",
            todo=f"Write `type: {COMPONENT}` and below it `attributes:` with `dataset:`, "
            "`id_column:`, `label_column:`, `problem_type:` and `columns:`.",
        )
    mistakes = [*of_writing(root)]
    spec = None
    try:
        spec = DatasetSpec.model_validate(document["attributes"])
    except ValidationError as error:
        mistakes += [one for item in error.errors() for one in of_item(item, root, text)]
    if spec is not None and not mistakes:
        return spec
    lines = [
        f"{shown}:{one.line}: {one.words}" for one in sorted(dict.fromkeys(mistakes), key=_line)
    ]
    raise SpecError(
        code="spec_invalid",
        what=f"{len(lines)} mistake{'s' if len(lines) > 1 else ''}:\n  " + "\n  ".join(lines),
        where=shown,
        todo="Correct the lines above; docs/your-own-dataset.md explains every key.",
    )


def _line(mistake: Mistake) -> int:
    return mistake.line


def _parsed(text: str, shown: str) -> tuple[Any, Any]:
    """The tree of nodes, and what they say."""
    try:
        loader = LOADER(text)
        root = loader.get_single_node()
        return root, loader.construct_document(root) if root else None
    except yaml.YAMLError as error:
        line, what, todo = not_yaml(error, text)
        where = shown if line is None else f"{shown}:{line}"
        raise SpecError(code="spec_not_yaml", what=what, where=where, todo=todo) from None


def load_specs(folder: Path) -> dict[str, DatasetSpec]:
    """Every dataset below the defs folder, by name. Raises SpecError that lists all bad files."""
    specs, faults = read_specs(folder)
    if len(faults) > 1:
        raise SpecError(
            code=faults[0].code,
            what=f"{len(faults)} files have mistakes:\n" + "\n".join(map(str, faults)),
            where=str(folder),
            todo="Correct each of them.",
        )
    if faults:
        raise faults[0]
    return specs


def read_specs(folder: Path) -> tuple[dict[str, DatasetSpec], list[SpecError]]:
    """The datasets below the defs folder that can be read, by name, and why others cannot."""
    specs: dict[str, DatasetSpec] = {}
    files: dict[str, Path] = {}
    faults: list[SpecError] = []
    for file in sorted(folder.glob("*/defs.yaml")):
        try:
            if not _is_of_dataset(file):
                continue
            spec = load_spec(file)
            if spec.dataset in specs:
                raise SpecError(
                    code="spec_twice",
                    what=f"two files describe the dataset '{spec.dataset}', this one and "
                    f"{files[spec.dataset]}",
                    where=str(file),
                    todo="Give each dataset a name of its own.",
                )
            specs[spec.dataset], files[spec.dataset] = spec, file
        except SpecError as error:
            faults.append(error)
    return specs, faults


def _is_of_dataset(file: Path) -> bool:
    """Whether a component's YAML is one of ours. Raises SpecError if it only looks like one."""
    try:
        content = file.read_bytes()
    except OSError:
        return True  # reading it says why
    if COMPONENT.encode() in content:
        return True
    try:
        document = LOADER(content).get_single_data()
    except (yaml.YAMLError, ValueError):
        return False
    if not isinstance(document, dict):
        return False
    kind, attributes = document.get("type"), document.get("attributes")
    keys = attributes if isinstance(attributes, dict) else {}
    near = difflib.SequenceMatcher(None, str(kind), COMPONENT).ratio() > _NEAR
    if near or (kind is None and {"id_column", "label_column"} & keys.keys()):
        stands = "is missing" if kind is None else f"is '{kind}'"
        raise SpecError(
            code="spec_invalid",
            what=f"`type` {stands}, so nothing takes this for a dataset",
            where=f"{file}:1",
            todo=f"Write `type: {COMPONENT}`.",
        )
    return False
