"""Which class the engine of a dataset's YAML is. A new one of ours is named here."""

from __future__ import annotations

import importlib
from typing import Any

from mm_assets.contract.engine_spec import ENGINES, EngineSpec
from mm_assets.contract.errors import ModelError
from mm_assets.engines.protocol import Engine, Vectors

# Imported only when it is asked for. What its YAML may say stands in contract/engine_spec.py.
CLASSES = {
    "automatic": "mm_assets.engines.automatic.engine:AutomaticEngine",
    "autogluon": "mm_assets.engines.autogluon.engine:AutoGluonEngine",
    "gradient_boosting": "mm_assets.engines.gradient_boosting:GradientBoostingEngine",
    "rules": "mm_assets.engines.rules.engine:RulesEngine",
    "sklearn": "mm_assets.engines.sklearn_pipeline:SklearnEngine",
}


# Those that look at images through a frozen backbone, and take the keyword `vectors`.
SEE_BY_VECTORS = ("automatic", "gradient_boosting")


def make_engine(
    chosen: EngineSpec,
    hyperparameters: dict[str, Any] | None = None,
    *,
    vectors: Vectors | None = None,
) -> Engine:
    """The engine that the YAML names, perhaps with other hyperparameters (while they are tuned).

    vectors: what is known of images.
    Raises ModelError (engine_missing, package_missing) if it cannot be had.
    """
    made = _imported(CLASSES.get(chosen.engine, chosen.engine))
    engine: Engine = made(
        hyperparameters=chosen.hyperparameters if hyperparameters is None else hyperparameters,
        time_limit=chosen.time_limit_seconds,
        seed=chosen.seed,
        **{key: getattr(chosen, key) for key in ENGINES.get(chosen.engine, ())},
        **({"vectors": vectors} if chosen.engine in SEE_BY_VECTORS else {}),
    )
    return engine


def _imported(path: str) -> Any:
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
