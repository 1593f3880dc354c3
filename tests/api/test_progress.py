"""What long work says: on a terminal in one place, in a log as lines."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from mm_assets.api import progress
from mm_assets.api.progress import Moment, telling
from mm_assets.engines.shared.progress import read_told, told

BEST = ("log_loss", 0.41234, "trees")
LINEAR = told(3, 6, "linear with image", best=BEST, left=74.4)


def drawn(moment: Moment, text: str) -> str:
    """What stands on a terminal, in one line."""
    console = Console(file=io.StringIO(), width=60, force_terminal=True, color_system=None)
    console.print(moment.shown(text))
    return " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]


def test_all_members_are_told_of_alike() -> None:
    assert LINEAR == (
        "3 of 6 · linear with image · best so far: log loss 0.4123 (trees) · 74 s left"
    )
    assert told(1, 6, "linear") == "1 of 6 · linear"
    assert told(1, 2, "a", best=("mean_absolute_error", 43210.4, "b"), left=-3) == (
        "1 of 2 · a · best so far: mean absolute error 43,210 (b) · 0 s left"
    )


def test_what_was_told_can_be_read_again() -> None:
    step = read_told(f"with_image: automatic: {LINEAR}")
    assert step is not None
    assert (step.before, step.number, step.of, step.left) == ("with_image: automatic: ", 3, 6, 74)
    assert step.words == "linear with image · best so far: log loss 0.4123 (trees)"
    assert read_told(told(1, 6, "linear")) == ("", 1, 6, "linear", None)
    assert read_told("looked at 3 of 6 images") is None


def test_on_a_terminal_the_clock_goes_on_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    moment = Moment()
    shown = moment.shown(f"with_image: {LINEAR}")
    console = Console(file=io.StringIO(), width=200, force_terminal=True, color_system=None)
    for later, left in ((0, 74), (30, 44), (100, 0)):
        now[0] = 100.0 + later
        console.print(shown)
        line = console.file.getvalue().splitlines()[-1]  # type: ignore[attr-defined]
        assert f"3 of 6 {left} s left with_image: linear with image · best so far: log" in line


def test_what_a_member_says_stands_beside_the_clock_until_something_else_begins() -> None:
    moment = Moment()
    assert drawn(moment, "reading [b]") == "reading [b]"
    drawn(moment, f"with_image: automatic: {LINEAR}")
    epoch = drawn(moment, "with_image: automatic: epoch 3 \x1b[2J")
    assert epoch.startswith("━")
    assert epoch.endswith("3 of 6 74 s left with_image: automatic: epoch 3 \\x1b[2J")
    assert drawn(moment, "with_image: Promoted.") == "with_image: Promoted."


def test_in_a_log_each_member_is_a_line_and_the_rest_now_and_then(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with telling("train …", lines=True) as said:
        for text in ["reading", "reading more", told(1, 2, "a"), told(1, 2, "a"), "epoch 1",
                     told(2, 2, "b", left=3)]:  # fmt: skip
            said.live(text)
    assert capsys.readouterr().err.splitlines() == [
        "reading",
        "1 of 2 · a",
        "2 of 2 · b · 3 s left",
    ]
    with telling("sync …") as said:
        said.live("reading")
    assert capsys.readouterr().err == ""
