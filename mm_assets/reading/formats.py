"""Which format a file has, told by its content; its name helps only where that may be two."""

from __future__ import annotations

import codecs
import json
import mmap
import re
from enum import StrEnum
from pathlib import Path

from mm_assets.reading.images import is_image
from mm_assets.reading.json_array import WRAPPED
from mm_assets.reading.json_objects import UTF8_MARK
from mm_assets.reading.table import ROW_LIMIT


class Format(StrEnum):
    DELIMITED = "delimited"
    JSON_LINES = "json_lines"
    JSON_ARRAY = "json_array"
    PARQUET = "parquet"
    ARROW = "arrow"
    WORKBOOK = "workbook"


# What files of each format are called. Only for messages, and to know what calls itself a table.
SUFFIXES: dict[Format, tuple[str, ...]] = {
    Format.DELIMITED: (".csv", ".tsv", ".tab", ".txt"),
    Format.JSON_LINES: (".jsonl", ".ndjson"),
    Format.JSON_ARRAY: (".json",),
    Format.PARQUET: (".parquet", ".pq"),
    Format.ARROW: (".arrow", ".feather", ".ipc", ".arrows"),
    Format.WORKBOOK: (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"),
}
TABLE_SUFFIXES = tuple(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)

_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_BINARY_MAGICS = (
    b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd",
    b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"%PDF-", b"PAR1", b"ARROW1", b"\x89HDF", b"Obj\x01",
    b"SQLite format 3", b"\xd0\xcf\x11\xe0", b"{\\rtf", b"\x7fELF", b"%!PS",
    b"$FL2@(#)", b"$FL3@(#)", b"<stata_dta>", b"HEADER RECORD*******LIB",
)  # fmt: skip
_BZIP2 = re.compile(rb"BZh[1-9]1AY&SY")
_CONTROLS = bytes(set(range(1, 32)) - set(b"\t\n\v\f\r\x1a\x1b"))

_OLE2 = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
# Streams of an .xls, old and older, and of a workbook with a password; other files have none.
_OLE2_STREAMS = tuple(name.encode("utf-16-le") for name in ("Workbook", "Book", "EncryptedPackage"))
_ODS = b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet"
_ODS_AT = 30  # behind the zip's first local header
_WORKBOOK_ENTRY = re.compile(rb"PK\x01\x02.{42}xl/workbook[^/]{0,20}\.(?:xml|bin)", re.DOTALL)
_WORKBOOK_PART = re.compile(rb"PK\x03\x04.{26}xl/", re.DOTALL)
_END = b"PK\x05\x06"  # of a zip's directory
_DIRECTORY = 1 << 20  # a workbook's list of parts is far shorter
_OBJECT = re.compile(rb'\s*\{\s*(?:"|\})')
_ARRAY = re.compile(rb'\s*\[\s*(?:\{|"|\[\s*["\[\d{-]|\]\s*\Z)')


def format_of(path: Path, head: bytes, name: str) -> Format | None:
    """The format of the file at `path`, or None for what is surely no table.

    head: its first bytes, up to 64 KB. name: what its sender calls it.
    """
    name = name.lower()
    if head.startswith((b"PAR1", b"PARE")):
        return Format.PARQUET
    if head.startswith((b"ARROW1", b"FEA1")) or _is_arrow_stream(head):
        return Format.ARROW
    if head.startswith(b"PK\x03\x04"):
        return Format.WORKBOOK if _is_zipped_workbook(path, head) else None
    if head.startswith(_OLE2):
        return Format.WORKBOOK if _is_old_workbook(path) else None
    if found := _json_format(path, head.removeprefix(UTF8_MARK), name):
        return found
    named_table = name.endswith(TABLE_SUFFIXES)
    return Format.DELIMITED if looks_like_text(head, named_table=named_table) else None


def looks_like_text(head: bytes, *, named_table: bool = False) -> bool:
    """Whether a file that starts with these bytes (up to 64 KB) may be a table of text.

    What calls itself a table is read unless it surely is something else: reading says what is
    wrong in it, and where.
    """
    if head.startswith(_UTF16_MARKS):
        return True
    if head.startswith(_BINARY_MAGICS) or _BZIP2.match(head) or is_image(head):
        return False
    if named_table:
        return True
    if b"\0" in head:
        return False
    controls = len(head) - len(head.translate(None, _CONTROLS))
    return controls * 100 <= len(head)


def _is_arrow_stream(head: bytes) -> bool:
    """A mark, the length of the schema's message, then that message (a multiple of 8)."""
    length = int.from_bytes(head[4:8], "little")
    return head[:4] == b"\xff\xff\xff\xff" and 0 < length < 1 << 30 and length % 8 == 0


def _is_zipped_workbook(path: Path, head: bytes) -> bool:
    if head[_ODS_AT:].startswith(_ODS):
        return True
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _DIRECTORY))
        directory = file.read()
    if _END not in directory:  # cut short; reading says so
        return bool(_WORKBOOK_PART.search(head))
    return bool(_WORKBOOK_ENTRY.search(directory))


def _is_old_workbook(path: Path) -> bool:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return any(data.find(name) >= 0 for name in _OLE2_STREAMS)


def _json_format(path: Path, head: bytes, name: str) -> Format | None:
    if head.startswith(_UTF16_MARKS) or b"\0" in head[:4]:  # refused, but as JSON
        head = head.lstrip(b"\xff\xfe").replace(b"\0", b"")
    if _ARRAY.match(head):
        return Format.JSON_ARRAY
    if not _OBJECT.match(head):
        return None
    alone, more = _first_line(path)
    if _is_object(alone):
        return Format.JSON_LINES if more or not WRAPPED.match(head) else Format.JSON_ARRAY
    return Format.JSON_LINES if name.endswith(SUFFIXES[Format.JSON_LINES]) else Format.JSON_ARRAY


def _first_line(path: Path) -> tuple[bytes, bool]:
    """The first line that holds anything, and whether another one follows."""
    with path.open("rb") as file:
        line = file.readline(ROW_LIMIT).removeprefix(UTF8_MARK)
        while line and not line.strip():
            line = file.readline(ROW_LIMIT)
        more = file.readline(ROW_LIMIT)
        while more and not more.strip():
            more = file.readline(ROW_LIMIT)
        return line, bool(more)


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
