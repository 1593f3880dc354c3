"""The code location: every dataset below `defs/`, with the resources that they share."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from dagster_project.resources import RESOURCES
from mm_assets.orchestration.component import shared_sensors


@dg.definitions
def defs() -> dg.Definitions:
    """Load each `defs/<dataset>/defs.yaml` as a component."""
    folder = dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
    # One process a run: AutoGluon takes longer to import than most uploads take to predict.
    shared = dg.Definitions(
        resources=RESOURCES, executor=dg.in_process_executor, sensors=shared_sensors()
    )
    return dg.Definitions.merge(folder, shared)
