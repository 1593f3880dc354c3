"""Packages that only some datasets need: imported late, and missed in words."""

from __future__ import annotations

import importlib
from typing import Any

from mm_assets.contract.errors import ModelError


def optional(package: str, extra: str, wanted_by: str) -> Any:
    """The imported package. Raises ModelError(package_missing) that says how to install it.

    extra: the extra of mm-assets that brings it; wanted_by: what in the YAML asks for it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ModelError(
            code="package_missing",
            what=f"{wanted_by} needs the package {package}: {error}",
            where=wanted_by,
            todo=f'Install it: pip install "mm-assets[{extra}]"',
        ) from None
