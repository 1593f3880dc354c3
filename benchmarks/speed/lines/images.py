"""Photos as cameras make them: verified, turned upright, scaled down, encoded."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.speed.line import OURS, Goal, Line

PHOTOS = 12
WIDTH, HEIGHT = 4000, 3000
SIDE = 512
ORIENTATION, TURNED = 0x0112, 6


def make(data: Path) -> None:
    """Photos of 12 megapixels, about 4 MB each, every other one turned by its EXIF."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(7)
    for number in range(PHOTOS):
        coarse = random.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
        photo = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        exif = Image.Exif()
        exif[ORIENTATION] = TURNED if number % 2 else 1
        photo.save(data / f"{number}.jpg", quality=92, exif=exif)


def ours(data: Path, _: Path) -> Callable[[], int]:
    """As an upload is received: in threads, as many as there are cores."""
    import os

    from mm_assets.reading.images import normalise

    def one(file: Path) -> int:
        found = normalise(file.read_bytes(), longest_side=SIDE, maximum_pixels=50_000_000)
        return len(found.data) > 0

    one(next(data.iterdir()))  # all is imported

    def run() -> int:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return sum(pool.map(one, sorted(data.iterdir())))

    return run


def pillow(data: Path, _: Path) -> Callable[[], int]:
    """As it is usually written: open, exif_transpose, convert, thumbnail, save."""
    from PIL import Image, ImageOps

    def one(file: Path) -> int:
        with Image.open(file) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
            upright.thumbnail((SIDE, SIDE))
            upright.save(io.BytesIO(), "JPEG", quality=90)
        return 1

    one(next(data.iterdir()))
    return lambda: sum(map(one, sorted(data.iterdir())))


def draft(data: Path, _: Path) -> Callable[[], int]:
    """The limit: decode at the smallest size that JPEG offers, in threads, and no more."""
    import os

    from PIL import Image

    def one(file: Path) -> int:
        with Image.open(file) as image:
            image.draft("RGB", (SIDE, SIDE))
            image.load()
        return 1

    one(next(data.iterdir()))

    def run() -> int:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return sum(pool.map(one, sorted(data.iterdir())))

    return run


LINES = (
    Line(
        name="photos",
        words=f"{PHOTOS} JPEGs of 12 megapixels, verified and made {SIDE} pixels large",
        amount=PHOTOS,
        unit="photos",
        make=make,
        cases={OURS: ours, "Pillow": pillow, "bare decoding": draft},
        goals=(Goal("wall", 0.1, "Pillow"),),
    ),
)
