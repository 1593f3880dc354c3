"""The code location: every dataset below `defs/`, with the resources that they share."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from mm_assets.contract.settings import Settings
from mm_assets.orchestration.workflow import load_definitions


@dg.definitions
def defs() -> dg.Definitions:
    """Load each `defs/<dataset>/defs.yaml` as a component; MM_DEFS names another folder."""
    settings = Settings.from_environment()
    settings.defs = settings.defs or Path(__file__).with_name("defs")
    return load_definitions(settings)
