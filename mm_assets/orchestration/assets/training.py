"""The assets `training_set`, `model_with_image` and `model_without_image`."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from mm_assets.contract.dataset import Modality
from mm_assets.contract.ends import LeftOut
from mm_assets.contract.errors import ModelError
from mm_assets.orchestration.scope import (
    LEFT_OUT,
    TABLE_POOL,
    LakeResource,
    Log,
    Scope,
    numbers,
    picture,
    shown_table,
    told,
)
from mm_assets.training.train import TrainingResult, train_model
from mm_assets.training.training_set import build_training_set

NOT_YET = {
    "too_few_records", "no_images", "one_class", "nothing_to_learn_from", "records_missing",
    "classes_differ", "metric_not_measurable",
}  # fmt: skip
KINDS = {"autogluon": "pytorch", "gradient_boosting": "xgboost", "sklearn": "scikitlearn"}


def model_name(modality: Modality) -> str:
    return f"model_{modality.value}"


def build_assets(scope: Scope) -> list[dg.AssetsDefinition]:
    """`<dataset>/training_set` and the two models; not partitioned."""

    @dg.asset(
        **scope.options("training_set", partitioned=False, kinds={"parquet"}),
        deps=[scope.key("manifest")],
        pool=TABLE_POOL,
        description="Every labelled record of every upload with its newest row and image, split "
        "by a hash of the ID.",
    )
    def training_set(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        document = build_training_set(lake.lake(), lake.table(), scope.spec, run_id=context.run_id)
        labels = {f"label {name}": n for name, n in (document["labels"] or {}).items()}
        return dg.MaterializeResult(
            metadata=told({**numbers(document["counts"]), **labels}),
            data_version=dg.DataVersion(document["fingerprint"][:16]),
        )

    return [training_set, *(_model(scope, modality) for modality in scope.spec.modalities)]


def _model(scope: Scope, modality: Modality) -> dg.AssetsDefinition:
    kinds = {KINDS.get(one.engine, "python") for one in scope.spec.candidates(modality)}

    @dg.asset(
        **scope.options(model_name(modality), partitioned=False, kinds=kinds),
        deps=[scope.key("training_set")],
        output_required=False,
        description="The champion for records "
        f"{modality.value.replace('_', ' ')}; materialised only when a newly trained model "
        "passes the gate.",
    )
    def model(
        context: dg.AssetExecutionContext, lake: LakeResource
    ) -> Iterator[dg.MaterializeResult[Any]]:
        try:
            result = train_model(
                lake.lake(),
                lake.models(scope.dataset),
                scope.spec,
                modality,
                run_id=context.run_id,
                progress=Log(context).info,
                tracking_uri=lake.settings().mlflow_tracking_uri,
            )
        except ModelError as error:
            if error.code not in NOT_YET:
                raise
            # said at the end of the run, from this observation
            Log(context).info(str(error))
            left = LeftOut(error.code, "model", 1, (modality.value,), error.what, error.todo)
            metadata: dict[str, Any] = {"not trained": str(error)}
            metadata[LEFT_OUT] = dg.MetadataValue.json(left.as_dict())
            context.log_event(
                dg.AssetObservation(asset_key=context.asset_key, metadata=told(metadata))
            )
            return
        for words in result.warnings:
            Log(context).warning(words)
        if result.champion is None:
            Log(context).warning(f"not promoted: {result.decision.reason}")
            context.log_event(
                dg.AssetObservation(asset_key=context.asset_key, metadata=told(_metadata(result)))
            )
            return
        yield dg.MaterializeResult(
            metadata=told({**_metadata(result), "generation": result.champion.generation}),
            data_version=dg.DataVersion(result.version),
        )

    return model


def _metadata(result: TrainingResult) -> dict[str, Any]:
    evaluation = result.evaluation
    metadata = {
        "version": result.version,
        "engine": result.engine,
        "promoted": result.champion is not None,
        "decision": result.decision.reason,
        **({"decides for": result.rule} if result.rule else {}),
        **{name: picture(png, name) for name, png in result.pictures.items()},
    }
    if len(result.candidates) > 1:
        metadata["candidates table"] = _candidates_table(result.candidates)
    metadata |= {
        "held-out records": evaluation.n,
        **{f"held-out {name}": value for name, value in numbers(evaluation.metrics).items()},
        **{f"baseline {name}": value for name, value in numbers(evaluation.baseline).items()},
        **{f"{name} records": n for name, n in result.counts.items() if name != "holdout"},
    }
    for name, tuning in result.tunings.items():
        metadata[f"trials ({name})"] = shown_table(tuning.trials, tuning.trials.column_names)
        metadata[f"tuned ({name})"] = dg.MetadataValue.json(tuning.to_json())
    if result.tracked:
        metadata["tracked in MLflow"] = result.tracked
    if result.warnings:
        metadata["warnings"] = "; ".join(result.warnings)
    return metadata


def _candidates_table(rows: list[dict[str, Any]]) -> dg.MetadataValue[Any]:
    import pyarrow as pa

    flat = [
        {
            "engine": row["name"],
            "seconds": row["seconds"],
            **row["metrics"],
            "failure": row["failure"],
        }
        for row in rows
    ]
    names = list(dict.fromkeys(name for row in flat for name in row))
    names = [*(name for name in names if name != "failure"), "failure"]
    table = pa.table({name: [row.get(name) for row in flat] for name in names})
    return shown_table(table, names)
