"""The assets `training_set`, `model_with_image` and `model_without_image`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from mm_assets.contract.dataset import Modality
from mm_assets.contract.ends import LeftOut
from mm_assets.contract.errors import ModelError
from mm_assets.orchestration.scope import (
    LEFT_OUT,
    STOPPED,
    TABLE_POOL,
    LakeResource,
    Log,
    Scope,
    chart,
    numbers,
    picture,
    shown_table,
    table_of,
    told,
)

if TYPE_CHECKING:
    from mm_assets.training.promised import Promised
    from mm_assets.training.train import TrainingResult

NOT_YET = {
    "too_few_records", "no_images", "one_class", "nothing_to_learn_from", "records_missing",
    "too_few_groups", "classes_differ", "metric_not_measurable", "training_stopped",
}  # fmt: skip
KINDS = {"autogluon": "pytorch", "gradient_boosting": "xgboost", "sklearn": "scikitlearn"}


class TrainingConfig(dg.Config):
    """What a run of the training may say, also in the launchpad."""

    minutes: float | None = Field(
        default=None,
        gt=0,
        description="Minutes for all models of the dataset together. Empty: what its YAML says "
        "(training_minutes).",
    )


def training_config(scope: Scope, minutes: float | None) -> dict[str, Any]:
    """The run config that gives a training so many minutes."""
    if minutes is None:
        return {}
    names = (scope.key(model_name(one)).to_python_identifier() for one in scope.spec.modalities)
    return {"ops": {name: {"config": {"minutes": minutes}} for name in names}}


def model_name(modality: Modality) -> str:
    return f"model_{modality.value}"


def engine_kinds(scope: Scope, modality: Modality) -> set[str]:
    """What the modality's models are made with, as the UI's icons have it."""
    return {KINDS.get(one.engine, "python") for one in scope.spec.candidates(modality)}


def build_assets(scope: Scope) -> list[dg.AssetsDefinition]:
    """`<dataset>/training_set` and the two models; not partitioned."""

    @dg.asset(
        **scope.options(
            "training_set",
            partitioned=False,
            kinds={"parquet"},
            description="Every labelled record of every upload with its newest row and image, "
            "split by a hash of the ID, or of the group that it stays with.",
        ),
        deps=[scope.key("manifest")],
        pool=TABLE_POOL,
    )
    def training_set(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        from mm_assets.training.training_set import build_training_set

        document = build_training_set(lake.lake(), lake.table(), scope.spec, run_id=context.run_id)
        if words := document["split"]["words"]:
            Log(context).info(words)
        labels = {f"label {name}": n for name, n in (document["labels"] or {}).items()}
        return dg.MaterializeResult(
            metadata=told({**numbers(document["counts"]), **labels, **_of_split(document)}),
            data_version=dg.DataVersion(document["fingerprint"][:16]),
        )

    return [training_set, *(_model(scope, modality) for modality in scope.spec.modalities)]


def _of_split(document: dict[str, Any]) -> dict[str, Any]:
    """What stayed together in the split, as metadata."""
    said = document["split"]
    counts = {f"records {name}": said[name] for name in ("grouped", "moved")}
    return (
        {"split": said["words"], **counts, "largest group": said["largest"]}
        if said["words"]
        else {}
    )


def _model(scope: Scope, modality: Modality) -> dg.AssetsDefinition:
    kinds = engine_kinds(scope, modality)

    @dg.asset(
        **scope.options(
            model_name(modality),
            partitioned=False,
            kinds=kinds,
            description="The champion for records "
            f"{modality.value.replace('_', ' ')}; materialised only when a newly trained model "
            "passes the gate.",
        ),
        deps=[scope.key("training_set")],
        output_required=False,
        # The model without images learns first: the other is told by how much images help.
        op_tags={"dagster/priority": "1" if modality is Modality.WITHOUT_IMAGE else "0"},
    )
    def model(
        context: dg.AssetExecutionContext, lake: LakeResource, config: TrainingConfig
    ) -> Iterator[dg.MaterializeResult[Any]]:
        from mm_assets.training.promised import promised
        from mm_assets.training.train import train_model

        try:
            result = train_model(
                lake.lake(),
                lake.models(scope.dataset),
                scope.spec,
                modality,
                run_id=context.run_id,
                progress=Log(context).info,
                tracking_uri=lake.settings().mlflow_tracking_uri,
                minutes=config.minutes,
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
        manifest = lake.models(scope.dataset).manifest(modality, result.version)
        metadata = _metadata(result, promised(scope.spec, manifest))
        metadata["report"] = _report(scope, modality, result.version)
        if result.champion is None:
            Log(context).warning(f"not promoted: {result.decision.reason}")
            context.log_event(
                dg.AssetObservation(asset_key=context.asset_key, metadata=told(metadata))
            )
            return
        yield dg.MaterializeResult(
            metadata=told({**metadata, "generation": result.champion.generation}),
            data_version=dg.DataVersion(result.version),
        )

    return model


def _metadata(result: "TrainingResult", promise: "Promised | None") -> dict[str, Any]:
    evaluation = result.evaluation
    metadata = {
        "version": result.version,
        "engine": result.engine,
        "promoted": result.champion is not None,
        "decision": result.decision.reason,
        **({"decides for": result.rule} if result.rule else {}),
        **(_of_review(promise) if promise else {}),
        **{name: picture(png, name) for name, png in result.pictures.items()},
    }
    if result.leaderboard.rows:
        metadata["members"] = table_of(result.leaderboard.table)
    if words := result.leaderboard.image_words:
        metadata["what the image adds"] = words
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
    if result.stopped:
        metadata[STOPPED] = "by Ctrl-C, with the best so far"
    if result.warnings:
        metadata["warnings"] = "; ".join(result.warnings)
    return metadata


def _of_review(promise: "Promised") -> dict[str, Any]:
    """What goes to review, what the rest reaches, and what any other share would."""
    shown: dict[str, Any] = {"promise": promise.words}
    if drawn := chart(_curve_chart(promise)):
        shown["accuracy without review"] = drawn
    if promise.remedy:
        shown["target CANNOT be promised"] = promise.remedy
    shown["promise in figures"] = table_of(promise.table())
    if promise.curve:
        rows = [dict(list(row.items())[:3]) for row in promise.curve_table()]
        shown["accuracy by share in review"] = table_of(rows)
    return shown


def _curve_chart(promise: "Promised") -> str:
    """What the rest reaches, the more goes to review."""
    from mm_assets.display.small_charts import share_line

    shares = [row["share"] for row in promise.curve]
    if len(shares) < 2:
        return ""
    reached = [row["accuracy"] for row in promise.curve]
    words = "How much of the rest is right, the more goes to review"
    return share_line(shares, reached, f"{shares[0]:.0%} in review", f"{shares[-1]:.0%}", words)


def _report(scope: Scope, modality: Modality, version: str) -> str:
    """The command that writes the page about this model."""
    return (
        f"mm models report --dataset {scope.dataset} --modality {modality.value} "
        f"--version {version} --output report.html"
    )


def _candidates_table(rows: list[dict[str, Any]]) -> dg.MetadataValue[Any]:
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
    return table_of([{name: row.get(name) for name in names} for row in flat])
