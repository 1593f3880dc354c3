"""The name by which a dataset's YAML calls its component: `mm_assets.pipeline.DatasetPipeline`."""

from mm_assets.orchestration.component import DatasetPipeline

__all__ = ["DatasetPipeline"]
