"""The asset `monitoring`."""

from typing import Any

import dagster as dg

from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import of_dataset
from mm_assets.orchestration.scope import (
    TABLE_POOL,
    LakeResource,
    Log,
    Scope,
    chart,
    numbers,
    picture,
    told,
)


def build_assets(scope: Scope) -> list[dg.AssetsDefinition]:
    """`<dataset>/monitoring`: the pictures, refreshed after predictions."""

    @dg.asset(
        **scope.options(
            "monitoring",
            partitioned=False,
            kinds={"matplotlib"},
            description="Confidence, classes, images, drift and accuracy over time, as pictures.",
        ),
        deps=[dg.AssetDep(scope.key("predictions"), partition_mapping=dg.AllPartitionMapping())],
        pool=TABLE_POOL,
    )
    def monitoring(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        from mm_assets.monitoring.report import build_monitoring

        folder = lake.settings().monitoring_folder / scope.dataset
        pictures, figures = build_monitoring(lake.lake(), lake.table(), scope.spec, folder)
        Log(context).info(f"{len(pictures)} pictures are in {folder}")
        shown = {name.replace("_", " "): picture(png, name) for name, png in pictures.items()}
        return dg.MaterializeResult(
            metadata=told(
                {
                    **_at_once(lake.lake(), scope),
                    **numbers(figures),
                    **shown,
                }
            )
        )

    return [monitoring]


def _at_once(lake: Lake, scope: Scope) -> dict[str, Any]:
    """What can be seen without a click."""
    from mm_assets.display.small_charts import count_bars
    from mm_assets.monitoring.report import MONITORING

    counted = (lake.read_json(of_dataset(scope.dataset, MONITORING)) or {})["confidences"]
    if not sum(counted["passed"]) + sum(counted["in_review"]):
        return {}
    drawn = count_bars(counted["passed"], counted["in_review"], counted["least"])
    return {"confidence of all": chart(drawn)}
