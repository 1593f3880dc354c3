"""Records with several images each, as `images: all` has them: a cell is a tuple of images then.

What is made of each image is brought together in one row of numbers, so that a model sees a record
and not so many images. A cell of one image in bytes, as `images: first` has it, is left as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mm_assets.engines.protocol import Progress
from mm_assets.engines.shared.eyes import Eyes

Cell = bytes | tuple[bytes, ...] | None
Rows = npt.NDArray[np.float32]


def images_in(cell: Cell) -> tuple[bytes, ...]:
    """The images of one record, in their order."""
    if cell is None:
        return ()
    return (cell,) if isinstance(cell, bytes) else cell


def are_images(cell: Any) -> bool:
    """Whether a cell holds at least one image, and nothing that is none."""
    if isinstance(cell, tuple):
        return bool(cell) and all(isinstance(one, bytes) and one for one in cell)
    return isinstance(cell, bytes) and bool(cell)


def embedded(eyes: Eyes, cells: Sequence[Cell], progress: Progress | None = None) -> Rows:
    """[records, width]: what the eyes see of each record, which has an image.

    Of a tuple it is the mean of its images' vectors, each of them brought to length 1 before: so no
    image counts more than another, and their order makes no difference.
    """
    if not any(isinstance(cell, tuple) for cell in cells):
        return eyes.embed(cells, progress)  # type: ignore[arg-type]
    several = [images_in(cell) for cell in cells]
    seen = eyes.embed([one for images in several for one in images], progress)
    found, start = np.empty((len(cells), eyes.width), dtype=np.float32), 0
    for place, images in enumerate(several):
        found[place] = _mean(_of_length_1(seen[start : start + len(images)]))
        start += len(images)
    return found


def mean_of_each(cells: Sequence[Cell], look: Callable[[bytes], npt.NDArray[Any]]) -> Rows:
    """[records, numbers]: the mean of what `look` makes of each image of a record."""
    return np.stack(
        [_mean(np.stack([look(one).ravel() for one in images_in(cell)])) for cell in cells]
    )


def _mean(rows: npt.NDArray[Any]) -> Rows:
    """Added up in an order of the numbers' own, whatever that of the rows."""
    found = rows[0] if len(rows) == 1 else np.sort(rows.astype(np.float64), axis=0).mean(axis=0)
    return found.astype(np.float32)


def _of_length_1(vectors: Rows) -> npt.NDArray[np.float64]:
    exact = vectors.astype(np.float64)
    return exact / np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), 1e-6)
