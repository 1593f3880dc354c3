"""Answers of one loaded model to many threads at once, beside those to one."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd

THREADS = 8


def assert_same_for_threads(model: Any, frame: pd.DataFrame, *, within: float = 1e-9) -> None:
    """Each thread asks for the frame, or for one record of it, as all the others do as well."""
    pieces = [frame, *(frame.iloc[[n]] for n in range(min(len(frame), THREADS - 1)))]
    alone = [model.predict(piece) for piece in pieces]
    together = threading.Barrier(THREADS)

    def ask(turn: int) -> list[pd.DataFrame]:
        together.wait()
        return [model.predict(pieces[(turn + step) % len(pieces)]) for step in range(len(pieces))]

    with ThreadPoolExecutor(THREADS) as pool:
        said = list(pool.map(ask, range(THREADS)))
    for turn, answers in enumerate(said):
        for step, answer in enumerate(answers):
            expected = alone[(turn + step) % len(pieces)]
            pd.testing.assert_index_equal(answer.index, expected.index)
            largest = max(1.0, float(np.abs(expected.to_numpy()).max()))
            np.testing.assert_allclose(answer, expected, rtol=0, atol=within * largest)
