"""The demo's dataset `blur`: photos with a small table; is a photo sharp or blurred?

Real photos that come with scikit-learn (china.jpg, flower.jpg) and matplotlib (grace_hopper.jpg),
cut into tiles that do not overlap. Each tile is one record, and once only: left as it is, or
blurred; then made darker and noisier by chance, so that one number does not tell all. What the
camera noted (made up, but as in life) tells a little: long exposures blur, a high ISO is noisy.
The same seed gives the same bytes.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageFilter

from mm_assets.demo.story import TAKEN_IN, Step, Story
from mm_assets.reading.image_features import image_features

if TYPE_CHECKING:
    import numpy as np

TABLE = "photos.csv"
ID, LABEL = "photo_id", "sharpness"
CLASSES = ("sharp", "blurred")
TILE = 32  # pixels
# Blank sky, or what the photographer left out of focus: nobody could say whether it was blurred.
LEAST_CONTRAST, LEAST_DETAIL = 12.0, 200.0
_NOISE = {100: 0.5, 400: 1.5, 1600: 4.0}  # ISO to standard deviation, of 255


@dataclass(frozen=True)
class _Photo:
    photo_id: str
    sharpness: str
    iso: int
    exposure_ms: float
    camera: str
    image: bytes


def make_blur(folder: Path, *, seed: int = 0, unlabelled: int = 80) -> dict[str, str]:
    """Write the uploads `labelled/` and `unlabelled/`; returns the truth of the unlabelled ones.

    Each is a table and the folder `photos/`; every tenth unlabelled photo is not there.
    """
    import numpy as np

    chance = np.random.default_rng(seed)
    tiles = [tile for photo in sources() for tile in cut(photo)]
    photos = [
        _photo(f"photo{number:04d}", tiles[place], chance)
        for number, place in enumerate(chance.permutation(len(tiles)))
    ]
    _write(folder / "labelled", photos[unlabelled:], with_label=True)
    _write(folder / "unlabelled", photos[:unlabelled], with_label=False)
    for photo in photos[:unlabelled:10]:
        (folder / "unlabelled" / "photos" / f"{photo.photo_id}.png").unlink()
    return {photo.photo_id: photo.sharpness for photo in photos[:unlabelled]}


STORY = Story(
    dataset="blur",
    making="cutting and blurring photos",
    make=make_blur,
    steps=(
        Step(
            "Photos arrive, and a table with what the camera noted and who is sharp.",
            TAKEN_IN, "labelled", ("labelled",),
        ),
        Step(
            "Enough labelled records are there: a rule and two learners compete.",
            "all are trained and judged, and the best is promoted", "training",
        ),
        Step(
            "Photos that nobody has looked at arrive; some were lost on the way.",
            "they are predicted", "unlabelled", ("unlabelled",),
        ),
    ),
)  # fmt: skip


def sources() -> list[Image.Image]:
    """The photos at hand, in RGB."""
    from importlib.resources import files

    from matplotlib import get_data_path

    folder = files("sklearn.datasets") / "images"
    paths = [Path(str(folder / name)) for name in ("china.jpg", "flower.jpg")]
    paths.append(Path(get_data_path()) / "sample_data" / "grace_hopper.jpg")
    opened = []
    for path in paths:
        with Image.open(path) as photo:
            opened.append(photo.convert("RGB"))
    return opened


def cut(photo: Image.Image) -> list[Image.Image]:
    """The tiles of a photo in which there is something to see; none overlaps another."""
    tiles = [
        photo.crop((x, y, x + TILE, y + TILE))
        for y in range(0, photo.height - TILE + 1, TILE)
        for x in range(0, photo.width - TILE + 1, TILE)
    ]
    return [tile for tile in tiles if _shows_something(tile)]


def _shows_something(tile: Image.Image) -> bool:
    seen = image_features(tile, width=TILE, height=TILE)
    return seen["contrast"] >= LEAST_CONTRAST and seen["laplacian_variance"] >= LEAST_DETAIL


def _photo(photo_id: str, tile: Image.Image, chance: np.random.Generator) -> _Photo:
    """One record from one tile: blurred or not, then darker and noisier."""
    import numpy as np

    is_blurred = chance.random() < 0.5
    iso = int(chance.choice(list(_NOISE)))
    if is_blurred:
        tile = tile.filter(ImageFilter.GaussianBlur(chance.uniform(1.0, 3.0)))
    pixels = np.asarray(tile, dtype=np.float64) * chance.uniform(0.2, 1.0)
    pixels += chance.normal(0, _NOISE[iso] * chance.uniform(0.5, 1.5), pixels.shape)
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
    return _Photo(
        photo_id=photo_id,
        sharpness=CLASSES[is_blurred],
        iso=iso,
        exposure_ms=round(chance.lognormal(np.log(20 if is_blurred else 6), 0.8), 1),
        camera=str(chance.choice(["compact", "mirrorless", "phone"])),
        image=buffer.getvalue(),
    )


def _write(folder: Path, photos: list[_Photo], *, with_label: bool) -> None:
    import pandas as pd

    (folder / "photos").mkdir(parents=True, exist_ok=True)
    for photo in photos:
        (folder / "photos" / f"{photo.photo_id}.png").write_bytes(photo.image)
    columns = [ID, "camera", "iso", "exposure_ms", *([LABEL] if with_label else [])]
    table = pd.DataFrame([{name: getattr(photo, name) for name in columns} for photo in photos])
    table.to_csv(folder / TABLE, index=False, lineterminator="\n")
