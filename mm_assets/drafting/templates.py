"""Templates: datasets that come along, to copy and change (`mm init --template`).

What belongs here: which there are, and copying one under another name. What does not: writing a
YAML of one's own data (`draft.py`).
"""

from __future__ import annotations

import re
from pathlib import Path

from mm_assets.contract.errors import SpecError
from mm_assets.contract.shipped import shipped
from mm_assets.contract.spec_file import COMPONENT, load_spec
from mm_assets.drafting.drafted import Drafted
from mm_assets.drafting.yaml_text import load_draft


def templates_folder() -> Path:
    """The folder with the templates: <name>/defs.yaml."""
    return shipped("defs")


def template_names() -> list[str]:
    """Every template; workflows that lie beside them are none."""
    files = sorted(templates_folder().glob("*/defs.yaml"))
    return [file.parent.name for file in files if COMPONENT in file.read_text(encoding="utf-8")]


def template_file(name: str) -> Path:
    """A template's YAML. Raises SpecError (template_unknown) that names the choices."""
    names = template_names()
    if name not in names:
        raise SpecError(
            code="template_unknown",
            what=f"there is no template '{name}'",
            where="--template",
            todo=f"Write one of: {', '.join(names)}.",
        )
    return templates_folder() / name / "defs.yaml"


def draft_from_template(template: str, dataset: str | None = None) -> Drafted:
    """A template's text, under another dataset's name if one is given.

    Raises SpecError for a template that is not there and for a name that no dataset can have.
    """
    file = template_file(template)
    text, spec = file.read_text(encoding="utf-8"), load_spec(file)
    if dataset is not None:
        line = rf"(?m)^(\s+dataset:\s*){spec.dataset}\b"
        text = re.sub(line, lambda found: found[1] + dataset, text, count=1)
        spec = load_draft(text)
    notes = [f"template {template}: {spec.description}", "replace its columns by those of yours"]
    return Drafted(text, notes, spec.dataset)
