"""The AutoGluon engine: a table of numbers, categories, texts and pictures to a portable model.

What belongs here: how AutoGluon is asked to train and to predict, and the guards around what it
does silently. What does not: reading data, splitting, evaluating, storing models. This module and
`backbones.py` are the only places that import autogluon, torch, lightning or transformers, and
only inside functions.
"""

# AutoGluon offers no public way to watch the epochs, or to predict without a Trainer a call.
# ruff: noqa: SLF001

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mm_assets.errors import ModelError
from mm_assets.models import backbones
from mm_assets.models.blend import as_sure_as_right, combined, shares_of
from mm_assets.models.guards import (
    REGRESSION,
    check_columns,
    has_pictures,
    prepared_frame,
    refuse,
    value_range,
    varies,
    with_known_classes,
)

FORMAT = 1
ENGINE_FILE = "engine.json"
JOINT, TABLE, PICTURE = "joint", "table", "picture"  # the predictors' folders
PREDICTION_BATCH = 64
FROM_SCRATCH = "from_scratch"
PRESETS = (FROM_SCRATCH, *backbones.PRETRAINED)

_COLUMN_TYPES = {
    "number": "numerical",
    "category": "categorical",
    "text": "text",
    "image": "image_bytearray",
}
_NOISY_LOGGERS = (
    "autogluon", "fsspec", "httpx", "huggingface_hub", "lightning", "lightning.fabric",
    "lightning.pytorch", "timm", "torch", "transformers",
)  # fmt: skip


