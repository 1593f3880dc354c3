"""A folder that holds what is in an archive, or in a folder with archives in it, to draft from.

It is read by the code that receives uploads, with its limits. Tables are there whole; of the images
the first half gigabyte is, the others have their names and no content, which is enough to count.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from mm_assets.contract.errors import MMError, SpecError, UploadError
from mm_assets.drafting.image_names import is_image_name
from mm_assets.drafting.profile import argument
from mm_assets.uploads.archives.opening import suffix_of, without_suffix
from mm_assets.uploads.check import archive_suffix, files_of, list_folder, reading
from mm_assets.uploads.clutter import clutter
from mm_assets.uploads.delivered import Delivered
from mm_assets.uploads.webdataset import TABLE as SAMPLES

IMAGE_BYTES = 512 << 20


def holds_archives(path: Path) -> bool:
    """Whether there is something to unpack: the path itself, or a file in that folder."""
    if path.is_dir():
        return any(_is_archive(file.path) for file in list_folder(path)[0])
    return path.is_file() and bool(archive_suffix(path)) and _is_archive(path)


def _is_archive(path: Path) -> bool:
    with reading(path):
        return suffix_of(path, path.name) is not None


@contextmanager
def unpacked(path: Path, scratch: Path) -> Iterator[Path]:
    """The folder, in `scratch`, as long as the `with` lasts; what is said of it names `path`.

    Raises SpecError with an archive's code where nothing of it can be used.
    """
    name = path.absolute().name if path.is_dir() else without_suffix(path.name)
    folder = scratch / "unpacked" / (name or "upload")
    work = scratch / "parts"
    folder.mkdir(parents=True)
    work.mkdir()
    try:
        _lay_out(files_of(path, work), folder)
        yield folder
    except UploadError as error:
        raise SpecError(
            code=error.code, what=error.what, where=error.where or str(path), todo=error.todo
        ) from None
    except SpecError as error:
        raise _of_path(error, folder, path) from None


def _of_path(error: MMError, folder: Path, path: Path) -> SpecError:
    """The same, said of what the person named."""
    inside = re.escape(str(folder))  # a command to copy names the archive, whatever is in it
    todo = re.sub(rf"'{inside}[^']*'|{inside}\S*", lambda _: argument(str(path)), error.todo)
    if error.code == "init_several_tables":
        todo = "Unpack it, and name the table to draft from: mm init TABLE --images FOLDER"
    where = error.where.replace(str(folder), str(path))
    return SpecError(code=error.code, what=error.what, where=where, todo=todo)


def _lay_out(files: Iterable[Delivered], folder: Path) -> None:
    left = IMAGE_BYTES
    for file in files:
        if file.problem is not None or file.holds is not None or clutter(file.name, file.head):
            continue
        if _made_of_samples(file):  # those of all shards together are one table
            _append(file, folder / f"{folder.name}.jsonl")
            continue
        target = folder / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if is_image_name(file.name):
            if file.size > left:
                file = replace(file, content=b"")  # noqa: PLW2901  its name is enough
            else:
                left -= file.size
        _write(file, target)


def _made_of_samples(file: Delivered) -> bool:
    named = file.name.rpartition("/")[2] == SAMPLES
    return named and isinstance(file.content, Path) and not file.keep


def _append(file: Delivered, table: Path) -> None:
    assert isinstance(file.content, Path)  # noqa: S101  so it was made
    with file.content.open("rb") as part, table.open("ab") as whole:
        shutil.copyfileobj(part, whole)


def _write(file: Delivered, target: Path) -> None:
    if isinstance(file.content, bytes):
        target.write_bytes(file.content)
    elif file.keep:
        with suppress(OSError):  # on another disk
            os.link(file.content, target)
            return
        shutil.copyfile(file.content, target)
    else:
        file.content.rename(target)
