"""The predictions table is made anew from the lake alone: with Dagster's history, and (nightly)
without.
"""

from __future__ import annotations

import os
import shutil
from typing import Any

import mm_assets as mm
from mm_assets.contract.settings import Settings
from tests.deploy.flow import DATASET, PETS, YAML, folder_of


def answers() -> list[dict[str, Any]]:
    """What the table says, but for which run said it and when."""
    rows = mm.open(DATASET).predictions.rows()
    return [{k: v for k, v in row.items() if k not in ("run_id", "predicted_at")} for row in rows]


def test_a_table_that_is_lost_comes_back_from_the_lake(folder_settings: Settings) -> None:
    file = folder_settings.root / "defs" / DATASET / "defs.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(YAML)
    pets = mm.open(DATASET)
    pets.upload(folder_of(folder_settings.root / "first"), quiet=True)
    pets.sync(quiet=True)
    pets.train(quiet=True)
    before = answers()
    assert len(before) == PETS

    folder_settings.table_path.unlink()
    assert answers() == []
    assert len(mm.open(DATASET).restore()) == 1
    mm.open(DATASET).sync(quiet=True)
    assert answers() == before

    if os.environ.get("MM_NIGHTLY") != "1":
        return
    folder_settings.table_path.unlink()
    shutil.rmtree(folder_settings.home)
    assert len(mm.open(DATASET).restore()) == 1
    mm.open(DATASET).sync(quiet=True)
    assert answers() == before
