"""The automatic engine: members that learn, and the ensemble of those that help.

What belongs here: the order of the members, the budget, what is stored. What a member is: see
members.py; how the ensemble is chosen: selection.py; on which scale numbers are learnt: scales.py.

Members learn in the order of what they bring for a second: linear models, boosted trees, the same
with what a frozen backbone sees in the image, and AutoGluon's network last, with what is left of
the budget. All are judged on records that they had not seen.
"""

from __future__ import annotations

import importlib
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mm_assets.contract.errors import ModelError
from mm_assets.engines.automatic.members import (
    LINEAR,
    LINEAR_IMAGE,
    SEES_IMAGE,
    TREES,
    TREES_IMAGE,
    Learnt,
    Lesson,
    OutOfTime,
    learn,
)
from mm_assets.engines.automatic.predictor import (
    AUTOGLUON,
    AutomaticPredictor,
    StoredMember,
    as_sure,
)
from mm_assets.engines.automatic.records import Records, folds_of, records_of
from mm_assets.engines.automatic.scales import Scale, scales_for
from mm_assets.engines.automatic.selection import (
    log_losses,
    mixed,
    number_losses,
    select,
    share_of_newcomer,
)
from mm_assets.engines.automatic.views import Views
from mm_assets.engines.protocol import Progress, Task, Vectors
from mm_assets.engines.shared.backbones import EMBEDDED
from mm_assets.engines.shared.engine_file import read_record, reading, write_record
from mm_assets.engines.shared.eyes import keep_eyes, kept_eyes
from mm_assets.engines.shared.progress import told
from mm_assets.engines.shared.refusals import refuse_hyperparameter, refuse_to_learn, refuse_value
from mm_assets.engines.shared.stopping import Stopped, interruptible, learning

Floats = npt.NDArray[np.float64]

ENGINE = "automatic"
FORMAT = 1
SECONDS = 120.0  # the budget, where none is given
EYES_SHARE = 0.6  # of the budget, at most, for looking at images that nobody looked at before
LEAST_SECONDS = 25.0  # that AutoGluon needs to be worth its import
LOADING_SECONDS = 5.0  # are left for what comes after the last member
IN_ORDER = (LINEAR, TREES, LINEAR_IMAGE, TREES_IMAGE, AUTOGLUON)
_IMAGES_AT_A_TIME = 64
_EYES = "image_backbone"  # the folder of a backbone that is not the embedded one
_VIEWS_FILE, _MEMBERS_FILE = "views.joblib", "members.joblib"


class AutomaticEngine:
    """Trains an ensemble within `time_limit` seconds (120, if none is given).

    `image_backbone` names another backbone than the embedded one: a timm name on the hub or a
    folder. `hyperparameters`: `members` (some of "linear", "trees", "linear with image", "trees
    with image", "autogluon"), `folds`, and `autogluon`: AutoGluon's own hyperparameters. What is
    learnt within a budget depends on how fast the machine is; all else is repeatable for a `seed`.
    """

    weighs_classes = True

    def __init__(
        self,
        *,
        image_backbone: str | None = None,
        hyperparameters: dict[str, Any] | None = None,
        time_limit: float | None = None,
        seed: int = 0,
        vectors: Vectors | None = None,
    ) -> None:
        self.image_backbone = image_backbone
        self.hyperparameters = dict(hyperparameters or {})
        self.seconds = time_limit or SECONDS
        self.seed = seed
        self.vectors = vectors
        self.out_of_fold: pd.DataFrame | None = None

    def train(self, task: Task, directory: Path, progress: Progress) -> None:
        """As `Engine.train`. Records without an image teach the members that look at the table.

        Raises ModelError where no member could learn, and what `with_known_classes` raises.
        """
        members, folds = self._chosen()
        began = time.monotonic()
        records = records_of(task)
        session = _Session(self, task, records, progress, began, members, folds)
        with learning():
            session.learn(directory)
        self.out_of_fold = session.store(directory)
        progress(f"trained in {time.monotonic() - began:.0f} s")

    def load(self, directory: Path) -> AutomaticPredictor:
        """What `train` wrote, from wherever it lies now. This unpickles: verify the files first.

        Raises ModelError (model_unreadable, package_missing, backbone_incomplete): an ensemble
        that lacks a member answers nothing.
        """
        joblib = importlib.import_module("joblib")
        with reading(directory):
            record = read_record(directory, ENGINE, FORMAT)
            members, views = {}, None
            if record["members"]:
                views = joblib.load(directory / _VIEWS_FILE)
                models = joblib.load(directory / _MEMBERS_FILE)
                for name, scale in record["members"].items():
                    members[name] = StoredMember(models[name], scale and Scale(**scale))
            eyes = record["eyes"] and kept_eyes(record["eyes"], directory / _EYES, self.vectors)
            autogluon = None
            if (stored := record["autogluon"]) is not None:
                scale = stored["scale"] and Scale(**stored["scale"])
                autogluon = _autogluon({}, None, 0).load(directory / AUTOGLUON), scale
            return AutomaticPredictor(record, views, members, eyes, autogluon)

    def _chosen(self) -> tuple[tuple[str, ...], int]:
        """The members to try, and the folds (0: as many as suit the records)."""
        known = ("members", "folds", "autogluon")
        for name in self.hyperparameters:
            if name not in known:
                refuse_hyperparameter(name, known, ENGINE)
        named = self.hyperparameters.get("members", list(IN_ORDER))
        if not isinstance(named, list) or not named or not set(named) <= set(IN_ORDER):
            refuse_value(f"members: {named!r} is no list of some of {', '.join(IN_ORDER)}", ENGINE)
        folds = self.hyperparameters.get("folds", 0)
        if type(folds) is not int or not (folds == 0 or 2 <= folds <= 20):
            refuse_value(f"folds: {folds!r} is no whole number from 2 to 20", ENGINE)
        return tuple(name for name in IN_ORDER if name in named), folds


