"""Scripts: in which letters the texts of training were written."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

FEWEST_LETTERS = 2  # below, a text says nothing of its script: a unit such as µ
MOSTLY = 0.5  # of the texts of a column have a script, or it is no column of texts
ALMOST_NONE = 0.003  # of the texts of training may be in a script that still counts as unseen


@lru_cache(maxsize=16384)
def _script_of(character: str) -> str:
    """LATIN, CYRILLIC, CJK and so on, as Unicode names letters; "" for what is no letter.

    Those of Japanese count as one, because its texts mix them.
    """
    if not unicodedata.category(character).startswith("L"):
        return ""
    script = unicodedata.name(character, "").partition(" ")[0]
    return "CJK" if script in ("HIRAGANA", "KATAKANA") else script


def script_of(text: str) -> str:
    """The script of most of a text's letters; "" where no script has most of them."""
    counts = Counter(map(_script_of, unicodedata.normalize("NFKC", text)))
    del counts[""]
    if counts.total() < FEWEST_LETTERS:
        return ""
    [(script, most)] = counts.most_common(1)
    return script if 2 * most > counts.total() else ""


def learn_scripts(texts: Iterable[str]) -> list[str]:
    """The scripts of a column; without those that almost no text is written in.

    None where most texts have no script, such as codes and numbers.
    """
    counts = Counter(map(script_of, texts))
    total = counts.total()
    del counts[""]
    if counts.total() < MOSTLY * total:
        return []
    return sorted(name for name, count in counts.items() if count > ALMOST_NONE * total)
