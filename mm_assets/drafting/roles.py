"""Which column is the ID and which the label, where nobody said so and there is no doubt."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mm_assets.contract.errors import SpecError
from mm_assets.contract.ids import fault_of
from mm_assets.drafting.column_kinds import IMAGE_FILES, NUMBERS_SHARE
from mm_assets.drafting.profile import Profile, argument, shown
from mm_assets.reading.images_inside import PATH, SHA256
from mm_assets.reading.table import FILE_NAME

# How the columns are called, in any case, with words apart by blanks, _, - or a capital letter.
_ID = {"id", "ids", "key", "uid", "uuid", "guid", "identifier", "file name", "filename"}
_ID_ENDS = {"id", "key", "uid", "uuid", "guid"}
_LABEL = {"label", "labels", "target", "class", "cls", "y", "diagnosis", "outcome"}
_PERHAPS_LABEL = {"price", "response", "species", "category", "result", "score", "rating", "churn"}
_SHOWN = 8
_MOST_CLASSES = 50


@dataclass(frozen=True)
class Guess:
    """A column's name, and why it is the one; or '' and the candidates, each with its reason."""

    name: str
    because: str = ""
    candidates: tuple[tuple[str, str], ...] = ()


def guess_id(profiles: Mapping[str, Profile]) -> Guess:
    """The one column that is named like an ID and is one: no value twice, none missing."""
    named, others, spoilt = [], [], []
    for name, profile in profiles.items():
        words = _words(name)
        looks = " ".join(words) in _ID or (len(words) > 1 and words[-1] in _ID_ENDS)
        unique = bool(profile.values) and not profile.repeats and not profile.missing
        if looks and unique:
            named.append((name, "its name says so, and no value stands twice or is missing"))
        elif looks:
            spoilt.append((name, _fault(profile)))
        elif unique:
            others.append((name, "no value stands twice or is missing"))
    of_images = None if named or spoilt else _of_images(profiles)
    if of_images and of_images.name:
        return of_images
    if own := _of_paths(profiles, named):
        return own
    if of_images:
        spoilt += of_images.candidates
    plain = [one for one in named if _words(one[0]) == ["id"]]
    if len(named) == 1 or len(plain) == 1:
        return Guess(*(plain or named)[0])
    return Guess("", candidates=(*named, *(others if of_images else ()), *spoilt,
                                 *(() if of_images else others)))  # fmt: skip


def _of_paths(profiles: Mapping[str, Profile], named: list[tuple[str, str]]) -> Guess | None:
    """The names of the files that the one column of paths holds, if no name stands twice.

    named: the columns that are called like an ID; if there is one, it has to be that of the paths,
    which as they are can be no IDs.
    """
    paths = [
        name
        for name, one in profiles.items()
        if one.share(IMAGE_FILES) >= NUMBERS_SHARE
        and not (name.endswith(PATH) and name.removesuffix(PATH) in profiles)  # the same once more
    ]
    if len(paths) != 1 or (named and [name for name, _ in named] != paths):
        return None
    profile = profiles[paths[0]]
    if profile.missing or profile.repeats or (named and not any(map(fault_of, profile.values))):
        return None
    names = {re.sub(r"(?s)^.*[/\\]", "", value) for value in profile.values}
    if len(names) < len(profile.values) or any(map(fault_of, names)):
        return None
    because = f"no column is an ID; each path in '{shown(paths[0])}' ends with another file name"
    return Guess(paths[0] + FILE_NAME, because)


def _of_images(profiles: Mapping[str, Profile]) -> Guess | None:
    """The path of an image inside the table, or else its sha256: rows of which nothing else tells
    which is which.
    """
    found: list[tuple[str, str]] = []
    for end, because in ((PATH, "the file that the image was"), (SHA256, "made of its bytes")):
        for name, profile in profiles.items():
            if not (name.endswith(end) and name.removesuffix(end) in profiles):
                continue
            if not profile.values:
                continue
            if profile.repeats or profile.missing:
                found.append((name, _fault(profile)))
            elif not any(map(fault_of, profile.values)):
                return Guess(name, f"no column is an ID; each image has another one, {because}")
    return Guess("", candidates=tuple(reversed(found))) if found else None


def _fault(profile: Profile) -> str:
    blank, repeated = profile.missing.total(), profile.present - len(profile.values)
    faults = [f"{repeated:,} rows repeat a value"] if repeated else []
    faults += [f"{blank:,} rows have none"] if blank else []
    return ", ".join(faults) or "it has no value"


def guess_label(profiles: Mapping[str, Profile], id_column: str) -> Guess:
    """The one column that is named like a label and has at least two values."""
    learnable = {n: p for n, p in profiles.items() if n != id_column and len(p.values) > 1}
    for names in (_LABEL, _PERHAPS_LABEL):
        found = [name for name in learnable if " ".join(_words(name)) in names]
        if len(found) == 1:
            return Guess(found[0], "its name says so, and no other's does")
        if found:
            return Guess("", candidates=tuple((name, "its name says so") for name in found))
    few = [
        (name, f"{len(profile.values)} different values")
        for name, profile in learnable.items()
        if len(profile.values) <= _MOST_CLASSES and len(profile.values) * 2 <= profile.present
    ]
    empty = [
        (name, f"its name says so, but it has {'one value' if profile.values else 'no value'}")
        for name, profile in profiles.items()
        if len(profile.values) < 2 and " ".join(_words(name)) in _LABEL
    ]
    return Guess("", candidates=(*empty, *few))


def _words(name: str) -> list[str]:
    apart = re.sub(r"(?<=[a-zà-ž])(?=[A-Z])", " ", name)
    return re.sub(r"[\s_.-]+", " ", apart).strip().lower().split()


def unclear(
    table: Path, found: Mapping[str, Guess], columns: list[str], given: Mapping[str, str]
) -> SpecError:
    """The refusal that lists the candidates and the command to run.

    found: by `ID` and `label`, what is unclear; given: the option's value where it is not.
    """
    said, options = [], []
    for role, option in (("ID", "--id"), ("label", "--label")):
        guess = found.get(role)
        if guess is None:
            options.append(f"{option} {argument(given[option])}")
            continue
        named = [f"'{shown(name)}' ({why})" for name, why in guess.candidates[:_SHOWN]]
        more = len(guess.candidates) - _SHOWN
        listed = ", ".join(named) + (f" and {more} more" if more > 0 else "")
        said.append(f"which column is the {role}? It could be {listed or 'any'}")
        likely = guess.candidates[0][0] if guess.candidates else "COLUMN"
        options.append(f"{option} {argument(likely)}")
    return SpecError(
        code="init_unclear",
        what=f"{'; '.join(said)}. The columns: {', '.join(map(shown, columns[:30]))}",
        where=str(table),
        todo=f"Say it: mm init {argument(str(table))} {' '.join(options)}",
    )
