"""The sensors of the queues, for all datasets together: what comes in, what is still to be told.

They request no runs: what comes in is noted, and the uploads sensors request runs for that.
"""

from collections.abc import Iterator, Sequence, Set

import dagster as dg

from mm_assets.contract.errors import MMError
from mm_assets.contract.settings import Settings
from mm_assets.display.cells import visible
from mm_assets.orchestration.scope import LakeResource, Log
from mm_assets.orchestration.triggers.runs import is_over
from mm_assets.orchestration.triggers.sensors import SECONDS


def build_queue_sensors(settings: Settings, datasets: Set[str]) -> Iterator[dg.SensorDefinition]:
    """`s3_events`, `work` and `results`, each where the settings name its queue."""
    if settings.events:
        words = "Notes the uploads that S3 event notifications in the queue tell of."
        yield _reading("s3_events", words, datasets, "events")
    if settings.work and not settings.reads_one_queue:
        words = "Notes the uploads that messages name, and those that it makes of records."
        yield _reading("work", words, datasets, "work")
    if settings.results:
        yield _results_sensor(sorted(datasets))


def _reading(name: str, words: str, datasets: Set[str], which: str) -> dg.SensorDefinition:
    @dg.sensor(
        name=name,
        minimum_interval_seconds=SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=words,
    )
    def reading(context: dg.SensorEvaluationContext, lake: LakeResource) -> dg.SkipReason:
        from mm_assets.orchestration.triggers.events import events_queue, pump, work_queue

        open_queue = events_queue if which == "events" else work_queue
        pumped = pump(lake.lake(), open_queue(lake.settings()), datasets)
        for reason in pumped.left:
            Log(context).warning(f"left in the queue: {reason}")
        return dg.SkipReason(
            f"{pumped.done} messages told of {len(pumped.noted)} finished uploads; "
            f"{len(pumped.left)} could not be handled."
        )

    return reading


def _results_sensor(datasets: Sequence[str]) -> dg.SensorDefinition:
    @dg.sensor(
        name="results",
        minimum_interval_seconds=2 * SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells subscribers what runs that were cut off did not tell them any more.",
    )
    def results(context: dg.SensorEvaluationContext, lake: LakeResource) -> dg.SkipReason:
        from mm_assets.predictions.outbox import finish

        words = []
        for dataset in datasets:
            try:
                told = finish(
                    lake.lake(),
                    lake.table(patience=2.0),
                    dataset,
                    lambda run_id: is_over(context.instance, run_id),
                )
            except MMError as error:
                words.append(f"{dataset}: [{error.code}] {error.what}")
                continue
            if told.left:
                words.append(f"{dataset}: {told.left} notes are left: {told.reason}")
                Log(context).warning(words[-1])
            elif told.sent:
                words.append(f"{dataset}: {told.sent} events were sent late")
        return dg.SkipReason(visible("; ".join(words) or "Everything was told."))

    return results
