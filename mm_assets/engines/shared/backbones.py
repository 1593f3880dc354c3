"""Backbones: networks that turn an image into numbers, or a text, wherever their weights lie.

A backbone is a folder (timm: `config.json` and `pytorch_model.bin`; text: what transformers saves)
or a name on the hub. `FrozenBackbone` serves engines that see only numbers. Nothing here knows of
labels or of training. Heavy imports stay inside the functions.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mm_assets.contract.errors import ModelError

IMAGE_ARCHITECTURE = "resnet10t"
# The normalisation after a convolution makes the scale of its weights void for what it computes,
# but a step of Adam turns small weights further: at the learning rate that suits the table, a fresh
# convolution would learn four times too slowly.
CONVOLUTION_SCALE = 0.25
_KEPT_IMAGE_CONFIG = ("input_size", "interpolation", "mean", "std", "crop_pct", "classifier")
IMAGE_WEIGHTS = "pytorch_model.bin"
_HUB_PREFIX = re.compile(r"^(?:hf[-_]hub:)?(?:timm/)?")


def build_image_backbone(folder: Path, *, architecture: str = IMAGE_ARCHITECTURE) -> Path:
    """Write a freshly initialised timm backbone to `folder`, in the layout that AutoGluon reads."""
    import timm
    import torch

    model = timm.create_model(architecture, pretrained=False, num_classes=0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 4:  # of a convolution
                weight.mul_(CONVOLUTION_SCALE)
    return _write_image_backbone(folder, architecture, model, model.default_cfg)


def _write_image_backbone(
    folder: Path, architecture: str, model: Any, default: Mapping[str, Any]
) -> Path:
    import torch

    folder.mkdir(parents=True)
    torch.save(model.state_dict(), folder / IMAGE_WEIGHTS)
    config = {
        "architecture": architecture,
        "num_classes": 0,
        "num_features": model.num_features,
        "pretrained_cfg": {key: default[key] for key in _KEPT_IMAGE_CONFIG if key in default},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def image_architecture(backbone: str) -> str:
    """The timm name that a backbone (a name on the hub or a local folder) is built by."""
    config = Path(backbone) / "config.json"
    if config.is_file():
        return str(json.loads(config.read_text())["architecture"])
    return _HUB_PREFIX.sub("", backbone)


def reach_image_backbone(backbone: str) -> str:
    """The backbone, once it is certain that its weights can be had.

    Raises ModelError: backbone_incomplete (a local folder), backbone_unreachable (the hub).
    """

    def fetch() -> None:
        import timm

        timm.create_model(backbone, pretrained=True, num_classes=0)

    return _reach(backbone, ("config.json", IMAGE_WEIGHTS), fetch, "image")


def reach_text_backbone(backbone: str) -> str:
    """As `reach_image_backbone`, for what transformers saves or a name on its hub."""

    def fetch() -> None:
        from transformers import AutoModel, AutoTokenizer

        AutoTokenizer.from_pretrained(backbone)
        AutoModel.from_pretrained(backbone)

    return _reach(backbone, ("config.json", "tokenizer_config.json"), fetch, "text")


def _reach(backbone: str, needed: tuple[str, ...], fetch: Callable[[], None], kind: str) -> str:
    folder = Path(backbone).expanduser()
    where = f"{kind}_backbone: {backbone}"
    if folder.is_dir():
        missing = [name for name in needed if not (folder / name).is_file()]
        if missing:
            raise ModelError(
                code="backbone_incomplete",
                what=f"the folder of the {kind} backbone lacks {', '.join(missing)}",
                where=where,
                todo="Copy the whole backbone there, or name another.",
            )
        return str(folder.resolve())
    try:
        fetch()
    except Exception as error:  # each library below has its own family of errors
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            code="backbone_unreachable",
            what=f"the {kind} backbone {backbone!r} can't be had from the model hub: {reason}",
            where=where,
            todo=f"Name a local folder as `{kind}_backbone`, let this machine reach the hub, or do "
            "without: take it out, and with AutoGluon use the preset from_scratch.",
        ) from error
    return backbone


def keep_image_backbone(backbone: str, folder: Path) -> None:
    """Write a copy of a backbone (a timm hub name or a local folder) that needs no hub to `folder`.

    Raises ModelError: backbone_incomplete, backbone_unreachable.
    """
    import timm

    reached = reach_image_backbone(backbone)
    if Path(reached).is_dir():
        architecture, model, default = _read_image_backbone(Path(reached))
    else:
        architecture = image_architecture(reached)
        model = timm.create_model(reached, pretrained=True, num_classes=0)
        default = model.default_cfg
    _write_image_backbone(folder, architecture, model, default)


def _read_image_backbone(folder: Path) -> tuple[str, Any, dict[str, Any]]:
    """Its architecture, the model with its weights, and how images are prepared for it."""
    import timm
    import torch

    try:
        config = json.loads((folder / "config.json").read_text())
        weights = torch.load(folder / IMAGE_WEIGHTS, map_location="cpu", weights_only=True)
        with torch.random.fork_rng(devices=[]):
            model = timm.create_model(config["architecture"], pretrained=False, num_classes=0)
        if missing := model.load_state_dict(weights, strict=False).missing_keys:
            raise ValueError(f"there are no weights for {missing[0]}")
    except Exception as error:  # torch, timm and json each have their own
        raise ModelError(
            code="backbone_incomplete",
            what=f"the image backbone can't be read: {type(error).__name__}: {error}",
            where=f"image_backbone: {folder}",
            todo="Copy the whole backbone there, or name another.",
        ) from error
    return config["architecture"], model, {**model.default_cfg, **config.get("pretrained_cfg", {})}


class FrozenBackbone:
    """What a backbone, never trained any further, makes of images. On the processor, float32."""

    def __init__(self, folder: Path) -> None:
        """folder: what `keep_image_backbone` or `build_image_backbone` wrote."""
        _, model, default = _read_image_backbone(folder)
        self._model = model.eval()
        self._side = tuple(default["input_size"][:0:-1])  # width, height
        self._mean, self._deviation = (np.float32(default[key]) for key in ("mean", "std"))
        self.width: int = model.num_features

    def embed(self, images: Sequence[bytes]) -> np.ndarray:
        """[images, width] float32. The whole image is squeezed into the backbone's square.

        One image at a time: in a batch, the last digits would depend on its neighbours, and a
        tree may turn on a last digit.
        """
        import torch

        found = np.empty((len(images), self.width), dtype=np.float32)
        with torch.inference_mode():
            for place, image in enumerate(images):
                found[place] = self._model(torch.from_numpy(self._pixels(image)))[0].numpy()
        return found

    def _pixels(self, image: bytes) -> np.ndarray:
        scaled = (pixels(image, self._side) - self._mean) / self._deviation
        return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None])


def pixels(image: bytes, size: tuple[int, int]) -> np.ndarray:
    """[height, width, 3] float32 between 0 and 1: a normalised image, brought to this size."""
    from PIL import Image

    with Image.open(io.BytesIO(image)) as opened:
        sized = opened.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    return np.asarray(sized, dtype=np.float32) / 255
