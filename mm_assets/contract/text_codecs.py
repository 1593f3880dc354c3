"""Which of Python's codecs read text files."""

from __future__ import annotations

import codecs

# Of text, by Python's list, but they rewrite what they read, or are for other ends.
_NOT_FOR_FILES = {
    "idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined", "charmap",
    "mbcs", "oem",
}  # fmt: skip


def is_text_codec(name: str) -> bool:
    """Whether Python knows an encoding of text files by this name."""
    try:
        codec = codecs.lookup(name)
        "a".encode(name)  # base64, zlib … are codecs, too, but not of text
    except (LookupError, ValueError):
        return False
    return codec.incrementaldecoder is not None and (
        codec.name.replace("_", "-") not in _NOT_FOR_FILES
    )
