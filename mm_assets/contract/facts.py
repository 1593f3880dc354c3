"""A fact for people: what was looked at, whether it is good, and what to do if it is not."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that was looked at: what it is, whether it is good, and what to do."""

    what: str
    good: bool
    found: str
    todo: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
