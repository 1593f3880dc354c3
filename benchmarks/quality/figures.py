"""What the measurements say: means and spreads, ranks, and whether ours is as good as the best."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mm_assets.contract.decisions import LOWER_IS_BETTER

OURS = "automatic"
ORDER = ("guess", "boosting_table", "linear_table", "boosting", "linear", "autogluon", OURS)
LOWER = (*LOWER_IS_BETTER, "median_relative_error")


@dataclass(frozen=True)
class Verdict:
    """Ours against the best single rival of a set, by one metric, over the splits of both.

    behind: by how much ours is worse on average (below 0: better). error: the standard error of
    that, of the paired differences.
    """

    rival: str
    behind: float
    error: float
    splits: int

    @property
    def holds(self) -> bool:
        return self.behind <= self.error


class Measured:
    """The cells of a run, by set and rival."""

    def __init__(self, cells: Iterable[dict[str, Any]]) -> None:
        self._cells: dict[str, dict[str, dict[int, dict[str, Any]]]] = defaultdict(
            lambda: defaultdict(dict)
        )
        for cell in cells:
            self._cells[cell["set"]][cell["rival"]][cell["split"]] = cell

    @property
    def sets(self) -> list[str]:
        return list(self._cells)

    def rivals(self, name: str | None = None) -> list[str]:
        """Those of a set, or all, in the order of ORDER."""
        chosen = self._cells.values() if name is None else [self._cells[name]]
        there = {rival for rivals in chosen for rival in rivals}
        return [rival for rival in ORDER if rival in there]

    def of(self, name: str, rival: str) -> list[dict[str, Any]]:
        """The cells of a set and a rival, by split."""
        return [cell for _, cell in sorted(self._cells[name][rival].items())]

    def metrics(self, name: str) -> list[str]:
        """The metrics that every cell of the set has; the first one decides."""
        cells = [cell for rival in self._cells[name] for cell in self.of(name, rival)]
        return [m for m in cells[0]["metrics"] if all(m in cell["metrics"] for cell in cells)]

    def values(self, name: str, rival: str, metric: str) -> dict[int, float]:
        """One figure for each split."""
        cells = self._cells[name][rival]
        return {split: cell["metrics"][metric] for split, cell in sorted(cells.items())}

    def best(self, name: str, metric: str) -> str | None:
        """The single rival with the best mean; None if there is none but ours."""
        others = [rival for rival in self.rivals(name) if rival != OURS]
        by = {rival: turned(metric, list(self.values(name, rival, metric).values()))
              for rival in others}  # fmt: skip
        return max(by, key=lambda rival: float(np.mean(by[rival])), default=None)

    def verdict(self, name: str, metric: str) -> Verdict | None:
        """None without ours, without a rival, or with fewer than two splits in common."""
        rival = self.best(name, metric)
        if rival is None or OURS not in self._cells[name]:
            return None
        ours, theirs = (self.values(name, one, metric) for one in (OURS, rival))
        common = sorted(ours.keys() & theirs.keys())
        if len(common) < 2:
            return None
        behind = turned(metric, [theirs[s] for s in common]) - turned(
            metric, [ours[s] for s in common]
        )
        error = float(behind.std(ddof=1) / np.sqrt(len(common)))
        return Verdict(rival, float(behind.mean()), error, len(common))

    @property
    def complete(self) -> list[str]:
        """The sets that every rival did."""
        return [name for name in self.sets if self.rivals(name) == self.rivals()]

    def ranks(self, place: int = 0) -> dict[str, float]:
        """The mean rank of each rival over the sets that all of them did; 1 is the best.

        place: 0 ranks by the metric that decides, 1 by the second one. Equal means share a rank.
        """
        from scipy.stats import rankdata

        rivals = self.rivals()
        rows = []
        for name in self.complete:
            if len(self.metrics(name)) > place:
                metric = self.metrics(name)[place]
                means = [
                    float(np.mean(turned(metric, list(self.values(name, rival, metric).values()))))
                    for rival in rivals
                ]
                rows.append(rankdata([-mean for mean in means]))
        if not rows:
            return {}
        return dict(zip(rivals, map(float, np.mean(rows, axis=0)), strict=True))


def turned(metric: str, values: Sequence[float]) -> np.ndarray:
    """[splits]: turned so that higher is better."""
    return np.array(values) * (-1.0 if metric in LOWER else 1.0)


def spread(values: Sequence[float]) -> float | None:
    """The standard deviation over the splits; None for one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None
