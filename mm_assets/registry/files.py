"""The files of a stored model: safe names, and the contents that were signed for."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from mm_assets.contract.errors import ModelError
from mm_assets.lake.local import sha256_of

DIFFERS = "its sha256 is not the one in the manifest"
SHA256 = re.compile(r"[0-9a-f]{64}")
# Names that mean the same on every file system and in every object store.
_PART = re.compile(r"[A-Za-z0-9_.+=,@-][A-Za-z0-9_.+=,@ -]{0,199}")


def tampered(what: str, where: str, todo: str = "") -> NoReturn:
    """Raises ModelError(model_tampered)."""
    todo = todo or "Do not use this model; find out who may write there; train and promote again."
    raise ModelError(code="model_tampered", what=what, where=where, todo=todo)


def files_below(folder: Path) -> dict[str, Path]:
    """Every file by its relative path. Raises ModelError for links and whatever is no file."""
    found: dict[str, Path] = {}
    for parent, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            path = Path(parent, name)
            relative = path.relative_to(folder).as_posix()
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                _refuse(relative, "is a link or no regular file")
            if path.is_file():
                found[relative] = path
    return found


def check_files(files: dict[str, dict[str, Any]]) -> None:
    """Raises ModelError unless each name is the same, harmless file on every disk, with facts."""
    taken = {str(parent).casefold() for name in files for parent in PurePosixPath(name).parents}
    for name, facts in files.items():
        parts = name.split("/")
        if not all(_PART.fullmatch(part) and part not in (".", "..") for part in parts):
            _refuse(name, "has a name that is not safe everywhere")
        if name.casefold() in taken:
            _refuse(name, "cannot lie beside another one whose name is the same on some disks")
        if not SHA256.fullmatch(facts["sha256"]) or type(facts["bytes"]) is not int:
            _refuse(name, "has no sha256 and size")
        taken.add(name.casefold())
    if not files:
        _refuse("*", "is missing: there are none at all")


def _refuse(name: str, why: str) -> NoReturn:
    raise ModelError(
        code="model_file_unsafe",
        what=f"the model's file {name!r} {why}",
        where=name,
        todo="Let the engine write plain files, named by ASCII letters, digits and ._+=,@-",
    )


def verify(local: Path, files: dict[str, Any]) -> None:
    """Raises ModelError unless `local` holds exactly these files with these contents."""
    todo = f"Delete {local}, it is downloaded again; find out who may write there."
    try:
        found = {} if local.is_symlink() else files_below(local)
    except ModelError as error:
        tampered(error.what, str(local), todo)
    for name in sorted(found.keys() | files.keys()):
        announced = files[name]["bytes"] if name in files else None
        size = found[name].stat().st_size if name in found else None
        if size != announced:
            tampered(difference(size, announced), str(local / name), todo)
        if sha256_of(found[name]) != files[name]["sha256"]:
            tampered(DIFFERS, str(local / name), todo)


def difference(size: int | None, announced: int | None) -> str:
    """In words: a file that is not there, is too much, or has another size."""
    if announced is None:
        return "this file does not belong to the model"
    missing = "this file of the model is missing"
    return missing if size is None else f"this file has {size} bytes instead of {announced}"
