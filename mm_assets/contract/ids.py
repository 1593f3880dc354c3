"""What counts as a record's ID: one rule for the rows of tables and the names of images.

An ID is exact text: `007`, `1E5` and `NA` stay what they are. Only its Unicode form is made one
(NFC), because macOS writes file names decomposed: `é` as `e` and an accent. `manifest/rows.py`
says the same in SQL; a test holds the two together.
"""

from __future__ import annotations

import re
import unicodedata

MAXIMUM_BYTES = 1_024  # in UTF-8
# What may stand around a value without being part of it: web pages and spreadsheets leave blanks
# that don't break, and signs without width.
SPACE = " \t\r\n\u00a0\u2007\u202f\u200b\ufeff"
SHORTENED = r"[0-9]\.[0-9]+E\+[0-9]{2,3}"  # as spreadsheets save 123456789012: 1.23457E+11
SHORTENED_REASON = "the ID is a number that a spreadsheet has shortened"
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029/\\]|\A\.\.?\Z")


def normalised(text: str) -> str:
    """The text in the one Unicode form in which IDs are compared."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def fault_of(record_id: str) -> tuple[str, str] | None:
    """Why this is no ID, as one of errors.REFUSALS' id_* codes and a reason; None if it is one."""
    if not record_id.strip(SPACE):
        return "id_blank", "the ID is blank"
    if len(record_id.encode("utf-8", "surrogatepass")) > MAXIMUM_BYTES:
        return "id_too_long", f"the ID has more than {MAXIMUM_BYTES:,} bytes"
    if _UNSAFE.search(record_id):
        return "id_unsafe", "the ID holds control characters or is a path"
    if re.fullmatch(SHORTENED, record_id):
        return "id_number_lost", SHORTENED_REASON
    return None
