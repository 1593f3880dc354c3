"""The assets `manifest`, `records_with_image` and `records_without_image`."""

import dagster as dg

from mm_assets.contract.dataset import Modality
from mm_assets.contract.ends import read_ended
from mm_assets.lake.layout import records_name
from mm_assets.orchestration.scope import (
    TABLE_POOL,
    LakeResource,
    Scope,
    numbers,
    shown_end,
    shown_left_out,
    shown_table,
    told,
)
from mm_assets.uploads.received import read_parquet


def build_assets(scope: Scope) -> list[dg.AssetsDefinition]:
    """`<dataset>/manifest` and the two `records_…`, one partition an upload."""

    @dg.asset(
        **scope.options(
            "manifest",
            partitioned=True,
            kinds={"parquet", "duckdb"},
            description="One row for each record that the upload touches, typed, with its newest "
            "image or none; rejects, duplicates and orphans beside it.",
        ),
        deps=[scope.key("raw_uploads")],
        pool=TABLE_POOL,
    )
    def manifest(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        from mm_assets.manifest.join import build_manifest

        document = build_manifest(
            lake.lake(), lake.table(), scope.spec, context.partition_key, run_id=context.run_id
        )
        metadata = shown_end(read_ended(document))
        rejects = read_parquet(lake.lake(), document, "rejects.parquet")
        if rejects.num_rows:
            metadata["rejects"] = shown_table(rejects, ["line", "code", "reason", "todo"])
        rows = read_parquet(lake.lake(), document, "manifest.parquet")
        if rows.num_rows:
            columns = ["record_id", "label", "row_line", "image_file"]
            metadata["first records"] = shown_table(rows.slice(0, 10), columns)
        metadata |= numbers(document["counts"]) | shown_left_out(read_ended(document))
        return dg.MaterializeResult(metadata=told(metadata))

    return [manifest, *(_records(scope, modality) for modality in scope.spec.modalities)]


def _records(scope: Scope, modality: Modality) -> dg.AssetsDefinition:
    words = "with an image that decodes" if modality is Modality.WITH_IMAGE else "without an image"

    @dg.asset(
        **scope.options(
            records_name(modality),
            partitioned=True,
            kinds={"parquet"},
            description=f"The manifest's records {words}: what model_{modality} will see.",
        ),
        deps=[scope.key("manifest")],
    )
    def records(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        from mm_assets.manifest.split import split_records

        document = split_records(lake.lake(), scope.spec, context.partition_key, modality)
        return dg.MaterializeResult(metadata=told(numbers(document["counts"])))

    return records
