"""`mm init FOLDER`: draft a dataset's YAML from images alone, whose paths say their labels."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from mm_assets.contract.dataset import NamedImage
from mm_assets.contract.errors import SpecError
from mm_assets.drafting.draft import name_of
from mm_assets.drafting.drafted import IMAGES_TRIED, Drafted, tried_on, try_draft
from mm_assets.drafting.image_names import FILES_TRIED, images_of
from mm_assets.drafting.label import MOST_CLASSES, classes_of, spelled_otherwise
from mm_assets.drafting.profile import shown
from mm_assets.drafting.yaml_text import images_text, load_draft

# Folders first: a label in a file's name can be a coincidence.
_SHAPES = (
    "{label}/{id}", "{label}_{id}", "{label}-{id}", "{label}.{id}", "{label} {id}", "{id}_{label}",
    "{id}-{label}", "{id}.{label}",
)  # fmt: skip
FEWEST_OF_A_CLASS = 2
MOST_RARE = 0.1  # of the images may be the only one of their class


class _Reading(NamedTuple):
    """What one shape of path makes of the images."""

    shape: str
    named: dict[str, NamedImage]
    labels: Counter[str]


def draft_images(folder: Path, dataset: str | None = None) -> Drafted:
    """Draft the YAML of a dataset of images alone, in folders or with names that say the label.

    Images whose path says no label are those to predict. Raises SpecError where there are no
    images, or no shape of path yields two or more classes.
    """
    images = images_of(folder)
    files = [file.name for file in images]
    if not files:
        raise SpecError(
            code="init_no_images", what="the folder holds no image (JPEG, PNG, HEIC, TIFF …)",
            where=str(folder),
            todo="Name the folder that holds a folder of images for each class.",
        )  # fmt: skip
    sample = files[:: 1 + len(files) // FILES_TRIED]
    found = next((r for shape in _SHAPES if _makes_sense(r := _read(shape, sample))), None)
    if found is None:
        raise SpecError(
            code="init_no_labels",
            what=f"no label can be read from the paths; images: {', '.join(map(shown, files[:3]))}",
            where=str(folder),
            todo="Put the images of each class into a folder named after it, or begin their "
            "names with the class: truck_17.png.",
        )
    reading = _read(found.shape, files)
    ids = {(one.record_id, one.label) for one in reading.named.values()}
    shape, id_notes = found.shape, list[str]()
    if len({record_id for record_id, _ in ids}) < len(ids):
        shape = found.shape.replace("{id}", "*")
        id_notes.append("the same file name stands for several classes: IDs are made of the bytes")
    name = dataset or name_of(folder)
    meant = classes_of(reading.labels)
    for one, others in spelled_otherwise(meant).items():
        spellings = ", ".join(f"'{shown(other)}'" for other in others)
        id_notes.append(f"{spellings} are one class, '{shown(one)}'")
    text = images_text(name, shape, sorted(set(meant.values())))
    there = [image for image in images if image.size]  # else its name alone is known
    report = try_draft(text, there[:: 1 + len(there) // IMAGES_TRIED])
    notes = [*_notes(files, reading, shape), *id_notes]
    return Drafted(text, notes, name, [], report.ended, tried_on(report))


def _read(shape: str, files: list[str]) -> _Reading:
    spec = load_draft(images_text("draft", shape, ["a", "b"]))
    named = {file: one for file in files if (one := spec.named_image(file))}
    return _Reading(shape, named, Counter(one.label for one in named.values() if one.label))


def _classes(reading: _Reading) -> Counter[str]:
    """The images of each class, in whatever spellings."""
    classes, meant = Counter[str](), classes_of(reading.labels)
    for label, count in reading.labels.items():
        classes[meant[label]] += count
    return classes


def _makes_sense(reading: _Reading) -> bool:
    """Classes have several images each, but for few: a stray folder, a rare class."""
    classes = _classes(reading)
    rare = [count for count in classes.values() if count < FEWEST_OF_A_CLASS]
    few = sum(rare) <= MOST_RARE * classes.total()
    return len(classes) - len(rare) >= 2 and len(classes) <= MOST_CLASSES and few


def _notes(files: list[str], reading: _Reading, shape: str) -> list[str]:
    counts = ", ".join(f"{shown(name)} ({count})" for name, count in reading.labels.most_common(8))
    more = ", …" if len(reading.labels) > 8 else ""
    labelled = reading.labels.total()
    notes = [f"image_name {shape!r}: {len(reading.labels)} classes: {counts}{more}"]
    if rare := [name for name, count in _classes(reading).items() if count < FEWEST_OF_A_CLASS]:
        few = ", ".join(map(shown, rare[:6]))
        notes.append(f"only one image: {few}; if it is no class, take it out of `classes`")
    if unlabelled := len(reading.named) - labelled:
        notes.append(f"images without a label, which will be predicted: {unlabelled:,}")
    if misfits := [file for file in files if file not in reading.named]:
        notes.append(f"images that do not fit: {len(misfits):,}, such as {shown(misfits[0])}")
    return notes
