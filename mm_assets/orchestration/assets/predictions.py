"""The assets `predictions_with_image`, `predictions_without_image` and `predictions`."""

import dagster as dg

from mm_assets.contract.dataset import Modality
from mm_assets.contract.ends import read_ended
from mm_assets.lake.lake import Lake
from mm_assets.manifest.join import records_name
from mm_assets.orchestration.assets.training import model_name
from mm_assets.orchestration.scope import (
    TABLE_POOL,
    LakeResource,
    Log,
    OneOfSeveral,
    Scope,
    numbers,
    shown_end,
    shown_table,
    told,
)
from mm_assets.predictions.merge import merge_predictions
from mm_assets.predictions.predict import predict_records, predictions_name
from mm_assets.registry.pins import (
    CHAMPIONS,
    PINNED_BY,
    Generations,
    generations,
    parse_pin,
    pin_of_backfill,
    pin_text,
    pinned_champions,
)
from mm_assets.registry.store import ModelStore
from mm_assets.tables.store import Query
from mm_assets.uploads.received import read_parquet


def build_assets(scope: Scope) -> list[dg.AssetsDefinition]:
    """What each champion says of an upload, and the merged answer; one partition an upload."""

    @dg.asset(
        **scope.options(
            "predictions",
            partitioned=True,
            kinds={"duckdb"},
            description="The upload's part of the predictions table: the current answer for every "
            "record, whatever came in which order.",
        ),
        deps=[scope.key(predictions_name(modality)) for modality in scope.spec.modalities],
        pool=TABLE_POOL,
    )
    def predictions(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        upload = context.partition_key
        _, document = merge_predictions(
            lake.lake(), lake.table(), scope.spec, upload, context.run_id
        )
        for reason in document["reasons"]:
            Log(context).warning(reason)
        metadata = numbers(document["counts"]) | shown_end(read_ended(document))
        metadata["reasons"] = "; ".join(document["reasons"]) or "none"
        if lake.settings().results:
            out = document["told"]
            metadata["events sent"] = out.sent
            if out.left:
                Log(context).warning(f"changes are not told yet, the sensor goes on: {out.reason}")
        least_sure = lake.table().read(scope.dataset, Query(upload=upload, limit=20))
        if least_sure.num_rows:
            metadata["least confident"] = shown_table(least_sure, _told_of(scope, "modality"))
        return dg.MaterializeResult(metadata=told(metadata))

    return [*(_predictions(scope, modality) for modality in scope.spec.modalities), predictions]


def _told_of(scope: Scope, *more: str) -> list[str]:
    """The columns of predictions that the UI shows; only numbers have an interval."""
    interval = ["lower", "upper"] if scope.spec.is_regression else []
    columns = ["record_id", "prediction", *interval, "confidence", "needs_review", "doubts"]
    return [*columns, *more]


def _pin_of(
    context: dg.AssetExecutionContext | OneOfSeveral, lake: Lake, models: ModelStore
) -> Generations:
    """The champions of this run; written into the run, so that all its steps use the same."""
    if isinstance(context, OneOfSeveral):
        return dict(context.champions)
    run = context.instance.get_run_by_id(context.run_id)
    tags = run.tags if run else {}
    is_own = not (run and run.parent_run_id) or tags.get(PINNED_BY) == context.run_id
    if CHAMPIONS in tags and is_own:
        return parse_pin(tags[CHAMPIONS])
    backfill = tags.get("dagster/backfill")
    pinned = pin_of_backfill(lake, models, backfill) if backfill else generations(models)
    noted = {CHAMPIONS: pin_text(pinned), PINNED_BY: context.run_id}
    context.instance.add_run_tags(context.run_id, noted)
    return pinned


def _predictions(scope: Scope, modality: Modality) -> dg.AssetsDefinition:
    @dg.asset(
        **scope.options(
            predictions_name(modality),
            partitioned=True,
            kinds={"parquet", "pytorch"},
            description=f"What the champion for records {modality.value.replace('_', ' ')} says; "
            "records without a champion wait.",
        ),
        deps=[
            *(
                scope.key(records_name(needed))
                for needed in scope.spec.modalities
                if needed is modality or modality is Modality.WITHOUT_IMAGE
            ),
            scope.key(model_name(modality)),
        ],
    )
    def model_predictions(
        context: dg.AssetExecutionContext, lake: LakeResource
    ) -> dg.MaterializeResult:
        models = lake.models(scope.dataset)
        document = predict_records(
            lake.lake(),
            models,
            scope.spec,
            context.partition_key,
            modality,
            champions=pinned_champions(models, _pin_of(context, lake.lake(), models)),
            run_id=context.run_id,
            progress=Log(context).info,
        )
        if document["reason"]:
            Log(context).warning(document["reason"])
        metadata = numbers(document["counts"])
        metadata["model version"] = document["model_version"] or "none"
        if document["reason"]:
            metadata["waiting because"] = document["reason"]
        failed = read_parquet(lake.lake(), document, "failed.parquet")
        if failed.num_rows:
            metadata["failed"] = shown_table(failed, ["record_id", "code", "reason", "todo"])
        offered = read_parquet(lake.lake(), document, f"{predictions_name(modality)}.parquet")
        if offered.num_rows:
            metadata["first predictions"] = shown_table(offered.slice(0, 10), _told_of(scope))
        return dg.MaterializeResult(metadata=told(metadata))

    return model_predictions
