"""What was measured: one line of JSON for each case, the tables, and the plot over commits."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.quality.page import END, replace
from benchmarks.speed.line import OURS, Goal, Line
from benchmarks.speed.lines import LINES

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results.jsonl"
PAGE = ROOT / "docs" / "performance.md"
PICTURE = ROOT / "docs" / "pictures" / "speed.png"
BEGIN = "<!-- made by `make bench WRITE=1`: do not edit -->"
TITLE = "Ours / theirs, processor time: below the line ours is cheaper"
FIGURES = ("wall", "cpu", "peak")
WORDS = {"wall": "time", "cpu": "processor time", "peak": "memory"}


@dataclass(frozen=True)
class Measured:
    """runs: by case, in the order in which they took turns. about: when, where, of which code."""

    line: str
    runs: dict[str, list[dict[str, float]]]
    about: dict[str, Any]

    @classmethod
    def of(cls, line: Line, runs: dict[str, list[dict[str, Any]]]) -> Measured:
        return cls(line.name, runs, _about())

    def median(self, case: str, figure: str) -> float:
        return statistics.median(run[figure] for run in self.runs[case])

    def ratios(self, against: str, figure: str) -> list[float]:
        """Ours / theirs of each round, sorted: what the machine did meanwhile met both."""
        pairs = zip(self.runs[OURS], self.runs[against], strict=True)
        return sorted(mine[figure] / theirs[figure] for mine, theirs in pairs)


def _about() -> dict[str, Any]:
    commit = subprocess.run(
        ["git", "rev-parse", "--short=10", "HEAD"], cwd=ROOT, capture_output=True, text=True,
        check=False,
    ).stdout.strip()  # fmt: skip
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit or "unknown",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
    }


def put(one: Measured) -> None:
    """Append what was measured, and make the page and the plot of all that is stored."""
    with RESULTS.open("a", encoding="utf-8") as file:
        rounded = {
            case: [{name: round(run[name], 4) for name in FIGURES} for run in runs]
            for case, runs in one.runs.items()
        }
        file.write(json.dumps({"line": one.line, **one.about, "runs": rounded}) + "\n")
    everything = stored()
    draw(everything)
    newest = {one.line: one for one in everything}
    replace(section([newest[name] for name in LINES if name in newest]), BEGIN, PAGE)


def stored() -> list[Measured]:
    """All that was ever kept, oldest first; lines that are no more are left out."""
    found = []
    for text in RESULTS.read_text(encoding="utf-8").splitlines():
        one = json.loads(text)
        if one["line"] in LINES:
            runs = one.pop("runs")
            found.append(Measured(one.pop("line"), runs, one))
    return found


def section(measured: Sequence[Measured]) -> str:
    """The part of the page that is made, between its two marks."""
    return "\n\n".join([BEGIN, table(measured), goals(measured), END]) + "\n"


def table(measured: Sequence[Measured]) -> str:
    """The medians of each case, and ours beside each other by round."""
    rows = []
    for one in measured:
        line = LINES[one.line]
        for case in one.runs:
            wall, cpu, peak = (one.median(case, figure) for figure in FIGURES)
            beside = ""
            if case != OURS:
                beside = "; ".join(
                    f"{_times(one.ratios(case, figure))} {WORDS[figure]}" for figure in FIGURES
                )
            words = f"**{line.words}** (`{line.name}`)" if case == OURS else ""
            rate = f"{_number(line.amount / wall)} {line.unit}/s" if line.amount > 1 else ""
            rows.append(
                (words, case, _seconds(wall), _seconds(cpu), f"{peak / 1e6:,.0f} MB", rate, beside)
            )
    header = ("what", "who", "time", "processor", "memory", "", "ours / theirs")
    return _markdown(header, rows)


def goals(measured: Sequence[Measured]) -> str:
    """What was aimed at, and whether it is reached; with when and where each was measured."""
    rows = []
    for one in measured:
        about = one.about
        where = (
            f"{about['date'][:10]}, {about['commit']}, {about['cores']} cores, load {about['load']}"
        )
        for goal in LINES[one.line].goals:
            if goal.against and goal.against not in one.runs:
                continue
            reached, found, aim = judged(one, goal)
            rows.append((f"`{one.line}`", aim, found, "yes" if reached else "**no**", where))
    return _markdown(("line", "goal", "measured", "reached", "when, of what, where"), rows)


def judged(one: Measured, goal: Goal) -> tuple[bool, str, str]:
    """Whether the median reaches the goal, what it is, and the goal in words."""
    what = WORDS[goal.figure]
    if goal.against:
        ratio = statistics.median(one.ratios(goal.against, goal.figure))
        aim = f"{what} at most {goal.at_most:.2g} times `{goal.against}`"
        return ratio <= goal.at_most, f"{ratio:.2g} times", aim
    value = one.median(OURS, goal.figure)
    shown = f"{value / 1e6:,.0f} MB" if goal.figure == "peak" else _seconds(value)
    limit = f"{goal.at_most / 1e6:,.0f} MB" if goal.figure == "peak" else _seconds(goal.at_most)
    return value <= goal.at_most, shown, f"{what} at most {limit}"


def draw(measured: Sequence[Measured]) -> None:
    """Ours beside the first rival, over all that was kept: one small plot for each line."""
    from mm_assets.display.pictures import BLUE, GREY, figure, to_png

    by_line: dict[str, list[Measured]] = {}
    for one in measured:
        by_line.setdefault(one.line, []).append(one)
    columns = 3
    rows = -(-len(by_line) // columns)
    with figure(9, 2.1 * rows, TITLE) as f:
        axes = f.subplots(rows, columns, squeeze=False)
        for place in axes.flat[len(by_line) :]:
            place.set_visible(False)
        for place, (name, found) in zip(axes.flat, by_line.items(), strict=False):
            rival = next((case for case in found[-1].runs if case != OURS), None)
            if rival is None:
                continue
            kept = [one for one in found if rival in one.runs]
            ratios = [one.ratios(rival, "cpu") for one in kept]
            places = range(len(kept))
            middle = [statistics.median(one) for one in ratios]
            place.fill_between(
                places, [one[0] for one in ratios], [one[-1] for one in ratios],
                color=BLUE, alpha=0.2, linewidth=0,
            )  # fmt: skip
            place.plot(places, middle, color=BLUE, marker="o", markersize=3)
            place.axhline(1, color=GREY, linewidth=0.8)
            place.set_title(f"{name} / {rival}", fontsize=8)
            place.set_xticks(list(places), [one.about["commit"][:7] for one in kept], fontsize=6)
            place.set_ylim(bottom=0)
        f.tight_layout()
        PICTURE.write_bytes(to_png(f))


def _times(ratios: Sequence[float]) -> str:
    return f"{statistics.median(ratios):.2g} ({ratios[0]:.2g} to {ratios[-1]:.2g})"


def _seconds(seconds: float) -> str:
    return f"{seconds * 1e3:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
