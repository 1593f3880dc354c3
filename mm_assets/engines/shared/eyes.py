"""Eyes: what a frozen backbone makes of images, each looked at once.

An image becomes a vector that does not depend on its neighbours, on the number of processors, or on
whether it was kept. Only an image that nobody has seen wakes the network, and with it torch.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from mm_assets.compute import map_ordered
from mm_assets.contract.errors import ModelError
from mm_assets.engines.protocol import Progress, Vectors
from mm_assets.engines.shared.backbones import (
    EMBEDDED,
    EMBEDDED_ARCHITECTURE,
    EMBEDDED_SHA256,
    EMBEDDED_WIDTH,
    IMAGE_WEIGHTS,
    embedded_weights,
    keep_image_backbone,
    pixels,
    read_embedded_backbone,
    read_image_backbone,
)
from mm_assets.engines.shared.one_thread_each import one_thread_each
from mm_assets.engines.shared.refusals import refuse

PREPARED = 1  # how images are prepared and vectors rounded; another number for any change of it
AT_A_TIME = 64  # images between two words of progress
KEPT_AT_ONCE = 256  # images that a crash may cost
MOST_REMEMBERED = 4096  # vectors; of 1280 numbers they take 10 MB
_LARGEST = float(np.finfo(np.float16).max)


class Eyes:
    """A backbone that is never trained any further, and what is known of images already.

    identity: names the weights and the way images are prepared; vectors of one identity can stand
    beside each other. width: numbers in a vector.
    """

    def __init__(self, backbone: str | Path = EMBEDDED, vectors: Vectors | None = None) -> None:
        """backbone: `embedded`, or a folder as `keep_image_backbone` writes it.

        Raises ModelError (backbone_incomplete).
        """
        self._backbone = str(backbone)
        self._vectors = vectors
        self._remembered: dict[str, np.ndarray] = {}
        self._lock = threading.Lock()
        self.identity, self.width = _described(self._backbone)

    def embed(self, images: Sequence[bytes], progress: Progress | None = None) -> np.ndarray:
        """[images, width] float32, each number one that float16 can hold.

        images: normalised. Raises ModelError (backbone_incomplete, backbone_differs).
        """
        names = [hashlib.sha256(image).hexdigest() for image in images]
        distinct = dict(zip(names, images, strict=True))
        known = self._known(list(distinct))
        unknown = {name: image for name, image in distinct.items() if name not in known}
        if unknown:
            known.update(self._looked_at(unknown, progress or (lambda _: None)))
        self._remember(known)
        found = np.empty((len(names), self.width), dtype=np.float32)
        for place, name in enumerate(names):
            found[place] = known[name]
        return found

    def _known(self, names: list[str]) -> dict[str, np.ndarray]:
        with self._lock:
            known = {name: self._remembered[name] for name in names if name in self._remembered}
        missing = [name for name in names if name not in known]
        if missing and self._vectors is not None:
            read = self._vectors.read(self.identity, missing)
            known.update({n: rounded(v) for n, v in read.items() if v.shape == (self.width,)})
        return known

    def _looked_at(self, images: dict[str, bytes], progress: Progress) -> dict[str, np.ndarray]:
        names, found, kept = list(images), dict[str, np.ndarray](), 0
        groups = [names[at : at + AT_A_TIME] for at in range(0, len(names), AT_A_TIME)]
        looking = _Looking(self._backbone, self.identity)
        seen = map_ordered(looking, ([images[name] for name in some] for some in groups))
        try:
            for some, made in zip(groups, seen, strict=True):
                found.update(zip(some, rounded(made), strict=True))
                if len(found) - kept >= KEPT_AT_ONCE:
                    self._keep(found, kept)
                    kept = len(found)
                progress(f"looked at {len(found)} of {len(names)} new images")
        finally:  # also of what is stopped in the middle
            self._keep(found, kept)
        return found

    def _keep(self, found: dict[str, np.ndarray], kept: int) -> None:
        if self._vectors is not None and len(found) > kept:
            self._vectors.write(self.identity, dict(list(found.items())[kept:]))

    def _remember(self, known: dict[str, np.ndarray]) -> None:
        """For a model that is asked for its answer and then for its reasons."""
        newest = list(known)[-MOST_REMEMBERED:]
        with self._lock:
            for name in newest:
                self._remembered.pop(name, None)
                self._remembered[name] = known[name].astype(np.float16)
            while len(self._remembered) > MOST_REMEMBERED:
                del self._remembered[next(iter(self._remembered))]


def rounded(vectors: np.ndarray) -> np.ndarray:
    """As float32 what float16 can hold of it, so that what is kept is what was computed."""
    clipped = np.clip(vectors, -_LARGEST, _LARGEST)
    return clipped.astype(np.float16).astype(np.float32)


def keep_eyes(backbone: str, folder: Path) -> str:
    """What a model has to keep of a backbone; returns its identity.

    The embedded one is installed wherever the model is asked, so it is only named. Of any other (a
    timm hub name or a local folder) `folder` gets a copy. Raises ModelError (backbone_incomplete,
    backbone_unreachable, backbone_differs).
    """
    if backbone == EMBEDDED:
        embedded_weights()
        return Eyes().identity
    keep_image_backbone(backbone, folder)
    return Eyes(folder).identity


def kept_eyes(identity: str | None, folder: Path, vectors: Vectors | None = None) -> Eyes:
    """The eyes that `keep_eyes` kept in this folder. Raises ModelError (backbone_differs, …).

    identity: as it was returned; None for a model from before there was one, which has a copy.
    """
    if folder.is_dir():
        return Eyes(folder, vectors)
    eyes = Eyes(EMBEDDED, vectors)
    if identity != eyes.identity:
        refuse(
            "backbone_differs",
            f"the model sees through {identity}, and installed is {eyes.identity}",
            "Install the version of mm-assets that trained it, or run `mm train`.",
            f"image_backbone: {EMBEDDED}",
        )
    embedded_weights()
    return eyes


class _Looking:
    """What is done to some images. Where it is done, the embedded backbone is installed; any other
    one goes along, and is what it was: the identity says so.
    """

    def __init__(self, backbone: str, identity: str) -> None:
        self._backbone = backbone
        self._identity = identity
        self._unverified = False

    def __call__(self, images: Sequence[bytes]) -> np.ndarray:
        if self._unverified and _described(self._backbone)[0] != self._identity:
            refuse(
                "backbone_differs",
                f"a worker has another image backbone than {self._identity}",
                "Give the workers the same image as the run.",
                f"image_backbone: {self._backbone}",
            )
        self._unverified = False
        return look_at(images, self._backbone, self._identity)

    def __getstate__(self) -> dict[str, Any]:
        names = () if self._backbone == EMBEDDED else ("config.json", IMAGE_WEIGHTS)
        files = {name: (Path(self._backbone) / name).read_bytes() for name in names}
        return {"files": files, "identity": self._identity}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._backbone, self._identity = EMBEDDED, state["identity"]
        if state["files"]:
            self._folder = TemporaryDirectory(prefix="backbone-")  # gone with this object
            self._backbone = self._folder.name
            for name, data in state["files"].items():
                (Path(self._backbone) / name).write_bytes(data)
        self._unverified = True


# -- the network ----------------------------------------------------------------------------------


def look_at(images: Sequence[bytes], backbone: str, identity: str) -> np.ndarray:
    """[images, width] float32: runs the network on each. The one place where it is run.

    One image at a time, and each in one thread: in a batch, or with another number of threads, the
    last digits would be others, and a tree may turn on a last digit. Several images at the same
    moment are faster than threads that wait for each other at every layer of one.
    """
    network = _network(backbone, identity)
    return np.array(list(one_thread_each().map(network.vector, images)), dtype=np.float32)


class _Network:
    """A backbone in memory. The whole image is squeezed into its square."""

    def __init__(self, backbone: str) -> None:
        if backbone == EMBEDDED:
            model, prepared = read_embedded_backbone()
        else:
            _, model, prepared = read_image_backbone(Path(backbone))
        self._model = model.eval()
        self._side = tuple(prepared["input_size"][:0:-1])  # width, height
        self._mean, self._deviation = (np.float32(prepared[key]) for key in ("mean", "std"))

    def vector(self, image: bytes) -> np.ndarray:
        import torch

        scaled = (pixels(image, self._side) - self._mean) / self._deviation
        seen = torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1)[None]))
        with torch.inference_mode():
            return self._model(seen)[0].numpy()


@lru_cache(maxsize=2)
def _network(backbone: str, identity: str) -> _Network:  # noqa: ARG001  other weights: another one
    return _Network(backbone)


def _described(backbone: str) -> tuple[str, int]:
    """Identity and width, without reading the embedded weights and without torch."""
    if backbone == EMBEDDED:
        return _identity(EMBEDDED_ARCHITECTURE, EMBEDDED_SHA256), EMBEDDED_WIDTH
    folder = Path(backbone)
    try:
        config = (folder / "config.json").read_bytes()
        weights = hashlib.sha256((folder / IMAGE_WEIGHTS).read_bytes())
        weights.update(config)
        described = json.loads(config)
        return _identity(described["architecture"], weights.hexdigest()), described["num_features"]
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            code="backbone_incomplete",
            what=f"the image backbone can't be read: {type(error).__name__}: {error}",
            where=f"image_backbone: {backbone}",
            todo="Copy the whole backbone there, or name another.",
        ) from error


def _identity(architecture: str, sha256: str) -> str:
    name = re.sub(r"[^a-z0-9_]+", "_", architecture.lower())
    return f"{name}-{sha256[:16]}-{PREPARED}"
