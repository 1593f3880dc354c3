"""Numbers as people write them: which comma is a decimal comma, decided once for each column.

`1,234.5` says that its dot is the decimal point, `12,5` and `1.234,5` that their comma is;
`1,234` alone says neither. What is certain in a column decides for all of it, then what is certain
in the table's other columns, and the YAML's `decimal` before both. What is left open is refused,
never guessed. Blanks and apostrophes between groups of three digits never count.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from mm_assets.contract import ids
from mm_assets.contract.sql import literal

SPACE = literal(ids.SPACE)
PLAIN = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
# What stands for a missing number, whatever the YAML says: no number can be one of these.
MARKERS = (
    "na", "n/a", "n.a.", "nan", "-nan", "null", "(null)", "none", "nil", "<na>", "nat", "\\n",
    "-", "--", "–", "—", "?", ".", "1.#qnan", "-1.#qnan", "1.#ind", "-1.#ind",
    "#n/a", "#n/a n/a", "#na", "#nv", "#n/d", "#null!",
    "#div/0!", "#value!", "#ref!", "#name?", "#num!",
)  # fmt: skip
MINUS = "−–‐‑"  # as people and word processors write it
_MINUS = str.maketrans(dict.fromkeys(MINUS, "-"))
_GROUP = "[ \\x{a0}\\x{2009}\\x{202f}'’]"  # between groups of digits, in every country
_INDIAN = "[0-9]{1,2}(,[0-9]{2})+,[0-9]{3}"
_EXPONENT = r"([eE][+-]?[0-9]+)?"


class Evidence(NamedTuple):
    """How many values of a column say something. odd: not numbers as computers write them."""

    odd: int
    point: int  # certain that the dot is the decimal point
    comma: int  # certain that the comma is
    open_comma: int  # 1,234
    open_point: int  # 1.234


NOTHING = Evidence(0, 0, 0, 0, 0)


@dataclass(frozen=True)
class Form:
    """How the numbers of one column are written. plain: as computers write them, nothing else.

    open: what stands there and could be read in two ways, "," or ".", or "" if nothing could.
    because: in words, for the receipt.
    """

    decimal: str = "."
    plain: bool = True
    open: str = ""
    because: str = ""

    @property
    def grouping(self) -> str:
        return "," if self.decimal == "." else "."

    def text_sql(self, text: str) -> str:
        """The number as a computer writes it, or NULL: SQL over the column `text`."""
        trimmed = _trimmed(text)
        if self.plain:
            return f"CASE WHEN regexp_full_match({trimmed}, '{PLAIN}') THEN {trimmed} END"
        bare = f"replace({trimmed}, '{self.grouping}', '')"
        bare = f"regexp_replace({bare}, {literal(_GROUP)}, '', 'g')"
        if self.decimal == ",":
            bare = f"replace({bare}, ',', '.')"
        fits = f"regexp_full_match({trimmed}, {literal(_written(self.decimal))})"
        if self.open:
            fits += f" AND NOT regexp_full_match({trimmed}, {literal(_open(self.open))})"
        return f"CASE WHEN {fits} THEN {bare} END"

    @property
    def keeps_plain(self) -> bool:
        """Whether every number as computers write it is the same number in this form."""
        return self.decimal == "." and self.open != "."

    def value_sql(self, text: str) -> str:
        """The number, or NULL: SQL over the column `text`."""
        plain = f"WHEN {_sound_sql(text)} THEN try_cast({text} AS DOUBLE)"
        if self.plain:
            return f"CASE {plain} END"
        cast = f"try_cast({self.text_sql(text)} AS DOUBLE)"
        # The fast way first: nearly every number is one already.
        return f"CASE {plain if self.keeps_plain else ''} WHEN isfinite({cast}) THEN {cast} END"

    def sound_sql(self, text: str) -> str:
        """Whether it is a number, faster than asking for it: SQL, may be NULL where it is none."""
        return _sound_sql(text) if self.plain else f"{self.value_sql(text)} IS NOT NULL"

    def judged_sql(self, text: str) -> str:
        """`value_sql` of a value that is known to be a number or to be missing."""
        cast = f"try_cast({text} AS DOUBLE)"
        return f"CASE WHEN isfinite({cast}) THEN {cast} END" if self.plain else self.value_sql(text)

    def open_sql(self, text: str) -> str:
        """Whether a value could be read in two ways."""
        return f"regexp_full_match(trim({text}, {SPACE}), {literal(_open(self.open))})"


def _sound_sql(text: str) -> str:
    """Whether it is a number as computers write it; DuckDB takes `1_000` and `+-5` for one."""
    finite = f"isfinite(try_cast({text} AS DOUBLE))"
    return f"{finite} AND NOT contains({text}, '_') AND NOT contains({text}, '+-')"


def _written(decimal: str) -> str:
    """A number with this decimal sign, whole groups of three digits or none."""
    sign = re.escape(decimal)
    group = re.escape("," if decimal == "." else ".")
    grouped = "|".join(f"[0-9]{{1,3}}({one}[0-9]{{3}})+" for one in (group, _GROUP))
    if decimal == ".":
        grouped += f"|{_INDIAN}"
    fraction = f"{sign}[0-9]*"
    return f"[+-]?(({grouped}|[0-9]+)({fraction})?|{sign}[0-9]+){_EXPONENT}"


def _open(sign: str) -> str:
    return rf"[+-]?[1-9][0-9]{{0,2}}{re.escape(sign)}[0-9]{{3}}"


def _certain(decimal: str) -> str:
    """A number that can only have this decimal sign, if it is not `_open`."""
    sign, group = (re.escape(one) for one in (decimal, "," if decimal == "." else "."))
    grouped = rf"[0-9]{{1,3}}({group}[0-9]{{3}})+{sign}[0-9]*"
    many = rf"[1-9][0-9]{{0,2}}({group}[0-9]{{3}}){{2,}}"
    blanks = rf"[0-9]{{1,3}}({_GROUP}[0-9]{{3}})+{sign}[0-9]+"
    indian = rf"|{_INDIAN}(\.[0-9]*)?" if decimal == "." else ""
    return rf"[+-]?({grouped}|{many}|{blanks}|[0-9]*{sign}[0-9]+{_EXPONENT}{indian})"


def _trimmed(text: str) -> str:
    """Without space around it, and with the minus of computers: SQL over the column `text`."""
    return f"translate(trim({text}, {SPACE}), '{MINUS}', '{'-' * len(MINUS)}')"


def missing_sql(text: str, missing: Sequence[str], *, number: bool) -> str:
    """Whether a value stands for a missing one: SQL over the column `text`, never NULL."""
    trimmed = f"trim({text}, {SPACE})"
    tokens = ", ".join(literal(token) for token in missing)
    found = [f"{text} IS NULL"]
    if tokens:
        found.append(f"{trimmed} IN ({tokens})")
    if number:
        # One pattern and not IN, for which DuckDB holds a vector for each of them.
        markers = "|".join(re.escape(marker) for marker in MARKERS)
        found.append(f"regexp_full_match({trimmed}, {literal(f'(?i){markers}')})")
    return f"({' OR '.join(found)})"


def looks_like_number(token: str) -> bool:
    return bool(re.fullmatch(PLAIN, token.strip()))


# -- deciding -------------------------------------------------------------------------------------


def evidence_sql(text: str, missing: str) -> list[str]:
    """Five counts for one column, in the order of `Evidence`."""
    trimmed = _trimmed(text)
    signed = f"(contains({text}, ',') OR contains({text}, '.'))"

    def matches(pattern: str) -> str:
        return f"regexp_full_match({trimmed}, {literal(pattern)})"

    opens = {sign: matches(_open(sign)) for sign in ",."}
    return [
        odd_sql(text, missing),
        f"count(*) FILTER ({signed} AND {matches(_certain('.'))} AND NOT {opens['.']})",
        f"count(*) FILTER ({signed} AND {matches(_certain(','))} AND NOT {opens[',']})",
        f"count(*) FILTER ({signed} AND {opens[',']})",
        f"count(*) FILTER ({signed} AND {opens['.']})",
    ]


def points_sql(text: str) -> list[str]:
    """Of these counts the two about points, of values that have one."""

    def matches(pattern: str) -> str:
        # CASE looks closer only where there is one; AND would look everywhere.
        matched = f"regexp_full_match({_trimmed(text)}, {literal(pattern)})"
        return f"CASE WHEN contains({text}, '.') THEN {matched} END"

    is_open = matches(_open("."))
    certain = f"{matches(_certain('.'))} AND NOT {is_open}"
    return [f"count(*) FILTER ({certain})", f"count(*) FILTER ({is_open})"]


def odd_sql(text: str, missing: str) -> str:
    """How many values no computer would write; if there are none, nothing has to be decided."""
    # CASE looks closer only at what no computer would write; AND would look at everything.
    odd = f"CASE WHEN try_cast({text} AS DOUBLE) IS NULL THEN NOT {missing} END"
    return f"count(*) FILTER ({odd})"


def decide(found: Mapping[str, Evidence], decimal: str | None) -> dict[str, Form]:
    """The form of each column, from what all columns of its table say. decimal: the YAML's."""
    if decimal is not None:
        said = Form(decimal, plain=False, because="the YAML says so")
        return dict.fromkeys(found, said)
    point = any(one.point for one in found.values())
    comma = any(one.comma for one in found.values())
    return {
        name: _form(one, point and not comma, comma and not point) for name, one in found.items()
    }


