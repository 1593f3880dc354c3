"""The code location of a project without a workspace.yaml: all that lies below its defs folder.

`mm dev` and `mm demo` serve it; a workspace.yaml of one's own names it as
`python_module: mm_assets.orchestration.code_location`.
"""

from __future__ import annotations

import dagster as dg

from mm_assets.contract.settings import Settings
from mm_assets.orchestration.workflow import load_definitions


@dg.definitions
def defs() -> dg.Definitions:
    """Load each `defs/<name>/defs.yaml` as a component."""
    return load_definitions(Settings.from_environment())
