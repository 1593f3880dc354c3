"""The sets that code draws: those of the demos, skewed numbers with outliers, and words alone."""

from __future__ import annotations

import csv
import math
import random
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.quality.sets import LABEL, TRUTH, DataSet, normalised
from mm_assets.contract.dataset import IMAGE, DatasetSpec
from mm_assets.contract.spec_file import load_spec
from mm_assets.demo.blur import make_blur
from mm_assets.demo.house_images import draw_house
from mm_assets.demo.houses import MISTYPED, draw_record
from mm_assets.demo.pets import make_pets
from mm_assets.demo.vehicles import CLASSES, draw_vehicle
from mm_assets.drafting.templates import template_file
from mm_assets.reading.images import ImageRefused


def _spec(dataset: str) -> DatasetSpec:
    return load_spec(template_file(dataset))


def _typed(rows: pd.DataFrame, spec: DatasetSpec) -> pd.DataFrame:
    """The columns of the YAML as engines get them, of a table of text."""
    missing = rows.isin(list(spec.missing_values))
    typed: dict[str, pd.Series] = {}
    for column, kind in spec.kinds.items():
        values = rows[column].astype(object).where(~missing[column], None)
        if kind == "number":
            values = pd.to_numeric(values, errors="coerce").astype("float64")
        typed[column] = values
    return pd.DataFrame(typed)


def _uploaded(dataset: str, folder: Path, table: str, images: str) -> DataSet:
    """The labelled upload of a demo: its records that have an image."""
    spec = _spec(dataset)
    with (folder / table).open(newline="", encoding="utf-8") as file:
        rows = pd.DataFrame(list(csv.DictReader(file)))
    rows = rows[rows[spec.id_column] != ""].drop_duplicates(spec.id_column, keep="last")
    shown: list[bytes | None] = []
    for name in rows[spec.id_column]:
        path = folder / images.format(id=name)
        try:
            shown.append(normalised(path.read_bytes(), spec.image_longest_side))
        except (OSError, ImageRefused):
            shown.append(None)
    records = _typed(rows, spec)
    records[IMAGE], records[LABEL] = shown, rows[spec.label_column]
    records = records[records[IMAGE].notna()].reset_index(drop=True)
    columns = {**spec.kinds, IMAGE: "image"}
    return DataSet(dataset, spec.description, records, columns, spec.problem_type)


def pets() -> DataSet:
    with tempfile.TemporaryDirectory() as folder:
        make_pets(Path(folder), labelled=700, unlabelled=6)
        return _uploaded("pets", Path(folder) / "labelled", "pets.csv", "images/{id}-1.jpg")


def blur() -> DataSet:
    with tempfile.TemporaryDirectory() as folder:
        make_blur(Path(folder), unlabelled=10)
        return _uploaded("blur", Path(folder) / "labelled", "photos.csv", "photos/{id}.png")


def vehicles() -> DataSet:
    spec, chance = _spec("vehicles"), random.Random(1)  # noqa: S311  vehicles, not secrets
    kinds = [CLASSES[number % 2] for number in range(500)]
    drawn = [normalised(draw_vehicle(kind, chance), spec.image_longest_side) for kind in kinds]
    records = pd.DataFrame({IMAGE: drawn, LABEL: kinds})
    return DataSet("vehicles", spec.description, records, {IMAGE: "image"}, "binary")


def houses() -> DataSet:
    """700 houses with a photo; 7 prices are typed wrong, and judged by what is true."""
    spec, chance = _spec("houses"), random.Random(1)  # noqa: S311  houses, not secrets
    made = [draw_record(number, chance) for number in range(700)]
    rows = [
        dict(zip((spec.id_column, *spec.kinds, spec.label_column), house.row(), strict=True))
        for house in made
    ]
    for row in rows:
        for column in ("year_built", "heating", "note"):
            if chance.random() < 0.08:
                row[column] = ""
    records = _typed(pd.DataFrame(rows), spec)
    side = spec.image_longest_side
    records[IMAGE] = [normalised(draw_house(house.look, chance), side) for house in made]
    records[TRUTH] = [float(house.price_eur) for house in made]
    records[LABEL] = _mistyped(records[TRUTH], 7, chance)
    columns = {**spec.kinds, IMAGE: "image"}
    return DataSet("houses", spec.description, records, columns, "regression")


