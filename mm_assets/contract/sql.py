"""Text inside of SQL, where a parameter cannot stand."""

from __future__ import annotations


def literal(text: str) -> str:
    """The text as a string in SQL."""
    return "'" + text.replace("'", "''") + "'"
