"""The AutoGluon engine: a table of numbers, categories, texts and pictures to a portable model.

What belongs here: how AutoGluon is asked to train and to predict, and the guards around what it
does silently. What does not: reading data, splitting, evaluating, storing models. This module and
`backbones.py` are the only places that import autogluon, torch, lightning or transformers, and
only inside functions.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mm_assets.errors import ModelError
from mm_assets.models import backbones

FORMAT = 1
ENGINE_FILE = "engine.json"
PREDICTOR_FOLDER = "predictor"
PREDICTION_BATCH = 64
MISSING_CATEGORY = "(missing)"
PROBLEM_TYPES = ("binary", "multiclass", "regression")
_COLUMN_TYPES = {
    "number": "numerical",
    "category": "categorical",
    "text": "text",
    "image": "image_bytearray",
}
_NOISY_LOGGERS = (
    "autogluon",
    "fsspec",
    "lightning",
    "lightning.fabric",
    "lightning.pytorch",
    "py.warnings",
    "timm",
    "torch",
    "transformers",
)


class AutoGluonEngine:
    """Trains one AutoGluon MultiModalPredictor on a table, with or without pictures.

    `preset="from_scratch"` needs no model hub and no weights; `"pretrained"` starts from backbones
    on the hub or in local folders. `hyperparameters` are AutoGluon's own, and win over the preset.
    """

    def __init__(
        self,
        *,
        preset: str = "from_scratch",
        image_backbone: str | None = None,
        text_backbone: str | None = None,
        hyperparameters: dict[str, Any] | None = None,
        time_limit: float | None = None,
        seed: int = 0,
    ) -> None:
        if preset not in ("from_scratch", "pretrained"):
            raise ModelError(
                code="preset_unknown",
                what=f"there is no preset {preset!r}",
                where="AutoGluonEngine",
                todo='Use "from_scratch" or "pretrained".',
            )
        self.preset = preset
        self.image_backbone = image_backbone
        self.text_backbone = text_backbone
        self.hyperparameters = dict(hyperparameters or {})
        self.time_limit = time_limit
        self.seed = seed

    def train(
        self,
        training: pd.DataFrame,
        tuning: pd.DataFrame,
        *,
        columns: dict[str, str],
        label: str,
        problem_type: str,
        directory: Path,
        progress: Callable[[str], None],
    ) -> None:
        """Train on `training`, choose the best epoch on `tuning`, write the model to `directory`.

        `columns` maps feature columns, in order, to "number", "category", "text" or "image".
        """
        training, tuning = _with_known_classes(training, tuning, label, problem_type)
        train_frame = _prepared(training, columns)
        used = {
            c: k
            for c, k in columns.items()
            if k == "image" or train_frame[c].nunique(dropna=False) > 1
        }
        train_frame = train_frame[list(used)].assign(**{label: training[label].to_numpy()})
        tune_frame = _prepared(tuning, columns)[list(used)].assign(
            **{label: tuning[label].to_numpy()}
        )
        folder = directory / PREDICTOR_FOLDER
        with quiet(), tempfile.TemporaryDirectory(prefix="mm-backbones-") as scratch:
            predictor_class = _import_autogluon()
            import lightning.pytorch as pl

            pl.seed_everything(self.seed)
            config = self._hyperparameters(used, train_frame, Path(scratch), problem_type)
            predictor = predictor_class(
                label=label,
                problem_type=problem_type,
                eval_metric="rmse" if problem_type == "regression" else "log_loss",
                path=str(folder),
                verbosity=0,
                enable_progress_bar=False,
                warn_if_exist=False,
            )
            _report_epochs(predictor, progress)
            predictor.fit(
                train_data=train_frame.reset_index(drop=True),
                tuning_data=tune_frame.reset_index(drop=True),
                column_types={
                    **{c: _COLUMN_TYPES[k] for c, k in used.items()},
                    label: "numerical" if problem_type == "regression" else "categorical",
                },
                hyperparameters=config,
                time_limit=self.time_limit,
                seed=self.seed,
            )
            classes = (
                None if problem_type == "regression" else [str(c) for c in predictor.class_labels]
            )
        _make_portable(folder, config.get("model.timm_image.checkpoint_name"))
        import autogluon.multimodal
        import torch

        record = {
            "format": FORMAT,
            "engine": "autogluon",
            "preset": self.preset,
            "columns": [[c, k] for c, k in columns.items()],
            "used_columns": list(used),
            "label": label,
            "problem_type": problem_type,
            "classes": classes,
            "versions": {"autogluon": autogluon.multimodal.__version__, "torch": torch.__version__},
        }
        (directory / ENGINE_FILE).write_text(json.dumps(record, indent=1, ensure_ascii=False))

    def _hyperparameters(
        self, used: dict[str, str], frame: pd.DataFrame, scratch: Path, problem_type: str
    ) -> dict[str, Any]:
        import torch

        kinds = set(used.values())
        names = []
        if kinds & {"number", "category"}:
            names.append("ft_transformer")
        if "text" in kinds:
            names.append("hf_text")
        if "image" in kinds:
            names.append("timm_image")
        if len(names) > 1:
            names.append("fusion_mlp")
        config: dict[str, Any] = {
            "model.names": names,
            "data.categorical.minimum_cat_count": 3,
            "data.categorical.maximum_num_cat": 1000,
            "env.num_workers": 0,
            "env.num_workers_inference": 0,
            "env.precision": 32,
            "env.batch_size": 32,
            "env.per_gpu_batch_size": 32,
            "optim.lr": 1e-3,
            "optim.lr_choice": "single_stage",
            "optim.max_epochs": 15,
            "optim.val_check_interval": 1.0,
        }
        if not torch.cuda.is_available():
            config["env.num_gpus"] = 0
        if "text" in kinds:
            texts = [t for c, k in used.items() if k == "text" for t in frame[c] if t]
            config["model.hf_text.checkpoint_name"] = str(
                backbones.build_text_backbone(scratch / "text", texts)
            )
            config["model.hf_text.pooling_mode"] = "mean"
            config["model.hf_text.text_trivial_aug_maxscale"] = 0.0
            config["model.hf_text.max_text_len"] = backbones.TEXT_MAX_TOKENS
        if "image" in kinds:
            config["model.timm_image.checkpoint_name"] = str(
                backbones.build_image_backbone(scratch / "image")
            )
            config["model.timm_image.image_size"] = 64
            config["model.timm_image.train_transforms"] = [
                "resize_to_square",
                "random_horizontal_flip",
            ]
            config["model.timm_image.val_transforms"] = ["resize_to_square"]
        config.update(self.hyperparameters)
        return config

    def load(self, directory: Path) -> AutoGluonPredictor:
        """Load a model that `train` wrote, from wherever it lies now."""
        record = json.loads((directory / ENGINE_FILE).read_text())
        with quiet():
            predictor = _import_autogluon().load(str(directory / PREDICTOR_FOLDER), verbosity=0)
        return AutoGluonPredictor(predictor, record)


class AutoGluonPredictor:
    """A loaded model. `classes` are the probability columns in order, None for regression."""

    def __init__(self, predictor: Any, record: dict[str, Any]) -> None:
        self._learner = predictor._learner
        self.columns: dict[str, str] = dict(record["columns"])
        self.classes: list[str] | None = record["classes"]
        self._used = record["used_columns"]

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Probabilities of the classes, or "value" for regression, under the index of `frame`."""
        prepared = _checked(frame, self.columns)[self._used]
        outputs = []
        for start in range(0, len(prepared), PREDICTION_BATCH):
            outputs.append(self._predict_batch(prepared.iloc[start : start + PREDICTION_BATCH]))
        names = self.classes or ["value"]
        values = np.concatenate(outputs) if outputs else np.empty((0, len(names)))
        return pd.DataFrame(values.astype(np.float64), index=frame.index, columns=names)

    def _predict_batch(self, batch: pd.DataFrame) -> np.ndarray:
        learner = self._learner
        processors = {k: v for k, v in learner._data_processors.items() if k != "label"}
        with quiet():
            output = learner.realtime_predict(
                data=batch.reset_index(drop=True),
                df_preprocessor=learner._df_preprocessor,
                data_processors=processors,
                num_gpus=0,
                precision=32,
            )[0]
        logits = output["logits"].double().numpy()
        if self.classes is None:
            return learner._df_preprocessor.label_scaler.inverse_transform(logits.reshape(-1, 1))
        logits -= logits.max(axis=1, keepdims=True)
        weights = np.exp(logits)
        return weights / weights.sum(axis=1, keepdims=True)


