"""The demo's dataset `pets`, made by code: uploads as a person would have them, faults included.

A shelter's list of pets and their images; the label says whether a pet was adopted. That hangs
on what the images show (a glad pet in sunshine, or a sad one in a kennel), on the age and on the
description, and a little on luck. The same seed gives the same bytes.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from pathlib import Path

from mm_assets.demo.files import Files, as_csv, write_folder, write_zip
from mm_assets.demo.pet_images import FURS, draw_pet
from mm_assets.demo.story import TAKEN_IN, Step, Story

COLUMNS = ("pet_id", "species", "age_months", "weight_kg", "colour", "description", "adopted")
TABLE = "pets.csv"
SPECIES = ("cat", "dog")
_WARM = (
    "loves children and long walks", "plays with everyone who comes by",
    "gentle and house-trained", "curious, cuddly and easy to please",
    "gets along with other animals", "greets every guest",
)  # fmt: skip
_WARY = (
    "shy with strangers and needs time", "barks or hisses at other animals",
    "needs medicine every day", "chews on furniture when alone", "not used to children",
    "afraid of noise and of men",
)  # fmt: skip
_PLAIN = (
    "found near the station", "came from a farm", "moved here with two siblings",
    "was given away in spring", "waits in house three", "eats dry food",
)  # fmt: skip


@dataclass(slots=True)
class _Pet:
    pet_id: str
    species: str
    age_months: int
    weight_kg: float
    colour: str
    description: str
    glad: bool
    adopted: str

    def row(self) -> list[str]:
        weight = f"{self.weight_kg:.1f}"
        return [
            self.pet_id, self.species, str(self.age_months), weight, self.colour,
            self.description, self.adopted,
        ]  # fmt: skip


def make_pets(
    folder: Path, *, seed: int = 0, labelled: int = 500, unlabelled: int = 120
) -> dict[str, str]:
    """Write four uploads into `folder`; returns the outcome of each unlabelled record.

    `labelled/`, `unlabelled/` and `late-images/` are folders, `unlabelled-2.zip` is a zip.
    `labelled` is 20 or more.
    """
    maker = _Maker(seed)
    first = maker.upload(labelled, with_label=True, without_image=0.10)
    maker.spoil_files(first, labelled)
    maker.spoil_rows(first)
    second = maker.upload(unlabelled, with_label=False, without_image=0.30)
    late = maker.late_images()
    third = maker.upload(max(4, unlabelled // 3), with_label=False, without_image=0.20)
    for name, files in (("labelled", first), ("unlabelled", second), ("late-images", late)):
        write_folder(folder / name, files)
    write_zip(folder / "unlabelled-2.zip", third)
    return maker.answers


STORY = Story(
    dataset="pets",
    making="drawing pets",
    make=make_pets,
    steps=(
        Step(
            "Pets with known outcome arrive: a folder, sent as a person would send it.",
            TAKEN_IN, "labelled", ("labelled",),
        ),
        Step(
            "Enough labelled records are there: the training sensor asks for both models.",
            "two models are trained, evaluated and promoted", "training",
        ),
        Step(
            "Pets without outcome arrive: a folder and a zip, some of them without an image.",
            "both are predicted", "unlabelled", ("unlabelled", "unlabelled-2.zip"),
        ),
        Step(
            "Images that were missing arrive late, in an upload of their own.",
            "predictions with an image replace those without", "late images", ("late-images",),
        ),
    ),
)  # fmt: skip


class _Maker:
    """Makes one upload after the other, with IDs that go on."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311  pets, not secrets
        self.made = 0
        self.answers: dict[str, str] = {}
        self.without: list[_Pet] = []

    def upload(self, count: int, *, with_label: bool, without_image: float) -> Files:
        pets = [self._pet() for _ in range(count)]
        files: Files = {}
        rows, self.without = [], []
        spoilt = self.chance.sample(range(count), 2 * round(count * 0.03))
        for place, pet in enumerate(pets):
            row = pet.row()
            if place in spoilt:  # a value that nobody wrote down
                row[3 if place % 2 else 4] = "" if place % 4 < 2 else "NA"
            rows.append(row)
            if not with_label:
                self.answers[pet.pet_id] = pet.adopted
            if self.chance.random() < without_image:
                self.without.append(pet)
                continue
            self._draw(files, pet, 1)
            if self.chance.random() < 0.08:
                self._draw(files, pet, 2)
        header = COLUMNS if with_label else COLUMNS[:-1]
        files[TABLE] = as_csv(header, [row[: len(header)] for row in rows])
        return files

    def late_images(self) -> Files:
        """Images of two thirds of the records that the upload before left without one."""
        files: Files = {}
        for pet in self.without[: max(1, len(self.without) * 2 // 3)]:
            self._draw(files, pet, 1)
        return files

    def spoil_files(self, files: Files, count: int) -> None:
        """Break some images, add some of pets that are in no table, and a note."""
        images = sorted(name for name in files if name.endswith("-1.jpg"))
        second = {name for name in files if name.endswith("-2.jpg")}
        alone = [name for name in images if name.replace("-1.jpg", "-2.jpg") not in second]
        cut, hello, empty = self.chance.sample(alone, 3)
        files[cut] = files[cut][:700]
        files[hello] = b"hello, this is not an image\n"
        del files[empty]
        files[empty.replace(".jpg", ".png")] = b""
        files["notes.txt"] = b"hello\n"
        for number in range(max(2, count // 100)):
            stranger = self._pet()
            stranger.pet_id = f"X{number:04d}"
            self._draw(files, stranger, 1)

    def spoil_rows(self, files: Files) -> None:
        """Add a row with the age "1,5", one without ID, and one whose ID was there before."""
        rows = [self._pet().row() for _ in range(3)]
        rows[0][2] = "1,5"
        rows[1][0] = ""
        rows[2][0] = "P0001"
        files[TABLE] += as_csv(None, rows)

    def _draw(self, files: Files, pet: _Pet, number: int) -> None:
        name = f"images/{pet.pet_id}-{number}.jpg"
        files[name] = draw_pet(pet.species, pet.colour, pet.glad, self.chance)

    def _pet(self) -> _Pet:
        chance = self.chance
        self.made += 1
        species = chance.choice(SPECIES)
        age = round(min(180.0, max(2.0, chance.lognormvariate(3.3, 0.9))))
        grown = 1 - math.exp(-age / 6)
        weight = grown * (chance.gauss(4.3, 0.8) if species == "cat" else chance.gauss(17, 6))
        warm = chance.random() < 0.5
        said = [chance.choice(_WARM if warm else _WARY), chance.choice(_PLAIN)]
        chance.shuffle(said)
        glad = chance.random() < 0.5
        # What people go by: mostly the image, then the description, young or old, and some luck.
        young = math.tanh(3 * (math.log(27) - math.log(age)))
        liking = 1.8 * (1 if glad else -1) + 1.2 * (1 if warm else -1) + 1.1 * young
        liking += chance.gauss(0, 0.2)
        return _Pet(
            pet_id=f"P{self.made:04d}",
            species=species,
            age_months=age,
            weight_kg=max(0.3, weight),
            colour=chance.choice(tuple(FURS)),
            description=". ".join(text.capitalize() for text in said) + ".",
            glad=glad,
            adopted="yes" if liking > 0 else "no",
        )
