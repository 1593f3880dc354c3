"""Files that come along with the package: the templates, and Dagster's own settings.

There is one of each, in dagster_project. In a checkout they are read there; a wheel carries them
in the package (see pyproject.toml).
"""

from __future__ import annotations

from pathlib import Path

_HOUSE = Path(__file__).parents[1]


def shipped(name: str) -> Path:
    """Where a file or folder of dagster_project is on this machine, by its name there."""
    packed = _HOUSE / "project"
    return (packed if packed.is_dir() else _HOUSE.parent / "dagster_project") / name
