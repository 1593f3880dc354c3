"""The AutoGluon engine: a table of numbers, categories, texts and images to a portable model.

What belongs here: how AutoGluon is asked to train and to predict, and the guards around what it
does silently. What does not: reading data, splitting, evaluating, storing models. This folder and
`shared/backbones.py` are the only places that import autogluon, torch, lightning or transformers,
and only inside functions.
"""

# AutoGluon offers no public way to what its learner is made of.
# ruff: noqa: SLF001

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from mm_assets.engines.autogluon import presets
from mm_assets.engines.autogluon.blend import as_sure_as_right, shares_of
from mm_assets.engines.autogluon.library import (
    import_autogluon,
    library_versions,
    load_learner,
    own_randomness,
    quiet,
    report_epochs,
    where_networks_compute,
)
from mm_assets.engines.autogluon.predictor import AutoGluonPredictor, Member, image_input
from mm_assets.engines.protocol import Progress, Task
from mm_assets.engines.shared.backbones import EMBEDDED
from mm_assets.engines.shared.engine_file import read_record, reading, write_record
from mm_assets.engines.shared.guards import prepared_frame, varies, with_known_classes
from mm_assets.engines.shared.prepared import ranges_of, with_images
from mm_assets.engines.shared.refusals import refuse, refuse_to_learn
from mm_assets.engines.shared.weights import repeated

ENGINE = "autogluon"
FORMAT = 1
JOINT, TABLE, IMAGE = "joint", "table", "image"  # the predictors' folders
FROM_SCRATCH = "from_scratch"
OWN = (EMBEDDED, FROM_SCRATCH)  # ask no hub, and how they train is ours
PRESETS = (*OWN, *presets.PRETRAINED)

_COLUMN_TYPES = {
    "number": "numerical",
    "category": "categorical",
    "text": "text",
    "image": "image_bytearray",
}


class AutoGluonEngine:
    """Trains one AutoGluon MultiModalPredictor on a table, with or without images.

    `preset="embedded"` starts from the image weights that are installed, `"from_scratch"` from
    none; neither needs a model hub. `"pretrained"`, `"high"` and `"best"` start from backbones on
    the hub or in local folders, the later the larger. `hyperparameters` are AutoGluon's own, and
    win over the preset. `time_limit` is in seconds. Training is repeatable for a `seed` on one
    kind of processor.
    """

    weighs_classes = True

    def __init__(
        self,
        *,
        preset: str = EMBEDDED,
        image_backbone: str | None = None,
        text_backbone: str | None = None,
        hyperparameters: dict[str, Any] | None = None,
        time_limit: float | None = None,
        seed: int = 0,
    ) -> None:
        if preset not in PRESETS:
            refuse("preset_unknown", f"there is no preset {preset!r}", f"Use one of {PRESETS}.")
        if preset in OWN and (image_backbone not in (None, preset) or text_backbone):
            refuse(
                "backbone_not_used",
                f"the preset {preset} has its own backbones, but another is named",
                "Leave the backbone out, or use the preset pretrained.",
            )
        image, text = presets.PRETRAINED.get(preset, ("", ""))
        self.preset = preset
        self.image_backbone = image_backbone or image
        self.text_backbone = text_backbone or text
        self.hyperparameters = dict(hyperparameters or {})
        self.time_limit = time_limit
        self.seed = seed

    def train(self, task: Task, directory: Path, progress: Progress) -> None:
        """As `Engine.train`: the best epochs are chosen on the tuning records.

        Records without an image teach the table part, with the presets `embedded` and
        `from_scratch`, and nothing else. Raises ModelError for data that nothing can be learnt
        from and for unreachable backbones.
        """
        started = time.monotonic()
        learnt, ranges = _prepared(task)
        progress(_opening(learnt))
        parts = self._parts(learnt)
        seconds = self.time_limit and self.time_limit / len(parts)
        members = [
            Member(self._fit(part, directory / folder, seconds, progress), list(part.columns))
            for folder, part in parts.items()
        ]
        classes = _classes(members[0].learner, learnt)
        weights = _weights(members, with_images(learnt).tuning, task.label, classes)
        write_record(
            directory,
            {
                "format": FORMAT,
                "engine": ENGINE,
                "preset": self.preset,
                "seed": self.seed,
                "columns": [[column, kind] for column, kind in task.columns.items()],
                "members": [
                    {"folder": folder, "columns": list(part.columns), "weight": weight}
                    for (folder, part), weight in zip(parts.items(), weights, strict=True)
                ],
                "number_ranges": ranges,
                "label": task.label,
                "problem_type": learnt.problem_type,
                "classes": classes,
                "class_weights": task.class_weights and dict(task.class_weights),
                "image_input": [image_input(member.learner) for member in members],
                "versions": library_versions(),
            },
        )
        took = f"trained in {time.monotonic() - started:.0f} s"
        progress(f"{took} on {where_networks_compute()}")

    def load(self, directory: Path) -> AutoGluonPredictor:
        """Load what `train` wrote, from wherever it lies now.

        This unpickles: verify the files first. Raises ModelError (model_unreadable).
        """
        with reading(directory):
            record = read_record(directory, ENGINE, FORMAT)
            with quiet(), own_randomness(0):
                members = [
                    Member(load_learner(directory / part["folder"]), part["columns"])
                    for part in record["members"]
                ]
            if record["image_input"] != [image_input(member.learner) for member in members]:
                raise ValueError("it would see images differently than when it was trained")
            return AutoGluonPredictor(members, record)

    def _parts(self, task: Task) -> dict[str, Task]:
        """What each predictor learns, by its folder.

        Untrained, an image network learns a thousand images by heart before it sees anything in
        them, and drags the table's part along when they are trained as one. So each learns alone,
        and how much either counts is decided on the tuning records. The backbones of the larger
        presets are trained as one, AutoGluon's way; so is whatever `model.names` asks for.
        """
        if self.preset not in OWN or "model.names" in self.hyperparameters:
            return {JOINT: with_images(task)}
        images = {column: kind for column, kind in task.columns.items() if kind == "image"}
        table = {column: kind for column, kind in task.columns.items() if kind != "image"}
        parts = {}
        if table:
            parts[TABLE] = _of_columns(task, table)
        if images:
            parts[IMAGE] = _of_columns(with_images(task), images)
        return parts

    def _fit(self, task: Task, folder: Path, seconds: float | None, progress: Progress) -> Any:
        """The trained learner, which is also saved to `folder`."""
        label_type = "numerical" if task.is_regression else "categorical"
        types = {column: _COLUMN_TYPES[kind] for column, kind in task.columns.items()}
        with (
            quiet(),
            own_randomness(self.seed),
            tempfile.TemporaryDirectory(prefix="mm-backbones-") as scratch,
        ):
            predictor = import_autogluon()(
                label=task.label,
                problem_type=task.problem_type,
                eval_metric="rmse" if task.is_regression else "log_loss",
                path=str(folder),
                verbosity=0,
                enable_progress_bar=False,
                warn_if_exist=False,
            )
            settings = self._settings(task, Path(scratch))
            report_epochs(predictor._learner, lambda line: progress(f"{folder.name}: {line}"))
            predictor.fit(
                train_data=task.training.reset_index(drop=True),
                tuning_data=task.tuning.reset_index(drop=True),
                column_types={**types, task.label: label_type},
                hyperparameters=settings,
                time_limit=seconds,
                seed=self.seed,
            )
            presets.make_portable(predictor._learner, folder)
        return predictor._learner

    def _settings(self, task: Task, scratch: Path) -> dict[str, Any]:
        """AutoGluon's hyperparameters; what a preset must build for them goes to `scratch`."""
        kinds = set(task.columns.values())
        if self.preset not in OWN:
            return presets.pretrained(
                kinds, self.image_backbone, self.text_backbone, scratch, self.hyperparameters
            )
        written = [column for column, kind in task.columns.items() if kind == "text"]
        texts = [text for column in written for text in task.training[column] if text]
        return presets.from_scratch(
            kinds,
            texts,
            scratch,
            self.hyperparameters,
            self.seed,
            is_warm=self.preset == EMBEDDED,
        )


