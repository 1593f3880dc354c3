"""A doubt: one way in which a record is unlike all that its model learnt from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Code = Literal[
    "unseen_category", "far_number", "other_script", "foreign_image", "missing_value",
    "empty_record",
]  # fmt: skip
CODES: tuple[Code, ...] = get_args(Code)


@dataclass(frozen=True, slots=True)
class Doubt:
    """code: what kind. column: where; "" for the whole record. words: value and what was known.

    value: what to count equal doubts by; "" where there is none.
    """

    code: Code
    column: str
    words: str
    value: str = ""

    def __str__(self) -> str:
        return f"{self.code}{f' ({self.column})' if self.column else ''}: {self.words}"


def in_a_cell(doubts: Sequence[Doubt]) -> str | None:
    """The doubts of one record as the predictions table keeps them; None for none."""
    return "; ".join(map(str, doubts)) or None
