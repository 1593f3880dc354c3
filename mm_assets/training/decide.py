"""What one training does for decisions: class weights for the engine, and the rule of its model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.decisions import check_names
from mm_assets.contract.errors import ModelError
from mm_assets.engines.protocol import Engine, Predictor, Task
from mm_assets.engines.shared.weights import weights_for
from mm_assets.training.decision import DecisionRule, asked_for, rule_of
from mm_assets.training.records import SEEN

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Decided:
    """How a model decides. document: what its manifest keeps of it, None for nothing."""

    rule: DecisionRule | None = None
    document: dict[str, Any] | None = None
    warning: str = ""

    def in_words(self, classes: Sequence[str], positive_class: str | None) -> str:
        return self.rule.in_words(classes, positive_class) if self.rule else ""


def refuse_other_classes(spec: DatasetSpec, parts: Mapping[str, pd.DataFrame]) -> None:
    """Raises ModelError (class_unknown) where the YAML's decisions name a class that no label is.

    Only where `classes` are not listed; else the YAML itself was refused.
    """
    if spec.classes is not None or spec.is_regression:
        return
    labels = {str(name) for part in SEEN for name in parts[part][spec.label_column].dropna()}
    if not labels:
        return
    try:
        check_names(labels, spec.positive_class, spec.costs, spec.class_weights)
    except ValueError as error:
        raise ModelError(
            code="class_unknown",
            what=f"{error} among the labelled records",
            where=f"{spec.dataset}, in the dataset's YAML",
            todo="Write the class as the labels do, or send records of it.",
        ) from None


def learnt_weights(
    spec: DatasetSpec, engine: Engine, parts: Mapping[str, pd.DataFrame]
) -> dict[str, float] | None:
    """The weight of each class in learning. Raises ModelError (class_weights_not_used)."""
    if spec.class_weights is None or spec.is_regression:
        return None
    if not getattr(engine, "weighs_classes", False):
        raise ModelError(
            code="class_weights_not_used",
            what=f"{type(engine).__name__} learns without class weights",
            where=f"{spec.dataset}, `class_weights` in the dataset's YAML",
            todo="Take `class_weights` out, and write `costs` instead: any engine has them.",
        )
    labels = [str(name) for part in SEEN for name in parts[part][spec.label_column]]
    return weights_for(spec.class_weights, labels)


def refuse_one_image(spec: DatasetSpec, modality: Modality, engine: Engine) -> None:
    """Raises ModelError (images_not_pooled) for an engine that takes one image of a record."""
    if not spec.all_images or modality is not Modality.WITH_IMAGE:
        return
    if not getattr(engine, "pools_images", False):
        raise ModelError(
            code="images_not_pooled",
            what=f"{type(engine).__name__} takes one image of a record",
            where=f"{spec.dataset}, `images: all` in the dataset's YAML",
            todo="Write `images: first`, or `pools_images = True` in the engine's class once it "
            "takes a tuple of images for one (engines/protocol.py).",
        )


@dataclass(frozen=True)
class Unseen:
    """What a model says of records that it did not learn from.

    truth: their labels. said: a predictor's answer, in the same order. out_of_fold: whether these
    are the records of training, each asked of models that had not seen it; else those of tuning.
    """

    truth: pd.Series
    said: pd.DataFrame
    out_of_fold: bool

    @property
    def source(self) -> str:
        return "out of fold" if self.out_of_fold else "tuning records"

    @property
    def labels(self) -> list[str]:
        return [str(name) for name in self.truth]


def unseen_answers(task: Task, engine: Engine, loaded: Predictor) -> Unseen:
    """What the engine says out of fold, if it does, else of the tuning records."""
    import pandas as pd

    from mm_assets.engines.shared.prepared import with_images

    out_of_fold: pd.DataFrame | None = getattr(engine, "out_of_fold", None)
    if out_of_fold is None:
        tuning = with_images(task).tuning.reset_index(drop=True)
        said = loaded.predict(tuning[list(task.columns)])
        return Unseen(tuning[task.label], said, False)
    labels = pd.concat([task.training[task.label], task.tuning[task.label]])
    if len(labels) != len(out_of_fold):
        raise ModelError(
            code="prediction_columns",
            what=f"out of fold, {len(out_of_fold)} answers were given for {len(labels)} records",
            todo="This is a fault of the engine: report it.",
        )
    asked = out_of_fold.notna().all(axis=1).to_numpy()
    return Unseen(labels[asked], out_of_fold[asked], True)


def decided_by(spec: DatasetSpec, task: Task, answers: Callable[[], Unseen]) -> Decided:
    """The rule of a model that was just trained, learnt from records that it did not learn from.

    answers: asked for only where there is something to learn.
    """
    if spec.is_regression:
        return Decided()
    why = asked_for(spec)
    document, warning = None, ""
    if why and spec.decide_for is None:  # as if an error cost what the class weighs
        document = {"why": why, "factors": dict(task.class_weights or {})}
    elif why:
        from mm_assets.training.decision_search import learn_decision

        unseen = answers()
        document, warning = learn_decision(
            spec, why, unseen.labels, unseen.said, unseen.out_of_fold
        )
    return Decided(rule_of(spec, {"decision": document}), document, warning)
