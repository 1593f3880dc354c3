"""One training of the automatic engine: who learns, for how long, and who is chosen.

What belongs here: the order of the members, the budget, the choice. What a member is: members.py;
how the ensemble is chosen: selection.py; on which scale numbers are learnt: scales.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mm_assets.contract.errors import ModelError
from mm_assets.engines.automatic.members import (
    AUTOGLUON,
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
from mm_assets.engines.automatic.records import Records, folds_of
from mm_assets.engines.automatic.scales import Scale, scales_for
from mm_assets.engines.automatic.selection import (
    log_losses,
    mixed,
    number_losses,
    select,
    share_of_newcomer,
)
from mm_assets.engines.automatic.views import Seen, Views
from mm_assets.engines.protocol import Progress, Task, Vectors
from mm_assets.engines.shared.backbones import EMBEDDED
from mm_assets.engines.shared.eyes import keep_eyes, kept_eyes
from mm_assets.engines.shared.progress import told
from mm_assets.engines.shared.quick import columns_of
from mm_assets.engines.shared.refusals import refuse, refuse_to_learn
from mm_assets.engines.shared.several import embedded
from mm_assets.engines.shared.stopping import Stopped, interruptible

Floats = npt.NDArray[np.float64]

SQUARED = "root_mean_squared_error"
EYES = "image_backbone"  # the folder of a backbone that is not the embedded one
IN_ORDER = (LINEAR, TREES, LINEAR_IMAGE, TREES_IMAGE, AUTOGLUON)
LOOKED_SHARE = 0.25  # of the budget, at least, for the members that see them then
EYES_SHARE = 0.6  # of what is left, at most, for looking at images that nobody looked at before
LEAST_SECONDS = 25.0  # that AutoGluon needs to be worth its import
LOADING_SECONDS = 5.0  # are left for what comes after the last member
_IMAGES_AT_A_TIME = 64


@dataclass(frozen=True)
class Settings:
    """What the YAML says. is_told: whether it names the members; if not, AutoGluon's network is
    not tried on numbers and categories alone, where it costs much and is known to fall behind.
    folds: 0 for as many as suit. autogluon: its hyperparameters.
    """

    members: tuple[str, ...]
    is_told: bool
    folds: int
    autogluon: dict[str, Any]
    image_backbone: str | None
    seconds: float
    seed: int
    vectors: Vectors | None


@dataclass
class Session:
    """One training."""

    settings: Settings
    task: Task
    records: Records
    progress: Progress
    began: float
    names: tuple[str, ...]
    learnt: dict[str, Learnt] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    failed: ModelError | None = None  # why the last member that could not learn could not
    views: Views | None = None
    eyes: Any = None
    looked: npt.NDArray[np.bool_] | None = None  # at which records' images; None: not yet begun
    looked_until: float = 0.0  # until then the members that see images may learn
    weights: dict[str, float] = field(default_factory=dict)
    autogluon: tuple[Scale | None, Floats] | None = None  # and what it said: NaN where it learnt

    @property
    def class_weights(self) -> dict[str, float] | None:
        weights = None if self.task.is_regression else self.task.class_weights
        return None if weights is None else dict(weights)

    # -- learning --

    def learn(self, directory: Path) -> None:
        records = self.records
        self.views = Views(records.used, self.settings.seed)
        self.views.learn(records.frame)
        self.names = tuple(name for name in self.names if self._can(name))
        if not self.names:
            refuse_to_learn()
        self.progress(
            f"training on {len(records.frame)} records"
            + (f", {int(records.imaged.sum())} of them with an image" if records.image else "")
        )
        self._open_eyes(directory)
        seen = self.views.seen(columns_of(records.frame))
        scales = self._scales()
        try:
            for place, name in enumerate(self.names):
                if name == AUTOGLUON:
                    continue
                if name in SEES_IMAGE and self.looked is None and not self._is_spent:
                    with interruptible():
                        seen.vectors = self._look()
                self._member(place, name, seen, scales)
            self._select()
            if AUTOGLUON in self.names:
                self._learn_autogluon(directory)
        except Stopped:
            if not self.learnt:
                raise
            self.progress("stopped: the best so far is kept")
            missed = dict.fromkeys(self.names, "not learnt: it was stopped")
            self.notes = {**missed, **self.notes}
            self._select()
        if not self.weights:
            if self.failed is not None:
                raise self.failed
            refuse_to_learn()

    def _can(self, name: str) -> bool:
        assert self.views is not None  # noqa: S101
        if name in SEES_IMAGE:
            return self.records.image is not None
        if name == AUTOGLUON and self.records.has_tuples:
            self.progress("autogluon is left out: it is given one image of a record, not all")
            return False
        if name == AUTOGLUON:
            kinds = set(self.records.used.values())
            return bool(kinds) and (self.settings.is_told or bool(kinds & {"text", "image"}))
        return self.views.has_table

    @property
    def left(self) -> float:
        return self.began + self.settings.seconds - time.monotonic()

    @property
    def _end(self) -> float:
        """When members have to be through, on the monotonic clock.

        What was looked at is used: the first look wakes torch, and on a busy machine nothing of the
        budget may be left of it.
        """
        return max(self.began + self.settings.seconds - LOADING_SECONDS, self.looked_until)

    @property
    def _is_spent(self) -> bool:
        """Whether no other member begins; the first one always does."""
        return bool(self.learnt) and time.monotonic() >= self._end

    def _open_eyes(self, directory: Path) -> None:
        if set(self.names) & set(SEES_IMAGE):
            identity = keep_eyes(self.settings.image_backbone or EMBEDDED, directory / EYES)
            self.eyes = kept_eyes(identity, directory / EYES, self.settings.vectors)

    def _look(self) -> npt.NDArray[np.float32]:
        """What the backbone sees ([records, width]); `looked` says of which records.

        Members that need no image have learnt by then: who stops it here keeps those.
        """
        records = self.records
        assert self.views is not None  # noqa: S101
        assert records.image is not None  # noqa: S101
        looked = np.zeros(len(records.frame), dtype=bool)
        found = np.zeros((len(records.frame), self.eyes.width), dtype=np.float32)
        images = records.frame[records.image].tolist()
        # In an order of its own, so that what fits into the budget is a fair sample.
        order = np.random.default_rng(self.settings.seed).permutation(
            np.flatnonzero(records.imaged)
        )
        until = time.monotonic() + EYES_SHARE * self.left
        for start in range(0, len(order), _IMAGES_AT_A_TIME):
            some = order[start : start + _IMAGES_AT_A_TIME]
            found[some] = embedded(self.eyes, [images[place] for place in some])
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
        self.looked = looked
        self.looked_until = time.monotonic() + LOOKED_SHARE * self.settings.seconds
        return found

    def _lesson(self, name: str, seen: Seen, scales: Sequence[Scale]) -> Lesson:
        """Raises ModelError (records_missing) where nothing can be told apart."""
        records = self.records
        rows = records.trusted
        if name in SEES_IMAGE:
            assert self.looked is not None  # noqa: S101
            rows = rows & self.looked
        places = np.flatnonzero(rows)
        counts = np.bincount(records.truth[places]) if records.classes else [len(places), 1]
        if max(counts, default=0) < 2 or np.count_nonzero(counts) < 2:
            refuse("records_missing", "too few records of too few classes", "Upload more records.")
        folds = [
            (places[known], places[asked])
            for known, asked in folds_of(records.truth[places], bool(records.classes),
                                         self.settings.folds, self.settings.seed,
                                         records.groups[places])
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
            seed=self.settings.seed,
            until=self._until(),
        )

    def _until(self) -> float | None:
        """When a member has to be through; the first may take its time, for there must be one."""
        if not self.learnt:
            return None
        if self.eyes is None or self.looked is not None:
            return self._end
        return self.began + (1 - EYES_SHARE) * self.settings.seconds - LOADING_SECONDS

    def _losses(self, rows: npt.NDArray[np.intp]) -> Callable[[Floats], Floats]:
        records = self.records
        if records.classes:
            return log_losses(records.truth[rows])
        return number_losses(records.truth[rows], squared=self.metric == SQUARED)

    @property
    def metric(self) -> str:
        if self.records.classes:
            return "log_loss"
        return SQUARED if self.task.metric == SQUARED else "mean_absolute_error"

    def figure(self, answer: Floats, rows: npt.NDArray[np.intp]) -> float:
        found = float(self._losses(rows)(answer[rows]).mean())
        return found**0.5 if self.metric == SQUARED else found

    def _tell(self, place: int, name: str) -> None:
        best = None
        if self.learnt:
            figures = {one: self.figure(m.said, self.judged) for one, m in self.learnt.items()}
            first = min(figures, key=figures.__getitem__)
            best = (self.metric, figures[first], first)
        self.progress(told(place + 1, len(self.names), name, best=best, left=self.left))

    def _scales(self) -> list[Scale]:
        """Those to try on a number."""
        records = self.records
        if records.classes:
            return []
        return scales_for(records.truth[records.trusted].astype(np.float64))

    def _member(self, place: int, name: str, seen: Seen, scales: Sequence[Scale]) -> None:
        if self._is_spent:
            self.notes[name] = "not tried: the budget was spent"
            return
        self._tell(place, name)
        began = time.monotonic()
        try:
            with interruptible():
                self.learnt[name] = learn(name, self._lesson(name, seen, scales))
            self.notes[name] = self.learnt[name].note
        except OutOfTime:
            self.notes[name] = "not finished within the budget"
        except ModelError as error:
            self._could_not(name, error)
        self.seconds[name] = time.monotonic() - began

    def _could_not(self, name: str, error: ModelError) -> None:
        self.failed = error
        self.notes[name] = f"could not learn: {error.what}"
        self.progress(f"{name} could not learn: {error}")

    # -- choosing --

    @property
    def judged(self) -> npt.NDArray[np.intp]:
        """Records that every member was asked about, and that are of the model's modality."""
        known = [np.isfinite(one.said).all(axis=1) for one in self.learnt.values()]
        return np.flatnonzero(
            np.logical_and.reduce([self.records.imaged, self.records.trusted, *known])
        )

    def _select(self) -> None:
        self.weights = self.weights_among(list(self.learnt))

    def weights_among(self, names: Sequence[str]) -> dict[str, float]:
        rows = self.judged
        if not names or not len(rows):
            return {}
        losses = self._losses(rows)
        answers = {name: self.learnt[name].said[rows] for name in names}
        return select(answers, lambda answer: float(losses(answer).mean()))

    def said(self) -> Floats:
        """What the ensemble says out of fold; NaN where a member was not asked."""
        answers = {name: one.said for name, one in self.learnt.items()}
        if self.autogluon is not None:
            answers[AUTOGLUON] = self.autogluon[1]
        return mixed(answers, self.weights)

    def said_of_all(self) -> Floats:
        """As `said`; where AutoGluon's network learnt from a record, what the others say of it.

        They are a little less right than all together, so what is calibrated on it promises too
        little rather than too much, and does not rest on the few tuning records that chose the
        weights. Not where the network counts for most: the others would be another model.
        """
        said = self.said()
        others = {name: one for name, one in self.weights.items() if name != AUTOGLUON}
        if len(others) == len(self.weights) or sum(others.values()) < 0.5:
            return said
        total = sum(others.values())
        rest = mixed(
            {name: self.learnt[name].said for name in others},
            {name: one / total for name, one in others.items()},
        )
        return np.where(np.isfinite(said), said, rest)

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
                seconds = max(seconds, LEAST_SECONDS)  # of an ensemble that has nobody else
                own = autogluon_engine(self.settings.autogluon, seconds, self.settings.seed)
                task = self._task_for_autogluon(scale)
                own.train(task, folder, lambda line: self.progress(f"{AUTOGLUON}: {line}"))
                said = own.load(folder).predict(task.tuning[list(self.task.columns)])
        except ModelError as error:
            self._could_not(AUTOGLUON, error)
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
        return replace(self.task, training=training, tuning=tuning, groups=None)

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
        so_far = self.said()
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
            return self._scales()[-1]
        rows = self.judged
        best = min(self.learnt.values(), key=lambda one: self.figure(one.said, rows))
        return best.scale


def autogluon_engine(hyperparameters: dict[str, Any], seconds: float | None, seed: int) -> Any:
    from mm_assets.engines.autogluon.engine import AutoGluonEngine

    return AutoGluonEngine(hyperparameters=hyperparameters, time_limit=seconds, seed=seed)
