"""`mm init`: draft a dataset's YAML from a person's own table and images.

What belongs here: matching images to IDs, and writing the YAML in plain words. How a column is
judged is in `column_kinds.py`. A draft is loaded once before it is handed out.
"""

from __future__ import annotations

import difflib
import re
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import yaml

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.errors import SpecError
from mm_assets.contract.spec_file import COMPONENT, load_spec
from mm_assets.drafting.column_kinds import Draft, Label, Profile, draft_column, draft_label, shown
from mm_assets.reading.table import TableRefused, Wanted
from mm_assets.reading.tables import Table, open_table

ROWS_READ = 200_000  # enough to judge columns by; the whole table is read by the pipeline
FILES_TRIED = 5_000
MISSING = (
    "", "NA", "N/A", "n/a", "na", "#N/A", "null", "NULL", "Null", "None", "none", "nan", "NaN", "?",
)  # fmt: skip
IMAGES = (".jpg", ".jpeg", ".png", ".webp")
_SHAPES = (
    "{id}", "{id}-{n}", "{id}_{n}", "{id} ({n})", "{id} {n}", "{id}.{n}", "{id}({n})",
    "*_{id}", "*-{id}", "*_{id}_{n}", "*_{id}-{n}", "{id}_*", "{id}-*",
)  # fmt: skip


class Drafted(NamedTuple):
    """The text of a defs.yaml, notes for the person who asked for it, and the dataset's name."""

    text: str
    notes: list[str]
    dataset: str


def draft_spec(
    table: Path, images: Path | None, id_column: str, label_column: str, dataset: str | None = None
) -> Drafted:
    """Draft the YAML of a dataset from its table and images.

    `images` is a folder that is searched with its subfolders. Raises SpecError when the table
    cannot be read, a column is not there, there is nothing to learn, or no image fits an ID.
    """
    profiles, notes = _read(table, id_column, label_column)
    ids, label_profile = profiles.pop(id_column), profiles.pop(label_column)
    label = draft_label(label_profile, table)
    columns = {name: draft_column(profile) for name, profile in profiles.items()}
    image_name: str | None = None
    image_notes = ["no images were given: the dataset has none; --images DIR names them"]
    if images is not None:
        image_name, image_notes = _guess_image_name(images, set(ids.values), id_column)
    elif all(column.kind is None for column in columns.values()):
        image_name = "{id}"  # there is nothing else to learn from
        image_notes = ["no images were given: correct `image_name` yourself"]
    name = dataset or name_of(table)
    missing = _missing_tokens([*profiles.values(), label_profile])
    notes += _notes(ids, label, columns) + image_notes
    if len(missing) > 1:
        notes.append(f"taken for missing values: {', '.join(map(repr, missing[1:]))}")
    text = _yaml(
        dataset=name,
        table=table.name,
        id_column=id_column,
        label=label,
        columns=columns,
        missing=missing,
        image_name=image_name,
    )
    load_draft(text)
    return Drafted(text, notes, name)


def load_draft(text: str) -> DatasetSpec:
    with tempfile.TemporaryDirectory(prefix="mm-init-") as folder:
        file = Path(folder, "defs.yaml")
        file.write_text(text, encoding="utf-8")
        return load_spec(file, shown_as="the drafted defs.yaml")


def name_of(path: Path) -> str:
    """A dataset's name made of a file's or folder's."""
    name = re.sub(r"[^a-z0-9]+", "_", path.stem.lower()).strip("_")[:40].rstrip("_")
    return name if re.match("[a-z]", name) else f"data_{name}"[:40].rstrip("_")


# -- the table ------------------------------------------------------------------------------------


def _read(path: Path, id_column: str, label_column: str) -> tuple[dict[str, Profile], list[str]]:
    """Profiles of all columns by name, and notes on how the table was read."""
    if id_column == label_column:
        raise SpecError(
            code="init_same_column", what="the ID and the label are the same column",
            where=f"column '{id_column}'", todo="Name another column with --id or --label.",
        )  # fmt: skip
    try:
        wanted = Wanted(id_column, (label_column,))
        with tempfile.TemporaryDirectory(prefix="mm-init-") as folder:
            table = open_table(path, file=path.name, wanted=wanted, scratch=Path(folder))
            profiles = _profiles(table, id_column, label_column)
    except TableRefused as refused:
        raise SpecError(
            code=refused.code,
            what=refused.reason,
            where=f"{path}:{refused.line}" if refused.line else str(path),
            todo="Give the ID column's name as it stands in the header: --id COLUMN."
            if refused.code == "table_no_id"
            else "Correct the table, or save it anew as UTF-8 CSV.",
        ) from None
    except OSError as error:
        raise SpecError(
            code="init_unreadable", what=error.strerror or str(error), where=str(path),
            todo="Check the path of the table.",
        ) from None  # fmt: skip
    return profiles, _reading_notes(table)


