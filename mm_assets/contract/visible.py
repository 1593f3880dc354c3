"""Text that came from data, as people may see it: nothing in it steers a terminal or a page.

It stands here, below every room, because the words of an error (errors.py) pass it too; what
prints or draws takes it from display/cells.py.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

# Format characters that are seen: signs around numbers (those of Arabic are not looked at below).
_SEEN = set("\U000110bd\U000110cd")
# Letters and marks that are not seen: fillers of Hangul and Khmer, the grapheme joiner.
_UNSEEN = set("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
_JOINERS = "\u200c\u200d"
_JOINED = {"Lo", "Mn", "Mc", "So", "Sk"}  # what a joiner joins: Indic, Arabic, emoji; never Latin
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
# Where to look: every hidden character is among these, so that long texts cost little.
_MAYBE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ud800-\udfff\ufeff\uffa0\ufff0-\uffff\U00010000-\U0010ffff]"
)


def visible(text: str, keep: str = "") -> str:
    r"""The text with whatever is not seen, but acts, as an escape: `\x1b`, `\u202e`, `\n`.

    That is control characters, marks of direction, separators of lines, lone surrogates,
    zero-width and other format characters. Joiners stay where scripts and emoji need them.
    keep: of these, what stays as it is, for example "\n" in a block of text.
    """
    return replaced(text, _escape, keep)


def replaced(text: str, escape: Callable[[str], str], keep: str = "") -> str:
    """The text with each character that acts, or is not seen, as `escape` writes it."""

    def seen(match: re.Match[str]) -> str:
        letter = match[0]
        hidden = letter not in keep and _is_hidden(text, match.start())
        return escape(letter) if hidden else letter

    return _MAYBE.sub(seen, text)


def _is_hidden(text: str, at: int) -> bool:
    letter = text[at]
    kind = unicodedata.category(letter)
    if letter in _JOINERS:
        around = text[at - 1 : at] + text[at + 1 : at + 2]
        return len(around) < 2 or any(unicodedata.category(c) not in _JOINED for c in around)
    if kind == "Cf":
        return letter not in _SEEN
    return kind in ("Cc", "Cs", "Zl", "Zp") or letter in _UNSEEN or ord(letter) & 0xFFFE == 0xFFFE


def _escape(letter: str) -> str:
    if letter in _SHORT:
        return _SHORT[letter]
    code = ord(letter)
    if code > 0xFFFF:
        return f"\\U{code:08x}"
    return f"\\u{code:04x}" if code > 0xFF else f"\\x{code:02x}"
