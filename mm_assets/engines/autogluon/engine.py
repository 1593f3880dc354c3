"""The AutoGluon engine: a table of numbers, categories, texts and images to a portable model.

What belongs here: how AutoGluon is asked to train and to predict, and the guards around what it
does silently. What does not: reading data, splitting, evaluating, storing models. This folder and
`backbones.py` are the only places that import autogluon, torch, lightning or transformers, and
only inside functions.
"""

# AutoGluon offers no public way to what its learner is made of.
# ruff: noqa: SLF001

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from mm_assets.contract.errors import ModelError
from mm_assets.engines.autogluon import presets
from mm_assets.engines.autogluon.blend import as_sure_as_right, shares_of
from mm_assets.engines.autogluon.library import (
    import_autogluon,
    library_versions,
    load_learner,
    own_randomness,
    quiet,
    report_epochs,
)
from mm_assets.engines.autogluon.predictor import AutoGluonPredictor, Member, image_input
from mm_assets.engines.guards import (
    REGRESSION,
    has_images,
    prepared_frame,
    refuse,
    value_range,
    varies,
    with_known_classes,
)

FORMAT = 1
ENGINE_FILE = "engine.json"
JOINT, TABLE, IMAGE = "joint", "table", "image"  # the predictors' folders
FROM_SCRATCH = "from_scratch"
PRESETS = (FROM_SCRATCH, *presets.PRETRAINED)

_COLUMN_TYPES = {
    "number": "numerical",
    "category": "categorical",
    "text": "text",
    "image": "image_bytearray",
}


class AutoGluonEngine:
    """Trains one AutoGluon MultiModalPredictor on a table, with or without images.

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
        image, text = presets.PRETRAINED.get(preset, ("", ""))
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
        (bytes), in order; a missing value is NaN or None. Records without an image teach the table
        part of a from_scratch model, and nothing else. label: a column of str, or float for
        regression. directory: empty; nothing in the model depends on its place.
        Raises ModelError for data that nothing can be learnt from and for unreachable backbones.
        """
        if problem_type != REGRESSION:
            # Every part must know the same classes: those that were seen in an image.
            both = (training, tuning)
            imaged = pd.concat([some[label][has_images(some, columns)] for some in both])
            training, tuning = (some[some[label].isin(imaged)] for some in both)
        training, tuning = with_known_classes(training, tuning, label, problem_type)
        if problem_type == "multiclass" and training[label].nunique() == 2:
            problem_type = "binary"  # AutoGluon insists; the other classes may come later
        ranges = {c: value_range(training[c]) for c, kind in columns.items() if kind == "number"}
        seen = [has_images(part, columns) for part in (training, tuning)]
        frames = [
            prepared_frame(part, columns, ranges, image_needed=False) for part in (training, tuning)
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
            f"training on {len(training)} records, {int(seen[0].sum())} of them with an image; "
            f"tuning on {len(tuning)}"
            if "image" in columns.values()
            else f"training on {len(training)} records, tuning on {len(tuning)}"
        )
        parts = self._parts(used)
        seconds = self.time_limit and self.time_limit / len(parts)
        members = []
        for name, own in parts.items():
            part = [
                frame[[*own, label]] if name == TABLE else frame[[*own, label]][has_image]
                for frame, has_image in zip(frames, seen, strict=True)
            ]
            learner = self._fit(part, own, label, problem_type, directory / name, seconds, progress)
            members.append(Member(learner, list(own)))
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
            "image_input": [image_input(member.learner) for member in members],
            "versions": library_versions(),
        }
        text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
        (directory / ENGINE_FILE).write_text(text, encoding="utf-8")
        progress(f"trained in {time.monotonic() - started:.0f} s")

    def _parts(self, used: dict[str, str]) -> dict[str, dict[str, str]]:
        """The predictors to train, by folder, and the columns of each.

        Untrained, an image network learns a thousand images by heart before it sees anything in
        them, and drags the table's part along when they are trained as one. So each learns alone,
        and how much either counts is decided on the tuning records. Pretrained ones are trained
        as one, AutoGluon's way; so is whatever `model.names` asks for.
        """
        images = {column: kind for column, kind in used.items() if kind == "image"}
        table = {column: kind for column, kind in used.items() if kind != "image"}
        if self.preset == "from_scratch" and "model.names" not in self.hyperparameters:
            parts = {TABLE: table, IMAGE: images}
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
            own_randomness(self.seed),
            tempfile.TemporaryDirectory(prefix="mm-backbones-") as scratch,
        ):
            predictor = import_autogluon()(
                label=label,
                problem_type=problem_type,
                eval_metric="rmse" if problem_type == REGRESSION else "log_loss",
                path=str(folder),
                verbosity=0,
                enable_progress_bar=False,
                warn_if_exist=False,
            )
            settings = self._settings(used, frames[0], Path(scratch))
            report_epochs(predictor._learner, lambda line: progress(f"{folder.name}: {line}"))
            predictor.fit(
                train_data=frames[0].reset_index(drop=True),
                tuning_data=frames[1].reset_index(drop=True),
                column_types={**{c: _COLUMN_TYPES[k] for c, k in used.items()}, label: label_type},
                hyperparameters=settings,
                time_limit=seconds,
                seed=self.seed,
            )
            presets.make_portable(predictor._learner, folder)
        return predictor._learner

    def _settings(
        self, used: dict[str, str], training: pd.DataFrame, scratch: Path
    ) -> dict[str, Any]:
        """AutoGluon's hyperparameters; what a preset must build for them goes to `scratch`."""
        texts = [text for c, kind in used.items() if kind == "text" for text in training[c] if text]
        kinds = set(used.values())
        if self.preset == "from_scratch":
            chosen = presets.from_scratch(kinds, texts, scratch, self.hyperparameters, self.seed)
        else:
            chosen = presets.pretrained(
                kinds, self.image_backbone, self.text_backbone, self.hyperparameters
            )
        return chosen

    def load(self, directory: Path) -> AutoGluonPredictor:
        """Load what `train` wrote, from wherever it lies now.

        This unpickles: verify the files first. Raises ModelError (model_unreadable).
        """
        try:
            record = json.loads((directory / ENGINE_FILE).read_text(encoding="utf-8"))
            with quiet(), own_randomness(0):
                members = [
                    Member(load_learner(directory / part["folder"]), part["columns"])
                    for part in record["members"]
                ]
            seen = [image_input(member.learner) for member in members]
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
                what="the model was written by another version, and would see images differently",
                where=str(directory),
                todo="Train a new model.",
            )
        return AutoGluonPredictor(members, record)


def _classes(learner: Any, problem_type: str) -> list[str] | None:
    return None if problem_type == REGRESSION else [str(name) for name in learner.class_labels]
