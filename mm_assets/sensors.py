"""When things run: what the sensors decide, as plain functions, and the thin sensors around them.

Every decision can be repeated: run keys make Dagster launch each run once, and what is still to do
is found by comparing what is there with what is done, never by remembering what was seen. The
cursor only serves fairness: it says where to go on, so that nothing starves behind a full chunk.
"""

import json
from collections.abc import Iterable, Sequence, Set
from datetime import datetime

import dagster as dg

from mm_assets.dataset import Modality
from mm_assets.errors import MMError
from mm_assets.lake import Lake
from mm_assets.layout import of_dataset, of_upload
from mm_assets.manifest.join import MANIFEST
from mm_assets.models.training import TRAINING_SET
from mm_assets.scope import LakeResource, Scope
from mm_assets.uploads.find import Waiting, find_uploads, register

CHUNK = 50  # run requests in one tick
SECONDS = 5  # between two ticks
IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING,
]  # fmt: skip


def choose(pending: Sequence[str], after: str | None, chunk: int = CHUNK) -> tuple[list[str], str]:
    """The next `chunk` of pending keys behind `after`, going round; and the new `after`.

    pending: sorted. Going round is what keeps keys from starving behind ones that never end.
    """
    behind = [key for key in pending if key > (after or "")]
    before = [key for key in pending if key <= (after or "")]
    chosen = [*behind, *before][:chunk]
    return chosen, chosen[-1] if chosen else (after or "")


def should_train(
    labelled: int, trained_on: int | None, minimum: int, growth: float
) -> tuple[bool, str]:
    """Whether the number of labelled records calls for a training, and why (not)."""
    if labelled < minimum:
        return False, f"{labelled} labelled records; {minimum} are needed for a training"
    if trained_on is None:
        return True, f"{labelled} labelled records and no training yet"
    needed = trained_on * (1 + growth)
    if labelled >= needed and labelled > trained_on:
        return True, f"labelled records grew from {trained_on} to {labelled}"
    return False, f"{labelled} labelled records; the next training comes at {needed:.0f}"


def next_wave(
    cursor: str | None, wanted: str, finished: Set[str], known: Iterable[str], chunk: int = CHUNK
) -> tuple[list[str], str]:
    """The next uploads to predict again with the champions `wanted`, and the new cursor.

    known: uploads that were under way when the champions changed. They may have been predicted by
    the old ones, so they are remembered as `late` and taken once they are finished.
    """
    state = json.loads(cursor or "{}")
    if state.get("champions") != wanted:
        begun = set(known) | finished
        state = {"champions": wanted, "after": "", "until": max(begun, default=""),
                 "late": sorted(begun - finished)}  # fmt: skip
    late, until = set(state["late"]), state["until"]
    swept = sorted(u for u in finished if state["after"] < u <= until and u not in late)[:chunk]
    caught = sorted(late & finished)[: chunk - len(swept)]
    # Less than a chunk: the sweep is through, and whatever else finishes began after it.
    state["after"] = swept[-1] if len(swept) == chunk else until
    state["late"] = sorted(late - set(caught))
    return [*swept, *caught], json.dumps(state)


def build_sensors(scope: Scope) -> list[dg.SensorDefinition]:
    """The sensors of one dataset; they run by themselves once the daemon does."""
    return [_uploads_sensor(scope), _training_sensor(scope), _repredict_sensor(scope)]


def _uploads_sensor(scope: Scope) -> dg.SensorDefinition:
    @dg.sensor(
        name=f"{scope.dataset}_uploads",
        job_name=f"{scope.dataset}_upload",
        minimum_interval_seconds=SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Sees finished uploads in the inbox and runs each through to predictions.",
    )
    def uploads(context: dg.SensorEvaluationContext, lake: LakeResource) -> dg.SensorResult:
        done = finished_uploads(context.instance, scope)
        found = find_uploads(lake.lake(), scope.dataset, done)
        sources = {s.upload: s for s in found.finished if s.upload not in done}
        chosen, cursor = choose(sorted(sources), context.cursor)
        for upload in chosen:
            register(lake.lake(), sources[upload])
        partitions = scope.partitions
        return dg.SensorResult(
            # The partition may be there from a tick that was cut off; the run key decides.
            dynamic_partitions_requests=[partitions.build_add_request(chosen)] if chosen else [],
            run_requests=[
                dg.RunRequest(
                    run_key=upload, partition_key=upload, tags=_tags(sources[upload].name)
                )
                for upload in chosen
            ],
            cursor=cursor,
            skip_reason=None if chosen else _why_none(found.waiting, scope),
        )

    return uploads