# -- what is learnt from ---------------------------------------------------------------------------


def _prepared(task: Task) -> tuple[Task, dict[str, list[float]]]:
    """The task with checked frames of the columns that tell records apart, and their ranges.

    Records without an image stay; images may be None.
    """
    task = _teachable(task)
    ranges = ranges_of(task)
    training, tuning = (
        prepared_frame(frame, task.columns, ranges, image_needed=False).assign(
            **{task.label: frame[task.label].to_numpy()}
        )
        for frame in (task.training, task.tuning)
    )
    used = {c: k for c, k in task.columns.items() if k == "image" or varies(training[c], k)}
    if not used:
        refuse_to_learn()
    task = repeated(replace(task, training=training, tuning=tuning))
    return _of_columns(task, used), ranges


def _teachable(task: Task) -> Task:
    """The task as AutoGluon can take it: every part must know the same classes."""
    if not task.is_regression:
        seen = with_images(task)  # the classes that were seen in an image
        classes = {*seen.training[task.label], *seen.tuning[task.label]}
        training, tuning = (f[f[task.label].isin(classes)] for f in (task.training, task.tuning))
        task = replace(task, training=training, tuning=tuning, groups=None)
    task = with_known_classes(task)
    if task.problem_type == "multiclass" and task.training[task.label].nunique() == 2:
        return replace(task, problem_type="binary")  # AutoGluon insists; others may come later
    return task


def _of_columns(task: Task, columns: dict[str, str]) -> Task:
    kept = [*columns, task.label]
    return replace(task, training=task.training[kept], tuning=task.tuning[kept], columns=columns)


def _opening(task: Task) -> str:
    training, tuning = len(task.training), len(task.tuning)
    if "image" not in task.columns.values():
        return f"training on {training} records, tuning on {tuning}"
    imaged = len(with_images(task).training)
    return f"training on {training} records, {imaged} of them with an image; tuning on {tuning}"


# -- what came of it ------------------------------------------------------------------------------


def _classes(learner: Any, task: Task) -> list[str] | None:
    return None if task.is_regression else [str(name) for name in learner.class_labels]


def _weights(
    members: list[Member], judged: pd.DataFrame, label: str, classes: list[str] | None
) -> list[float]:
    """How much each member counts, decided on the tuning records."""
    with quiet():
        outputs = [member.outputs(judged) for member in members]
    truth = judged[label].to_numpy()
    return as_sure_as_right(outputs, shares_of(outputs, truth, classes), truth, classes)
