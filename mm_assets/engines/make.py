"""Which engine the dataset's YAML names. A new one of ours is named here."""

from __future__ import annotations

import importlib
from typing import Any

from mm_assets.contract.engine_spec import EngineSpec
from mm_assets.contract.errors import ModelError
from mm_assets.engines.protocol import Engine


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
        from mm_assets.engines.autogluon.engine import AutoGluonEngine

        return AutoGluonEngine(
            preset=chosen.preset,
            image_backbone=chosen.image_backbone,
            text_backbone=chosen.text_backbone,
            **options,
        )
    if chosen.engine == "gradient_boosting":
        from mm_assets.engines.gradient_boosting import GradientBoostingEngine

        return GradientBoostingEngine(image_backbone=chosen.image_backbone, **options)
    if chosen.engine == "rules":
        from mm_assets.engines.rules.engine import RulesEngine

        return RulesEngine(**options)
    if chosen.engine == "sklearn":
        from mm_assets.engines.sklearn_pipeline import SklearnEngine

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
