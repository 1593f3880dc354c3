"""The resources of the code location: the lake, the table and the model store.

One resource reads one validated `Settings` (MM_LAKE, MM_TABLE, AWS_*) when a step starts.
"""

from __future__ import annotations

from typing import Any

from mm_assets.orchestration.component import resources

RESOURCES: dict[str, Any] = resources()
