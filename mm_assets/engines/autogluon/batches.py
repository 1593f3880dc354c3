"""From a prepared frame to the tensors that AutoGluon's network takes: for one record, at once.

AutoGluon sends each column through pandas and scikit-learn, which for one record takes longer than
a small network does. Here numbers and categories are looked up in what those have learnt; texts and
images go through AutoGluon's own processors. The tensors are the same.
"""

# AutoGluon offers no public way to its preprocessor's parts.
# ruff: noqa: SLF001

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd


class Batches:
    """What a learner makes of frames. Many threads may ask at once; none changes anything."""

    def __init__(self, learner: Any, most: int) -> None:
        """most: records in a batch."""
        from autogluon.multimodal.data.utils import get_collate_fn

        self._reader = learner._df_preprocessor
        # The label's processor would look for a label.
        self._processors = {k: v for k, v in learner._data_processors.items() if k != "label"}
        self._collate = get_collate_fn(self._reader, self._processors, per_gpu_batch_size=most)
        self._scales = {name: self._scale(name) for name in self._reader.numerical_feature_names}
        self._codes = self._known_codes()

    def batch(self, frame: pd.DataFrame) -> dict[str, Any]:
        """frame: one record or more. As AutoGluon's `process_batch`."""
        from autogluon.multimodal.data.utils import apply_data_processor, get_per_sample_features

        features, types = {}, {}
        for kind in self._processors:
            features[kind], types[kind] = self._read(kind, frame)
        samples = [
            apply_data_processor(
                get_per_sample_features(features, types, place), self._processors, types,
                is_training=False,
            )
            for place in range(len(frame))
        ]  # fmt: skip
        tensors: dict[str, Any] = self._collate(samples)
        return tensors

    def _read(self, kind: str, frame: pd.DataFrame) -> tuple[dict[str, Any], dict[str, str] | None]:
        """A column to its values, and a column to its type where there are several."""
        if kind == "numerical":
            return {name: self._numbers(name, frame) for name in self._scales}, None
        if kind == "categorical":
            return {name: self._categories(name, frame) for name in self._codes}, None
        read: tuple[dict[str, Any], dict[str, str]] = getattr(self._reader, f"transform_{kind}")(
            frame
        )
        return read

    def _numbers(self, name: str, frame: pd.DataFrame) -> np.ndarray:
        filler, mean, deviation = self._scales[name]
        values = frame[name].to_numpy(dtype=np.float64)
        filled = np.where(np.isnan(values), filler, values)
        return ((filled - mean) / deviation).astype(np.float32)

    def _categories(self, name: str, frame: pd.DataFrame) -> np.ndarray:
        codes, unknown = self._codes[name]
        return np.array([codes.get(value, unknown) for value in frame[name]], dtype=np.int32)

    def _scale(self, name: str) -> tuple[float, float, float]:
        """What is put for a missing number, and the mean and deviation that become 0 and 1."""
        imputer, scaler = (step for _, step in self._reader._feature_generators[name].steps)
        mean = scaler.mean_[0] if scaler.with_mean else 0.0
        deviation = scaler.scale_[0] if scaler.with_std else 1.0
        return float(imputer.statistics_[0]), float(mean), float(deviation)

    def _known_codes(self) -> dict[str, tuple[dict[str, int], int]]:
        """Each category's number as AutoGluon gives it, and the one of all others."""
        numbers: dict[str, int] = self._reader.categorical_num_categories
        if not numbers:
            return {}
        generators = self._reader._feature_generators
        known = {name: list(generators[name].category_map[name]) for name in numbers}
        longest = max(map(len, known.values()))
        padded = {name: some + [None] * (longest - len(some)) for name, some in known.items()}
        asked, _ = self._reader.transform_categorical(pd.DataFrame(padded, dtype=object))
        return {
            name: (
                dict(zip(some, asked[name][: len(some)].tolist(), strict=True)),
                numbers[name] - 1,
            )
            for name, some in known.items()
        }
