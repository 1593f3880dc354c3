"""The asset `monitoring`."""

import dagster as dg

from mm_assets.orchestration.scope import (
    TABLE_POOL,
    LakeResource,
    Log,
    Scope,
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
        return dg.MaterializeResult(metadata=told({**shown, **numbers(figures)}))

    return [monitoring]