def _tags(name: str) -> dict[str, str]:
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in name)
    return {"mm/upload_name": safe[:63]}


def _why_none(waiting: Sequence[Waiting], scope: Scope) -> dg.SkipReason:
    words = [f"{w.name}: {w.reason}" for w in waiting[:5]]
    more = f" Not finished: {'; '.join(words)}" if words else ""
    return dg.SkipReason(f"No new upload in inbox/{scope.dataset}/.{more}")


def finished_uploads(instance: dg.DagsterInstance, scope: Scope) -> Set[str]:
    """The uploads that went through to predictions at least once."""
    return instance.get_materialized_partitions(scope.key("predictions"))


def uploads_under_way(instance: dg.DagsterInstance, scope: Scope, since: str) -> set[str]:
    """Uploads with an unfinished run that was requested before the moment `since` (ISO)."""
    known = set(instance.get_dynamic_partitions(scope.partitions.name or ""))
    moment = datetime.fromisoformat(since).timestamp()
    runs = instance.get_run_records(dg.RunsFilter(statuses=IN_PROGRESS))
    before = [run for run in runs if run.create_timestamp.timestamp() < moment]
    return known & {run.dagster_run.tags.get("dagster/partition", "") for run in before}


def has_something_to_predict(lake: Lake, dataset: str, upload: str) -> bool:
    """Whether the upload touched records without a label; one small read."""
    document = lake.read_json(of_upload(dataset, upload, MANIFEST))
    return document is None or document["counts"]["to_predict"] > 0


def _busy(instance: dg.DagsterInstance, job: str) -> bool:
    runs = instance.get_run_records(dg.RunsFilter(job_name=job, statuses=IN_PROGRESS), limit=1)
    return bool(runs)


def _training_sensor(scope: Scope) -> dg.SensorDefinition:
    spec = scope.spec

    @dg.sensor(
        name=f"{scope.dataset}_training",
        job_name=f"{scope.dataset}_train",
        minimum_interval_seconds=SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Requests a training when enough labelled records came in.",
    )
    def training(
        context: dg.SensorEvaluationContext, lake: LakeResource
    ) -> dg.RunRequest | dg.SkipReason:
        if _busy(context.instance, f"{scope.dataset}_train"):
            return dg.SkipReason("A training is under way.")
        try:
            labelled = lake.table(patience=2.0).count_labelled(scope.dataset)
        except MMError as error:
            return dg.SkipReason(f"The table could not be read now: {error.what}")
        document = lake.lake().read_json(of_dataset(scope.dataset, TRAINING_SET))
        trained_on = document["labelled"] if document else None
        train, why = should_train(
            labelled, trained_on, spec.minimum_training_records, spec.retrain_growth
        )
        if not train:
            return dg.SkipReason(why)
        return dg.RunRequest(run_key=f"train-{labelled}", tags={"mm/why": "growth"})

    return training


def _repredict_sensor(scope: Scope) -> dg.SensorDefinition:
    @dg.sensor(
        name=f"{scope.dataset}_repredict",
        job_name=f"{scope.dataset}_predict",
        minimum_interval_seconds=SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="A newly promoted model predicts every upload again.",
    )
    def repredict(
        context: dg.SensorEvaluationContext, lake: LakeResource
    ) -> dg.SensorResult | dg.SkipReason:
        if _busy(context.instance, f"{scope.dataset}_train"):
            return dg.SkipReason("A training is under way; its promotions are handled together.")
        champions = {m: lake.models(scope.dataset).champion(m) for m in Modality}
        wanted = "-".join(str(c.generation if c else 0) for c in champions.values())
        if wanted == "0-0":
            return dg.SkipReason("There is no champion yet.")
        finished = finished_uploads(context.instance, scope)
        promoted = max(c.promoted_at for c in champions.values() if c)
        under_way = uploads_under_way(context.instance, scope, promoted)
        chosen, cursor = next_wave(context.cursor, wanted, finished, under_way)
        requests = [
            dg.RunRequest(run_key=f"{upload}-champions-{wanted}", partition_key=upload)
            for upload in chosen
            if has_something_to_predict(lake.lake(), scope.dataset, upload)
        ]
        reason = dg.SkipReason(f"Every upload was predicted by the champions {wanted}.")
        return dg.SensorResult(
            run_requests=requests, cursor=cursor, skip_reason=None if requests else reason
        )

    return repredict
