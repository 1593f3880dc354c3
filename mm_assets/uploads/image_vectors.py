"""Images as vectors of the embedded backbone, by where they lie: what was looked at before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from mm_assets.contract.errors import LakeError
from mm_assets.lake.lake import Lake
from mm_assets.uploads.received import read_images
from mm_assets.uploads.vectors import LakeVectors

Place = tuple[str, str]  # the upload, and the sha256 of the original file


def known_vectors(
    lake: Lake, dataset: str, backbone: str, images: Iterable[Place]
) -> dict[Place, npt.NDArray[np.float32]]:
    """The vectors of those images that are known, of length 1; nobody looks at an image for it.

    An image that is lost, or whose upload is, has none. Takes the bytes of each image.
    """
    wanted: dict[str, set[str]] = {}
    for upload, sha256 in images:
        wanted.setdefault(upload, set()).add(sha256)
    vectors = LakeVectors(lake, dataset)
    found: dict[Place, Any] = {}
    for upload, some in wanted.items():
        named: dict[str, str] = {}
        try:
            for read in read_images(lake, dataset, upload, some):
                vectors.lie(upload, read)
                named |= {hashlib.sha256(data).hexdigest(): sha for sha, data in read.items()}
        except LakeError as error:
            if error.code not in ("image_lost", "not_materialised"):
                raise
        for name, vector in vectors.read(backbone, list(named)).items():
            found[upload, named[name]] = at_length_one(vector)
    return found


def at_length_one(vector: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    return np.asarray(vector / (float(np.linalg.norm(vector)) or 1.0), dtype=np.float32)