class AutoGluonEngine:
    """Trains one AutoGluon MultiModalPredictor on a table, with or without pictures.

    `preset="from_scratch"` needs no model hub and no weights; `"pretrained"`, `"high"` and `"best"`
    start from backbones on the hub or in local folders, the later the larger. `hyperparameters`
    are AutoGluon's own, and win over the preset. `time_limit` is in seconds. Training is
    repeatable for a `seed` on one kind of processor.
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
        if preset not in PRESETS:
            refuse("preset_unknown", f"there is no preset {preset!r}", f"Use one of {PRESETS}.")
        if preset == "from_scratch" and (image_backbone or text_backbone):
            refuse(
                "backbone_not_used",
                "the preset from_scratch builds its own backbones, but one is named",
                "Leave the backbone out, or use the preset pretrained.",
            )
        image, text = backbones.PRETRAINED.get(preset, ("", ""))
        self.preset = preset
        self.image_backbone = image_backbone or image
        self.text_backbone = text_backbone or text
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
        """Train on `training`, choose the best epochs on `tuning`, write the model to `directory`.

        columns: feature column to "number" (float64), "category" or "text" (str) or "image"
        (bytes), in order; a missing value is NaN or None. Records without a picture teach the table
        part of a from_scratch model, and nothing else. label: a column of str, or float for
        regression. directory: empty; nothing in the model depends on its place.
        Raises ModelError for data that nothing can be learnt from and for unreachable backbones.
        """
        if problem_type != REGRESSION:
            # Every part must know the same classes: those that were seen in a picture.
            both = (training, tuning)
            pictured = pd.concat([some[label][has_pictures(some, columns)] for some in both])
            training, tuning = (some[some[label].isin(pictured)] for some in both)
        training, tuning = with_known_classes(training, tuning, label, problem_type)
        if problem_type == "multiclass" and training[label].nunique() == 2:
            problem_type = "binary"  # AutoGluon insists; the other classes may come later
        ranges = {c: value_range(training[c]) for c, kind in columns.items() if kind == "number"}
        seen = [has_pictures(part, columns) for part in (training, tuning)]
        frames = [
            prepared_frame(part, columns, ranges, picture_needed=False)
            for part in (training, tuning)
        ]
        used = {c: k for c, k in columns.items() if k == "image" or varies(frames[0][c], k)}
        if not used:
            refuse(
                "nothing_to_learn_from",
                "every feature column has the same value, or only rare ones, in all records",
                "Add columns that differ between records, or more records.",
            )
        frames = [
            frame[list(used)].assign(**{label: part[label].to_numpy()})
            for frame, part in zip(frames, (training, tuning), strict=True)
        ]
        started = time.monotonic()
        progress(
            f"training on {len(training)} records, {int(seen[0].sum())} of them with a picture; "
            f"tuning on {len(tuning)}"
            if "image" in columns.values()
            else f"training on {len(training)} records, tuning on {len(tuning)}"
        )
        parts = self._parts(used)
        seconds = self.time_limit and self.time_limit / len(parts)
        members = []
        for name, own in parts.items():
            part = [
                frame[[*own, label]] if name == TABLE else frame[[*own, label]][has_picture]
                for frame, has_picture in zip(frames, seen, strict=True)
            ]
            learner = self._fit(part, own, label, problem_type, directory / name, seconds, progress)
            members.append(_Member(learner, list(own)))
        classes = _classes(members[0].learner, problem_type)
        with quiet():
            judged = frames[1].loc[seen[1]]
            outputs = [member.outputs(judged) for member in members]
        truth = judged[label].to_numpy()
        weights = as_sure_as_right(outputs, shares_of(outputs, truth, classes), truth, classes)
        record = {
            "format": FORMAT,
            "engine": "autogluon",
            "preset": self.preset,
            "seed": self.seed,
            "columns": [[column, kind] for column, kind in columns.items()],
            "members": [
                {"folder": name, "columns": list(own), "weight": weight}
                for (name, own), weight in zip(parts.items(), weights, strict=True)
            ],
            "number_ranges": ranges,
            "label": label,
            "problem_type": problem_type,
            "classes": classes,
            "image_input": [_image_input(member.learner) for member in members],
            "versions": _versions(),
        }
        text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
        (directory / ENGINE_FILE).write_text(text, encoding="utf-8")
        progress(f"trained in {time.monotonic() - started:.0f} s")

    def _parts(self, used: dict[str, str]) -> dict[str, dict[str, str]]:
        """The predictors to train, by folder, and the columns of each.

        Untrained, a picture network learns a thousand pictures by heart before it sees anything in
        them, and drags the table's part along when they are trained as one. So each learns alone,
        and how much either counts is decided on the tuning records. Pretrained ones are trained
        as one, AutoGluon's way; so is whatever `model.names` asks for.
        """
        pictures = {column: kind for column, kind in used.items() if kind == "image"}
        table = {column: kind for column, kind in used.items() if kind != "image"}
        if self.preset == "from_scratch" and "model.names" not in self.hyperparameters:
            parts = {TABLE: table, PICTURE: pictures}
        else:
            parts = {JOINT: used}
        return {folder: columns for folder, columns in parts.items() if columns}

    def _fit(
        self,
        frames: list[pd.DataFrame],
        used: dict[str, str],
        label: str,
        problem_type: str,
        folder: Path,
        seconds: float | None,
        progress: Callable[[str], None],
    ) -> Any:
        """The trained learner, which is also saved to `folder`."""
        label_type = "numerical" if problem_type == REGRESSION else "categorical"
        with (
            quiet(),
            _own_randomness(self.seed),
            tempfile.TemporaryDirectory(prefix="mm-backbones-") as scratch,
        ):
            predictor = _import_autogluon()(
                label=label,
                problem_type=problem_type,
                eval_metric="rmse" if problem_type == REGRESSION else "log_loss",
                path=str(folder),
                verbosity=0,
                enable_progress_bar=False,
                warn_if_exist=False,
            )
            settings = self._settings(used, frames[0], Path(scratch))
            _report_epochs(predictor._learner, lambda line: progress(f"{folder.name}: {line}"))
            predictor.fit(
                train_data=frames[0].reset_index(drop=True),
                tuning_data=frames[1].reset_index(drop=True),
                column_types={**{c: _COLUMN_TYPES[k] for c, k in used.items()}, label: label_type},
                hyperparameters=settings,
                time_limit=seconds,
                seed=self.seed,
            )
            backbones.make_portable(predictor._learner, folder)
        return predictor._learner

    def _settings(
        self, used: dict[str, str], training: pd.DataFrame, scratch: Path
    ) -> dict[str, Any]:
        """AutoGluon's hyperparameters; what a preset must build for them goes to `scratch`."""
        texts = [text for c, kind in used.items() if kind == "text" for text in training[c] if text]
        kinds = set(used.values())
        if self.preset == "from_scratch":
            chosen = backbones.from_scratch(kinds, texts, scratch, self.hyperparameters, self.seed)
        else:
            chosen = backbones.pretrained(
                kinds, self.image_backbone, self.text_backbone, self.hyperparameters
            )
        return chosen

    def load(self, directory: Path) -> AutoGluonPredictor:
        """Load what `train` wrote, from wherever it lies now.

        This unpickles: verify the files first. Raises ModelError (model_unreadable).
        """
        try:
            record = json.loads((directory / ENGINE_FILE).read_text(encoding="utf-8"))
            with quiet(), _own_randomness(0):
                members = [
                    _Member(_load_learner(directory / part["folder"]), part["columns"])
                    for part in record["members"]
                ]
            seen = [_image_input(member.learner) for member in members]
            same = record["format"] == FORMAT and record["image_input"] == seen
        except Exception as error:
            raise ModelError(
                code="model_unreadable",
                what=f"the model can't be loaded: {type(error).__name__}: {error}",
                where=str(directory),
                todo="Load it with the versions it was trained with (engine.json), or train anew.",
            ) from error
        if not same:
            raise ModelError(
                code="model_unreadable",
                what="the model was written by another version, and would see pictures differently",
                where=str(directory),
                todo="Train a new model.",
            )
        return AutoGluonPredictor(members, record)


