"""What many threads are told that ask one model at once, beside what one is told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd

THREADS = 8


def told(ask: Callable[[pd.DataFrame], Any], frame: pd.DataFrame) -> Iterator[tuple[Any, Any]]:
    """What each of many threads is told of the frame and of single records, and what one is."""
    pieces = [frame, *(frame.iloc[[n]] for n in range(min(len(frame), THREADS - 1)))]
    alone = [ask(piece) for piece in pieces]
    all_there = threading.Barrier(THREADS)

    def several(turn: int) -> list[Any]:
        all_there.wait()
        return [ask(pieces[(turn + step) % len(pieces)]) for step in range(len(pieces))]

    with ThreadPoolExecutor(THREADS) as pool:
        for turn, answers in enumerate(pool.map(several, range(THREADS))):
            for step, answer in enumerate(answers):
                yield answer, alone[(turn + step) % len(pieces)]


def assert_same_for_threads(model: Any, frame: pd.DataFrame, *, within: float = 1e-9) -> None:
    for answer, expected in told(model.predict, frame):
        pd.testing.assert_index_equal(answer.index, expected.index)
        largest = max(1.0, float(np.abs(expected.to_numpy()).max()))
        np.testing.assert_allclose(answer, expected, rtol=0, atol=within * largest)
