"""What happens in each dataset's demo: how its data is made, what arrives when, what is awaited."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mm_assets.contract.errors import SpecError
from mm_assets.demo.blur import make_blur
from mm_assets.demo.cancer import make_cancer
from mm_assets.demo.pets import make_pets
from mm_assets.demo.vehicles import make_vehicles


@dataclass(frozen=True)
class Step:
    """words: what happens; uploads: what is sent; waits: until what; note: its row at the end.

    A step with uploads is over when all of them are through, one without when a training is.
    """

    words: str
    waits: str
    note: str
    uploads: tuple[str, ...] = ()


@dataclass(frozen=True)
class Story:
    """One dataset's demo: `make` writes the uploads that its steps send into a folder."""

    make: Callable[[Path], Any]
    making: str
    steps: tuple[Step, ...]


TAKEN_IN = "the sensor sees the upload and takes it in"
TRAINED = "a model is trained, evaluated and promoted"

STORIES: dict[str, Story] = {
    "pets": Story(
        make_pets,
        "drawing pets",
        (
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
    ),
    "vehicles": Story(
        make_vehicles,
        "drawing vehicles",
        (
            Step(
                "Images arrive in two folders that are their labels; a few files are broken.",
                TAKEN_IN, "labelled", ("labelled",),
            ),
            Step("Enough of them are whole: the training sensor asks for a model.",
                 TRAINED, "training"),
            Step("Images in no folder arrive: automobile or truck?",
                 "they are predicted", "unlabelled", ("unlabelled",)),
        ),
    ),
    "cancer": Story(
        make_cancer,
        "writing tables",
        (
            Step("Biopsies with their diagnosis arrive: a table and nothing else.",
                 TAKEN_IN, "labelled", ("labelled",)),
            Step("Enough labelled records are there: the training sensor asks for a model.",
                 "XGBoost is tuned, trained, evaluated and promoted", "training"),
            Step("Biopsies without diagnosis arrive.",
                 "they are predicted", "unlabelled", ("unlabelled",)),
            Step(
                "Half of their diagnoses become known: a table with the ID and the diagnosis.",
                "each stands beside its prediction", "late labels", ("late-labels",),
            ),
        ),
    ),
    "blur": Story(
        make_blur,
        "cutting and blurring photos",
        (
            Step("Photos arrive, and a table with what the camera noted and who is sharp.",
                 TAKEN_IN, "labelled", ("labelled",)),
            Step("Enough labelled records are there: a rule and two learners compete.",
                 "all are trained and judged, and the best is promoted", "training"),
            Step("Photos that nobody has looked at arrive; some were lost on the way.",
                 "they are predicted", "unlabelled", ("unlabelled",)),
        ),
    ),
}  # fmt: skip


def story_of(dataset: str) -> Story:
    """The dataset's story. Raises SpecError (demo_unknown, demo_data_missing) if it has none."""
    if dataset in STORIES:
        return STORIES[dataset]
    choices = ", ".join(STORIES)
    if dataset == "petfinder":
        raise SpecError(
            code="demo_data_missing",
            what="petfinder has no demo: its data is Kaggle's and cannot be made here",
            where="--dataset petfinder",
            todo="Download it and send it with `mm upload`; the YAML that "
            "`mm init --template petfinder` writes says how at its top. "
            f"Demos that make their own data: {choices}.",
        )
    raise SpecError(
        code="demo_unknown",
        what=f"there is no demo of '{dataset}'",
        where="--dataset",
        todo=f"Write one of: {choices}.",
    )
