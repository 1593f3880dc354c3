"""WebDataset: a tar of samples, the files of each with one stem: `000001.jpg`, `000001.cls`, ….

A sample is a row of a table, `samples.jsonl`, that takes the place of the files beside the images:
`__key__` is the stem (folders before it joined by `-`), the fields of `.json` are columns, `.cls`
and `.txt` are texts, `image` is the image's name. A tar is one if at least half of its images have
such a file beside them, and it holds no table of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mm_assets.reading.formats import TABLE_SUFFIXES
from mm_assets.reading.images.formats import SUFFIXES as IMAGE_SUFFIXES
from mm_assets.uploads.archives.rules import Archive
from mm_assets.uploads.clutter import clutter
from mm_assets.uploads.delivered import Delivered

TABLE = "samples.jsonl"
KEY, IMAGE = "__key__", "image"
LONGEST = 1 << 20  # bytes of a file that becomes part of a row
_BESIDE = ("json", "cls", "txt")


def samples_gathered(
    archive: Archive, members: Iterable[Delivered], workdir: Path, prefix: str = ""
) -> Iterator[Delivered]:
    """The members; of a WebDataset the images, and then one table of all samples.

    prefix: what the members' names have in front. workdir: where the table is written.
    """
    names = [name for name, _ in archive.names]
    if archive.kind != "tar" or not is_webdataset(names):
        yield from members
        return
    digest = hashlib.sha256(f"{prefix}{TABLE}".encode()).hexdigest()[:16]
    path = workdir / f"samples-{digest}"
    left = Counter(key for name in names if (key := _parts(name)[0]) is not None)
    waiting: dict[str, _Sample] = {}
    with path.open("wb") as table:
        for member in members:
            key, ending = _parts(name := member.name.removeprefix(prefix))
            if key is None or clutter(name, b""):
                yield member
                continue
            sample = waiting.setdefault(key, _Sample(key))
            if ending in _BESIDE:
                if (refused := sample.take(ending, member)) is not None:
                    yield refused
            else:
                sample.own.setdefault(IMAGE, name)
                yield member
            left[key] -= 1
            if not left[key]:
                table.write(waiting.pop(key).line)
    yield _delivered(prefix + TABLE, path)


def is_webdataset(names: Iterable[str]) -> bool:
    """Whether files of these names are the samples of one."""
    images: set[str] = set()
    beside: set[str] = set()
    for name in names:
        key, ending = _parts(name)
        if key is None:
            if name.lower().endswith(TABLE_SUFFIXES) and not clutter(name, b""):
                return False
        elif not clutter(name, b""):
            (beside if ending in _BESIDE else images).add(key)
    both = images & beside
    return bool(both) and len(both) * 2 >= max(len(images), len(beside))


def _parts(name: str) -> tuple[str | None, str]:
    """The key of the sample that a file is part of, if it is of any, and the file's last ending."""
    folder, _, file = name.rpartition("/")
    stem, _, endings = file.partition(".")
    last = endings.lower().rpartition(".")[2]
    part = last in _BESIDE or f".{last}" in IMAGE_SUFFIXES
    return (f"{folder}/{stem}".lstrip("/") if stem and part else None), last


@dataclass
class _Sample:
    """One row in the making. own: what is not out of its JSON, which stands as it was written."""

    key: str
    own: dict[str, Any] = field(default_factory=dict)
    json: str = "{}"

    def take(self, ending: str, member: Delivered) -> Delivered | None:
        """Take a file that is part of the row; returns it, refused, if it can't be."""
        if not isinstance(member.content, bytes) or member.size > LONGEST:
            reason = f"{member.size:,} bytes; beside an image at most {LONGEST:,} are read"
            return replace(member, problem="table_row_too_long", reason=reason)
        try:
            text = member.content.decode("utf-8-sig").strip()
            if ending != "json":
                self.own[ending] = text
            elif isinstance(json.loads(text), dict):
                self.json = text
            else:
                return replace(member, problem="table_json", reason="this is no JSON object")
        except UnicodeDecodeError as error:
            reason = f"byte {error.start + 1:,} is no UTF-8"
            return replace(member, problem="table_encoding", reason=reason)
        except (ValueError, RecursionError):
            return replace(member, problem="table_json", reason="this is no JSON")
        return None

    @property
    def line(self) -> bytes:
        """The row as a line of JSON Lines. What it has of its own comes before fields so called."""
        own = {KEY: self.key.replace("/", "-"), **self.own}
        fields = self.json
        found = json.loads(fields)
        if own.keys() & found.keys():
            fields = json.dumps({k: v for k, v in found.items() if k not in own})
        inner = fields.replace("\r", " ").replace("\n", " ")[1:-1].strip()
        start = json.dumps(own, ensure_ascii=False)[:-1]
        return f"{start}{', ' if inner else ''}{inner}}}\n".encode()


def _delivered(name: str, path: Path) -> Delivered:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Delivered(name, path.stat().st_size, digest, path)
