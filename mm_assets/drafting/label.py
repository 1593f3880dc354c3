"""The label: what is to be predicted, and which kind of problem that is."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mm_assets.contract.errors import SpecError
from mm_assets.contract.spellings import Known
from mm_assets.drafting.column_kinds import NUMBERS_SHARE
from mm_assets.drafting.profile import Profile, quoted, shown

MOST_CLASSES = 50
FEWEST_OF_A_CLASS = 5
_FEWEST_TO_COMPARE = 20  # numbers, before one of them is called far from the others
_FAR = 10  # times the width of the middle half, beyond it: sums of money rarely reach so far
_FEW_NUMBERS = 20  # more different whole numbers than this are a quantity


@dataclass(frozen=True, slots=True)
class Label:
    """The label column as guessed. `classes` is empty for a regression.

    meant: each label of the table to its class. merged: whether the YAML must name the classes,
    because the table spells one in several ways.
    """

    name: str
    problem_type: str
    because: str
    classes: list[str] = field(default_factory=list)
    meant: dict[str, str] = field(default_factory=dict)
    merged: bool = False
    doubts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def draft_label(profile: Profile, table: Path) -> Label:
    """The problem type. Raises SpecError when there is nothing to learn."""
    classes = classes_of(profile.values)
    different = len(set(classes.values()))
    where = f"{table}, column '{shown(profile.name)}'"
    if profile.name == "image" or profile.name.startswith("_"):
        raise SpecError(
            code="init_label", what=f"the name '{shown(profile.name)}' is reserved", where=where,
            todo="Rename the column in the table.",
        )  # fmt: skip
    if different < 2:
        only = f"{quoted(profile.values)} in every row" if different else "no value"
        raise SpecError(
            code="init_one_class", what=f"the label has {only}; there is nothing to learn",
            where=where, todo="Name another label, or add rows with other labels.",
        )  # fmt: skip
    numbers = profile.numbers()
    mostly_numbers = sum(numbers.values()) >= NUMBERS_SHARE * profile.present
    whole = all(number.is_integer() for number in numbers)
    if mostly_numbers and different > 2 and (not whole or different > _FEW_NUMBERS):
        return _regression(profile, len(numbers))
    if different > MOST_CLASSES:
        raise SpecError(
            code="init_label",
            what=f"the label has {different:,} different values, such as {quoted(profile.values)}; "
            f"that is neither up to {MOST_CLASSES} classes nor numbers",
            where=where, todo="Name another label, or group its values in the table.",
        )  # fmt: skip
    return _classification(profile, classes, mostly_numbers and different > 2)


def _regression(profile: Profile, different: int) -> Label:
    doubts = []
    notes = [f"label '{shown(profile.name)}': numbers, {different:,} different ones: regression"]
    if bad := profile.not_numbers():
        doubts.append(f"not numbers, their rows will be rejected: {quoted(bad, 2)}")
        notes.append(f"labels that are no numbers, and whose rows will be rejected: {quoted(bad)}")
    if far := _far(profile.numbers()):
        shown_far = ", ".join(
            f"{number:g}" if abs(number) < 1e6 else f"{number:,.0f}" for number in far
        )
        doubts.append(f"far from all others, and learnt from as they are: {shown_far}; slips?")
        notes.append(f"labels far from all others; if they are slips, correct them: {shown_far}")
    return Label(profile.name, "regression", f"{different:,} different numbers", doubts=doubts,
                 notes=notes + _unlabelled(profile, doubts))  # fmt: skip


def _far(numbers: Mapping[float, int]) -> list[float]:
    """The first that lie far outside of the middle half: one of them can spoil a regression."""
    every = sorted(number for number, count in numbers.items() for _ in range(count))
    if len(every) < _FEWEST_TO_COMPARE:
        return []
    low, high = every[len(every) // 4], every[-1 - len(every) // 4]
    reach = _FAR * (high - low)
    if not reach:
        return []
    return [one for one in sorted(numbers) if one < low - reach or one > high + reach][:3]


def _classification(profile: Profile, classes: Mapping[str, str], numbers: bool) -> Label:
    counts = Counter[str]()
    for value, count in profile.values.items():
        counts[classes[value]] += count
    kind = "binary" if len(counts) == 2 else "multiclass"
    listed = ", ".join(f"{shown(value)} ({count:,})" for value, count in counts.most_common(6))
    more = ", …" if len(counts) > 6 else ""
    notes = [f"label '{shown(profile.name)}': {len(counts)} classes, {kind}: {listed}{more}"]
    doubts = []
    spelled = spelled_otherwise(classes)
    for name, spellings in spelled.items():
        doubts.append(f"{quoted(spellings, 4)} are one class, '{shown(name)}'")
    if spelled:
        notes.append("labels that differ only in how they are written are one class (`classes`)")
    if single := [value for value, count in counts.items() if count == 1]:
        doubts.append(f"only one row: {quoted(single)}")
    if rare := [value for value, count in counts.items() if 1 < count < FEWEST_OF_A_CLASS]:
        doubts.append(f"few rows: {quoted(rare)}")
    if single or rare:
        few = ", ".join(map(shown, [*single, *rare][:6]))
        notes.append(f"fewer than {FEWEST_OF_A_CLASS} rows: {few}; hard to learn")
    if numbers:
        doubts.append("regression if the numbers are a quantity")
    return Label(
        profile.name, kind, f"{len(counts)} classes", sorted(counts), dict(classes), bool(spelled),
        doubts,
        notes + _unlabelled(profile, doubts),
    )  # fmt: skip


def classes_of(counts: Mapping[str, int]) -> dict[str, str]:
    """Each label to its class: those that differ only in case, blanks or form are one.

    Numbers and truth values that are spelled in several ways (1, 1.0) are one by the contract.
    """
    learnt = Known.learn(counts)
    groups: dict[str, list[str]] = {}
    for value in counts:
        groups.setdefault(_folded(learnt.meant(value)), []).append(value)
    found = {}
    for values in groups.values():
        meant = Counter({value: counts[value] for value in values})
        name = learnt.meant(meant.most_common(1)[0][0])
        found.update(dict.fromkeys(values, name))
    # Only what the contract takes for the same may be called the same.
    known = Known(tuple(dict.fromkeys(found.values())))
    return {value: name if known.meant(value) == name else value for value, name in found.items()}


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).split()).casefold()


def spelled_otherwise(classes: Mapping[str, str]) -> dict[str, list[str]]:
    """Classes whose labels differ in more than `1` and `1.0`."""
    groups: dict[str, list[str]] = {}
    for value, name in classes.items():
        groups.setdefault(name, []).append(value)
    return {
        name: values
        for name, values in groups.items()
        if len({value for value in values if value != name and not value.endswith(".0")}) > 0
    }


def _unlabelled(profile: Profile, doubts: list[str]) -> list[str]:
    words = {value: count for value, count in profile.missing.items() if value}
    if words:
        said = ", ".join(f"'{shown(value)}' ({count:,})" for value, count in words.items())
        doubts.append(f"{said} counts as no label; if it is a class, take it out of missing_values")
    missing = profile.missing.total()
    return [f"rows without a label, which will be predicted: {missing:,}"] if missing else []
