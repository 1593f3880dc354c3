"""`mm init TABLE`: draft a dataset's YAML from a person's own table and images.

What belongs here: the order of things: read, guess, write, try, reconsider. How a column is judged
is in `column_kinds.py`, the label in `label.py`, the images' names in `image_names.py`, the words
in `yaml_text.py`. A draft is tried on its own table before it is handed out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from mm_assets.contract.dataset import AUTO_ENCODING
from mm_assets.drafting.column_kinds import (
    REJECTED_SHARE,
    Taken,
    take_as_words,
    take_column,
)
from mm_assets.drafting.drafted import (
    IMAGES_TRIED,
    Drafted,
    by_column,
    tried_on,
    try_draft,
)
from mm_assets.drafting.group_hint import group_hint, in_words
from mm_assets.drafting.image_names import Images, images_inside, linked_by_columns, match_images
from mm_assets.drafting.label import Label, draft_label
from mm_assets.drafting.leaks import leaks
from mm_assets.drafting.number_forms import Decimal, settle_forms
from mm_assets.drafting.profile import Profile, quoted, shown
from mm_assets.drafting.read_table import ROWS_KEPT, ROWS_READ, Read, read_table
from mm_assets.drafting.roles import Guess, guess_id, guess_label, unclear
from mm_assets.drafting.yaml_text import spec_text
from mm_assets.reading.images_inside import about_image
from mm_assets.uploads.check import LocalFile, Report

_NAMED = Guess("", "you named it")
_BY_THEMSELVES = Decimal(None)


def draft_spec(
    table: Path,
    images: Path | None,
    id_column: str | None = None,
    label_column: str | None = None,
    dataset: str | None = None,
    *,
    encoding: str = AUTO_ENCODING,
    images_asked: bool = True,
) -> Drafted:
    """Draft the YAML of a dataset from its table, of any format, and images.

    images: a folder that is searched with its subfolders; images_asked: whether it was named, so
    that images which fit no ID are an error. Without id_column or label_column they are guessed.
    Raises SpecError when the table cannot be read, a column is not there or cannot be guessed,
    there is nothing to learn, or no image fits an ID.
    """
    guesses = _guesses(table, id_column, label_column, encoding)
    read = read_table(
        table, id_column or guesses["ID"].name, label_column or guesses["label"].name, encoding,
        ROWS_READ,
    )  # fmt: skip
    ids, label = read.profiles[read.id_column], read.profiles[read.label_column]
    if guesses["ID"] is not _NAMED and _id_doubts(ids):  # further down than was guessed from
        found = {"ID": Guess("", candidates=((read.id_column, _id_doubts(ids)),))}
        raise unclear(table, found, list(read.profiles), {"--label": read.label_column})
    of_image = () if read.image_column is None else about_image(read.image_column)
    features = {
        n: p for n, p in read.profiles.items()
        if p is not ids and p is not label and n not in of_image
    }  # fmt: skip
    plan = _Plan(table, read, features, dataset or name_of(table), encoding)
    plan.judge()
    plan.label = draft_label(label, table)
    plan.find_images(images, asked=images_asked)
    plan.find_leaks()
    report = plan.tried()
    rows = [
        _row(read.id_column, "ID", guesses["ID"].because, _id_doubts(ids)),
        _row(read.label_column, f"label, {plan.label.problem_type}",
             f"{guesses['label'].because}; {plan.label.because}", "; ".join(plan.label.doubts)),
        *(_row(n, one.kind or "left out", one.because, one.doubt)
          for n, one in plan.columns.items()),
    ]  # fmt: skip
    return Drafted(plan.text(), plan.notes(), plan.dataset, rows, report.ended, tried_on(report))


def name_of(path: Path) -> str:
    """A dataset's name made of a file's or folder's."""
    stem = path.name.partition(".")[0] if path.is_file() else path.stem
    name = re.sub(r"[^a-z0-9]+", "_", stem.lower()).strip("_")[:40].rstrip("_")
    return name if re.match("[a-z]", name) else f"data_{name}"[:40].rstrip("_")


