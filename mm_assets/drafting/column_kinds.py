"""What a column of text holds: numbers, categories, free text, or nothing to learn from.

Guesses for `mm init`, with a reason in words for each that a person may want to correct. The
pipeline itself never guesses.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mm_assets.contract.errors import SpecError
from mm_assets.manifest.numbers import PLAIN

MOST_CLASSES = 50
FEW_CODES = 12  # up to so many different whole numbers may be codes
FEW_VALUES = 50  # up to so many different words are categories whatever the number of rows
NUMBERS_SHARE = 0.9  # so many of the values must be numbers; the others are rows to be rejected
_NUMBER = re.compile(PLAIN)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([ T].*)?|[0-9]{1,2}[./][0-9]{1,2}[./][0-9]{2,4}")
_FILE = re.compile(r".*\.(jpe?g|png|webp|gif|tiff?|bmp|heic)", re.IGNORECASE)
_NOT_LEARNT = (
    (_FILE, "it holds names of image files"),
    (_DATE, "it holds dates; add a column with a number, such as an age in days"),
)
_ID_NAME = re.compile(
    r"(.*[^a-z])?(id|uuid|guid|index|key|row|nr|no)|unnamed: \d+|.*ID", re.IGNORECASE
)


def shown(text: str) -> str:
    """A text as part of one line of a comment or a message."""
    cut = text if len(text) <= 60 else f"{text[:60]}…"
    return "".join(c if c.isprintable() else "?" for c in cut)


class Profile:
    """What one column holds. Values are trimmed; `values` and `missing` count them."""

    def __init__(self, name: str, missing: Sequence[str]) -> None:
        self.name = name
        self.values = Counter[str]()
        self.missing = Counter[str]()
        self._missing_values = set(missing)

    def add(self, texts: Iterable[str]) -> None:
        counts = Counter(text.strip(" \t\r\n") for text in texts)
        for value, count in counts.items():
            (self.missing if value in self._missing_values else self.values)[value] += count

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
        return fitting / self.present

    def numbers(self) -> dict[float, int]:
        """The finite numbers among the values, and how often each stands."""
        found = Counter[float]()
        for value, count in self.values.items():
            if _NUMBER.fullmatch(value) and math.isfinite(number := float(value)):
                found[number] += count
        return found

    def not_numbers(self) -> list[str]:
        return [v for v in self.values if not _NUMBER.fullmatch(v) or not math.isfinite(float(v))]

    def words(self) -> float:
        """Words in a value, on average."""
        return sum(len(value.split()) * n for value, n in self.values.items()) / self.present


@dataclass(frozen=True, slots=True)
class Draft:
    """The kind of a column, or None if it is left out, and a comment for the YAML."""

    kind: str | None
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Label:
    """The label column as guessed. `classes` is empty for a regression."""

    name: str
    problem_type: str
    comment: str
    classes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


# -- features -------------------------------------------------------------------------------------


def draft_column(profile: Profile) -> Draft:
    """The kind of a feature column, or why it is left out."""
    if profile.name.startswith("_") or profile.name == "image":
        return Draft(None, "the name is reserved, rename the column to use it")
    if not profile.values:
        return Draft(None, "it has no value in any row")
    if len(profile.values) == 1:
        return Draft(None, f"it is always '{shown(next(iter(profile.values)))}'")
    for pattern, comment in _NOT_LEARNT:
        if profile.share(pattern) >= NUMBERS_SHARE:
            return Draft(None, comment)
    numbers = profile.numbers()
    if sum(numbers.values()) >= NUMBERS_SHARE * profile.present:
        return _of_numbers(profile, numbers)
    return _of_words(profile)


def _of_numbers(profile: Profile, numbers: dict[float, int]) -> Draft:
    different = len(numbers)
    whole = all(number.is_integer() for number in numbers)
    if whole and any(re.match(r"[+-]?0[0-9]", value) for value in profile.values):
        return Draft("category", "digits with zeros in front: codes, not quantities")
    bad = profile.not_numbers()
    if whole and not bad and not profile.repeats and different > FEW_CODES:
        in_a_row = max(numbers) - min(numbers) == different - 1
        if in_a_row or _ID_NAME.fullmatch(profile.name):
            return Draft(None, "it numbers the rows: every value stands once")
    if whole and not bad and profile.present >= 2 * different:
        if all(1900 <= number <= 2100 for number in numbers) and different <= FEW_VALUES:
            return Draft("category", f"{different} different years; write number for a trend")
        if different <= FEW_CODES:
            return Draft("category", f"only {different} different whole numbers; write number "
                         "if they are a quantity")  # fmt: skip
    if bad:
        first = ", ".join(f"'{shown(value)}'" for value in bad[:2])
        return Draft("number", f"not numbers: {first}{' …' if len(bad) > 2 else ''}; "
                     "rows with them will be rejected")  # fmt: skip
    return Draft("number")


def _of_words(profile: Profile) -> Draft:
    different, words = len(profile.values), profile.words()
    if words > 2 and different > min(20, profile.present / 2):
        return Draft("text")
    if not profile.repeats and different > FEW_CODES and words <= 1.2:
        return Draft(None, "every value is one word that stands once, as an ID does")
    if different <= FEW_VALUES or different <= profile.present / 20:
        return Draft("category")
    return Draft("text", f"{different} different short values; write category to treat each as "
                 "a code of its own")  # fmt: skip


# -- the label ------------------------------------------------------------------------------------


def draft_label(profile: Profile, table: Path) -> Label:
    """The problem type. Raises SpecError when there is nothing to learn."""
    different = len(profile.values)
    where = f"{table}, column '{shown(profile.name)}'"
    if profile.name == "image" or profile.name.startswith("_"):
        raise SpecError(
            code="init_label", what=f"the name '{shown(profile.name)}' is reserved", where=where,
            todo="Rename the column in the table.",
        )  # fmt: skip
    if different < 2:
        only = f"'{shown(next(iter(profile.values)))}' in every row" if different else "no value"
        raise SpecError(
            code="init_one_class", what=f"the label has {only}; there is nothing to learn",
            where=where, todo="Name another label, or add rows with other labels.",
        )  # fmt: skip
    numbers = profile.numbers()
    mostly_numbers = sum(numbers.values()) >= NUMBERS_SHARE * profile.present
    whole = all(number.is_integer() for number in numbers)
    if mostly_numbers and different > 2 and (not whole or different > 20):
        return _regression(profile, different)
    if different > MOST_CLASSES:
        raise SpecError(
            code="init_label",
            what=f"the label has {different:,} different values, such as "
            f"{', '.join(repr(shown(value)) for value in list(profile.values)[:3])}; "
            f"that is neither up to {MOST_CLASSES} classes nor numbers",
            where=where, todo="Name another label, or group its values in the table.",
        )  # fmt: skip
    return _classes(profile, mostly_numbers and different > 2)


def _regression(profile: Profile, different: int) -> Label:
    notes = [f"label '{shown(profile.name)}': numbers, {different:,} different ones: regression"]
    if bad := profile.not_numbers():
        first = shown(bad[0])
        notes.append(f"labels that are no numbers, and whose rows will be rejected: '{first}', …")
    comment = "binary, multiclass or regression; here the labels are numbers"
    return Label(profile.name, "regression", comment, notes=notes + _unlabelled(profile))


def _classes(profile: Profile, numbers: bool) -> Label:
    counts = profile.values.most_common()
    kind = "binary" if len(counts) == 2 else "multiclass"
    listed = ", ".join(f"{shown(value)} ({count})" for value, count in counts[:6])
    more = ", …" if len(counts) > 6 else ""
    notes = [f"label '{shown(profile.name)}': {len(counts)} classes, {kind}: {listed}{more}"]
    if rare := [value for value, count in counts if count < 5]:
        notes.append(f"fewer than 5 rows: {', '.join(map(shown, rare[:6]))}; hard to learn")
    comment = f"binary, multiclass or regression; here {len(counts)} classes"
    if numbers:
        comment += "; regression if the numbers are a quantity"
    classes = sorted(profile.values)
    return Label(profile.name, kind, comment, classes, notes + _unlabelled(profile))


def _unlabelled(profile: Profile) -> list[str]:
    missing = profile.missing.total()
    return [f"rows without a label, which will be predicted: {missing:,}"] if missing else []
