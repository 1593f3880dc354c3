"""The lines of the budget, by name."""

from __future__ import annotations

from benchmarks.speed.line import Line
from benchmarks.speed.lines import archives, images, many, merges, rows, starts, ticks, workers

LINES: dict[str, Line] = {
    line.name: line
    for module in (rows, archives, images, merges, ticks, many, workers, starts)
    for line in module.LINES
}
