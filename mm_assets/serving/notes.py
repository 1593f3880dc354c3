"""What becomes known of a request while it is answered: for its log line, figures and spans.

What belongs here is the note itself. Who writes in it: `watched.py` begins and ends it, `Answering`
and `Lane` add what only they know. It holds answers, so it is never written out whole.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

READ, WAIT, ANSWER, WHOLE = "read", "wait", "answer", "whole"


@dataclass(slots=True)
class Note:
    """One request. began and stages: seconds of `time.perf_counter`; a stage begins and ends.

    dataset: one that is served. problem: the code of the last thing that went wrong. status: of the
    answer; 0 until it begins, 499 where nobody was there any more to take it.
    """

    request_id: str = ""
    method: str = ""
    path: str = ""  # the route's, with names for what varies
    began: float = field(default_factory=time.perf_counter)
    status: int = 0
    dataset: str = ""
    problem: str = ""
    answers: Sequence[dict[str, Any]] = ()
    stages: dict[str, tuple[float, float]] = field(default_factory=dict)
    trace_id: str = ""
    span: Any = None  # of OpenTelemetry, where it is asked for

    def stage(self, name: str, began: float, ended: float) -> None:
        self.stages[name] = (began, ended)

    @property
    def seconds(self) -> float:
        """Since it began; once it has ended, until then."""
        began, ended = self.stages.get(WHOLE, (self.began, time.perf_counter()))
        return ended - began

    @property
    def codes(self) -> Counter[str]:
        """Of records that are refused, and of images that are left out."""
        return Counter(answer["code"] for answer in self.answers if answer["code"])

    @property
    def refused(self) -> int:
        """Records without a prediction."""
        return sum(answer["prediction"] is None for answer in self.answers)

    @property
    def versions(self) -> list[str]:
        """Of the models that answered."""
        return sorted({v for answer in self.answers if (v := answer["model_version"])})


CURRENT: ContextVar[Note | None] = ContextVar("note", default=None)


def note() -> Note:
    """That of the request which is answered here; outside of requests one that nobody reads."""
    return CURRENT.get() or Note()
