"""A guess at the 8-bit or East Asian encoding of a text, and how sure it is.

chardet knows how each language looks in each code page and ranks them; what no person would have
written (a Cyrillic letter in a Latin word, `½` inside a word) counts against a reading here. Two
readings that give other text and are about equally likely are both handed out: guessing between
them is not ours.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

# Python's codec to how much it is preferred before a look at the text. Of readings that say the
# same, the first one in this list gives its name.
CODECS = {
    "cp1252": 2.0, "cp1250": 1.0, "cp1251": 1.0, "cp1253": 1.0, "cp1254": 1.0, "cp1255": 1.0,
    "cp1256": 1.0, "cp1257": 0.8, "cp1258": 0.8, "cp874": 0.8,
    "cp932": 1.0, "gb18030": 1.0, "big5hkscs": 1.0, "cp949": 1.0, "euc_jis_2004": 1.0,
    "iso8859_15": 0.7, "iso8859_2": 0.8, "iso8859_5": 0.7, "iso8859_6": 0.7, "iso8859_7": 0.8,
    "iso8859_8": 0.7, "iso8859_9": 0.7, "iso8859_13": 0.7, "koi8_r": 1.0, "koi8_u": 0.9,
    "cp850": 0.6, "cp437": 0.5, "cp852": 0.6, "cp866": 0.8, "cp1125": 0.6, "cp737": 0.6,
    "cp857": 0.5, "cp775": 0.5, "cp862": 0.5, "mac_roman": 0.5, "mac_cyrillic": 0.5,
}  # fmt: skip
_NAMES = {
    "cp950": "big5", "big5hkscs": "big5-hkscs", "cp949": "euc-kr", "cp932": "shift-jis",
}  # fmt: skip
# chardet tells these families by their widest member; the usual one is taken where it suffices.
_USUAL = {"big5hkscs": "cp950", "euc_jis_2004": "euc_jp"}
# A reading with this share of the best one's score is as likely, by how many words there are.
ALIKE = ((2, 0.4), (6, 0.5), (1 << 62, 0.75))
# No delimiter here is the second half of a character in any East Asian codec, as `|` may be.
_WORD = re.compile(rb"[^\x00-\x20,;\"]+")
_CELL = re.compile(r"[^\s,;|\"0-9./-]+")
_MIDDLE = set("'’‘-‐‑.·・/&_+*@:()[]{}!?–—…ªº\u00ad\u00a0")  # between two letters, as people write
_STRAY = set("¤¦¬¯¸ˇ˘˙˛˝ƒ")  # left over from typewriters; in a word they are another letter
_NO_START = set("ªº©®¶¨´¹²³¼½¾±÷×ˆ˜†‡‰")  # not just before a letter
_NO_END = set("¶¨´¼½¾±÷׈˜†‡¿¡£¥¢©‚„§")  # not just after a letter
# The letters beyond a-z of the languages that the code pages were made for.
_ALPHABETS = [
    frozenset(letters + letters.upper())
    for letters in (
        "äöüß", "àâæçéèêëîïôœùûüÿ", "áéíñóúüçàèòïª", "ãáàâçéêíóôõúü", "àèéìíîòóùú", "åäöéáü",
        "æøåéèêóòôäöü", "áéèëêïíóöüàçûô", "ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž",
        "áéíóöőúüű", "ăâîşţșț", "čćđšž", "çğıİöşüâîû", "ąčęėįšųūž", "āčēģīķļņšūž", "äöõüšž",
        "áéíóúýþæöð",
        "абвгдежзийклмнопрстуфхцчшщъыьэюяё", "абвгґдеєжзиіїйклмнопрстуфхцчшщьюя",
        "абвгдеёжзійклмнопрстуўфхцчшыьэюя", "абвгдежзијклмнопрстћђљњџуфхцчшѓќѕѐѝ",
        "ăâêôơưđáàảãạấầẩẫậắằẳẵặéèẻẽẹếềểễệíìỉĩịóòỏõọốồổỗộớờởỡợúùủũụứừửữựýỳỷỹỵ\u0300\u0301\u0303\u0309\u0323",
    )
]  # fmt: skip
# Signs that stand where only Windows' Western pages have them; a word of DOS or Mac is never so.
_SURE_SIGNS = re.compile(
    r"(?<!\w)„[^„“”;\n]{1,99}[“”](?!\w)|(?<!\w)“[^„“”;\n]{1,99}”(?!\w)|(?<!\w)«[^«»;\n]{1,99}»(?!\w)"
    r"|(?<=\s)[–—](?=\s)|(?<=\d)\s?[€£](?!\w)|(?<!\w)[€£](?=\s?\d)|(?<!\w)[§©±½](?!\w)|(?<=\d)±(?=\d)"
    r"|(?<!\w)°[CF]?(?!\w)|(?<=\d)°[CF]?(?!\w)|\b[nN]°(?!\w)|(?<![^\W\d_])[kcdm]?m[²³](?!\w)"
    r"|(?<![^\W\d_])µ(?=[mglsVA]\b)|(?<=[a-z])’(?=(?:s|t|d|m|ll|re|ve)\b)"
)
_ALPHABETIC = ("LATIN", "CYRILLIC", "COMBINING")
# Spanish writes ñ before a vowel alone, Polish ń never: one byte in their pages.
_N = re.compile("[ńŃ][aeiouáéíóú]|[ñÑ](?![aeiouáéíóúü])", re.IGNORECASE)
_ICELANDIC = re.compile("[þÞðÐýÝ]")  # where Turkish and Baltic pages have letters of their own
_MIXING = {"CJK", "HIRAGANA", "KATAKANA", "HANGUL", "IDEOGRAPHIC", "FULLWIDTH", "KATAKANA-HIRAGANA"}


@dataclass(frozen=True)
class Reading:
    """The sample as `codec` reads it; score: higher is likelier."""

    codec: str
    text: str
    score: float

    @property
    def name(self) -> str:
        return name_of(self.codec)


def name_of(codec: str) -> str:
    """What people call a codec."""
    if match := re.fullmatch(r"cp(125[0-8])", codec):
        return f"windows-{match[1]}"
    if match := re.fullmatch(r"iso8859[_-](\d+)", codec):
        return f"iso-8859-{match[1]}"
    return _NAMES.get(codec, codec.replace("_", "-"))


def likely_readings(sample: bytes) -> list[Reading]:
    """The likely readings of lines that hold bytes outside of ASCII, the best one first.

    More than one: they give other text, and nothing decides between them. None: no codec fits.
    """
    if (signs := _only_signs(sample)) is not None:
        return [signs]
    ranked: dict[str, Reading] = {}
    for family, likeness in _likeness(sample).items():
        codec, text = _decoded(sample, family)
        if text is None:
            continue
        liked = 0.8 if codec == "cp1252" and _ICELANDIC.search(text) else CODECS[family]
        score = likeness * liked * _plausible(text)
        known = ranked.get(text)
        if known is None:
            ranked[text] = Reading(codec, text, score)
        else:  # the same text: it counts once, under the more usual name
            ranked[text] = Reading(known.codec, text, max(known.score, score))
    readings = sorted(ranked.values(), key=lambda one: -one.score)
    if not readings or not readings[0].score:
        return []
    words = len(set(_own_words(readings[0].text)))
    alike = next(share for most, share in ALIKE if words <= most)
    return [one for one in readings if one.score >= alike * readings[0].score]


def _decoded(sample: bytes, family: str) -> tuple[str, str | None]:
    for codec in (_USUAL.get(family, family), family):
        try:
            return codec, sample.decode(codec)
        except UnicodeDecodeError:
            continue
    return family, None


def _only_signs(sample: bytes) -> Reading | None:
    """The sample in windows-1252, if it holds nothing beyond ASCII but signs where they belong."""
    try:
        text = sample.decode("cp1252")
    except UnicodeDecodeError:
        return None
    is_sure = _SURE_SIGNS.sub(_ascii_part, text).isascii()
    return Reading("cp1252", text, 1.0) if is_sure else None


def _ascii_part(match: re.Match[str]) -> str:
    """What is left of a match: quotes keep what stands between them."""
    return match[0].strip("„“”«»") if match[0][0] in "„“«" else ""


def _likeness(sample: bytes) -> dict[str, float]:
    """What chardet thinks of each codec, in the order of CODECS; of words beyond ASCII alone."""
    import chardet

    words = dict.fromkeys(word for word in _WORD.findall(sample) if not word.isascii())
    asked = b"\n".join(words)
    found = chardet.detect_all(
        asked, ignore_threshold=True, compat_names=False, max_bytes=len(asked) + 1,
        include_encodings=list(CODECS),
    )  # fmt: skip
    scores: dict[str, float] = {}
    for one in found:
        codec = str(one["encoding"]).lower().replace("-", "_")
        scores[codec] = max(scores.get(codec, 0.0), float(one["confidence"]))
    return {codec: scores.get(codec, 0.0) for codec in CODECS}


# -- what people write ----------------------------------------------------------------------------


def _own_words(text: str) -> list[str]:
    return [word for word in _CELL.findall(text) if not word.isascii()]


def _plausible(text: str) -> float:
    """From 1 (as people write) to 0, by the words that nobody would write so."""
    words = set(_own_words(text))
    if not words:
        return 1.0
    odd = sum(map(_is_odd, words))
    return max(0.02, (1 - odd / len(words)) ** 3) * 0.8 ** min(odd, 4) * _in_one_language(words)


def _in_one_language(words: set[str]) -> float:
    """The share of words whose letters all belong to one language; 0 if no word has two letters
    of a script that is not ours: `à` read as Cyrillic."""
    own = [frozenset(c for c in word if c >= "\x80" and c.isalpha()) for word in words]
    spelt = [word for word in own if word and any(_script(c) in _ALPHABETIC for c in word)]
    known = max((sum(word <= letters for word in spelt) for letters in _ALPHABETS), default=0)
    return max(0.02, (1 - (len(spelt) - known) / len(words)) ** 2) * _has_words(words)


def _has_words(words: Iterable[str]) -> float:
    """0 for a text in another script of which all words have one letter: `à` read as Cyrillic."""
    own = [
        word for word in words
        if any(_script(c) in ("CYRILLIC", "GREEK", "HEBREW", "ARABIC", "THAI") for c in word)
    ]  # fmt: skip
    return 0.0 if own and all(sum(map(str.isalpha, word)) < 2 for word in own) else 1.0


def _is_odd(word: str) -> bool:
    """Whether nobody would write this word: scripts, signs or capitals amid its letters."""
    scripts = {
        _script(c) for c in word if c.isalpha() and c not in "ªºµƒˆ\u0300\u0301\u0303\u0309\u0323"
    }
    if len(scripts - _MIXING) > 1 or (scripts & _MIXING and any(map(str.islower, word))):
        return True
    return (
        bool(_N.search(word))
        or any(
            _is_out_of_place(letter, word[at - 1 : at], word[at + 1 : at + 2])
            for at, letter in enumerate(word)
            if letter >= "\x80"
        )
        or _turns_case(word)
    )


def _is_out_of_place(letter: str, before: str, after: str) -> bool:
    kind = unicodedata.category(letter)
    if kind in ("Cc", "Cn", "Co", "Cs") or "\u2500" <= letter <= "\u25ff" or letter in _STRAY:
        return True
    is_sign = letter not in _MIDDLE and (kind[0] in "SPN" or kind == "Lm" or letter in "ªºµƒ")
    if letter == "’" and not before and after and _script(after) == "GREEK":
        return True  # a capital with an accent, in the other Greek page
    if not is_sign or not before.isalpha():
        return letter in _NO_START and after.isalpha()
    return after.isalpha() or letter in _NO_END


def _turns_case(word: str) -> bool:
    """A capital after a small letter, or a small one amid capitals, where one is not ASCII."""
    if any(
        one.islower() and two.isupper() and not (one + two).isascii() for one, two in pairwise(word)
    ):
        return True
    if any(one.isupper() and one > "\x80" and two.islower() for one, two in pairwise(word[1:])):
        return True
    letters = [c for c in word if c.isalpha()]
    small = [c for c in letters[1:] if c.islower()]
    return len(letters) > 3 and len(small) == 1 and not small[0].isascii() and small[0] != "ß"


@lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0]
