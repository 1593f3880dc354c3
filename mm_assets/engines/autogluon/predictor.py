"""A loaded AutoGluon model: the same answer for a record alone and in any batch."""

# AutoGluon offers no public way to predict without building a Trainer a call.
# ruff: noqa: SLF001

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import pandas as pd

from mm_assets.engines.autogluon.batches import Batches
from mm_assets.engines.autogluon.blend import combined
from mm_assets.engines.shared.guards import REGRESSION, check_columns, prepared_frame
from mm_assets.engines.shared.one_thread_each import one_thread_each
from mm_assets.engines.shared.weights import unweighted

PREDICTION_BATCH = 64


class AutoGluonPredictor:
    """A loaded model. `classes` are the probability columns in order, None for regression."""

    def __init__(self, members: list[Member], record: dict[str, Any]) -> None:
        self.classes: list[str] | None = record["classes"]
        self.columns: dict[str, str] = dict(record["columns"])
        self._members = members
        self._weights: list[float] = [part["weight"] for part in record["members"]]
        self._ranges: dict[str, list[float]] = record["number_ranges"]
        self._class_weights: dict[str, float] | None = record.get("class_weights")

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Probabilities of the classes, or "value" for regression, under the index of `frame`.

        frame: exactly the columns of training, in any order; it is not changed. A record gets the
        same prediction alone and in any batch. Raises ModelError (model_columns_differ,
        number_not_finite, image_missing).
        """
        check_columns(frame, self.columns)
        prepared = prepared_frame(frame, self.columns, self._ranges)
        outputs = [member.outputs(prepared) for member in self._members]
        values = combined(outputs, self._weights, self.classes)
        values = unweighted(values, self.classes, self._class_weights)
        return pd.DataFrame(values, index=frame.index, columns=self.classes or ["value"])


class Member:
    """One trained learner and the columns it sees. Its network stays as it is from now on."""

    def __init__(self, learner: Any, columns: list[str]) -> None:
        import torch

        self.learner = learner
        self._columns = columns
        self._batches = Batches(learner, PREDICTION_BATCH)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._network = learner._model.to(self._device).eval()

    def outputs(self, prepared: pd.DataFrame) -> np.ndarray:
        """[records, classes] log probabilities, or [records, 1] values for regression."""
        frame = prepared[self._columns]
        starts = range(0, max(len(frame), 1), PREDICTION_BATCH)
        batches = (frame.iloc[at : at + PREDICTION_BATCH].reset_index(drop=True) for at in starts)
        each = one_thread_each().map if self._device.type == "cpu" else map
        return np.concatenate(list(each(self._batch, batches)))

    def _batch(self, batch: pd.DataFrame) -> np.ndarray:
        """Full precision whatever it was trained with, so that neighbours don't matter."""
        import torch

        learner = self.learner
        if batch.empty:
            return np.empty((0, learner._output_shape))
        logits = self._logits(batch).double()
        if learner.problem_type != REGRESSION:
            return torch.log_softmax(logits, dim=1).numpy()
        return learner._df_preprocessor.label_scaler.inverse_transform(logits.reshape(-1, 1))

    def _logits(self, batch: pd.DataFrame) -> Any:
        """As AutoGluon's `realtime_predict`, which moves and sets the whole network each time.

        Its `predict_proba` infers column types from each batch, and builds a Trainer.
        """
        import torch
        from autogluon.multimodal.models.utils import run_model
        from autogluon.multimodal.utils.device import move_to_device

        tensors = move_to_device(self._batches.batch(batch), self._device)
        with self._exactly(), torch.inference_mode():
            output = run_model(self._network, tensors)
            if self.learner._model_postprocess_fn:
                output = self.learner._model_postprocess_fn(output)
        return output[self._network.prefix]["logits"].cpu()

    def _exactly(self) -> AbstractContextManager[None]:
        if self._device.type == "cpu":
            return nullcontext()
        import torch

        flags: AbstractContextManager[None] = torch.backends.cudnn.flags(
            benchmark=False, deterministic=True, allow_tf32=False
        )
        return flags


def image_input(learner: Any) -> list[Any] | None:
    """What an image becomes. AutoGluon rebuilds it silently where its pickle does not load."""
    processors = learner._data_processors.get("image") or []
    return [[one.size, [*map(float, one.mean)], [*map(float, one.std)]] for one in processors]
