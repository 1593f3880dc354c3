"""The automatic engine: members that learn, and the ensemble of those that help.

What belongs here: what the YAML may say, and what is stored. How a training goes: session.py.

Members learn in the order of what they bring for a second: linear models, boosted trees, the same
with what a frozen backbone sees in the image, and AutoGluon's network last, with what is left of
the budget. All are judged on records that they had not seen.
"""

from __future__ import annotations

import importlib
import shutil
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from mm_assets.engines.automatic.members import AUTOGLUON, SEES_IMAGE
from mm_assets.engines.automatic.predictor import AutomaticPredictor, StoredMember, as_sure
from mm_assets.engines.automatic.records import records_of
from mm_assets.engines.automatic.report import image_gain, leaderboard, sureness_of
from mm_assets.engines.automatic.scales import Scale
from mm_assets.engines.automatic.session import (
    EYES,
    IN_ORDER,
    Session,
    Settings,
    autogluon_engine,
)
from mm_assets.engines.protocol import Progress, Task, Vectors
from mm_assets.engines.shared.engine_file import read_record, reading, write_record
from mm_assets.engines.shared.eyes import kept_eyes
from mm_assets.engines.shared.refusals import refuse_hyperparameter, refuse_value
from mm_assets.engines.shared.stopping import learning

ENGINE = "automatic"
FORMAT = 1
SECONDS = 120.0  # the budget, where none is given
VIEWS_FILE, MEMBERS_FILE = "views.joblib", "members.joblib"


class AutomaticEngine:
    """Trains an ensemble within `time_limit` seconds (120, if none is given).

    `image_backbone` names another backbone than the embedded one: a timm name on the hub or a
    folder. `hyperparameters`: `members` (some of "linear", "trees", "linear with image", "trees
    with image", "autogluon"), `folds`, and `autogluon`: AutoGluon's own hyperparameters. What is
    learnt within a budget depends on how fast the machine is; all else is repeatable for a `seed`.
    """

    weighs_classes = True
    pools_images = True

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
        settings = self._settings()
        began = time.monotonic()
        session = Session(settings, task, records_of(task), progress, began, settings.members)
        with learning():
            session.learn(directory)
        self.out_of_fold = self._store(session, directory)
        progress(f"trained in {time.monotonic() - began:.0f} s")

    def load(self, directory: Path) -> AutomaticPredictor:
        """What `train` wrote, from wherever it lies now. This unpickles: verify the files first.

        Raises ModelError (model_unreadable, package_missing, backbone_differs, …): an ensemble
        that lacks a member answers nothing.
        """
        joblib = importlib.import_module("joblib")
        with reading(directory):
            record = read_record(directory, ENGINE, FORMAT)
            members, views = {}, None
            if record["members"]:
                views = joblib.load(directory / VIEWS_FILE)
                models = joblib.load(directory / MEMBERS_FILE)
                for name, scale in record["members"].items():
                    members[name] = StoredMember(models[name], scale and Scale(**scale))
            eyes = record["eyes"] and kept_eyes(record["eyes"], directory / EYES, self.vectors)
            autogluon = None
            if (network := record["autogluon"]) is not None:
                scale = network["scale"] and Scale(**network["scale"])
                autogluon = autogluon_engine({}, None, 0).load(directory / AUTOGLUON), scale
            stored = {*members, *([AUTOGLUON] if autogluon else [])}
            if stored != set(record["weights"]):
                raise ValueError(f"of {sorted(record['weights'])}, only {sorted(stored)} are there")
            return AutomaticPredictor(record, views, members, eyes, autogluon)

    def _settings(self) -> Settings:
        """What the hyperparameters say. Raises ModelError (hyperparameter_unknown, …_invalid)."""
        known = ("members", "folds", "autogluon")
        for name in self.hyperparameters:
            if name not in known:
                refuse_hyperparameter(name, known, ENGINE)
        named = self.hyperparameters.get("members", list(IN_ORDER))
        if not isinstance(named, list) or not named or any(one not in IN_ORDER for one in named):
            refuse_value(f"members: {named!r} is no list of some of {', '.join(IN_ORDER)}", ENGINE)
        folds = self.hyperparameters.get("folds", 0)
        if type(folds) is not int or not (folds == 0 or 2 <= folds <= 20):
            refuse_value(f"folds: {folds!r} is no whole number from 2 to 20", ENGINE)
        autogluon = self.hyperparameters.get("autogluon", {})
        if not isinstance(autogluon, dict):
            refuse_value(f"autogluon: {autogluon!r} is no mapping of hyperparameters", ENGINE)
        return Settings(
            members=tuple(name for name in IN_ORDER if name in named),
            is_told="members" in self.hyperparameters,
            folds=folds,
            autogluon=autogluon,
            image_backbone=self.image_backbone,
            seconds=self.seconds,
            seed=self.seed,
            vectors=self.vectors,
        )

    def _store(self, session: Session, directory: Path) -> pd.DataFrame:
        """Write the members that count, and return what the ensemble said out of fold."""
        joblib = importlib.import_module("joblib")
        records, said = session.records, session.said()
        of_all = session.said_of_all()
        sureness = sureness_of(session, of_all)
        kept = {name: one for name, one in session.learnt.items() if name in session.weights}
        looks = any(name in SEES_IMAGE for name in kept)
        if kept:
            assert session.views is not None  # noqa: S101  the members have learnt from them
            if not looks:
                session.views.forget_images()
            joblib.dump(session.views, directory / VIEWS_FILE, compress=3)
            models = {name: one.models for name, one in kept.items()}
            joblib.dump(models, directory / MEMBERS_FILE, compress=3)
        autogluon = session.autogluon if AUTOGLUON in session.weights else None
        if not looks:
            shutil.rmtree(directory / EYES, ignore_errors=True)
        if autogluon is None:
            shutil.rmtree(directory / AUTOGLUON, ignore_errors=True)
        write_record(
            directory,
            {
                "format": FORMAT,
                "engine": ENGINE,
                "seed": self.seed,
                "columns": [[column, kind] for column, kind in session.task.columns.items()],
                "number_ranges": records.ranges,
                "classes": records.classes,
                "weights": session.weights,
                "class_weights": session.class_weights,
                "sureness": sureness,
                "members": {name: one.scale and one.scale.to_json() for name, one in kept.items()},
                "eyes": session.eyes.identity if looks else None,
                "autogluon": autogluon and {"scale": autogluon[0] and autogluon[0].to_json()},
                "leaderboard": leaderboard(session, said, sureness),
                "image_gain": image_gain(session),
                "versions": {name: version(name) for name in ("scikit-learn", "lightgbm")},
            },
        )
        answer = as_sure(of_all, sureness, records.classes)
        return pd.DataFrame(answer, columns=records.classes or ["value"])
