"""The text of a drafted YAML: every key that matters, each with a word of explanation."""

from __future__ import annotations

import tempfile
from pathlib import Path

import yaml

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.review import LARGEST_SHARE, TARGET_ACCURACY
from mm_assets.contract.spec_file import COMPONENT, load_spec
from mm_assets.drafting.column_kinds import Taken
from mm_assets.drafting.image_names import Images
from mm_assets.drafting.label import Label
from mm_assets.drafting.number_forms import Decimal
from mm_assets.drafting.profile import shown


def load_draft(text: str) -> DatasetSpec:
    """The spec that a drafted YAML describes. Raises SpecError."""
    with tempfile.TemporaryDirectory(prefix="mm-init-") as folder:
        file = Path(folder, "defs.yaml")
        file.write_text(text, encoding="utf-8")
        return load_spec(file, shown_as="the drafted defs.yaml")


def scalar(value: str) -> str:
    """A string as YAML on one line."""
    # PyYAML writes some line breaks of Unicode as they are, and reads them as a space.
    text: str = yaml.safe_dump(
        [value], allow_unicode=value.isprintable(), width=1 << 30, default_flow_style=True
    )
    return text.strip()[1:-1]


def spec_text(
    *,
    dataset: str,
    table: str,
    id_column: str,
    label: Label,
    columns: dict[str, Taken],
    missing: list[str],
    decimal: Decimal,
    encoding: str,
    images: Images,
    group_hint: str | None = None,
) -> str:
    """The YAML of a dataset of a table, with images or without."""
    named = "" if encoding == "auto" else f"  encoding: {scalar(encoding)}\n"
    sign = "" if decimal.sign is None else (
        f"  decimal: {scalar(decimal.sign)} # {shown(decimal.because)}\n"
    )  # fmt: skip
    return f"""\
# Drafted by `mm init` from {shown(table)}: read it once, then correct what was guessed wrong.
# A column that is not listed here is not used; docs/your-own-dataset.md explains every key.
type: {COMPONENT}

attributes:
  dataset: {scalar(dataset)} # the name in the lake, the table and the UI: a-z, 0-9 and _
  id_column: {scalar(id_column)} # one row and its images belong together by this
  label_column: {scalar(label.name)} # what is to be predicted; rows without it get a prediction
  problem_type: {label.problem_type} # {_of_problem(label)}{_classes(label)}

  # number: a quantity. category: one of a few values. text: free words.
  # `age: {{kind: number, required: true}}` refuses rows in which the value is missing.
{_column_lines(columns)}
{_grouped(group_hint)}
  # What stands for "no value", exactly as written, in every column and the label.
  missing_values: [{", ".join(map(_quoted, missing))}]
{named}{sign}
{_imaged(images)}
{_review(label.problem_type)}
  minimum_training_records: 50 # fewer labelled records than this train no model
{_ENGINES if images.image_name or images.column else _ENGINE_OF_TABLES}"""


def images_text(dataset: str, shape: str, classes: list[str]) -> str:
    """The YAML of a dataset of images alone."""
    problem = "binary" if len(classes) == 2 else "multiclass"
    return f"""\
# Drafted by `mm init` from images alone: read it once, then correct what was guessed wrong.
# docs/your-own-dataset.md explains every key.
type: {COMPONENT}

attributes:
  dataset: {scalar(dataset)} # the name in the lake, the table and the UI: a-z, 0-9 and _
  records: images # each image is a record; there is no table
  problem_type: {problem}
  # Any other label is refused. A folder of images to predict, such as `new`, goes into
  # missing_values: ["", "new"]; images in no folder are to be predicted, too.
  classes: [{", ".join(map(scalar, classes))}]

  # What a path says: {{label}}/ is the folder, {{id}} the file's name without its suffix; * stands
  # for anything, and without {{id}} the ID is made of the image's bytes.
  image_name: {scalar(shape)}
  image_longest_side: 256 # pixels; larger images are scaled down once, when they arrive

{_review(problem)}
  minimum_training_records: 50 # fewer labelled images than this train no model

  # automatic: an ensemble of all that helps, within the minutes below; it needs no download.
  model_with_image: {{engine: automatic}}
  training_minutes: 2
"""


