"""When two spellings are the same category or label: one rule for training, prediction and labels.

What a model knows are the values that its training saw. Another spelling is one of them if it is
the same under this rule and if exactly one known value fits; else it stays what it is, and the
model never saw it. Nothing else is taken for the same.

| spelling | the same as | when |
|---|---|---|
| ` Red`, `light  red`, with no-break spaces | `Red`, `light red` | always |
| another Unicode form (NFKC): `é` as two characters, full-width `１` | `é`, `1` | always |
| `RED` | `Red` | always; where training has both, each is itself |
| `1.0`, `1.00`, `+1` | `1` | all numbers among the known values are integers |
| `01`, `001` | `1`, or `1` the same as `01` | the same, and training has only one of the two |
| `TRUE`, `t`, `1`, `1.0` | `True` | all known values are true and false in words |
| `True`, `t` | `1` | the known values are `0` and `1` |
| `yes`, `Y` | `Yes`; `Y` never | another case only: `y`, `1` and `true` are not yes |
| `1.000`, `1,000`, `1 000`, `1.` | nothing: a thousand or one? | never |
| `1e3`, `1,0`, `1.5`, `0x1` | nothing: no integer as people write one | never |
| `2024-01-31 00:00:00`, `31.01.2024` | nothing: which date it is would be a guess | never |

Where training itself has several spellings, those that differ only as numbers or truth values are
one category (`1` and `1.0` are `1`); words that differ only in case or blanks stay two.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

# Three zeros alone may be a thousand: 1.000.
ZEROS = r"\.(?:0{1,2}|0{4,})"
LABEL_WITH_DECIMALS = rf"^(-?[0-9]+){ZEROS}$"  # for SQL, too
_INTEGER = re.compile(rf"([+-]?)([0-9]+)(?:{ZEROS})?")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_TRUTH = {"true": "true", "t": "true", "1": "true", "false": "false", "f": "false", "0": "false"}
_WORDS = {"true", "false"}
_LETTERS = {"t", "f"}
MOST_VALUES = 50_000  # of one column; one with more is left alone
_SHOWN = 40  # characters of a value that messages show
Key = tuple[str, str]


@dataclass(frozen=True)
class Known:
    """The values that are known of one column, or the classes of a label; each is itself."""

    values: tuple[str, ...]

    @classmethod
    def learn(cls, counts: Mapping[str, int]) -> Known:
        """What training records hold: value to how often. Spellings of one number become one."""
        raw = cls(tuple(sorted(counts)))
        groups: dict[Key, list[str]] = {}
        for value in raw.values:
            groups.setdefault(raw._merged_by(value), []).append(value)
        return cls(tuple(sorted(_canonical(key, some, counts) for key, some in groups.items())))

    def meant(self, text: str) -> str:
        """The known value that this is; the text itself, if it is none or could be several."""
        if text in self._exact:
            return text
        for key in self._keys(text):
            if len(found := self._by_key.get(key, [])) == 1:
                return found[0]
        return text

    def knows(self, text: str) -> bool:
        return self.meant(text) in self._exact

    def alike(self) -> list[tuple[str, ...]]:
        """Known values that would be the same, did not each stand there by itself."""
        groups = {tuple(found) for found in self._by_key.values() if len(found) > 1}
        return sorted(one for one in groups if not any({*one} < {*other} for other in groups))

    # -- the rule ---------------------------------------------------------------------------------

    @cached_property
    def _exact(self) -> frozenset[str]:
        return frozenset(self.values)

    @cached_property
    def _by_key(self) -> dict[Key, list[str]]:
        found: dict[Key, list[str]] = {}
        for value in self.values:
            for key in self._keys(value):
                found.setdefault(key, []).append(value)
        return found

    @cached_property
    def _has_integers(self) -> bool:
        numbers = [text for text in map(_plain, self.values) if _NUMBER.fullmatch(text)]
        return bool(numbers) and all(map(_INTEGER.fullmatch, numbers))

    @cached_property
    def _are_truths(self) -> bool:
        """Whether all are true or false in words; a lone `t` or `f` may be anything."""
        words = {_folded(value) for value in self.values}
        truths = all(_truth(value) for value in self.values)
        return truths and bool(words & _WORDS or words == _LETTERS)

    @cached_property
    def _are_bits(self) -> bool:
        return {_integer(value)[1] for value in self.values} == {"0", "1"}

    def _keys(self, text: str) -> Iterator[Key]:
        """What two spellings share if they are the same, the strictest first."""
        yield "form", _plain(text)
        padded, integer = _integer(text) if self._has_integers else ("", "")
        if padded:
            yield "padded", padded
        yield "case", _folded(text)
        if integer:
            yield "integer", integer
        if (self._are_truths or self._are_bits) and (truth := _truth(text)):
            yield "truth", truth

    def _merged_by(self, value: str) -> Key:
        if self._are_truths:
            return "truth", _truth(value)
        padded = _integer(value)[0] if self._has_integers else ""
        return ("padded", padded) if padded else ("itself", value)


def _canonical(key: Key, spellings: list[str], counts: Mapping[str, int]) -> str:
    """Of an integer its text alone; of a truth value a word, and of several the most frequent."""
    if key[0] == "padded":
        return key[1]
    return min(spellings, key=lambda one: (_folded(one) not in _WORDS, -counts[one], one))


def _plain(text: str) -> str:
    """In one Unicode form, without blanks around it and with single ones inside."""
    return " ".join(unicodedata.normalize("NFKC", text).split())


def _folded(text: str) -> str:
    return _plain(_plain(text).casefold())


def _integer(text: str) -> tuple[str, str]:
    """An integer without plus and decimals: with the zeros in front, and without; or '', ''."""
    if not (match := _INTEGER.fullmatch(_plain(text))):
        return "", ""
    sign, digits = match.groups()
    shortest = digits.lstrip("0") or "0"
    minus = "-" if sign == "-" and shortest != "0" else ""
    return minus + digits, minus + shortest


def _truth(text: str) -> str:
    return _TRUTH.get(_integer(text)[1] or _folded(text), "")


def label_meant(text: str, classes: tuple[str, ...] | None) -> str:
    """A label as it is kept: the class that it is, or where none are listed `1` for `1.0`.

    Where it is no class, or there are none, all else is left alone.
    """
    if classes is not None:
        return Known(classes).meant(text)
    return re.sub(LABEL_WITH_DECIMALS, r"\1", text)


# -- in words -------------------------------------------------------------------------------------


def quoted(values: Iterable[str], at_most: int = 10) -> str:
    """Values for a message: 'a', 'b' and 3 more."""
    listed = list(values)
    shown = ", ".join(f"'{_cut(value)}'" for value in listed[:at_most])
    more = len(listed) - at_most
    return f"{shown} and {more:,} more" if more > 0 else shown


def counted(counts: Mapping[str, int], values: Iterable[str]) -> str:
    """Values with how often each occurs: 'Yes' (8), 'yes' (4)."""
    return ", ".join(f"'{_cut(value)}' ({counts[value]:,})" for value in values)


def _cut(value: str) -> str:
    return value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…"
