"""JSON Schemas of the messages, one file each; made from the classes that write and read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def path_of(name: str) -> Path:
    """The file of a schema, by its name: mm-assets.prediction.v1, mm-assets.work.v1."""
    return FOLDER / f"{name}.json"


def text_of(schema: dict[str, Any]) -> str:
    """A schema as its file holds it."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def write(name: str, schema: dict[str, Any]) -> None:
    """Write a schema's file; for whoever changes the classes."""
    path_of(name).write_text(text_of(schema), encoding="utf-8")
