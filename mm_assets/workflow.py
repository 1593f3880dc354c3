"""The name by which a workflow's YAML calls its component: `type: mm_assets.workflow.Workflow`."""

from mm_assets.orchestration.workflow import Workflow

__all__ = ["Workflow"]
