"""What one column of a table holds, counted: the ground on which it is judged."""

from __future__ import annotations

import math
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable

from mm_assets.contract.ids import SPACE
from mm_assets.manifest.numbers import MARKERS, PLAIN, Form, parser

_PLAIN = re.compile(PLAIN)
_NUMBERS_TRIED = 20_000  # different values of a column that tell its decimal sign


def shown(text: str, at_most: int = 60) -> str:
    """A text as part of one line of a comment or a message."""
    cut = text if len(text) <= at_most else f"{text[:at_most]}…"
    return "".join(c if c.isprintable() else "?" for c in cut)


def argument(text: str) -> str:
    """A text as one argument of a command to copy."""
    return shlex.quote(shown(text, 1000))


def quoted(values: Iterable[str], at_most: int = 3) -> str:
    """Values as examples: 'a', 'b', …"""
    listed = list(values)
    more = ", …" if len(listed) > at_most else ""
    return ", ".join(f"'{shown(value)}'" for value in listed[:at_most]) + more


def stands_for_none(value: str) -> bool:
    """Whether people write this where there is no value, such as NA, null, - or ?."""
    return not value or value.lower() in MARKERS


class Profile:
    """What one column holds: `values` and `missing` count its texts, trimmed.

    form: how its numbers are written. exact: an ID, of which nothing is trimmed or missing but ''.
    """

    def __init__(self, name: str, *, exact: bool = False) -> None:
        self.name = name
        self.exact = exact
        self.values = Counter[str]()
        self.missing = Counter[str]()
        self.form = Form()

    def add(self, texts: Iterable[str]) -> None:
        for text, count in Counter(texts).items():
            value = text.strip(SPACE)
            if self.exact:
                (self.values if value else self.missing)[text] += count
            else:
                (self.missing if stands_for_none(value) else self.values)[value] += count

    def take_for_missing(self, values: Iterable[str]) -> None:
        for value in values:
            if count := self.values.pop(value, 0):
                self.missing[value] += count

    def take_for_value(self, value: str) -> None:
        if count := self.missing.pop(value, 0):
            self.values[value] += count

    @property
    def present(self) -> int:
        return self.values.total()

    @property
    def total(self) -> int:
        return self.present + self.missing.total()

    @property
    def repeats(self) -> bool:
        return len(self.values) < self.present

    def share(self, pattern: re.Pattern[str]) -> float:
        fitting = sum(n for value, n in self.values.items() if pattern.fullmatch(value))
        return fitting / max(1, self.present)

    # -- numbers ------------------------------------------------------------------------------

    def parser(self) -> Callable[[str], float | None]:
        """From a value to its number, or None, as the manifest will read it."""
        written = parser(self.form)

        def parse(text: str) -> float | None:
            if not _PLAIN.fullmatch(text):
                return None if self.form.plain else written(text)
            # What computers write is the same in every form but that of decimal commas.
            number = (
                float(text) if self.form.decimal == "." and not self.form.open else written(text)
            )
            return None if number is None or math.isinf(number) else number

        return parse

    def numbers(self) -> dict[float, int]:
        """The finite numbers among the values, and how often each stands."""
        found = Counter[float]()
        parse = self.parser()
        for value, count in self.values.items():
            if (number := parse(value)) is not None:
                found[number] += count
        return found

    def not_numbers(self) -> list[str]:
        parse = self.parser()
        return [value for value in self.values if parse(value) is None]

    def numberlike(self) -> list[str]:
        """Values that are numbers with either decimal sign, up to 20,000 of them."""
        either = [parser(Form(sign, plain=False)) for sign in ".,"]
        tried = list(self.values)[:_NUMBERS_TRIED]
        return [value for value in tried if any(parse(value) is not None for parse in either)]

    def is_plain(self) -> bool:
        """Whether all values are numbers as computers write them."""
        return all(map(_PLAIN.fullmatch, self.values))

    def words(self) -> float:
        """Words in a value, on average."""
        return sum(len(value.split()) * n for value, n in self.values.items()) / self.present