def _row(column: str, taken_for: str, because: str, doubt: str) -> dict[str, str]:
    return {"column": column, "taken_for": taken_for, "because": because, "doubt": doubt}


def _guesses(
    table: Path, id_column: str | None, label_column: str | None, encoding: str
) -> dict[str, Guess]:
    """Why ID and label are the columns that they are. Raises SpecError where there is a doubt."""
    if id_column is not None and label_column is not None:
        return {"ID": _NAMED, "label": _NAMED}
    read = read_table(table, id_column, label_column, encoding, ROWS_KEPT)
    others = {n: p for n, p in read.profiles.items() if n != read.label_column}
    ids = _NAMED if id_column is not None else guess_id(others)
    named = read.id_column or ids.name
    labels = _NAMED if label_column is not None else guess_label(read.profiles, named)
    open_ones = {
        role: guess
        for role, guess in (("ID", ids), ("label", labels))
        if guess is not _NAMED and not guess.name
    }
    if open_ones:
        given = {"--id": id_column or ids.name, "--label": label_column or labels.name}
        raise unclear(table, open_ones, list(read.profiles), given)
    return {"ID": ids, "label": labels}


def _id_doubts(ids: Profile) -> str:
    doubts = []
    if blank := ids.missing.total():
        doubts.append(f"{blank:,} rows have none and will be rejected")
    if repeated := ids.present - len(ids.values):
        doubts.append(f"{repeated:,} rows repeat one; the first of each is used")
    return "; ".join(doubts)


