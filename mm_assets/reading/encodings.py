"""Stub."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Encoding:
    codec: str
    name: str
    why: str
    skip: int


def detect_encoding(path: Path, wanted: str = "auto") -> Encoding:
    with path.open("rb") as f:
        head = f.read(4)
    if head.startswith(codecs.BOM_UTF8):
        return Encoding("utf-8", "utf-8", "", 3)
    if head.startswith(b"\xff\xfe"):
        return Encoding("utf-16-le", "utf-16", "", 2)
    return Encoding("utf-8" if wanted == "auto" else wanted, "utf-8", "", 0)
