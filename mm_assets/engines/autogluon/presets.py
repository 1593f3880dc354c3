"""What AutoGluon is asked for: each preset's settings, and the backbones that it begins with."""

# ruff: noqa: SLF001 - what a learner was configured with is nowhere public

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mm_assets.engines.shared.backbones import (
    EMBEDDED,
    build_image_backbone,
    image_architecture,
    reach_image_backbone,
    reach_text_backbone,
    write_embedded_backbone,
)
from mm_assets.engines.shared.guards import RARE

TEXT_WIDTH = 256
TEXT_MAX_TOKENS = 512
VOCABULARY = 20_000  # words
TEXTS_READ = 50_000  # more texts than this teach the word vectors little and cost much

# What a preset starts from: an image backbone (timm) and a text backbone (Hugging Face), as
# AutoGluon chooses them for medium, high and best quality. The first fine-tunes on a laptop; the
# others want a GPU.
PRETRAINED = {
    "pretrained": ("mobilenetv3_large_100", "google/electra-small-discriminator"),
    "high": ("swin_base_patch4_window7_224", "google/electra-base-discriminator"),
    "best": ("swin_large_patch4_window7_224", "microsoft/deberta-v3-base"),
}

# What every preset asks of AutoGluon. A category that AutoGluon sees fewer than 100 times, or that
# is not among the 20 most frequent, counts as unknown by default: most of a small table.
_COMMON: dict[str, Any] = {
    "data.categorical.minimum_cat_count": RARE,
    "data.categorical.maximum_num_cat": 1000,
    "env.num_workers": 0,
    "env.num_workers_inference": 0,
    "optim.val_check_interval": 1.0,
}

# Found by experiment on small tables with short texts and small images: narrow layers, smoothed
# labels and one learning rate for all, because here no part has been trained before.
_FROM_SCRATCH: dict[str, Any] = {
    "env.precision": 32,
    "env.batch_size": 32,
    "env.per_gpu_batch_size": 32,
    "optim.lr": 3e-4,
    "optim.lr_choice": "single_stage",
    "optim.max_epochs": 30,
    "optim.label_smoothing": 0.05,
    "optim.top_k": 5,
    "optim.top_k_average_method": "uniform_soup",
    "model.fusion_mlp.dropout": 0.3,
    "model.fusion_mlp.adapt_in_features": "min",
    "model.fusion_mlp.hidden_sizes": [64],
    "model.ft_transformer.token_dim": 64,
    "model.ft_transformer.hidden_size": 64,
    "model.ft_transformer.ffn_hidden_size": 64,
    "model.ft_transformer.num_blocks": 2,
    "model.hf_text.pooling_mode": "mean",
    "model.hf_text.max_text_len": TEXT_MAX_TOKENS,
    "model.hf_text.text_trivial_aug_maxscale": 0.0,
    "model.timm_image.image_size": 48,
    "model.timm_image.train_transforms": ["resize_to_square", "random_horizontal_flip"],
    "model.timm_image.val_transforms": ["resize_to_square"],
}

# What is other for an image network that begins with the embedded weights: the later a layer, the
# faster it learns, for eight epochs, and the best of them is kept instead of a mean of several.
# Chosen by hand: docs/results.md has no figures of them. docs/engines.md has those of an earlier
# trial with other rates and larger images, where frozen features did better.
_WARM: dict[str, Any] = {
    "optim.lr": 3e-3,
    "optim.lr_choice": "layerwise_decay",
    "optim.max_epochs": 8,
    "optim.top_k": 1,
}

IMAGE_NAME = "model.timm_image.checkpoint_name"
TEXT_NAME = "model.hf_text.checkpoint_name"
_PATH_SETTINGS = {"_name_or_path", "name_or_path"}
_LEFT_BY_TRAINING = re.compile(r"events\.out\..*|hparams\.yaml|.*\.ckpt")
_SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def from_scratch(
    kinds: set[str],
    texts: Sequence[str],
    scratch: Path,
    chosen: Mapping[str, Any],
    seed: int,
    *,
    is_warm: bool = False,
) -> dict[str, Any]:
    """AutoGluon's hyperparameters for columns of these kinds; the backbones go to `scratch`.

    chosen: hyperparameters that win. is_warm: the image network begins with the embedded weights.
    Raises ModelError: backbone_incomplete, backbone_differs (the embedded ones).
    """
    is_warm = is_warm and "image" in kinds
    settings = _fitting({**_for(kinds), **_FROM_SCRATCH, **(_WARM if is_warm else {}), **chosen})
    if "image" in kinds and IMAGE_NAME not in settings:
        build = write_embedded_backbone if is_warm else build_image_backbone
        settings[IMAGE_NAME] = str(build(scratch / "image"))
    if "text" in kinds and TEXT_NAME not in settings:
        settings[TEXT_NAME] = str(build_text_backbone(scratch / "text", texts, seed=seed))
    return settings


def pretrained(
    kinds: set[str],
    image_backbone: str,
    text_backbone: str,
    scratch: Path,
    chosen: Mapping[str, Any],
) -> dict[str, Any]:
    """As `from_scratch`, with AutoGluon's own way to fine-tune these backbones.

    Raises ModelError: backbone_incomplete, backbone_unreachable, backbone_differs.
    """
    settings = _fitting({**_for(kinds), **chosen})
    if "image" in kinds and IMAGE_NAME not in settings:
        settings[IMAGE_NAME] = (
            str(write_embedded_backbone(scratch / "image"))
            if image_backbone == EMBEDDED
            else reach_image_backbone(image_backbone)
        )
    if "text" in kinds and TEXT_NAME not in settings:
        settings[TEXT_NAME] = reach_text_backbone(text_backbone)
    return settings


