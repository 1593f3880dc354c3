"""What is known of images, kept beside the measurements as the pipeline keeps it in the lake."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.quality.stored import VECTORS


class KeptVectors:
    """A folder with a file for each image and backbone; keeps to the protocol `Vectors`."""

    def __init__(self, folder: Path = VECTORS) -> None:
        self._folder = folder

    def _file(self, backbone: str, image: str) -> Path:
        own = hashlib.sha256(backbone.encode()).hexdigest()[:12]
        return self._folder / own / f"{image}.npy"

    def read(self, backbone: str, images: Sequence[str]) -> dict[str, np.ndarray]:
        """The vectors of those of the images that are known."""
        files = {image: self._file(backbone, image) for image in images}
        return {image: np.load(path) for image, path in files.items() if path.is_file()}

    def write(self, backbone: str, vectors: Mapping[str, np.ndarray]) -> None:
        """Keep them; each file is there whole or not at all."""
        for image, vector in vectors.items():
            path = self._file(backbone, image)
            path.parent.mkdir(parents=True, exist_ok=True)
            beside = path.with_suffix(".part")
            with beside.open("wb") as file:
                np.save(file, vector.astype(np.float32))
            beside.replace(path)