def _with_known_classes(training, tuning, label, problem_type):
    if problem_type == "regression":
        return training, tuning
    unseen = ~tuning[label].isin(set(training[label]))
    return pd.concat([training, tuning[unseen]]), tuning[~unseen]


def _checked(frame: pd.DataFrame, columns: dict[str, str]) -> pd.DataFrame:
    missing, extra = set(columns) - set(frame.columns), set(frame.columns) - set(columns)
    if missing or extra or frame.columns.duplicated().any():
        raise ModelError(
            code="model_columns_differ",
            what=f"the model needs other columns: missing {sorted(missing)}, not expected {sorted(extra)}",
            where="AutoGluonPredictor.predict",
            todo="Give it exactly the feature columns it was trained on.",
        )
    return _prepared(frame, columns)


def _prepared(frame: pd.DataFrame, columns: dict[str, str]) -> pd.DataFrame:
    prepared: dict[str, Any] = {}
    for column, kind in columns.items():
        values = frame[column]
        if kind == "number":
            numbers = values.to_numpy(dtype=np.float64)
            if np.isinf(numbers).any():
                raise ModelError(
                    code="number_not_finite",
                    what=f"column {column!r} holds an infinite number",
                    where=f"column {column}",
                    todo="Use finite numbers, or leave the value missing.",
                )
            prepared[column] = numbers
        elif kind == "image":
            bad = [not isinstance(v, bytes) or not v for v in values]
            if any(bad):
                raise ModelError(
                    code="image_missing",
                    what=f"{sum(bad)} records have no picture",
                    where=f"column {column}",
                    todo="Ask the model without images for records that have none.",
                )
            prepared[column] = values.to_numpy(dtype=object)
        else:
            filler = MISSING_CATEGORY if kind == "category" else ""
            prepared[column] = np.array(
                [
                    filler
                    if v is None or v is pd.NA or (isinstance(v, float) and math.isnan(v))
                    else str(v)
                    for v in values
                ],
                dtype=object,
            )
    return pd.DataFrame(prepared, index=frame.index)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' logs and warnings away from the user, for a while."""
    levels = {name: logging.getLogger(name).level for name in _NOISY_LOGGERS}
    for name in _NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _import_autogluon() -> Any:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        from autogluon.multimodal import MultiModalPredictor
        from transformers.utils import logging as transformers_logging
    transformers_logging.disable_progress_bar()
    from PIL import ImageFile

    ImageFile.LOAD_TRUNCATED_IMAGES = False
    return MultiModalPredictor