def _quoted(token: str) -> str:
    said = scalar(token)
    return said if said.startswith(("'", '"')) else f'"{token}"'


def _of_problem(label: Label) -> str:
    if label.problem_type == "regression":
        return "binary, multiclass or regression; here the labels are numbers"
    quantity = next((f"; {one}" for one in label.doubts if one.startswith("regression")), "")
    return f"binary, multiclass or regression; here {label.because}{quantity}"


def _classes(label: Label) -> str:
    listed = ", ".join(map(scalar, label.classes))
    if label.merged:
        return (
            "\n  # Other spellings, in case or blanks, are these; rows with any other label are "
            f"refused.\n  classes: [{listed}]"
        )
    if not label.classes or not listed.isprintable():
        return ""
    return (
        "\n  # Take the # away to refuse rows with any other label:"
        f"\n  # classes: [{listed}]"
    )  # fmt: skip


def _entry(name: str, kind: str) -> str:
    """`name: kind` as lines of YAML; a very long name needs a `?` in front."""
    text: str = yaml.safe_dump(
        {name: kind}, allow_unicode=name.isprintable(), width=1 << 30, default_flow_style=False
    )
    return text.rstrip("\n").replace("\n", "\n    ")


def _column_lines(columns: dict[str, Taken]) -> str:
    lines = []
    for name, column in columns.items():
        if column.kind is None:
            lines.append(f"    # {shown(name)}: left out; {column.because}")
        else:
            words = f"{column.because}; {column.doubt}" if column.doubt else ""
            lines.append(f"    {_entry(name, column.kind)}{f' # {words}' if words else ''}")
    none_left = all(column.kind is None for column in columns.values())
    return "\n".join(["  columns: {}" if none_left else "  columns:", *lines])


def _review(problem_type: str) -> str:
    wish = f"review: {{target_accuracy: {TARGET_ACCURACY}, largest_share: {LARGEST_SHARE}}}"
    answers = f"""\
  # The answers of which the model is least sure go to a person: as few as it takes for
  # {TARGET_ACCURACY:.0%} of the others to be right, at most {LARGEST_SHARE:.0%} of all. Training \
says what that comes to,
  # and whether it can be promised; docs/review.md explains it."""
    if problem_type != "regression":
        return f"{answers}\n  {wish}"
    return f"""\
{answers}
  {wish}
  # An answer is right if the truth is this close: an amount (5000), or a share of the answer.
  regression_tolerance: 20%
  interval_level: 0.9 # of so many records the truth lies from `lower` to `upper`"""


_IMAGELESS = """\
  image_name: null # there are no images; "{id}" would let them come as ID.jpg
"""
_ENGINE_OF_TABLES = """
  # automatic: an ensemble of all that helps, within the minutes below; it needs no download.
  model_without_image: {engine: automatic}
  training_minutes: 2
"""
_ENGINES = """
  # automatic: an ensemble of all that helps, within the minutes below; it needs no download.
  model_with_image: {engine: automatic}
  model_without_image: {engine: automatic}
  training_minutes: 2 # for both together
"""


def _grouped(hint: str | None) -> str:
    if hint is None:
        return ""
    return f"""
  # Take the # away if records that share this are alike (views of one patient, ads of one seller):
  # then they are never on two sides of a split.
  # group_column: {scalar(hint)}
"""


def _imaged(images: Images) -> str:
    every = _EVERY if images.all_of_each else ""
    if images.column is not None:
        separator = images.column.separator
        several = "" if separator is None else (
            f"  image_separator: {scalar(separator)} # between several\n"
        )  # fmt: skip
        return f"""\
  # The column with each record's image, or with its file name or path in the same upload.
  image_column: {scalar(images.column.name)}
{several}{every}{_SIDE}"""
    if images.image_name is None:
        return _IMAGELESS
    return f"""\
  # How an image's file name, without its suffix, yields the ID ({{file}}: the whole name is it).
  image_name: {scalar(images.image_name)}
{every}{_SIDE}"""


_EVERY = """\
  images: all # models see every image of a record; write first to let them see one alone
"""
_SIDE = """\
  image_longest_side: 256 # pixels; larger images are scaled down once, when they arrive
"""