def _profiles(table: Table, id_column: str, label_column: str) -> dict[str, Profile]:
    if label_column not in table.header:
        folded = {name.casefold(): name for name in table.header}
        close = difflib.get_close_matches(label_column.casefold(), folded, n=1)
        hint = f"; did you mean '{shown(folded[close[0]])}'?" if close else ""
        raise SpecError(
            code="init_no_label",
            what=f"no column is named '{label_column}'; found: "
            f"{', '.join(map(shown, table.header[:20]))}{hint}",
            where=table.file,
            todo="Give the label column's name as it stands in the header: --label COLUMN.",
        )
    profiles = {name: Profile(name, MISSING) for name in table.header}
    profiles[id_column] = Profile(id_column, ("",))  # the pipeline takes any other ID as it is
    for batch in table.batches():
        for name in table.header:
            profiles[name].add(batch[name].fill_null("").to_pylist())
        if table.n_rows >= ROWS_READ:
            break
    return profiles


def _reading_notes(table: Table) -> list[str]:
    notes = []
    encoding = table.facts.get("encoding", "utf-8")
    if encoding != "utf-8":
        notes.append(
            f"the table is not UTF-8; it was read as {encoding} "
            f"({table.facts['encoding_because']}): look at its accents"
        )
    if table.n_rows >= ROWS_READ:
        notes.append(f"the first {table.n_rows:,} rows were looked at")
    if table.rejects:
        first = table.rejects[0]
        notes.append(
            f"rows that do not fit the header and will be rejected: {len(table.rejects):,}; "
            f"the first: line {first.line}, {first.reason}"
        )
    return notes


def _missing_tokens(profiles: Iterable[Profile]) -> list[str]:
    found = Counter[str]()
    for profile in profiles:
        found.update(profile.missing)
    return ["", *(token for token in MISSING if token and found[token])]


# -- the images ---------------------------------------------------------------------------------


