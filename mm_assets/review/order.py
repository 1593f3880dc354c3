"""In which order the review queue is answered: a word of the command line, the page and the API."""

from __future__ import annotations

from enum import StrEnum


class Order(StrEnum):
    """Of the queue. doubtful: with doubts, then the least confident. useful: see useful.py."""

    DOUBTFUL = "doubtful"
    USEFUL = "useful"
