"""The automatic engine: members, what they are worth out of fold, and the ensemble of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mm_assets.engines.protocol import Predictor, Progress, Task, Vectors


class AutomaticEngine:
    """Trains an ensemble. Under construction on this commit."""

    def __init__(
        self,
        *,
        image_backbone: str | None = None,
        hyperparameters: dict[str, Any] | None = None,
        time_limit: float | None = None,
        seed: int = 0,
        vectors: Vectors | None = None,
    ) -> None:
        self.image_backbone = image_backbone
        self.hyperparameters = dict(hyperparameters or {})
        self.time_limit = time_limit
        self.seed = seed
        self.vectors = vectors

    def train(self, task: Task, directory: Path, progress: Progress) -> None:
        """As `Engine.train`."""
        raise NotImplementedError

    def load(self, directory: Path) -> Predictor:
        """What `train` wrote, from wherever it lies now."""
        raise NotImplementedError
