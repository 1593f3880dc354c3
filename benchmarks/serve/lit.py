"""LitServe's side: what its workers ask. It starts them afresh, so the class stands in a module."""

from __future__ import annotations

from typing import Any

import litserve as ls

from benchmarks.serve.servers import asked
from benchmarks.serve.world import World


class Api(ls.LitAPI):  # type: ignore[misc]
    """Batches of records, asked of our `Predictor`."""

    def setup(self, device: Any) -> None:  # noqa: ARG002
        self.predictor = World.here().predictor()

    def batch(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return list(inputs)

    def predict(self, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return asked(self.predictor, batch)

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return output
