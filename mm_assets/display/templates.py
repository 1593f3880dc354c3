"""HTML templates: all text is escaped, and letters that act are shown instead (cells.py)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_assets.display.cells import visible

if TYPE_CHECKING:
    from jinja2 import Environment


def templates(folder: Path) -> Environment:
    """The templates of a folder; a name that they are not given is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_harmless,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _harmless(value: Any) -> Any:
    """Text in which nothing acts; markup of our own template stays what it is."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return visible(value, keep="\n")
    return "" if value is None else value