def _for(kinds: set[str]) -> dict[str, Any]:
    import torch

    parts = {
        "ft_transformer": bool(kinds & {"number", "category"}),
        "hf_text": "text" in kinds,
        "timm_image": "image" in kinds,
    }
    names = [name for name, present in parts.items() if present]
    names += ["fusion_mlp"] if len(names) > 1 else []
    settings = {**_COMMON, "model.names": names}
    if not torch.cuda.is_available():
        settings["env.num_gpus"] = 0
    return settings


def _fitting(settings: dict[str, Any]) -> dict[str, Any]:
    """Without what is meant for a part that this model has not: AutoGluon would refuse it.

    So one YAML can hold hyperparameters for the models with and without images.
    """
    absent = {"ft_transformer", "fusion_mlp", "hf_text", "timm_image"} - {*settings["model.names"]}
    return {
        k: v for k, v in settings.items() if not k.startswith(tuple(f"model.{a}." for a in absent))
    }


def build_text_backbone(
    folder: Path, texts: Sequence[str], *, width: int = TEXT_WIDTH, seed: int = 0
) -> Path:
    """Write a text backbone made from these texts alone to `folder`.

    It is a bag of words: every word of the texts is a token, no layer of attention follows, and
    the model takes the mean of the tokens. A transformer has nothing to learn its grammar from in
    a thousand short texts. The word vectors begin as latent semantic analysis gives them
    (Deerwester et al. 1990), each weighted by its inverse document frequency: random ones must
    first be learnt from the labels, and lose to tf-idf on small data. GPT-1 is the architecture
    because it is the one in transformers that does not normalise its token vectors, which would
    undo those weights.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import OpenAIGPTConfig, OpenAIGPTModel, PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel(unk_token=_SPECIAL_TOKENS[1]))
    words.normalizer = normalizers.BertNormalizer(lowercase=True)
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordLevelTrainer(
        vocab_size=VOCABULARY, special_tokens=_SPECIAL_TOKENS, show_progress=False
    )
    read = list(texts[:TEXTS_READ])
    words.train_from_iterator(read, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token=_SPECIAL_TOKENS[0],
        unk_token=_SPECIAL_TOKENS[1],
        cls_token=_SPECIAL_TOKENS[2],
        sep_token=_SPECIAL_TOKENS[3],
        model_max_length=TEXT_MAX_TOKENS,
        model_input_names=["input_ids", "attention_mask"],
    )
    model = OpenAIGPTModel(
        OpenAIGPTConfig(
            vocab_size=len(tokenizer),
            n_embd=width,
            n_layer=0,
            n_head=1,
            n_positions=TEXT_MAX_TOKENS,
        )
    )
    tokens = [encoding.ids for encoding in words.encode_batch(read, add_special_tokens=False)]
    _set_word_vectors(model, _word_vectors(tokens, len(tokenizer), width, seed))
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def _set_word_vectors(model: Any, vectors: np.ndarray) -> None:
    import torch

    with torch.no_grad():
        model.positions_embed.weight.zero_()
        model.tokens_embed.weight.copy_(torch.from_numpy(vectors))


def _word_vectors(tokens: list[list[int]], vocabulary: int, width: int, seed: int) -> np.ndarray:
    """[vocabulary, width] float32: directions from the tf-idf matrix's SVD, lengths the idf."""
    from scipy.sparse import csr_matrix, diags
    from sklearn.decomposition import TruncatedSVD
    from sklearn.preprocessing import normalize

    distinct = [sorted(set(ids)) for ids in tokens]
    rows = np.repeat(np.arange(len(distinct)), [len(ids) for ids in distinct])
    places = np.array([one for ids in distinct for one in ids], dtype=np.int64)
    counts = csr_matrix((np.ones(len(places)), (rows, places)), (len(distinct), vocabulary))
    frequency = np.asarray(counts.sum(axis=0)).ravel()
    weight = np.log((1 + len(distinct)) / (1 + frequency)) + 1
    tf_idf = normalize(counts @ diags(weight))
    rank = min(width, vocabulary - 1, len(distinct) - 1)
    vectors = np.zeros((vocabulary, width), dtype=np.float32)
    if rank > 0:
        svd = TruncatedSVD(rank, n_iter=5, random_state=seed).fit(tf_idf)
        vectors[:, :rank] = svd.components_.T * weight[:, None]
    vectors[: len(_SPECIAL_TOKENS)] = 0
    return vectors


def make_portable(learner: Any, folder: Path) -> None:
    """Save the trained learner again, with only what `load` needs and no path of this machine.

    AutoGluon's pickles hold the whole configuration, so it is changed in memory first.
    """
    parts = learner._config.model
    if "timm_image" in parts.names:
        image = parts.timm_image
        image.checkpoint_name = image_architecture(image.checkpoint_name)
    if "hf_text" in parts.names and not learner._config.optim.peft:
        parts.hf_text.checkpoint_name = "local://hf_text"  # AutoGluon's sign for "beside me"
    learner.save(path=str(folder), save_model=False)
    assets = json.loads((folder / "assets.json").read_text())
    assets.update(save_path=folder.name, pretrained_path=None)
    (folder / "assets.json").write_text(json.dumps(assets))
    for path in folder.rglob("*.json"):
        settings = json.loads(path.read_text())
        if isinstance(settings, dict) and settings.keys() & _PATH_SETTINGS:
            kept = {k: v for k, v in settings.items() if k not in _PATH_SETTINGS}
            path.write_text(json.dumps(kept, indent=1))
    for path in folder.iterdir():
        if _LEFT_BY_TRAINING.fullmatch(path.name) and path.name != "model.ckpt":
            path.unlink()