def decide_typed(own: Evidence) -> Form:
    """The form of a column in a file with types: its numbers have a point, its texts may not."""
    if not own.odd:
        return Form()
    if own.comma and not own.point and not own.open_point:
        return Form(",", plain=False, because="its own values say so")
    return Form(".", plain=False, open=",")


def _form(own: Evidence, all_point: bool, all_comma: bool) -> Form:
    if not own.odd and not (own.open_point and all_comma):
        return Form()
    if own.point and own.comma:
        return Form(".", plain=False, open=",", because="values with both decimal signs")
    if own.point:
        return Form(".", plain=False, because="its own values say so")
    if own.comma:
        return Form(",", plain=False, because="its own values say so")
    if own.open_comma and own.open_point:
        return Form(".", plain=False, open=",", because="nothing tells")
    if own.open_comma:
        if all_comma:
            return Form(",", plain=False, because="the table's other columns say so")
        is_open = "" if all_point else ","
        why = "the table's other columns say so" if all_point else "nothing tells"
        return Form(".", plain=False, open=is_open, because=why)
    if own.open_point and all_comma:
        return Form(".", plain=False, open=".", because="the table's other columns have a comma")
    return Form(".", plain=False)


def read_with(forms: Iterable[tuple[str, Form]]) -> dict[str, Any]:
    """What the manifest notes of columns that are not written as computers do."""
    return {
        name: {"decimal": form.decimal, "because": form.because, "ambiguous": bool(form.open)}
        for name, form in forms
        if form.because
    }