@dataclass
class _Session:
    """One training."""

    engine: AutomaticEngine
    task: Task
    records: Records
    progress: Progress
    began: float
    names: tuple[str, ...]
    folds: int
    learnt: dict[str, Learnt] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    views: Views | None = None
    eyes: Any = None
    weights: dict[str, float] = field(default_factory=dict)
    autogluon: tuple[Scale | None, Floats] | None = None  # and what it said: NaN where it learnt

    @property
    def class_weights(self) -> dict[str, float] | None:
        weights = None if self.task.is_regression else self.task.class_weights
        return None if weights is None else dict(weights)

    # -- learning --

    def learn(self, directory: Path) -> None:
        records = self.records
        self.views = Views(records.used, self.engine.seed)
        self.views.learn(records.frame)
        self.names = tuple(name for name in self.names if self._can(name))
        if not self.names:
            refuse_to_learn()
        self.progress(
            f"training on {len(records.frame)} records"
            + (f", {int(records.imaged.sum())} of them with an image" if records.image else "")
        )
        scales = (
            [] if records.classes else scales_for(records.truth[records.trusted].astype(np.float64))
        )
        vectors, looked = self._vectors(directory)
        seen = self.views.seen(records.frame, vectors)
        every = np.ones(len(records.frame), dtype=bool)
        try:
            for place, name in enumerate(self.names):
                if name == AUTOGLUON:
                    continue
                rows = looked if name in SEES_IMAGE else every
                self._member(place, name, self._lesson(seen, rows, scales))
            self._select()
            if AUTOGLUON in self.names:
                self._learn_autogluon(directory)
        except Stopped:
            if not self.learnt:
                raise
            self.progress("stopped: the best so far is kept")
            self._select()
        if not self.weights:
            refuse_to_learn()

    def _can(self, name: str) -> bool:
        assert self.views is not None  # noqa: S101
        if name in SEES_IMAGE:
            return self.records.image is not None
        if name == AUTOGLUON:
            return bool(self.records.used)
        return self.views.has_table

    @property
    def left(self) -> float:
        return self.began + self.engine.seconds - time.monotonic()

    def _vectors(
        self, directory: Path
    ) -> tuple[npt.NDArray[np.float32] | None, npt.NDArray[np.bool_]]:
        """What the backbone sees ([records, width]), and of which records that is known."""
        records = self.records
        looked = np.zeros(len(records.frame), dtype=bool)
        if records.image is None or not set(self.names) & set(SEES_IMAGE):
            return None, looked
        assert self.views is not None  # noqa: S101
        identity = keep_eyes(self.engine.image_backbone or EMBEDDED, directory / _EYES)
        self.eyes = kept_eyes(identity, directory / _EYES, self.engine.vectors)
        found = np.zeros((len(records.frame), self.eyes.width), dtype=np.float32)
        images = records.frame[records.image].tolist()
        # In an order of its own, so that what fits into the budget is a fair sample.
        order = np.random.default_rng(self.engine.seed).permutation(np.flatnonzero(records.imaged))
        until = self.began + EYES_SHARE * self.engine.seconds
        for start in range(0, len(order), _IMAGES_AT_A_TIME):
            some = order[start : start + _IMAGES_AT_A_TIME]
            found[some] = self.eyes.embed([images[place] for place in some])
            looked[some] = True
            if start // _IMAGES_AT_A_TIME % 8 == 0:
                self.progress(f"looked at {start + len(some)} of {len(order)} images")
            if time.monotonic() > until and start + len(some) < len(order):
                self.progress(
                    f"the budget allows to look at {start + len(some)} of {len(order)} images; "
                    "what was seen is kept, and the next training goes on from there"
                )
                break
        self.views.learn_images(found[looked], [images[place] for place in np.flatnonzero(looked)])
        return found, looked

    def _lesson(self, seen: Any, rows: npt.NDArray[np.bool_], scales: Sequence[Scale]) -> Lesson:
        records = self.records
        places = np.flatnonzero(rows & records.trusted)
        folds = [
            (places[known], places[asked])
            for known, asked in folds_of(records.truth[places], bool(records.classes),
                                         self.folds, self.engine.seed)
        ]  # fmt: skip

        def loss(answer: Floats, of: npt.NDArray[np.intp]) -> float:
            return float(self._losses(of)(answer).mean())

        return Lesson(
            seen=seen,
            truth=records.truth,
            weights=records.weights,
            classes=records.classes,
            class_weights=self.class_weights,
            folds=folds,
            loss=loss,
            scales=scales,
            seed=self.engine.seed,
            until=self.began + self.engine.seconds - LOADING_SECONDS if self.learnt else None,
        )

    def _losses(self, rows: npt.NDArray[np.intp]) -> Callable[[Floats], Floats]:
        records = self.records
        if records.classes:
            return log_losses(records.truth[rows])
        squared = self.task.metric == "root_mean_squared_error"
        return number_losses(records.truth[rows], squared=squared)

    @property
    def metric(self) -> str:
        if self.records.classes:
            return "log_loss"
        squared = self.task.metric == "root_mean_squared_error"
        return "root_mean_squared_error" if squared else "mean_absolute_error"

    def _figure(self, answer: Floats, rows: npt.NDArray[np.intp]) -> float:
        found = float(self._losses(rows)(answer[rows]).mean())
        return found**0.5 if self.metric == "root_mean_squared_error" else found

    def _tell(self, place: int, name: str) -> None:
        best = None
        if self.learnt:
            figures = {one: self._figure(m.said, self.judged) for one, m in self.learnt.items()}
            first = min(figures, key=figures.__getitem__)
            best = (self.metric, figures[first], first)
        self.progress(told(place + 1, len(self.names), name, best=best, left=self.left))

    def _member(self, place: int, name: str, lesson: Lesson) -> None:
        if self.learnt and self.left <= LOADING_SECONDS:
            self.notes[name] = "not tried: the budget was spent"
            return
        self._tell(place, name)
        began = time.monotonic()
        try:
            with interruptible():
                self.learnt[name] = learn(name, lesson)
            self.notes[name] = self.learnt[name].note
        except OutOfTime:
            self.notes[name] = "not finished within the budget"
        except ModelError as error:
            self.notes[name] = f"could not learn: {error.what}"
            self.progress(f"{name} could not learn: {error}")
        self.seconds[name] = time.monotonic() - began

    # -- choosing --

    @property
    def judged(self) -> npt.NDArray[np.intp]:
        """Records that every member was asked about, and that are of the model's modality."""
        known = [np.isfinite(one.said).all(axis=1) for one in self.learnt.values()]
        return np.flatnonzero(
            np.logical_and.reduce([self.records.imaged, self.records.trusted, *known])
        )

    def _select(self) -> None:
        self.weights = self._weights(list(self.learnt))

    def _weights(self, names: Sequence[str]) -> dict[str, float]:
        rows = self.judged
        if not names or not len(rows):
            return {}
        losses = self._losses(rows)
        answers = {name: self.learnt[name].said[rows] for name in names}
        return select(answers, lambda answer: float(losses(answer).mean()))

    def _said(self) -> Floats:
        """What the ensemble says out of fold; NaN where a member was not asked."""
        cheap = {name: weight for name, weight in self.weights.items() if name != AUTOGLUON}
        total = 1 - self.weights.get(AUTOGLUON, 0.0)
        said = None
        if cheap:
            answers = {name: self.learnt[name].said for name in cheap}
            said = mixed(answers, {name: weight / total for name, weight in cheap.items()})
        if self.autogluon is None or AUTOGLUON not in self.weights:
            assert said is not None  # noqa: S101
            return said
        own = self.autogluon[1]
        return own if said is None else total * said + (1 - total) * own

    # -- AutoGluon --

    def _learn_autogluon(self, directory: Path) -> None:
        """Its network learns from the training records and is judged on the tuning records."""
        seconds = self.left - LOADING_SECONDS
        if seconds < LEAST_SECONDS and self.weights:
            self.notes[AUTOGLUON] = "not tried: too little of the budget was left"
            return
        self._tell(len(self.names) - 1, AUTOGLUON)
        began = time.monotonic()
        folder = directory / AUTOGLUON
        folder.mkdir()
        scale = self._best_scale()
        try:
            with interruptible():
                own = _autogluon(
                    self.engine.hyperparameters.get("autogluon", {}), seconds, self.engine.seed
                )
                task = self._task_for_autogluon(scale)
                own.train(task, folder, lambda line: self.progress(f"{AUTOGLUON}: {line}"))
                said = own.load(folder).predict(task.tuning[list(self.task.columns)])
        except ModelError as error:
            self.notes[AUTOGLUON] = f"could not learn: {error.what}"
            self.progress(f"{AUTOGLUON} could not learn: {error}")
            return
        finally:
            self.seconds[AUTOGLUON] = time.monotonic() - began
        self._weigh_autogluon(scale, said, task.tuning.index.to_numpy())

    def _task_for_autogluon(self, scale: Scale | None) -> Task:
        """Its records, under their places; the label on the scale that suits it."""
        known = len(self.task.training)
        label = self.task.label
        whole = pd.concat([self.task.training, self.task.tuning], ignore_index=True)
        if scale is not None:
            whole[label] = scale.forward(self.records.truth.astype(np.float64))
        tuning = whole.iloc[known:]
        tuning = tuning[(self.records.imaged & self.records.trusted)[known:]]
        training = whole.iloc[:known][self.records.trusted[:known]]
        if self.records.classes:
            tuning = tuning[tuning[label].isin(set(training[label]))]
        return replace(self.task, training=training, tuning=tuning)

    def _weigh_autogluon(
        self, scale: Scale | None, said: pd.DataFrame, rows: npt.NDArray[np.intp]
    ) -> None:
        records = self.records
        answer = np.full((len(records.frame), len(records.classes or ["value"])), np.nan)
        if records.classes:
            answer[rows] = said.reindex(columns=records.classes, fill_value=0.0).to_numpy()
        else:
            values = said["value"].to_numpy(dtype=np.float64)
            answer[rows, 0] = values if scale is None else scale.inverse(values)
        self.autogluon = scale, answer
        if not self.weights:
            self.weights = {AUTOGLUON: 1.0}
            return
        so_far = self._said()
        both = rows[np.isfinite(so_far[rows]).all(axis=1)]
        share = (
            share_of_newcomer(so_far[both], answer[both], self._losses(both)) if len(both) else 0
        )
        if share:
            self.weights = {name: (1 - share) * one for name, one in self.weights.items()}
            self.weights[AUTOGLUON] = share

    def _best_scale(self) -> Scale | None:
        """The scale of the best member so far."""
        if self.records.classes:
            return None
        if not self.learnt:
            return scales_for(self.records.truth[self.records.trusted].astype(np.float64))[-1]
        rows = self.judged
        best = min(self.learnt.values(), key=lambda one: self._figure(one.said, rows))
        return best.scale

    # -- storing --

    def store(self, directory: Path) -> pd.DataFrame:
        """Write the members that count, and return what the ensemble said out of fold."""

        import sklearn

        joblib = importlib.import_module("joblib")
        records, said = self.records, self._said()
        sureness = self._sureness(said)
        kept = {name: one for name, one in self.learnt.items() if name in self.weights}
        if kept:
            joblib.dump(self.views, directory / _VIEWS_FILE, compress=3)
            models = {name: one.models for name, one in kept.items()}
            joblib.dump(models, directory / _MEMBERS_FILE, compress=3)
        looks = any(name in SEES_IMAGE for name in kept)
        if not looks:
            shutil.rmtree(directory / _EYES, ignore_errors=True)
        if AUTOGLUON not in self.weights:
            shutil.rmtree(directory / AUTOGLUON, ignore_errors=True)
        write_record(
            directory,
            {
                "format": FORMAT,
                "engine": ENGINE,
                "seed": self.engine.seed,
                "columns": [[column, kind] for column, kind in self.task.columns.items()],
                "number_ranges": records.ranges,
                "classes": records.classes,
                "weights": self.weights,
                "class_weights": self.class_weights,
                "sureness": sureness,
                "members": {name: one.scale and one.scale.to_json() for name, one in kept.items()},
                "eyes": self.eyes.identity if looks else None,
                "autogluon": self._stored_autogluon(),
                "leaderboard": self._leaderboard(said, sureness),
                "image_gain": self._image_gain(),
                "versions": {"scikit-learn": sklearn.__version__, "lightgbm": version("lightgbm")},
            },
        )
        answer = as_sure(said, sureness, records.classes)
        return pd.DataFrame(answer, columns=records.classes or ["value"])

    def _stored_autogluon(self) -> dict[str, Any] | None:
        if self.autogluon is None or AUTOGLUON not in self.weights:
            return None
        scale = self.autogluon[0]
        return {"scale": scale and scale.to_json()}

    def _sureness(self, said: Floats) -> float:
        """The power of the probabilities that fits the records; see `as_sure_as_right`."""
        from mm_assets.engines.autogluon.blend import as_sure_as_right

        classes = self.records.classes
        rows = np.flatnonzero(np.isfinite(said).all(axis=1) & self.records.imaged)
        if classes is None or not len(rows):
            return 1.0
        truth = np.array(classes)[self.records.truth[rows]]
        logarithms = np.log(np.maximum(said[rows], 1e-7))
        return float(as_sure_as_right([logarithms], [1.0], truth, classes)[0])

    def _leaderboard(self, said: Floats, sureness: float) -> list[dict[str, Any]]:
        """The ensemble, then each member that was tried, the best first."""
        rows = np.flatnonzero(np.isfinite(said).all(axis=1) & self.records.imaged)
        whole = as_sure(said, sureness, self.records.classes)
        board = [self._row("ensemble", self._figure(whole, rows), self.engine_seconds, "")]
        figures = {name: self._figure(one.said, self.judged) for name, one in self.learnt.items()}
        if self.autogluon is not None:
            own = self.autogluon[1]
            figures[AUTOGLUON] = self._figure(own, np.flatnonzero(np.isfinite(own).all(axis=1)))
        rest = [
            self._row(
                name, figures.get(name), self.seconds.get(name, 0.0), self.notes.get(name, "")
            )
            for name in self.names
        ]
        rest.sort(key=lambda row: (row["out_of_fold"] is None, row["out_of_fold"] or 0.0))
        return board + rest

    @property
    def engine_seconds(self) -> float:
        return time.monotonic() - self.began

    def _row(self, name: str, figure: float | None, seconds: float, note: str) -> dict[str, Any]:
        return {
            "name": name,
            "sees_image": name in SEES_IMAGE
            or (name in (AUTOGLUON, "ensemble") and self.records.image is not None),
            "metric": self.metric,
            "out_of_fold": figure,
            "weight": 1.0 if name == "ensemble" else self.weights.get(name, 0.0),
            "seconds": round(seconds, 2),
            "stored": name == "ensemble" or name in self.weights,
            "note": note,
        }

    def _image_gain(self) -> dict[str, Any] | None:
        """Out of fold: the ensemble with and without the members that see the image."""
        blind = [name for name in self.learnt if name not in SEES_IMAGE]
        if not blind or len(blind) == len(self.learnt):
            return None
        rows = self.judged
        found = {}
        for what, names in (("with_image", list(self.learnt)), ("without_image", blind)):
            weights = self._weights(names)
            answers = {name: self.learnt[name].said for name in weights}
            found[what] = self._figure(mixed(answers, weights), rows)
        return {"metric": self.metric, **found, "n": len(rows)}


def _autogluon(hyperparameters: dict[str, Any], seconds: float | None, seed: int) -> Any:
    from mm_assets.engines.autogluon.engine import AutoGluonEngine

    return AutoGluonEngine(hyperparameters=hyperparameters, time_limit=seconds, seed=seed)
