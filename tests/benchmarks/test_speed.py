"""The measurements of speed: each case really runs, and the page says what was measured."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from benchmarks.speed import page, worker
from benchmarks.speed.line import OURS, Goal, Line
from benchmarks.speed.lines import LINES
from benchmarks.speed.measure import measure


def measured(line: str, **walls: list[float]) -> page.Measured:
    runs = {
        case: [{"wall": wall, "cpu": wall / 2, "peak": 1e6 * wall} for wall in found]
        for case, found in walls.items()
    }
    about = {"date": "2026-01-01T00:00:00", "commit": "abc", "cores": 2, "load": 0.1}
    return page.Measured(line, runs, about)


def test_a_line_runs_each_case_in_turns_in_processes_of_their_own():
    told: list[str] = []
    found = measure(LINES["help"], 1, told.append)
    assert list(found) == list(LINES["help"].cases)
    for (run,) in found.values():
        assert run["cpu"] > 0
        assert run["wall"] > 0
        assert run["peak"] > 5_000_000  # Python alone
    turns = [line.partition(": ")[2] for line in told]
    assert turns == [f"{case}, {at} of 1" for at in (0, 1) for case in found]


def test_what_did_not_do_all_of_its_work_is_no_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    half = Line("half", "", 2, "things", lambda _: None, {OURS: lambda *_: lambda: 1})
    monkeypatch.setattr(worker, "LINES", {"half": half})
    monkeypatch.setattr("sys.stdin", io.StringIO("go\n"))
    with pytest.raises(SystemExit, match="half of ours: 1 of 2 things were done"):
        worker.main("half", OURS, str(tmp_path), str(tmp_path))


def test_a_goal_is_judged_by_rounds_and_by_medians():
    one = measured("help", ours=[1.0, 4.0, 2.0], rival=[2.0, 2.0, 2.0])
    assert page.judged(one, Goal("wall", 1.0, "rival")) == (
        True,
        "1 times",
        "time at most 1 times `rival`",
    )
    assert page.judged(one, Goal("cpu", 0.9))[:2] == (False, "1.0 s")
    assert page.judged(one, Goal("peak", 3e6))[:2] == (True, "2 MB")


def test_the_page_and_the_plot_are_made_of_what_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("RESULTS", "PAGE", "PICTURE"):
        monkeypatch.setattr(page, name, tmp_path / name)
    page.PAGE.write_text(f"Before.\n\n{page.BEGIN}\nold\n{page.END}\n\nAfter.\n")
    rival = "Python alone"
    page.put(measured("help", **{OURS: [0.2], rival: [0.1]}))
    page.put(measured("help", **{OURS: [0.4], rival: [0.1]}))
    assert [one.median(OURS, "wall") for one in page.stored()] == [0.2, 0.4]
    text = page.PAGE.read_text()
    assert text.startswith("Before.")
    assert text.rstrip().endswith("After.")
    assert "old" not in text
    assert "4 (4 to 4) time" in text
    assert "time at most 300 ms | 400 ms | **no**" in text
    assert page.PICTURE.read_bytes().startswith(b"\x89PNG")
