"""The libraries that a stored model depends on: which there are here, and whether they fit.

Read from the installed packages' metadata; nothing heavy is imported.
"""

from __future__ import annotations

import platform
from contextlib import suppress
from functools import lru_cache
from importlib import metadata
from typing import Any

from mm_assets.contract.errors import ModelError

_PACKAGES = {
    "autogluon": "autogluon.multimodal",
    "torch": "torch",
    "xgboost": "xgboost",
    "scikit-learn": "scikit-learn",
    "lightgbm": "lightgbm",
}
# Each engine's libraries, and the parts of a version that matter: major and minor, or major.
_PARTS_THAT_MATTER = {
    "automatic": {"scikit-learn": 2, "lightgbm": 1},
    "autogluon": {"autogluon": 2, "torch": 1},
    "gradient_boosting": {"xgboost": 1},
    "sklearn": {"scikit-learn": 2},
}


def installed() -> dict[str, str]:
    """The versions that matter for loading a model; what is not installed is left out."""
    found = {"python": platform.python_version()}
    for name, package in _PACKAGES.items():
        if version := _version(package):
            found[name] = version
    return found


@lru_cache
def _version(package: str) -> str:
    """'' if it is not installed. Read once a process: what is imported stays as it is."""
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return ""


def libraries_of(manifest: dict[str, Any]) -> dict[str, str]:
    """The packages that a stored model's engine needs, in the versions that stored it."""
    stored, needed = manifest.get("libraries") or {}, _that_matter(manifest)
    return {_PACKAGES[name]: stored[name] for name in needed if name in stored}


def _that_matter(manifest: dict[str, Any]) -> dict[str, int]:
    """As `_PARTS_THAT_MATTER`; an ensemble also needs what AutoGluon needs, if it is a member."""
    engine = str(_engine_of(manifest))
    members = [row["name"] for row in manifest.get("leaderboard") or () if row["stored"]]
    return {
        **_PARTS_THAT_MATTER.get(engine, {}),
        **(_PARTS_THAT_MATTER["autogluon"] if "autogluon" in members else {}),
    }


def _engine_of(manifest: dict[str, Any]) -> Any:
    engine = manifest.get("engine")
    return engine.get("engine") if isinstance(engine, dict) else engine


def other_version(manifest: dict[str, Any]) -> str:
    """Why a stored model is not known to be read right here, as the end of a sentence; or ''.

    AutoGluon's pickles and weights are only sure to mean the same to the same minor version of it
    and the same major version of torch; scikit-learn's pickles, to its minor version; what XGBoost
    and LightGBM write, to their major one. Rules are plain text, and engines of one's own answer
    for themselves.
    """
    stored, here = manifest.get("libraries") or {}, installed()
    for name, parts in _that_matter(manifest).items():
        was, now = stored.get(name, "unknown"), here.get(name, "not installed")
        if was.split(".")[:parts] != now.split(".")[:parts]:
            return f"was stored by {name} {was}, and here is {name} {now}"
    return ""


def refuse_other_version(manifest: dict[str, Any], where: str) -> None:
    """Raises ModelError(model_other_version) where `other_version` finds a reason."""
    if fault := other_version(manifest):
        raise ModelError(
            code="model_other_version",
            what=f"the model {fault}",
            where=where,
            todo="Run `mm train`, or install the version that it was trained with.",
        )
