"""What the sensors decide, as plain functions of what is there.

Every decision can be repeated: run keys make Dagster launch each run once, and what is still to do
is found by comparing what is there with what is done, never by remembering what was seen.
"""

from __future__ import annotations

import json
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any, Literal

CHUNK = 50  # run requests in one tick
FEWEST_TOGETHER = 2  # small uploads; a single one has a run of its own
LONGEST_WITHOUT_PICTURES = 300.0  # seconds that monitoring waits where uploads never pause
LONGEST_PAUSE = 3600.0  # seconds between two tries


def choose(pending: Sequence[str], after: str | None, chunk: int = CHUNK) -> tuple[list[str], str]:
    """The next `chunk` of pending keys behind `after`, going round; and the new `after`.

    pending: sorted. Going round is what keeps keys from starving behind ones that never end.
    """
    behind = [key for key in pending if key > (after or "")]
    before = [key for key in pending if key <= (after or "")]
    chosen = [*behind, *before][:chunk]
    return chosen, chosen[-1] if chosen else (after or "")


@dataclass(frozen=True, slots=True)
class Try:
    """One run for an upload. `ended` is in seconds since 1970, as is `now` below."""

    run_id: str
    state: Literal["running", "succeeded", "failed", "canceled"]
    ended: float = 0.0
    counts: bool = True


@dataclass(frozen=True, slots=True)
class Step:
    """What to do next for an upload: run it for the n-th time, wait, or set it aside."""

    do: Literal["run", "wait", "set aside"]
    number: int = 0
    reason: str = ""


def next_step(tries: Sequence[Try], now: float, maximum: int, pause: float) -> Step:
    """What comes next for an upload that is not through yet.

    tries: its runs, oldest first; those that people started count for "is one under way" only.
    A failed try is followed by a pause of `pause` seconds, then 4, 16, … times that, an hour at
    most. Storage that is away for a while is so outlived; an upload that kills its worker every
    time is set aside.
    """
    if any(one.state == "running" for one in tries):
        return Step("wait", reason="its run is under way")
    counted = [one for one in tries if one.counts]
    if counted and counted[-1].state == "canceled":
        return Step("set aside", len(counted), "its run was canceled")
    if len(counted) >= maximum:
        return Step("set aside", len(counted))
    if counted:
        rest = min(LONGEST_PAUSE, pause * 4 ** min(len(counted) - 1, 20))
        waited = now - counted[-1].ended
        # A try that ended well in the future was ended by another clock: nothing to wait for.
        if -rest <= waited < rest:
            words = f"try {len(counted)} of {maximum} failed; the next is in {rest - waited:.0f} s"
            return Step("wait", reason=words)
    return Step("run", len(counted) + 1)


def next_together(small: int, tries: Sequence[Try], now: float, maximum: int, pause: float) -> Step:
    """Whether a run is to take so many small uploads together; else "wait" for the one under way
    or after a pause, or "set aside": each takes a run of its own.

    tries: such runs since one succeeded. One that is under way takes what comes meanwhile, too.
    """
    step = next_step(tries, now, len(tries) + 1, pause)
    if any(one.state == "running" for one in tries):
        return step
    if small < FEWEST_TOGETHER:
        return Step("set aside", reason="there are no others to take it with")
    if step.do == "wait" and len(tries) >= maximum:
        return Step("set aside", reason="runs of several fail")
    return Step("run", len(tries) + 1) if step.do == "set aside" else step


def should_train(
    labelled: int, trained_on: int | None, minimum: int, growth: float
) -> tuple[bool, str]:
    """Whether the number of labelled records calls for a training, and why (not)."""
    if labelled < minimum:
        return False, f"{labelled} labelled records; {minimum} are needed for a training"
    if trained_on is None:
        return True, f"{labelled} labelled records and no training yet"
    needed = trained_on * (1 + growth)
    if labelled >= needed and labelled > trained_on:
        return True, f"labelled records grew from {trained_on} to {labelled}"
    return False, f"{labelled} labelled records; the next training comes at {needed:.0f}"


def should_draw(
    merged: float | None, drawn_from: float | None, is_busy: bool, now: float
) -> tuple[bool, str]:
    """Whether the monitoring pictures are to be drawn again, and why (not).

    merged: when predictions last came into the table; drawn_from: when the run began that drew
    the newest pictures; both in seconds since 1970, None for never. While predictions are under
    way (`is_busy`), pictures wait for them, unless they are old.
    """
    if merged is None:
        return False, "Nothing was predicted yet."
    if drawn_from is not None and drawn_from > merged:
        return False, "No predictions came since the pictures were drawn."
    if is_busy and (drawn_from is None or now - drawn_from < LONGEST_WITHOUT_PICTURES):
        return False, "Predictions are under way; they are drawn together."
    return True, "predictions came since the pictures were drawn"


def is_through(cursor: str | None, wanted: str) -> bool:
    """Whether every upload was asked to be predicted by the champions `wanted`."""
    state = _wave(cursor)
    through: bool = state.get("champions") == wanted and not state["late"]
    return through and state["after"] >= state["until"]


def next_wave(
    cursor: str | None, wanted: str, finished: Set[str], under_way: Set[str], chunk: int = CHUNK
) -> tuple[list[str], str]:
    """The next uploads to predict again with the champions `wanted`, and the new cursor.

    under_way: uploads whose runs may predict with earlier champions; look at them before
    `finished`, so that one which finishes meanwhile is in one of both. Those under way when the
    champions changed are remembered as `late` and taken once they are finished; one whose run
    ends without predictions is forgotten, because its next run begins with the new champions.
    """
    state = _wave(cursor)
    if state.get("champions") != wanted:
        begun = under_way | finished
        state = {"champions": wanted, "after": "", "until": max(begun, default=""),
                 "late": sorted(begun - finished)}  # fmt: skip
    late, until = set(state["late"]) & (finished | under_way), state["until"]
    swept = sorted(u for u in finished if state["after"] < u <= until and u not in late)[:chunk]
    caught = sorted(late & finished)[: chunk - len(swept)]
    # Less than a chunk: the sweep is through, and whatever else finishes began after it.
    state["after"] = swept[-1] if len(swept) == chunk else until
    state["late"] = sorted(late - set(caught))
    return [*swept, *caught], json.dumps(state)


def _wave(cursor: str | None) -> dict[str, Any]:
    """What a cursor of `next_wave` says; nothing, if it is of another version."""
    try:
        state = json.loads(cursor or "{}")
        whole = all(isinstance(state[name], str) for name in ("champions", "after", "until"))
        return state if whole and isinstance(state["late"], list) else {}
    except (ValueError, TypeError, KeyError):
        return {}