def _report_epochs(predictor: Any, progress: Callable[[str], None]) -> None:
    import lightning.pytorch as pl

    class Report(pl.Callback):
        def on_validation_epoch_end(self, trainer, module):
            if trainer.sanity_checking:
                return
            name = module.validation_metric_name
            score = trainer.callback_metrics.get(name)
            progress(
                f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}, {name.replace('val_', 'validation ').replace('_', ' ')} {float(score):.4f}"
            )

    learner = predictor._learner
    original = learner.get_callbacks_per_run

    def with_report(*args, **kwargs):
        callbacks = original(*args, **kwargs)
        return [*callbacks, Report()] if kwargs.get("is_train", True) else callbacks

    learner.get_callbacks_per_run = with_report


def _make_portable(folder: Path, image_backbone: str | None) -> None:
    from omegaconf import OmegaConf

    config = OmegaConf.load(folder / "config.yaml")
    if "timm_image" in config.model.names:
        config.model.timm_image.checkpoint_name = (
            backbones.image_architecture_of(config.model.timm_image.checkpoint_name)
            if False
            else "resnet10t"
        )
        OmegaConf.save(config, folder / "config.yaml")
    assets = json.loads((folder / "assets.json").read_text())
    assets["save_path"] = PREDICTOR_FOLDER
    assets["pretrained_path"] = None
    (folder / "assets.json").write_text(json.dumps(assets))
    for path in folder.iterdir():
        if path.name.startswith("events.out") or path.name == "hparams.yaml":
            path.unlink()
