"""Backbones for the AutoGluon engine: fresh ones built without a hub, pretrained ones checked first.

A backbone is a folder (timm: `config.json` and `pytorch_model.bin`; text: what transformers saves).
Nothing here knows of records, labels or training. Heavy imports stay inside the functions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

IMAGE_ARCHITECTURE = "resnet10t"
IMAGE_SIZE = 64
TEXT_WIDTH = 128
TEXT_MAX_TOKENS = 128
_SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def build_image_backbone(folder: Path, *, architecture: str = IMAGE_ARCHITECTURE) -> Path:
    """Write a freshly initialised timm backbone, in the layout that AutoGluon reads, to `folder`."""
    import timm
    import torch

    model = timm.create_model(architecture, pretrained=False, num_classes=0)
    folder.mkdir(parents=True)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    kept = ("input_size", "interpolation", "mean", "std", "crop_pct", "classifier", "first_conv")
    config = {
        "architecture": architecture,
        "num_classes": 0,
        "num_features": model.num_features,
        "pretrained_cfg": {k: v for k, v in model.default_cfg.items() if k in kept},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def build_text_backbone(folder: Path, texts: Iterable[str], *, width: int = TEXT_WIDTH) -> Path:
    """Write a small text backbone for exactly these texts to `folder`."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordLevelTrainer(
        vocab_size=20_000, min_frequency=2, special_tokens=_SPECIAL_TOKENS, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=TEXT_MAX_TOKENS,
    )
    config = BertConfig(
        vocab_size=len(wrapped),
        hidden_size=width,
        num_hidden_layers=0,
        num_attention_heads=4,
        intermediate_size=width,
        max_position_embeddings=TEXT_MAX_TOKENS,
        pad_token_id=wrapped.pad_token_id,
    )
    model = BertModel(config, add_pooling_layer=False)
    wrapped.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def image_architecture(backbone: str) -> str:
    """The timm architecture that a backbone (a timm name or a local folder) is built on."""
    config = Path(backbone) / "config.json"
    if config.is_file():
        return str(json.loads(config.read_text())["architecture"])
    return re.sub(r"^(hf[-_]hub:|timm/)+", "", backbone)
