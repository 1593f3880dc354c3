"""The data sets: what installed packages ship, what the demos and `drawn.py` draw, and fashion.

Each is a frame in memory as engines get it, with images as the pipeline normalises them. A set is
made the same way each time; `fingerprint` tells when it is not.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from mm_assets.contract.dataset import IMAGE
from mm_assets.reading.images import normalise

LABEL, TRUTH = "label", "truth"
MAXIMUM_PIXELS = 25_000_000
FASHION = Path(__file__).parents[3] / "shared" / "data" / "fashion" / "labelled.zip"


@dataclass(frozen=True)
class DataSet:
    """One set. records: the columns, `label`, and `truth` where labels are not to be trusted.

    columns: feature column to kind, as `Task.columns`. words: what it is, for the page.
    """

    name: str
    words: str
    records: pd.DataFrame
    columns: dict[str, str]
    problem_type: str

    @property
    def is_regression(self) -> bool:
        return self.problem_type == "regression"

    @property
    def truth(self) -> pd.Series:
        """What predictions are judged by: the true label, where it is another than was typed."""
        return self.records[TRUTH if TRUTH in self.records else LABEL]

    def fingerprint(self) -> str:
        """Changes with any value of any record (12 hexadecimal digits)."""
        said = self.records.copy()
        if IMAGE in said:
            said[IMAGE] = [hashlib.sha256(data).hexdigest() for data in said[IMAGE]]
        numbers = pd.util.hash_pandas_object(said, index=False).to_numpy()
        return hashlib.sha256(numbers.tobytes()).hexdigest()[:12]


def normalised(data: bytes, longest_side: int = 128) -> bytes:
    """An image as the pipeline hands it to engines."""
    return normalise(data, longest_side=longest_side, maximum_pixels=MAXIMUM_PIXELS).data


# -- what packages ship ---------------------------------------------------------------------------


def _of_sklearn(name: str, words: str, problem_type: str) -> DataSet:
    loader = getattr(importlib.import_module("sklearn.datasets"), f"load_{name}")
    data = loader(as_frame=True)
    records = data.data.astype("float64").rename(columns=lambda column: column.replace(" ", "_"))
    columns = dict.fromkeys(records.columns, "number")
    target = data.target.to_numpy()
    if problem_type == "regression":
        records[LABEL] = target.astype("float64")
    else:
        records[LABEL] = [str(data.target_names[number]) for number in target]
    return DataSet(name, words, records, columns, problem_type)


def diabetes() -> DataSet:
    return _of_sklearn("diabetes", "a disease's progress in a year, 10 numbers", "regression")


def cancer() -> DataSet:
    return _of_sklearn("breast_cancer", "benign or malignant, 30 numbers", "binary")


def wine() -> DataSet:
    return _of_sklearn("wine", "three growers, 13 numbers", "multiclass")


def _digits() -> tuple[np.ndarray, list[str]]:
    """[1000, 8, 8] with values to 16, and the digits, in an order of chance."""
    from sklearn.datasets import load_digits

    data = load_digits()
    chosen = np.random.default_rng(0).permutation(len(data.images))[:1000]
    return data.images[chosen], [str(number) for number in data.target[chosen]]


def _png(pixels: np.ndarray, scale: int) -> bytes:
    grey = Image.fromarray((pixels * 255 / 16).round().astype(np.uint8))
    buffer = io.BytesIO()
    larger = (grey.width * scale, grey.height * scale)
    grey.resize(larger, Image.Resampling.BICUBIC).save(buffer, "PNG")
    return normalised(buffer.getvalue())


def digits() -> DataSet:
    images, labels = _digits()
    records = pd.DataFrame({IMAGE: [_png(image, 4) for image in images], LABEL: labels})
    words = "handwritten digits as images of 32 pixels, no table"
    return DataSet("digits", words, records, {IMAGE: "image"}, "multiclass")


def halves() -> DataSet:
    """Digits again: the table has the upper half of each, the image shows the lower half."""
    images, labels = _digits()
    names = [f"row{row}_{column}" for row in range(4) for column in range(8)]
    records = pd.DataFrame(images[:, :4].reshape(len(images), -1), columns=names)
    records[IMAGE] = [_png(image, 4) for image in images[:, 4:]]
    records[LABEL] = labels
    columns = {**dict.fromkeys(names, "number"), IMAGE: "image"}
    words = "digits, the upper half as 32 numbers, the lower as an image"
    return DataSet("digits_halves", words, records, columns, "multiclass")


# -- what lies beside the checkout ----------------------------------------------------------------


def fashion() -> DataSet | None:
    """Real product photos with a catalogue; None where they are not at hand."""
    if not FASHION.is_file():
        return None
    with zipfile.ZipFile(FASHION) as archive:
        table = pd.read_csv(archive.open("products.csv"), dtype=str, keep_default_na=False)
        images = {Path(n).stem: n for n in archive.namelist() if n.startswith("images/")}
        table = table[table["id"].isin(images.keys()) & table["season"].isin(
            ("Spring", "Summer", "Fall", "Winter"))].reset_index(drop=True)  # fmt: skip
        data = [normalised(archive.read(images[name])) for name in table["id"]]
    kinds = {
        "gender": "category", "masterCategory": "category", "baseColour": "category",
        "year": "category", "usage": "category", "productDisplayName": "text",
    }  # fmt: skip
    records = table[list(kinds)].replace({"": None, "NA": None}).astype(object)
    records[IMAGE], records[LABEL] = data, table["season"]
    words = "product photos with a catalogue, which season"
    return DataSet("fashion", words, records, {**kinds, IMAGE: "image"}, "multiclass")


def every_set() -> dict[str, Callable[[], Any]]:
    """How each set is made, by its name; fashion's maker may return None."""
    from benchmarks.quality import drawn

    return {
        "diabetes": diabetes, "breast_cancer": cancer, "wine": wine, "digits": digits,
        "digits_halves": halves, "pets": drawn.pets, "vehicles": drawn.vehicles,
        "blur": drawn.blur, "houses": drawn.houses, "claims": drawn.claims,
        "messages": drawn.messages, "fashion": fashion,
    }  # fmt: skip
