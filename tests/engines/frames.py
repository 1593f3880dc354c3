"""What the tests of the engines share: small frames to learn from, and how they are learnt."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mm_assets.contract.errors import ModelError
from mm_assets.engines.protocol import Engine, Task
from tests.make import plain_image

COLUMNS = {"price": "number", "brand": "category", "title": "text"}
KINDS = ("red", "blue", "green")


def records(count: int, seed: int = 0, kinds: int = 2) -> pd.DataFrame:
    """Every feature tells something of the label; every value is missing somewhere.

    Of the columns beside COLUMNS, `label` is a class (k0, k1, …), and `amount` is a number.
    """
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        kind = number % kinds
        price = draw.gauss(10 * kind, 3)
        brand = f"brand {kind}" if draw.random() < 0.8 else f"rare {number}"
        rows.append(
            {
                "price": np.nan if number % 11 == 3 else price,
                "brand": None if number % 13 == 4 else brand,
                "title": None if number % 7 == 5 else f"{KINDS[kind]} thing {draw.choice('ab')}",
                "label": f"k{kind}",
                "amount": 100.0 * kind + price,
            }
        )
    return pd.DataFrame(rows, index=[f"r{n}" for n in range(count)])


def imaged(frame: pd.DataFrame, *, every_fifth_without: bool = False) -> pd.DataFrame:
    """The records with a column `image` whose colour tells the class; sizes vary."""
    images = [
        None if every_fifth_without and n % 5 == 2
        else plain_image((40 + 80 * int(label[1:]), 90, 90), 20 + n % 30, 27 + n % 30)
        for n, label in enumerate(frame["label"])
    ]  # fmt: skip
    return frame.assign(image=pd.Series(images, index=frame.index, dtype=object))


def task_of(
    frame: pd.DataFrame,
    *,
    columns: Mapping[str, str] = COLUMNS,
    label: str = "label",
    problem_type: str = "binary",
) -> Task:
    """The first four fifths of the records to train on, the others to tune on."""
    kept, cut = frame[[*columns, label]], len(frame) * 4 // 5
    return Task(kept.iloc[:cut], kept.iloc[cut:], dict(columns), label, problem_type)


def learn(
    engine: Engine, folder: Path, frame: pd.DataFrame, said: list[str] | None = None, **task: Any
) -> Path:
    """Train the engine on the task that `task_of` makes; the folder with the model."""
    engine.train(task_of(frame, **task), folder, (said if said is not None else []).append)
    return folder


def refused(action: Callable[[], Any]) -> ModelError:
    """The error with which the action ends, and which says what to do."""
    with pytest.raises(ModelError) as caught:
        action()
    assert caught.value.todo
    return caught.value


def imports(module: str, *heavy: str) -> list[str]:
    """Which of the heavy packages a fresh process has once it has imported the module."""
    look = f"import sys, {module}; print(*[name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    return done.stdout.split()