def parser(form: Form) -> Callable[[str], float | None]:
    """The same for Python: text to number, or None; for drafts."""
    written = re.compile(_python(_written(form.decimal)))
    is_open = re.compile(_python(_open(form.open))) if form.open else None
    groups = re.compile(_python(_GROUP))

    def parse(text: str) -> float | None:
        text = text.strip(ids.SPACE).translate(_MINUS)
        if not written.fullmatch(text) or (is_open and is_open.fullmatch(text)):
            return None
        bare = groups.sub("", text.replace(form.grouping, "")).replace(",", ".")
        number = float(bare)
        return number if abs(number) != float("inf") else None

    return parse


def evidence_of(texts: Iterable[str]) -> Evidence:
    """The same as `evidence_sql`, for Python: of texts that are not missing."""
    plain = re.compile(PLAIN)
    certain = {sign: re.compile(_python(_certain(sign))) for sign in ".,"}
    opens = {sign: re.compile(_python(_open(sign))) for sign in ".,"}
    odd = 0
    counts = dict.fromkeys(".,", 0)
    open_counts = dict.fromkeys(".,", 0)
    for raw in texts:
        text = raw.strip(ids.SPACE).translate(_MINUS)
        odd += not plain.fullmatch(text)
        for sign in ".,":
            if opens[sign].fullmatch(text):
                open_counts[sign] += 1
            elif certain[sign].fullmatch(text):
                counts[sign] += 1
    return Evidence(odd, counts["."], counts[","], open_counts[","], open_counts["."])


def _python(pattern: str) -> str:
    """RE2's way to write a character by its number, as Python writes it."""
    return re.sub(r"\\x\{([0-9a-f]+)\}", lambda found: f"\\u{int(found[1], 16):04x}", pattern)
