"""What a column of a table is taken for: a number, a category, text, or nothing to learn from.

Guesses for `mm init`, each with its reason, and what a person may want to correct. The pipeline
itself never guesses.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace

from mm_assets.contract.spellings import Known
from mm_assets.drafting.number_forms import in_words
from mm_assets.drafting.profile import Profile, quoted, shown

FEW_CODES = 12  # up to so many different whole numbers may be codes
FEW_VALUES = 50  # up to so many different words are categories whatever the number of rows
MANY_VALUES = 1000  # so many categories are doubted
MOST_SPELLINGS = 2000  # of a column with more values it is not asked which are alike
NUMBERS_SHARE = 0.9  # so many of the values must be numbers
WORDS_SHARE = 0.5  # or so many, if the others are a few words that stand for no value
REJECTED_SHARE = 0.02  # so many rows may be rejected for a column's sake, and no more
_DATE = re.compile(
    r"[0-9]{4}[-/.][0-9]{1,2}[-/.][0-9]{1,2}([ T].*)?"
    r"|[0-9]{1,2}[-/.][0-9]{1,2}[-/.]([0-9]{4}|[0-9]{2})([ T].*)?"
    r"|[0-9]{1,2}:[0-9]{2}(:[0-9]{2}([.,][0-9]+)?)?"
    r"|[0-9]{1,2}\.? [A-Za-zÀ-ž]{3,9}\.? [0-9]{4}|[A-Za-z]{3,9}\.? [0-9]{1,2}, [0-9]{4}"
)
_SUFFIX = r"\.(jpe?g|jpe|jfif|a?png|webp|gif|tiff?|bmp|hei[cf]|avif)"
IMAGE_FILES = re.compile(rf"(?!https?:)[^;|]+{_SUFFIX}(\s*[;|,]\s*[^;|]+{_SUFFIX})*", re.IGNORECASE)
WEB_ADDRESS = re.compile(r"(https?|ftp|s3)://\S+.*", re.IGNORECASE)
_NOT_LEARNT = (
    (WEB_ADDRESS, "it holds web addresses; nothing is fetched from there"),
    (IMAGE_FILES, "it holds names of image files"),
    (_DATE, "it holds dates or times; add a column with a number, such as an age in days"),
)
# A number and what people write beside it: €45.50, USD 12, 12 %, 45kg; not a code such as A12.
_QUANTITY = re.compile(
    r"[-+−]?(?P<before>[$€£¥₹₩₽₺]|[A-Z]{3}\s)?\s?[-+−]?[0-9][0-9.,'’\s]*(?P<after>[^0-9]{0,10})"
)
_TRUTHS = {"true", "false", "t", "f", "yes", "no", "y", "n"}
_WHOLE = re.compile(r"[+-]?[0-9]+(\.0+)?")
_ID_NAME = re.compile(
    r"(.*[^a-z])?(id|uuid|guid|index|key|row|nr|no)|unnamed: \d+|.*ID", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Taken:
    """What a column is taken for, why, and what is doubted. kind: None if it is left out.

    missing: words that stand for a missing number and must be in `missing_values`.
    """

    kind: str | None
    because: str
    doubt: str = ""
    missing: tuple[str, ...] = ()

    def doubted(self, more: str) -> Taken:
        return replace(self, doubt=f"{self.doubt}; {more}" if self.doubt else more)


def take_column(profile: Profile) -> Taken:
    """What a feature column is taken for."""
    if profile.name.startswith("_") or profile.name == "image":
        because = "the name is reserved, rename the column to use it"
        if profile.values and profile.share(IMAGE_FILES) >= NUMBERS_SHARE:
            because = "it holds names of image files"
        return Taken(None, because)
    if not profile.values:
        return Taken(None, "it has no plain value in any row")
    if len(profile.values) == 1:
        gaps = " where it has a value" if profile.missing else ""
        return Taken(None, f"it is always '{shown(next(iter(profile.values)))}'{gaps}")
    for pattern, because in _NOT_LEARNT:
        if profile.share(pattern) >= NUMBERS_SHARE:
            return Taken(None, because)
    numbers = profile.numbers()
    share = sum(numbers.values()) / profile.present
    if share == 1:
        return _of_numbers(profile, numbers)
    return _of_some_numbers(profile, numbers, share)


def take_as_words(profile: Profile) -> Taken:
    """The same if its values must not be numbers."""
    bad = profile.not_numbers()
    taken = _of_words(profile)
    if not bad or len(bad) == len(profile.values):
        return taken
    count = sum(profile.values[value] for value in bad)
    return taken.doubted(
        f"{count:,} of {profile.present:,} values are no numbers, such as {quoted(bad, 2)}; "
        "as numbers their rows would be rejected: clean them and write number"
    )


def _of_some_numbers(profile: Profile, numbers: dict[float, int], share: float) -> Taken:
    bad = profile.not_numbers()
    words = all(not any(c.isdigit() for c in value) for value in bad)
    quantity = len(numbers) > FEW_CODES
    if words and len(bad) <= 3 and quantity and share >= WORDS_SHARE:
        counts = ", ".join(f"'{shown(v)}' ({profile.values[v]:,})" for v in bad)
        doubt = f"{counts} stands for no value (missing_values)"
        return replace(_of_numbers(profile, numbers), doubt=doubt, missing=tuple(bad))
    if share < NUMBERS_SHARE:
        return _of_words(profile) if share < WORDS_SHARE else take_as_words(profile)
    if share < 1 - REJECTED_SHARE:
        return take_as_words(profile)
    doubt = f"not numbers: {quoted(bad, 2)}; rows with them will be rejected"
    return _of_numbers(profile, numbers).doubted(doubt)


def _of_numbers(profile: Profile, numbers: dict[float, int]) -> Taken:
    different = len(numbers)
    parse = profile.parser()
    texts = [value for value in profile.values if parse(value) is not None]
    whole = all(number.is_integer() for number in numbers)
    plain = all(map(_WHOLE.fullmatch, texts))
    if whole and any(re.match(r"[+-]?0[0-9]", value) for value in texts):
        if not profile.repeats and different > FEW_CODES:
            return Taken(None, "codes of which each stands once, as an ID does")
        return Taken("category", "digits with zeros in front: codes, not quantities")
    if plain and not profile.repeats and different > FEW_CODES:
        in_a_row = max(numbers) - min(numbers) == different - 1
        if in_a_row or _ID_NAME.fullmatch(profile.name):
            return Taken(None, "it numbers the rows: every value stands once")
    if whole and profile.present >= 2 * different:
        if all(1900 <= number <= 2100 for number in numbers) and different <= FEW_VALUES:
            return Taken("category", f"{different} different years", "write number for a trend")
        if different <= FEW_CODES:
            doubt = "codes? write number if they are a quantity"
            return Taken("category", f"only {different} different whole numbers", doubt)
    how = in_words(profile)
    because = f"numbers {how}" if how else f"{different:,} different numbers"
    if words := [value for value in profile.missing if value]:
        because += f"; {quoted(words)} is no value"
    return Taken("number", because)


def _written_beside(profile: Profile) -> str:
    """The unit or currency that stands beside nearly each number of a column, or ''."""
    counts = Counter[str]()
    for value, count in profile.values.items():
        if found := _QUANTITY.fullmatch(value):
            counts[((found["before"] or "") + found["after"]).strip()] += count
    beside, count = (counts.most_common(1) or [("", 0)])[0]
    return beside if count >= NUMBERS_SHARE * profile.present else ""


def _of_words(profile: Profile) -> Taken:
    taken = _of_plain_words(profile)
    if len(profile.values) > FEW_CODES and (beside := _written_beside(profile)):
        return taken.doubted(
            f"numbers with '{shown(beside)}' beside them are words here; send the numbers alone "
            "and write number"
        )
    return taken


def _of_plain_words(profile: Profile) -> Taken:
    different, words = len(profile.values), profile.words()
    if {value.casefold() for value in profile.values} <= _TRUTHS:
        return Taken("category", "yes or no")
    if words > 2 and different > min(20, profile.present / 2):
        return Taken("text", f"{words:.0f} words in a value")
    if not profile.repeats and different > FEW_CODES and words <= 1.2:
        return Taken(None, "every value is one word that stands once, as an ID does")
    if different <= FEW_VALUES or different <= profile.present / 20:
        return _of_categories(profile)
    return Taken("text", f"{different:,} different short values",
                 "write category to treat each as a code of its own")  # fmt: skip


def _of_categories(profile: Profile) -> Taken:
    different = len(profile.values)
    taken = Taken("category", f"{different:,} different values")
    if different >= MANY_VALUES:
        rows = profile.present / different
        taken = taken.doubted(f"{different:,} categories, {rows:.0f} rows each: group them?")
    if different <= MOST_SPELLINGS and (alike := Known(tuple(profile.values)).alike()):
        taken = taken.doubted(f"spelled in several ways: {quoted(alike[0])}")
    return taken
