"""The assets `predictions_with_image`, `predictions_without_image` and `predictions`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from mm_assets.contract.dataset import Modality
from mm_assets.contract.ends import read_ended
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import predictions_name, records_name
from mm_assets.orchestration.assets.training import engine_kinds, model_name
from mm_assets.orchestration.scope import (
    TABLE_POOL,
    LakeResource,
    Log,
    OneOfSeveral,
    Scope,
    chart,
    numbers,
    shown_end,
    shown_left_out,
    shown_table,
    table_of,
    told,
)
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
from mm_assets.registry.store import Champion, ModelStore
from mm_assets.tables.store import Query
from mm_assets.uploads.received import read_parquet

if TYPE_CHECKING:
    import pyarrow as pa


def build_assets(scope: Scope) -> list[dg.AssetsDefinition]:
    """What each champion says of an upload, and the merged answer; one partition an upload."""

    @dg.asset(
        **scope.options(
            "predictions",
            partitioned=True,
            kinds={scope.table_kind},
            description="The upload's part of the predictions table: the current answer for every "
            "record, whatever came in which order.",
        ),
        deps=[scope.key(predictions_name(modality)) for modality in scope.spec.modalities],
        pool=TABLE_POOL,
    )
    def predictions(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        from mm_assets.predictions.merge import merge_predictions

        upload = context.partition_key
        _, document = merge_predictions(
            lake.lake(), lake.table(), scope.spec, upload, context.run_id
        )
        for reason in document["reasons"]:
            Log(context).warning(reason)
        ended = read_ended(document)
        metadata = shown_end(ended)
        metadata["reasons"] = "; ".join(document["reasons"]) or "none"
        if lake.settings().results:
            out = document["told"]
            metadata["events sent"] = out.sent
            if out.left:
                Log(context).warning(f"changes are not told yet, the sensor goes on: {out.reason}")
        least_sure = lake.table().read(scope.dataset, Query(upload=upload, limit=20))
        if least_sure.num_rows:
            metadata["least confident"] = _answers(least_sure)
        metadata |= numbers(document["counts"]) | shown_left_out(ended)
        return dg.MaterializeResult(metadata=told(metadata))

    return [*(_predictions(scope, modality) for modality in scope.spec.modalities), predictions]


def _answers(predictions: "pa.Table") -> dg.MetadataValue[Any]:
    """Predictions as the UI shows them: few columns, so that they fit."""
    return table_of(
        [
            {
                "record_id": row["record_id"],
                "prediction": _with_interval(row),
                "confidence": row["confidence"],
                "review": (row["doubts"] or "yes") if row["needs_review"] else "",
            }
            for row in predictions.to_pylist()
        ]
    )


def _with_interval(row: dict[str, Any]) -> str:
    if row["lower"] is None:
        return str(row["prediction"])
    return f"{float(row['prediction']):.4g} ({row['lower']:.4g} to {row['upper']:.4g})"


def _confidence_chart(scope: Scope, predictions: "pa.Table") -> dg.MetadataValue[Any] | None:
    from mm_assets.display.small_charts import confidence_bars, least_of

    confidence = predictions["confidence"].to_numpy()
    in_review = predictions["needs_review"].to_numpy()
    return chart(confidence_bars(confidence, in_review, least_of(scope.spec)))


def _champions_of(
    context: dg.AssetExecutionContext | OneOfSeveral, lake: Lake, models: ModelStore
) -> Mapping[Modality, Champion | None]:
    """The champions of this run; written into the run, so that all its steps use the same."""
    if isinstance(context, OneOfSeveral):
        return context.champions
    return pinned_champions(models, _pin_of(context, lake, models))


def _pin_of(context: dg.AssetExecutionContext, lake: Lake, models: ModelStore) -> Generations:
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
    kinds = {"parquet", *engine_kinds(scope, modality)}

    @dg.asset(
        **scope.options(
            predictions_name(modality),
            partitioned=True,
            kinds=kinds,
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
        from mm_assets.predictions.predict import predict_records

        models = lake.models(scope.dataset)
        document = predict_records(
            lake.lake(),
            models,
            scope.spec,
            context.partition_key,
            modality,
            champions=_champions_of(context, lake.lake(), models),
            run_id=context.run_id,
            progress=Log(context).info,
        )
        if document["reason"]:
            Log(context).warning(document["reason"])
        metadata: dict[str, Any] = {}
        offered = read_parquet(lake.lake(), document, f"{predictions_name(modality)}.parquet")
        if drawn := _confidence_chart(scope, offered):
            metadata["confidence"] = drawn
        metadata["model version"] = document["model_version"] or "none"
        if document["reason"]:
            metadata["waiting because"] = document["reason"]
        failed = read_parquet(lake.lake(), document, "failed.parquet")
        if failed.num_rows:
            metadata["failed"] = shown_table(failed, ["record_id", "code", "reason", "todo"])
        if offered.num_rows:
            metadata["first predictions"] = _answers(offered.slice(0, 10))
        metadata |= numbers(document["counts"])
        return dg.MaterializeResult(metadata=told(metadata))

    return model_predictions
