"""engine.json, the file by which an engine knows its own models again."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mm_assets.contract.errors import ModelError
from mm_assets.engines.shared.refusals import first_line

ENGINE_FILE = "engine.json"


def write_record(directory: Path, record: dict[str, Any]) -> None:
    """Write engine.json, which `read_record` gives back."""
    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
    (directory / ENGINE_FILE).write_text(text, encoding="utf-8")


def read_record(directory: Path, engine: str, form: int) -> dict[str, Any]:
    """engine.json, if this engine wrote it in this form; else ValueError."""
    record = json.loads((directory / ENGINE_FILE).read_text(encoding="utf-8"))
    if (record["engine"], record["format"]) != (engine, form):
        raise ValueError(f"it is a model of {record['engine']}, format {record['format']}")
    return record


@contextlib.contextmanager
def reading(directory: Path) -> Iterator[None]:
    """Whatever goes wrong inside becomes ModelError(model_unreadable), except what misses words."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            code="model_unreadable",
            what=f"the model can't be loaded: {first_line(error)}",
            where=str(directory),
            todo="Load it with the versions it was trained with (engine.json), or train anew.",
        ) from error