class AutoGluonPredictor:
    """A loaded model. `classes` are the probability columns in order, None for regression."""

    def __init__(self, members: list[_Member], record: dict[str, Any]) -> None:
        self.classes: list[str] | None = record["classes"]
        self.columns: dict[str, str] = dict(record["columns"])
        self._members = members
        self._weights: list[float] = [part["weight"] for part in record["members"]]
        self._ranges: dict[str, list[float]] = record["number_ranges"]

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Probabilities of the classes, or "value" for regression, under the index of `frame`.

        frame: exactly the columns of training, in any order; it is not changed. A record gets the
        same prediction alone and in any batch. Raises ModelError (model_columns_differ,
        number_not_finite, image_missing).
        """
        check_columns(frame, self.columns)
        prepared = prepared_frame(frame, self.columns, self._ranges)
        with quiet():
            outputs = [member.outputs(prepared) for member in self._members]
        values = combined(outputs, self._weights, self.classes)
        return pd.DataFrame(values, index=frame.index, columns=self.classes or ["value"])


class _Member:
    """One trained learner and the columns it sees."""

    def __init__(self, learner: Any, columns: list[str]) -> None:
        self.learner = learner
        self._columns = columns
        # The label's processor would look for a label.
        self._processors = {k: v for k, v in learner._data_processors.items() if k != "label"}

    def outputs(self, prepared: pd.DataFrame) -> np.ndarray:
        """[records, classes] log probabilities, or [records, 1] values for regression."""
        frame = prepared[self._columns]
        starts = range(0, max(len(frame), 1), PREDICTION_BATCH)
        batches = (frame.iloc[start : start + PREDICTION_BATCH] for start in starts)
        return np.concatenate([self._batch(batch.reset_index(drop=True)) for batch in batches])

    def _batch(self, batch: pd.DataFrame) -> np.ndarray:
        """Full precision whatever it was trained with, so that neighbours don't matter."""
        import torch

        learner = self.learner
        if batch.empty:
            return np.empty((0, learner._output_shape))
        # AutoGluon's own `predict_proba` infers column types from each batch, and builds a Trainer.
        with torch.backends.cudnn.flags(benchmark=False, deterministic=True, allow_tf32=False):
            output = learner.realtime_predict(
                data=batch,
                df_preprocessor=learner._df_preprocessor,
                data_processors=self._processors,
                num_gpus=0,
                precision=32,
            )
        logits = output[0]["logits"].double()
        if learner.problem_type != REGRESSION:
            return torch.log_softmax(logits, dim=1).numpy()
        return learner._df_preprocessor.label_scaler.inverse_transform(logits.reshape(-1, 1))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' logs and warnings away from the user, for a while."""
    loggers = [logging.getLogger(name) for name in _NOISY_LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _own_randomness(seed: int) -> Iterator[None]:
    """Seeded inside, and the process's own random state untouched outside."""
    _import_autogluon()
    from lightning.pytorch import seed_everything
    from lightning.pytorch.utilities.seed import isolate_rng

    with isolate_rng():
        seed_everything(seed, verbose=False)
        yield


def _import_autogluon() -> Any:
    """The MultiModalPredictor class. The import takes 10 to 20 s the first time, and talks."""
    # Threads that wait by spinning take the cores from each other as soon as anything else runs:
    # beside one other busy process an epoch took ten times as long. Read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        from autogluon.multimodal import MultiModalPredictor
        from PIL import ImageFile
        from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    # AutoGluon sets it for the whole process; half a JPEG would then decode with grey fill.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    return MultiModalPredictor


def _load_learner(folder: Path) -> Any:
    return _import_autogluon().load(str(folder), verbosity=0)._learner


def _report_epochs(learner: Any, progress: Callable[[str], None]) -> None:
    """Have the learner's Trainer say how each epoch went."""
    from lightning.pytorch import Callback

    class Report(Callback):  # type: ignore[misc] # mypy doesn't follow lightning
        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            name = pl_module.validation_metric_name
            score = trainer.callback_metrics.get(name)
            if trainer.sanity_checking or score is None:
                return
            what = name.replace("val_", "validation ").replace("_", " ")
            epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            progress(f"{epoch}, {what} {float(score):.3f}")

    original = learner.get_callbacks_per_run

    def callbacks_per_run(*args: Any, is_train: bool = True, **more: Any) -> list[Any]:
        callbacks = original(*args, is_train=is_train, **more)
        return [*callbacks, Report()] if is_train else callbacks

    learner.get_callbacks_per_run = callbacks_per_run


def _classes(learner: Any, problem_type: str) -> list[str] | None:
    return None if problem_type == REGRESSION else [str(name) for name in learner.class_labels]


def _image_input(learner: Any) -> list[Any] | None:
    """What a picture becomes. AutoGluon rebuilds it silently where its pickle does not load."""
    processors = learner._data_processors.get("image") or []
    return [[one.size, [*map(float, one.mean)], [*map(float, one.std)]] for one in processors]


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("autogluon.multimodal", "torch", "timm")}
