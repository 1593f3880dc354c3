"""What an engine is, and which one the dataset's YAML names.

An engine trains one model and loads it again. It knows columns and labels, and nothing of uploads,
lakes or splits. Those of ours are modules of this room; one of your own is any class that keeps to
the same two methods, named in YAML as `engine: package.module:ClassName`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mm_assets.engine_spec import EngineSpec
from mm_assets.errors import ModelError

if TYPE_CHECKING:
    import pandas as pd


class Predictor(Protocol):
    """A loaded model.

    It may also have `reasons(frame) -> list[str]`: in a few words for each record, what its
    prediction hangs on. People see them in the review queue.
    """

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Probabilities, a column for each class, or the one column "value" for regression.

        frame: exactly the feature columns of training, in any order; it is not changed. The answer
        has the index of `frame`; a record's answer does not depend on the others in it.
        """
        ...


class Engine(Protocol):
    """Made with the keywords `hyperparameters` (dict), `time_limit` (seconds or None), `seed`."""

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
        """Learn from `training`, stop early or choose by `tuning`, write the model to `directory`.

        columns: feature column to "number" (float64, NaN for missing), "category" or "text" (str,
        None for missing) or "image" (bytes of a normalised picture, None for none), in order.
        label: the column of str, or of float for regression. directory: empty; nothing in the
        model may depend on its place. Raises ModelError for what cannot be learnt from.
        """
        ...

    def load(self, directory: Path) -> Predictor:
        """What `train` wrote, from wherever it lies now; it does not depend on hyperparameters."""
        ...


def make_engine(chosen: EngineSpec, hyperparameters: dict[str, Any] | None = None) -> Engine:
    """The engine that the YAML names, perhaps with other hyperparameters (while they are tuned).

    Raises ModelError (engine_missing, package_missing) if it cannot be had.
    """
    options: dict[str, Any] = {
        "hyperparameters": chosen.hyperparameters if hyperparameters is None else hyperparameters,
        "time_limit": chosen.time_limit_seconds,
        "seed": chosen.seed,
    }
    if chosen.engine == "autogluon":
        from mm_assets.models.autogluon import AutoGluonEngine

        return AutoGluonEngine(
            preset=chosen.preset,
            image_backbone=chosen.image_backbone,
            text_backbone=chosen.text_backbone,
            **options,
        )
    if chosen.engine == "gradient_boosting":
        from mm_assets.models.gradient_boosting import GradientBoostingEngine

        return GradientBoostingEngine(image_backbone=chosen.image_backbone, **options)
    if chosen.engine == "rules":
        from mm_assets.models.rules import RulesEngine

        return RulesEngine(**options)
    if chosen.engine == "sklearn":
        from mm_assets.models.sklearn_pipeline import SklearnEngine

        return SklearnEngine(**options)
    return _own_engine(chosen.engine)(**options)


def _own_engine(path: str) -> Any:
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ModelError(
            code="engine_missing",
            what=f"the engine {path} cannot be imported: {error}",
            where="engine, in the dataset's YAML",
            todo="Write package.module:ClassName of an installed package, or `autogluon`.",
        ) from None