@dataclass
class _Plan:
    """A draft in the making: what is known of the table, and what is decided so far."""

    table: Path
    read: Read
    features: dict[str, Profile]
    dataset: str
    encoding: str
    columns: dict[str, Taken] = field(default_factory=dict)
    decimal: Decimal = _BY_THEMSELVES
    label: Label = field(default_factory=lambda: Label("", "binary", ""))
    images: Images = field(default_factory=Images)

    @property
    def ids(self) -> Profile:
        return self.read.profiles[self.read.id_column]

    @property
    def target(self) -> Profile:
        return self.read.profiles[self.read.label_column]

    # -- judging ------------------------------------------------------------------------------

    def judge(self) -> None:
        """Decide what each column is, and how numbers are written."""
        judged = [*self.features.values(), self.target]
        for profile in judged:
            if "+" in profile.values:  # then its opposite is one, too
                profile.take_for_value("-")
        if self.read.delimiter:
            self.decimal = settle_forms(judged, self.read.delimiter)
        self.columns = {name: take_column(profile) for name, profile in self.features.items()}
        words = {value for profile in self._of_words() for value in profile.values}
        for name, taken in self.columns.items():
            if words & set(taken.missing):  # a value elsewhere; missing_values is for all columns
                self.columns[name] = take_as_words(self.features[name])
            else:
                self.features[name].take_for_missing(taken.missing)

    def _of_words(self) -> list[Profile]:
        """The profiles of the label and of the columns that are categories or text."""
        kinds = ("category", "text")
        words = [self.features[name] for name, t in self.columns.items() if t.kind in kinds]
        return [*words, self.target]

    def _missing(self) -> list[str]:
        """What the YAML must name; what stands for a missing number is known anyway."""
        found = [""]
        for profile in self._of_words():
            found += profile.missing
        for taken in self.columns.values():
            found += taken.missing
        values = {value for profile in self._of_words() for value in profile.values}
        return [token for token in dict.fromkeys(found) if token not in values]

    def find_images(self, folder: Path | None, *, asked: bool) -> None:
        if self.read.image_column is not None:
            self.images = images_inside(self.read.image_column, self.read.with_image, self.ids)
        elif folder is not None:
            self.images = match_images(
                folder, self.ids, self.features, table=self.table, asked=asked
            )
            if self.images.column is not None:
                self.columns.pop(self.images.column.name, None)
        elif all(column.kind is None for column in self.columns.values()):
            note = "no images were given: correct `image_name` yourself"
            self.images = Images("{id}", notes=[note])  # there is nothing else to learn from
        else:
            note = "no images were given: the dataset has none; --images DIR names them"
            self.images = Images(notes=[note])

    def find_leaks(self) -> None:
        kinds = {name: taken.kind for name, taken in self.columns.items() if taken.kind}
        found = leaks(self.read.rows, self.read.profiles, kinds, self.target.name, self.label.meant)
        for name, doubt in found.items():
            self.columns[name] = self.columns[name].doubted(doubt)

    # -- trying -------------------------------------------------------------------------------

    def tried(self) -> Report:
        """Try the draft, and reconsider for as long as that helps."""
        report = try_draft(self.text(), self._sample())
        while self._reconsidered(report):
            report = try_draft(self.text(), self._sample())
        return report

    def _sample(self) -> list[LocalFile]:
        table = LocalFile(self.table.name, self.table, self.table.stat().st_size)
        there = [file for file in self.images.fitting if file.size]  # else its name alone is known
        return [table, *there[:IMAGES_TRIED]]

    def _reconsidered(self, report: Report) -> bool:
        """Whether another draft would reject fewer rows, which is then made."""
        most = REJECTED_SHARE * report.counts["rows"]
        numbers = [name for name, taken in self.columns.items() if taken.kind == "number"]
        unclear_ones = by_column(report, "number_ambiguous", numbers)
        signs = {self.features[name].form.decimal for name in numbers}
        if unclear_ones and self.decimal.sign is None and len(signs) == 1:
            why = f"too few values of {quoted(unclear_ones)} tell it"
            self.decimal = Decimal(signs.pop(), why)
            return True
        refused = by_column(report, "number_invalid", numbers) + unclear_ones
        worst = [name for name, count in refused.items() if count > most]
        for name in worst:
            doubt = "as numbers some rows would be rejected: clean them and write number"
            taken = take_as_words(self.features[name])
            self.columns[name] = taken if taken.doubt else taken.doubted(doubt)
        return bool(worst)

    # -- saying -------------------------------------------------------------------------------

    def text(self) -> str:
        return spec_text(
            dataset=self.dataset,
            table=self.table.name,
            id_column=self.read.id_column,
            label=self.label,
            columns=self.columns,
            missing=self._missing(),
            decimal=self.decimal,
            encoding=self.encoding,
            images=self.images,
            group_hint=group_hint(self.features, self.read.id_column),
        )

    def notes(self) -> list[str]:
        ids = self.ids
        notes = [*self.read.notes, f"{ids.total:,} rows, {len(ids.values):,} different IDs"]
        if blank := ids.missing.total():
            notes.append(f"rows without an ID, which will be rejected: {blank:,}")
        if repeated := ids.present - len(ids.values):
            notes.append(f"rows that repeat an ID, of which the first is used: {repeated:,}")
        notes += self.label.notes
        left_out = [shown(name) for name, taken in self.columns.items() if taken.kind is None]
        if left_out:
            notes.append(f"left out of the columns (the YAML says why): {', '.join(left_out)}")
        if len(left_out) == len(self.columns):
            notes.append("no column is left to learn from but the image; look at the YAML")
        notes += self.images.notes
        if not self.images.fitting:  # else the images are there
            notes += linked_by_columns(self.features, self.read.id_column)
        if name := group_hint(self.features, self.read.id_column):
            notes.append(in_words(name, self.features[name]))
        if len(missing := self._missing()) > 1:
            notes.append(f"taken for missing values: {', '.join(map(repr, missing[1:]))}")
        if self.decimal.sign is not None:
            notes.append(f'`decimal: "{self.decimal.sign}"`: {self.decimal.because}')
        return notes
