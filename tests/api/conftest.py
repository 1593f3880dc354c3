"""A project whose dataset was drafted from a frame, with both champions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

import mm_assets as mm

ENGINE = "{engine: gradient_boosting}"


class World(NamedTuple):
    """known: records with their label; new: without. images: of both, by ID, None without one."""

    ds: mm.Dataset
    known: pd.DataFrame
    new: pd.DataFrame
    images: dict[str, Any]


def pets(count: int, seed: int = 0) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Light pets are adopted if the image shows it; without an image the age tells."""
    chance = np.random.default_rng(seed)
    light = chance.integers(0, 2, count)
    frame = pd.DataFrame(
        {
            "age": np.where(light, chance.uniform(0, 6, count), chance.uniform(4, 12, count)),
            "colour": chance.choice(["red", "blue"], count),
            "note": chance.choice(["loud", 'quiet, "shy"\nand small'], count),
            "adopted": np.where(light, "yes", "no"),
        },
        index=pd.Index([f"P{i:03d}" for i in range(count)], name="pet"),
    )
    shades = (40 + 160 * light + chance.integers(-20, 20, count)).astype("uint8")
    has_image = chance.random(count) > 0.3
    images = {
        name: np.full((24, 30, 3), shade) if there else None
        for name, shade, there in zip(frame.index, shades, has_image, strict=True)
    }
    return frame, images


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("api-project")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MM_LAKE", "MM_TABLE", "MM_DEFS", "MM_EVENTS", "DAGSTER_HOME"):
            patch.delenv(name, raising=False)
        patch.setenv("MM_ROOT", str(root))
        yield root


@pytest.fixture(scope="session")
def trained(project: Path) -> World:
    """Drafted, uploaded, trained and promoted, all from a notebook's data."""
    frame, images = pets(260)
    known, new = frame.iloc[:200], frame.iloc[200:].drop(columns="adopted")
    ds = mm.draft(known, images, label="adopted", name="pets", say=lambda _: None)
    text = re.sub(r"(model_with\w*_image): .*", rf"\1: {ENGINE}", ds.file.read_text())
    ds.file.write_text(f"{text}\n  image_features: [brightness]\n")
    ds = mm.open("pets")
    ds.upload(known, {name: images[name] for name in known.index}, quiet=True)
    ds.sync(quiet=True)
    ds.train(quiet=True)
    return World(ds, known, new, images)


@pytest.fixture
def world(trained: World, project: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """The trained project, with the environment pointing at it."""
    monkeypatch.setenv("MM_ROOT", str(project))
    return trained
