"""The YAML for PetFinder's Kaggle files, against files made here with exactly their schema."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

import pytest

from mm_assets.contract.spec_file import load_spec
from mm_assets.lake.lake import Lake
from mm_assets.tables.open import open_store
from mm_assets.uploads.check import check
from tests.make import csv_table, draw_image, drop_zip, processed, rows_of
from tests.shapes.conftest import DEFS

# The header of train.csv, in its order.
HEADER = next(csv.reader([(
    "Type,Name,Age,Breed1,Breed2,Gender,Color1,Color2,Color3,MaturitySize,FurLength,Vaccinated,"
    "Dewormed,Sterilized,Health,Quantity,Fee,State,RescuerID,VideoAmt,Description,PetID,PhotoAmt,"
    "AdoptionSpeed"
)]))  # fmt: skip
NUMBERS = {"Age", "Quantity", "Fee", "VideoAmt", "PhotoAmt"}
TEXTS = {"Name", "Description"}
DESCRIPTIONS = (
    'He said: "adopt, don\'t shop".\r\nCall me, please; 012-345 6789',
    "Comel sangat!\n\nSihat & manja, suka bermain 🐶",
    "可爱的小猫，已打疫苗。",
    "",
)


def pet(number: int, chance: random.Random) -> dict[str, str]:
    codes = {
        "Type": (1, 2), "Breed1": (265, 266, 307), "Breed2": (0, 307), "Gender": (1, 2, 3),
        "Color1": (1, 2, 7), "Color2": (0, 7), "Color3": (0,), "MaturitySize": (1, 2, 3, 4),
        "FurLength": (1, 2, 3), "Vaccinated": (1, 2, 3), "Dewormed": (1, 2, 3),
        "Sterilized": (1, 2, 3), "Health": (1, 2, 3), "Quantity": (1, 4), "Fee": (0, 100, 300),
        "State": (41326, 41401), "VideoAmt": (0, 1), "AdoptionSpeed": (0, 1, 2, 3, 4),
    }  # fmt: skip
    own = {name: str(chance.choice(values)) for name, values in codes.items()}
    return own | {
        "Name": chance.choice(("Nibble", "No Name Yet", "", 'Siu "Pak" & 小白')),
        "Age": str(chance.randint(0, 255)),
        "RescuerID": f"{chance.getrandbits(128):032x}",
        "Description": DESCRIPTIONS[number % len(DESCRIPTIONS)],
        "PetID": f"{number * 7919 + 1:09x}",
        "PhotoAmt": f"{number % 4}.0",
    }


def kaggle(n: int, *, seed: int, labelled: bool) -> tuple[dict[str, bytes], dict[str, dict]]:
    """The files of train (or test), and their pets by ID."""
    chance = random.Random(seed)
    pets = {p["PetID"]: p for p in (pet(seed * 1000 + i, chance) for i in range(n))}
    header = HEADER if labelled else HEADER[:-1]
    part = "train" if labelled else "test"
    rows = [[p[name] for name in header] for p in pets.values()]
    files = {f"{part}.csv": csv_table(header, rows)}
    for number, (name, p) in enumerate(pets.items()):
        for place in range(1, int(float(p["PhotoAmt"])) + 1):
            file = f"{part}_images/{name}-{place}.jpg"
            files[file] = draw_image(seed * 100 + number * 4 + place, "JPEG", side=30)
    return files, pets


def written(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def spec():
    return load_spec(DEFS / "petfinder" / "defs.yaml")


def test_the_yaml_names_every_column_but_the_rescuer_with_its_kind(spec):
    assert spec.kinds.keys() == {*HEADER} - {"PetID", "AdoptionSpeed", "RescuerID"}
    for name, kind in spec.kinds.items():
        expected = "number" if name in NUMBERS else "text" if name in TEXTS else "category"
        assert (name, kind) == (name, expected)


@pytest.mark.parametrize("labelled", [True, False])
def test_kaggles_files_are_taken_without_a_problem(labelled, spec, tmp_path):
    files, pets = kaggle(12, seed=1, labelled=labelled)
    report = check(written(tmp_path, files), spec)
    assert report.refused is None
    assert report.problems == []
    assert report.counts["rows"] == len(pets) == 12
    assert report.counts["images"] == len(files) - 1


def test_rows_are_typed_texts_are_whole_and_images_meet_their_rows(folder_settings, spec):
    lake, store = Lake(folder_settings), open_store(folder_settings)
    files, pets = kaggle(12, seed=1, labelled=True)
    drop_zip(lake, "train.zip", files, "petfinder")
    document = processed(lake, store, spec, "train.zip")
    assert rows_of(lake, document, "rejects.parquet") == []
    rows = {row["record_id"]: row for row in rows_of(lake, document, "manifest.parquet")}
    assert rows.keys() == pets.keys()
    for name, told in pets.items():
        row: dict[str, Any] = rows[name]
        assert (row["purpose"], row["label"]) == ("train", told["AdoptionSpeed"])
        for column, value in row["features"].items():
            text = told[column]
            assert value == (float(text) if column in NUMBERS else text or None), column
        first = f"train_images/{name}-1.jpg" if told["PhotoAmt"] != "0.0" else None
        assert row["image_file"] == first


def test_pets_of_the_test_are_to_be_predicted(folder_settings, spec):
    lake, store = Lake(folder_settings), open_store(folder_settings)
    files, pets = kaggle(8, seed=2, labelled=False)
    drop_zip(lake, "test.zip", files, "petfinder")
    document = processed(lake, store, spec, "test.zip")
    rows = rows_of(lake, document, "manifest.parquet")
    assert {row["record_id"] for row in rows} == pets.keys()
    assert {row["purpose"] for row in rows} == {"predict"}
