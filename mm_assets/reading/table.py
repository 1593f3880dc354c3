"""A whole table that is refused: what every reader raises."""

from __future__ import annotations


class TableRefused(Exception):  # noqa: N818  not a fault of ours, it speaks of the file
    """A whole table is refused. `code` is one of errors.REFUSALS' table_* codes."""

    def __init__(self, code: str, reason: str, line: int | None = None) -> None:
        self.code = code
        self.reason = reason
        self.line = line
        super().__init__(code, reason, line)

    def __str__(self) -> str:
        where = f" (line {self.line})" if self.line else ""
        return f"[{self.code}] {self.reason}{where}"