def claims() -> DataSet:
    """What an insured damage costs: skewed, log-normal, 1% typed with three zeros too many."""
    draw, chance = np.random.default_rng(2), random.Random(2)  # noqa: S311  no secrets
    count = 900
    sum_insured = draw.lognormal(11.0, 0.7, count)
    age = draw.uniform(18, 90, count)
    cause = draw.choice(["water", "fire", "storm", "theft"], count, p=[0.4, 0.1, 0.3, 0.2])
    region = draw.choice([f"region {letter}" for letter in "ABCDEFGH"], count)
    days_to_report = draw.exponential(6, count)
    severity = pd.Series(cause).map({"water": 0.2, "fire": 1.6, "storm": -0.1, "theft": -0.5})
    place = pd.Series(region).map({f"region {letter}": 0.12 * n for n, letter in
                                   enumerate("ABCDEFGH")})  # fmt: skip
    amount = np.exp(
        2.2 + 0.45 * np.log(sum_insured) + severity + place + 0.25 * np.log1p(days_to_report)
        - 0.012 * np.abs(age - 50) + draw.normal(0, 0.45, count)
    ).round(2)  # fmt: skip
    records = pd.DataFrame(
        {
            "sum_insured": sum_insured.round(-2),
            "age": age.round(0),
            "cause": cause.astype(object),
            "region": region.astype(object),
            "days_to_report": np.where(draw.random(count) < 0.15, np.nan, days_to_report.round(0)),
            "policy": [f"policy {number}" for number in draw.integers(0, 60, count)],
            TRUTH: amount,
        }
    )
    records[LABEL] = _mistyped(records[TRUTH], 9, chance)
    columns = {
        "sum_insured": "number", "age": "number", "cause": "category", "region": "category",
        "days_to_report": "number", "policy": "category",
    }  # fmt: skip
    words = "what an insured damage costs, 6 columns, 1% of the labels 1000 times too large"
    return DataSet("claims", words, records, columns, "regression")


_SUBJECTS = {
    "billing": ("the invoice of {month}", "my last bill", "the amount that was charged",
                "the payment by card"),
    "delivery": ("the parcel", "my order of {month}", "the driver", "the tracking number"),
    "returns": ("the shoes in size {size}", "a shirt that I bought", "the wrong article",
                "the second pair"),
    "account": ("my password", "the login page", "the mail address on file", "my profile"),
}  # fmt: skip
_TROUBLES = {
    "billing": ("is too high", "was booked twice", "lacks the discount",
                "does not match the offer"),
    "delivery": ("has not arrived", "went to the neighbours", "came open and wet",
                 "is {days} days late"),
    "returns": ("do not fit", "should go back", "were not what the photo shows",
                "came with a tear"),
    "account": ("does not work any more", "is locked", "shows an old name", "asks for a code"),
}  # fmt: skip
_TALK = (
    "good morning", "I wrote to you before", "please help", "thank you in advance",
    "I am a customer since {year}", "nobody answers the phone", "this is the third time",
    "kind regards", "I hope that you can sort it out", "it is rather urgent",
)  # fmt: skip


def messages() -> DataSet:
    """Letters of customers to four departments; one in six speaks of two matters at once."""
    chance = random.Random(3)  # noqa: S311  letters, not secrets
    kinds = list(_SUBJECTS)
    texts, labels = [], []
    for _ in range(800):
        kind = chance.choices(kinds, (4, 3, 2, 1))[0]
        other = chance.choice(kinds) if chance.random() < 0.35 else kind
        parts = [
            f"{chance.choice(_SUBJECTS[kind])} {chance.choice(_TROUBLES[other])}",
            *chance.sample(_TALK, chance.randint(1, 4)),
        ]
        if chance.random() < 1 / 6:
            second = chance.choice(kinds)
            parts.append(f"{chance.choice(_SUBJECTS[second])} is fine")
        chance.shuffle(parts)
        filled = ". ".join(part[0].upper() + part[1:] for part in parts) + "."
        texts.append(
            filled.format(
                month=chance.choice(("March", "April", "May")),
                size=chance.randint(36, 46),
                days=chance.randint(2, 20),
                year=chance.randint(2005, 2024),
            )
        )
        labels.append(kind)
    records = pd.DataFrame({"message": texts, LABEL: labels})
    words = "letters of customers, to which of four departments"
    return DataSet("messages", words, records, {"message": "text"}, "multiclass")


def _mistyped(prices: pd.Series, count: int, chance: random.Random) -> pd.Series:
    """The prices with `count` of them 1000 times too large."""
    typed = prices.copy()
    for place in chance.sample(range(len(prices)), count):
        typed.iloc[place] *= MISTYPED
    return typed.round(2 if math.log10(prices.median()) < 5 else 0)