def _guess_image_name(images: Path, ids: set[str], id_column: str) -> tuple[str, list[str]]:
    """The shape of the images' names that fits the most IDs, and notes with the share."""
    if not images.is_dir():
        raise SpecError(
            code="init_no_images", what="there is no such folder", where=str(images),
            todo="Give the folder of the images: --images DIR (unpack a zip first).",
        )  # fmt: skip
    files = sorted(path.name for path in images.rglob("*") if path.suffix.lower() in IMAGES)
    if not files:
        raise SpecError(
            code="init_no_images", what="the folder holds no JPEG, PNG or WEBP", where=str(images),
            todo="Give the folder of the images: --images DIR.",
        )  # fmt: skip
    shapes = dict.fromkeys([*_SHAPES, *_with_own_prefix(files, ids)])
    sample = files[:: 1 + len(files) // FILES_TRIED]
    # The first, simplest one of equals.
    best = max(shapes, key=lambda shape: len(_fitting(shape, sample, ids)))
    fitting = _fitting(best, files, ids)
    if not fitting:
        raise _no_match(images, files, ids, id_column)
    with_image = len(set(fitting.values()))
    note = (
        f"image_name {best!r}: {len(fitting):,} of {len(files):,} images "
        f"({len(fitting) / len(files):.0%}) belong to {with_image:,} of {len(ids):,} IDs "
        f"({with_image / len(ids):.0%})"
    )
    notes = [note]
    others = [name for name in files if name not in fitting]
    if others:
        notes.append(f"images that belong to no row, for example: {', '.join(others[:3])}")
    return best, notes


def _spec_with(image_name: str) -> DatasetSpec:
    return DatasetSpec(
        dataset="draft", id_column="id", label_column="label", problem_type="binary", columns={},
        image_name=image_name,
    )  # fmt: skip


def _fitting(shape: str, files: list[str], ids: set[str]) -> dict[str, str]:
    """File to ID, for the files whose name yields an ID that is in the table."""
    spec = _spec_with(shape)
    named = {file: spec.named_image(file) for file in files}
    return {file: found[0] for file, found in named.items() if found and found[0] in ids}


def _with_own_prefix(files: list[str], ids: set[str]) -> list[str]:
    """Shapes such as `IMG{id}`, from names that end in an ID after a prefix they share."""
    prefixes = Counter[str]()
    for file in files[:2000]:
        stem = re.sub(r"[-_ ][0-9]{1,3}$", "", file.rpartition(".")[0])
        for start in range(1, min(len(stem), 40)):
            if stem[start:] in ids:
                prefixes[stem[:start]] += 1
                break
    common = [prefix for prefix, _ in prefixes.most_common(2) if not set(prefix) & set("*{}")]
    return [f"{prefix}{shape}" for prefix in common for shape in ("{id}", "{id}-{n}", "{id}_{n}")]


def _no_match(images: Path, files: list[str], ids: set[str], id_column: str) -> SpecError:
    stems = {file.rpartition(".")[0].casefold() for file in files}
    hint = ""
    if stems & {value.casefold() for value in ids}:
        hint = " They would fit if upper and lower case were the same."
    return SpecError(
        code="init_no_match",
        what=f"no image's name holds an ID of column '{shown(id_column)}'; "
        f"images: {', '.join(map(shown, files[:3]))}; "
        f"IDs: {', '.join(map(shown, sorted(ids)[:3])) or 'none'}.{hint}",
        where=str(images),
        todo="Check --id and --images, or rename the images to ID.jpg, ID-1.jpg, ID-2.jpg, …",
    )


# -- the words ------------------------------------------------------------------------------------


def _notes(ids: Profile, label: Label, columns: dict[str, Draft]) -> list[str]:
    notes = [f"{ids.total:,} rows, {len(ids.values):,} different IDs"]
    if blank := ids.missing.total():
        notes.append(f"rows without an ID, which will be rejected: {blank:,}")
    if repeated := ids.present - len(ids.values):
        notes.append(f"rows that repeat an ID, of which the first is used: {repeated:,}")
    notes += label.notes
    left_out = [name for name, column in columns.items() if column.kind is None]
    if left_out:
        notes.append(f"left out of the columns (the YAML says why): {', '.join(left_out)}")
    if len(left_out) == len(columns):
        notes.append("no column is left to learn from but the image; look at the YAML")
    return notes


def scalar(value: str) -> str:
    """A string as YAML on one line."""
    # PyYAML writes some line breaks of Unicode as they are, and reads them as a space.
    text: str = yaml.safe_dump(
        [value], allow_unicode=value.isprintable(), width=1 << 30, default_flow_style=True
    )
    return text.strip()[1:-1]


def _entry(name: str, kind: str) -> str:
    """`name: kind` as lines of YAML; a very long name needs a `?` in front."""
    text: str = yaml.safe_dump(
        {name: kind}, allow_unicode=name.isprintable(), width=1 << 30, default_flow_style=False
    )
    return text.rstrip("\n").replace("\n", "\n    ")


def _column_lines(columns: dict[str, Draft]) -> str:
    lines = []
    for name, column in columns.items():
        if column.kind is None:
            lines.append(f"    # {shown(name)}: left out; {column.comment}")
        else:
            comment = f" # {column.comment}" if column.comment else ""
            lines.append(f"    {_entry(name, column.kind)}{comment}")
    none_left = all(column.kind is None for column in columns.values())
    return "\n".join(["  columns: {}" if none_left else "  columns:", *lines])


def _yaml(
    *,
    dataset: str,
    table: str,
    id_column: str,
    label: Label,
    columns: dict[str, Draft],
    missing: list[str],
    image_name: str | None,
) -> str:
    classes = ""
    if label.classes:
        listed = ", ".join(map(scalar, label.classes))
        if listed.isprintable():
            classes = "\n  # Take the # away to refuse rows with any other label:"
            classes += f"\n  # classes: [{listed}]"
    return f"""\
# Drafted by `mm init` from {shown(table)}: read it once, then correct what was guessed wrong.
# A column that is not listed here is not used; docs/your-own-dataset.md explains every key.
type: {COMPONENT}

attributes:
  dataset: {scalar(dataset)} # the name in the lake, the table and the UI: a-z, 0-9 and _
  id_column: {scalar(id_column)} # one row and its images belong together by this
  label_column: {scalar(label.name)} # what is to be predicted; rows without it get a prediction
  problem_type: {label.problem_type} # {label.comment}{classes}

  # number: a quantity. category: one of a few values. text: free words.
  # `age: {{kind: number, required: true}}` refuses rows in which the value is missing.
{_column_lines(columns)}

  # What stands for "no value", exactly as written, in every column and the label.
  missing_values: [{", ".join(f'"{token}"' for token in missing)}]

{_IMAGELESS if image_name is None else _imaged(image_name)}
  # A prediction less confident than this goes to the review queue.
  review_threshold: 0.6
  minimum_training_records: 50 # fewer labelled records than this train no model
{_ENGINE_OF_TABLES if image_name is None else _ENGINES}"""


_IMAGELESS = """\
  image_name: null # there are no images; "{id}" would let them come as ID.jpg
"""
_ENGINE_OF_TABLES = """
  # gradient_boosting is XGBoost on the columns; autogluon would train a network.
  model_without_image: {engine: gradient_boosting}
"""
_ENGINES = """
  # from_scratch needs no download. `preset: pretrained` learns more from few images.
  model_with_image: {engine: autogluon, preset: from_scratch}
  model_without_image: {engine: autogluon, preset: from_scratch}
"""


def _imaged(image_name: str) -> str:
    return f"""\
  # How an image's file name, without its suffix, yields the ID.
  image_name: {scalar(image_name)}
  image_longest_side: 256 # pixels; larger images are scaled down once, when they arrive
"""
