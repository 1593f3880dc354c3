"""How the numbers of a table are written: the decimal sign of each column.

Decided by the very rule of the manifest (`manifest/numbers.py`). What belongs here: to ask it, and
to choose a `decimal` for the YAML where that rule would refuse values that can be read in two ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mm_assets.drafting.profile import Profile, quoted
from mm_assets.manifest.numbers import Form, decide, evidence_of

_HALF = 0.5  # so many of a column's values must be numbers for it to be one of numbers


class Decimal(NamedTuple):
    """What the YAML's `decimal` must say, and why; None where the values decide by themselves."""

    sign: str | None
    because: str = ""


def settle_forms(profiles: Sequence[Profile], delimiter: str, said: str | None = None) -> Decimal:
    """Give each column the form of its numbers. said: the `decimal` that the YAML will have.

    delimiter: of the table's fields; a semicolon speaks for decimal commas.
    """
    found = {}
    for profile in profiles:
        if profile.is_plain() and said != ",":
            continue
        numbers = profile.numberlike()
        if numbers and len(numbers) >= _HALF * min(len(profile.values), 20_000):
            found[profile.name] = evidence_of(numbers)
    forms = decide(found, said)
    by_name = {profile.name: profile for profile in profiles}
    for name, form in forms.items():
        by_name[name].form = form
    unclear = [by_name[name] for name, form in forms.items() if form.open]
    unclear = [profile for profile in unclear if profile.not_numbers()]
    if said is not None or not unclear:
        return Decimal(said)
    return _chosen(profiles, unclear, delimiter)


def _chosen(profiles: Sequence[Profile], unclear: list[Profile], delimiter: str) -> Decimal:
    commas = any(profile.form.decimal == "," for profile in profiles)
    sign = "," if delimiter == ";" or commas else "."
    examples = unclear[0].not_numbers()
    why = "the fields are separated by ;" if delimiter == ";" else "columns beside it have one"
    why = why if sign == "," else "groups of three digits look like thousands"
    settle_forms(profiles, delimiter, sign)
    read = Form(sign, plain=False)
    return Decimal(read.decimal, f"{quoted(examples, 2)} can be read in two ways; {why}")


def in_words(profile: Profile) -> str:
    """How the numbers are written, where it is not as computers do: `with decimal commas`."""
    if profile.form.plain:
        return ""
    sign, group = profile.form.decimal, profile.form.grouping
    said = []
    if sign == "," and any("," in value for value in profile.values):
        said.append("with decimal commas")
    grouped = any(group in value or " " in value or "'" in value for value in profile.values)
    if grouped:
        said.append("with thousands separators")
    return " and ".join(said)
