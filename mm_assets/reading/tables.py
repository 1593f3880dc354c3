"""From a file of any format to a table: the one way in.

What the bytes are decides, never the name. A format is one module with a `Source`; what is the
same for all of them is in `table.py` and `header.py`.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from mm_assets.reading.delimited import open_delimited
from mm_assets.reading.images import is_image
from mm_assets.reading.table import Table, Wanted

_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_BINARY_MAGICS = (
    b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd",
    b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07", b"%PDF-", b"PAR1", b"ARROW1", b"\x89HDF", b"Obj\x01",
    b"SQLite format 3", b"\xd0\xcf\x11\xe0", b"{\\rtf", b"\x7fELF", b"%!PS",
)  # fmt: skip
_BZIP2 = re.compile(rb"BZh[1-9]1AY&SY")
_CONTROLS = bytes(set(range(1, 32)) - set(b"\t\n\v\f\r\x1a\x1b"))


def looks_like_text(head: bytes, *, named_table: bool = False) -> bool:
    """Whether a file that starts with these bytes (up to 64 KB) may be a table.

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


def open_table(path: Path, *, file: str, wanted: Wanted) -> Table:
    """Read and check the header of a table; `file` is its name in messages. Raises TableRefused."""
    return Table(open_delimited(path, wanted), file=file, wanted=wanted)
