"""What Dagster knows of runs: which are under way, which failed and why, which died unnoticed."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Collection, Container, Sequence, Set
from dataclasses import dataclass
from typing import Literal

import dagster as dg
from dagster._core.storage.tags import GRPC_INFO_TAG

from mm_assets.contract.errors import MMError
from mm_assets.lake.lake import Lake
from mm_assets.orchestration.scope import WORKER, Scope, group_of, worker_name
from mm_assets.orchestration.triggers.decide import Try
from mm_assets.registry.pins import CHAMPIONS
from mm_assets.uploads import ledger

TRY = "mm/try"
PARTITION = "dagster/partition"
IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING,
]  # fmt: skip
BEGUN = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
LAUNCH_SECONDS = 300.0  # between making a run and launching it, if the daemon lives
ASKED_TOGETHER = 500  # uploads in one query
_STATES: dict[dg.DagsterRunStatus, Literal["running", "succeeded", "failed", "canceled"]] = {
    dg.DagsterRunStatus.SUCCESS: "succeeded",
    dg.DagsterRunStatus.FAILURE: "failed",
    dg.DagsterRunStatus.CANCELED: "canceled",
}


@dataclass(frozen=True, slots=True)
class Together:
    """The runs of small uploads since one succeeded, oldest first; not those that were killed.

    in_hands: the uploads that the killed ones had in their hands; newest: the newest run of all,
    or ''.
    """

    tries: list[Try]
    in_hands: list[str]
    newest: str


def finished_uploads(instance: dg.DagsterInstance, scope: Scope) -> Set[str]:
    """All uploads that went through to predictions at least once. Costs more the more there are."""
    return instance.get_materialized_partitions(scope.key("predictions"))


def finished_of(instance: dg.DagsterInstance, scope: Scope, uploads: Collection[str]) -> Set[str]:
    """Those of `uploads` that are finished; costs the same however many there are besides."""
    finished: set[str] = set()
    asked = sorted(uploads)
    for start in range(0, len(asked), ASKED_TOGETHER):
        finished |= instance.get_latest_storage_id_by_partition(
            scope.key("predictions"),
            dg.DagsterEventType.ASSET_MATERIALIZATION,
            set(asked[start : start + ASKED_TOGETHER]),
        ).keys()
    return finished


def is_finished(instance: dg.DagsterInstance, scope: Scope, upload: str) -> bool:
    """Whether one upload is."""
    return bool(finished_of(instance, scope, [upload]))


class Known(Container[str]):
    """The uploads that were noted, and those that are finished; it is only asked.

    Dagster is asked for one upload at a time, so that all of them are never loaded.
    """

    def __init__(self, noted: Set[str], instance: dg.DagsterInstance, scope: Scope) -> None:
        self.noted, self.instance, self.scope = noted, instance, scope

    def __contains__(self, upload: object) -> bool:
        return upload in self.noted or is_finished(self.instance, self.scope, str(upload))


def tries_of(
    instance: dg.DagsterInstance,
    scope: Scope,
    upload: str,
    round: int,  # noqa: A002  the word for it
) -> list[Try]:
    """The runs of an upload that is not through, oldest first; those of this round count.

    A run that a person made from another one carries its tags, but does not count.
    """
    records = instance.get_run_records(
        dg.RunsFilter(job_name=f"{scope.dataset}_upload", tags={PARTITION: upload}),
        ascending=True,
    )
    mine = f"{round}-"
    return _tries(records, lambda run: run.tags.get(TRY, "").startswith(mine))


def tries_since_success(instance: dg.DagsterInstance, job: str) -> list[Try]:
    """The newest runs of a job, oldest first, back to the last one that succeeded."""
    newest = instance.get_run_records(dg.RunsFilter(job_name=job), limit=20)
    since: list[Try] = []
    for one in reversed(_tries(newest[::-1], lambda _: True)):
        if one.state == "succeeded":
            break
        since.insert(0, one)
    return since


def failed_predictions(
    instance: dg.DagsterInstance, scope: Scope, champions: str, at_most: int
) -> dict[str, list[Try]]:
    """Uploads whose prediction by these champions failed and did not succeed since: their tries.

    Costs more the more runs failed, not the more there are. Those with the fewest tries come
    first, so that none starves behind ones that always fail.
    """
    job, tags = f"{scope.dataset}_predict", {CHAMPIONS: champions}
    failed = dg.RunsFilter(job_name=job, tags=tags, statuses=[dg.DagsterRunStatus.FAILURE])
    uploads = sorted(
        {r.dagster_run.tags.get(PARTITION, "") for r in instance.get_run_records(failed)}
    )
    records: dict[str, list[dg.RunRecord]] = {}
    for start in range(0, len(uploads), ASKED_TOGETHER):
        some = uploads[start : start + ASKED_TOGETHER]
        own = dg.RunsFilter(job_name=job, tags={**tags, PARTITION: some})
        for record in instance.get_run_records(own, ascending=True):
            records.setdefault(record.dagster_run.tags[PARTITION], []).append(record)
    tries = {upload: _tries(every, lambda _: True) for upload, every in records.items()}
    in_vain = [u for u, every in tries.items() if all(t.state != "succeeded" for t in every)]
    in_vain.sort(key=lambda upload: (len(tries[upload]), upload))
    return {upload: tries[upload] for upload in in_vain[:at_most]}


def together_of(instance: dg.DagsterInstance, scope: Scope) -> Together:
    """How the newest runs of small uploads went, back to the last that succeeded."""
    job = f"{scope.dataset}_uploads"
    newest = instance.get_run_records(dg.RunsFilter(job_name=job), limit=20)
    in_hands = {one.dagster_run.run_id: group_of(one.dagster_run.tags) for one in newest}
    tries = _tries(newest[::-1], lambda run: not in_hands[run.run_id])
    since: list[Try] = []
    for one in reversed(tries):
        if one.state == "succeeded":
            break
        since.insert(0, one)
    died = [one.run_id for one in since if one.state != "running"]
    return Together(
        tries=[one for one in since if one.counts or one.state == "running"],
        in_hands=[upload for run_id in died for upload in in_hands[run_id]],
        newest=tries[-1].run_id if tries else "",
    )


def _tries(records: Sequence[dg.RunRecord], counts: Callable[[dg.DagsterRun], bool]) -> list[Try]:
    tries = []
    for record in records:
        run, changed = record.dagster_run, record.update_timestamp.timestamp()
        if run.status is dg.DagsterRunStatus.NOT_STARTED and time.time() - changed > LAUNCH_SECONDS:
            continue  # the daemon died before it launched it; the same run key launches it
        ended, is_ours = record.end_time or changed, counts(run) and run.parent_run_id is None
        tries.append(Try(run.run_id, _STATES.get(run.status, "running"), ended, is_ours))
    return tries


def retry_all(instance: dg.DagsterInstance, scope: Scope, lake: Lake) -> list[str]:
    """Make pending again what was set aside, and what the lake knows but Dagster never finished.

    The latter is everything, when Dagster's instance was lost. Returns the uploads.
    """
    dataset = scope.dataset
    pending = set(ledger.pending_uploads(lake, dataset))
    unfinished = set(ledger.known_uploads(lake, dataset)) - finished_uploads(instance, scope)
    again = sorted((unfinished - pending) | set(ledger.set_aside_uploads(lake, dataset)))
    for upload in again:
        ledger.retry(lake, dataset, upload)
    return again


def is_busy(instance: dg.DagsterInstance, job: str) -> bool:
    """Whether a run of the job is under way."""
    runs = instance.get_run_records(dg.RunsFilter(job_name=job, statuses=IN_PROGRESS), limit=1)
    return bool(runs)


def is_over(instance: dg.DagsterInstance, run_id: str) -> bool | None:
    """Whether a run has ended; None if Dagster does not know it."""
    if not run_id:
        return True
    run = instance.get_run_by_id(run_id)
    return run.is_finished if run is not None else None


def began_at(instance: dg.DagsterInstance, asset: dg.AssetKey) -> float | None:
    """When the run began that materialised an asset last, in seconds since 1970; None for never."""
    event = instance.get_latest_materialization_event(asset)
    if event is None:
        return None
    record = instance.get_run_record_by_id(event.run_id) if event.run_id else None
    started = record.start_time if record is not None else None
    return started if started is not None else event.timestamp


def uploads_under_way(instance: dg.DagsterInstance, scope: Scope, champions: str) -> set[str]:
    """Uploads with a run that may predict with other champions than these.

    A run notes its champions when it comes to predict; one that has not begun takes the newest.
    """
    name, begun = scope.partitions.name or "", set()
    for record in instance.get_run_records(dg.RunsFilter(statuses=BEGUN)):
        tags = record.dagster_run.tags
        if tags.get(CHAMPIONS) != champions:
            begun.update(group_of(tags))
            begun.update({tags[PARTITION]} if PARTITION in tags else ())
    return {upload for upload in begun if instance.has_dynamic_partition(name, upload)}


def why_it_failed(instance: dg.DagsterInstance, run_id: str) -> str:
    """The first thing that broke in a run, in its own words and without a traceback."""
    failures = instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    for entry in failures:
        event = entry.get_dagster_event()
        if event.step_failure_data.error is not None:
            return words_of(event.step_failure_data.error)
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.RUN_FAILURE):
        message = entry.get_dagster_event().message
        if message:
            return f"the run ended without a word of its own: {message}"
    return "the run ended without a reason; its process may have been killed"


def words_of(error: object) -> str:
    """What an error of a step says to a person: our own errors as they are, others with a name.

    One of ours is said whatever a library said before it; else the first cause of all.
    """
    known = {kind.__name__ for kind in MMError.__subclasses__()}
    name, message = _named(error)
    if name in ("DagsterExecutionInterruptedError", "KeyboardInterrupt"):
        return "it was interrupted; run the same command again"
    while name not in known and getattr(error, "cause", None) is not None:
        error = error.cause  # type: ignore[attr-defined]
        name, message = _named(error)
    return message if name in known else f"{name}: {message}".removesuffix(": ")


def _named(error: object) -> tuple[str, str]:
    """The name of an error's class, and what it says."""
    kind, _, message = str(error.message).strip().partition(": ")  # type: ignore[attr-defined]
    return kind.rpartition(".")[2], message.strip()


def end_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """End runs whose worker process on this machine is gone, and free what they held.

    Dagster itself notices this only if the code server lived on; otherwise a run would stay
    "started" until its maximum run time is over. Returns the IDs of the runs that it ended.
    """
    ended = []
    launched = [dg.DagsterRunStatus.STARTING, *BEGUN]
    for record in instance.get_run_records(dg.RunsFilter(statuses=launched)):
        worker = _worker_of(instance, record.dagster_run)
        host, _, process = worker.partition("/")
        if host != socket.gethostname() or is_alive(process):
            continue
        # It may have ended well since it was listed: a run says so before its process goes.
        run = instance.get_run_by_id(record.dagster_run.run_id)
        if run is None or run.status not in launched or _worker_of(instance, run) != worker:
            continue
        message = f"its process {process.partition('/')[0]} is gone"
        if run.status is dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, message)
        else:
            instance.report_run_failed(run, message)
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        ended.append(run.run_id)
    return ended


def _worker_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """The process of a run, `host/pid/moment`: what it wrote into the run, or what Dagster did.

    A run that repeats another one still has the other's tag until its own process is up. Empty
    where nothing is known, or the code server is on another machine.
    """
    worker = run.tags.get(WORKER, "")
    parent = instance.get_run_by_id(run.parent_run_id) if run.parent_run_id else None
    if worker and (parent is None or parent.tags.get(WORKER) != worker):
        return worker
    server = json.loads(run.tags.get(GRPC_INFO_TAG, "{}"))
    if server.get("host") not in ("localhost", "127.0.0.1", socket.gethostname()):
        return ""
    for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        pid = entry.get_dagster_event().engine_event_data.metadata.get("pid")
        if pid is not None:
            return f"{socket.gethostname()}/{pid.value}/{entry.timestamp:.0f}"
    return ""


def is_alive(process: str) -> bool:
    """Whether the process that was there as `pid/moment` still lives on this machine."""
    pid, _, moment = process.partition("/")
    try:
        start = worker_name(int(pid)).rpartition("/")[2]
        # One that started later is a namesake. The clock may have been set by a second or two.
        return bool(start) and float(start) <= float(moment) + 2
    except ValueError:
        return True  # no tag of ours: nothing is known about it


def run_counts(instance: dg.DagsterInstance, job: str) -> tuple[int, int]:
    """How many runs of a job succeeded, and how many failed."""
    statuses = [r.dagster_run.status for r in instance.get_run_records(dg.RunsFilter(job_name=job))]
    return (
        statuses.count(dg.DagsterRunStatus.SUCCESS),
        statuses.count(dg.DagsterRunStatus.FAILURE),
    )


def is_monitoring_fresh(instance: dg.DagsterInstance, dataset: str) -> bool:
    """Whether the pictures were drawn after the newest predictions were merged."""
    merged, drawn = (
        instance.get_latest_materialization_event(dg.AssetKey([dataset, name]))
        for name in ("predictions", "monitoring")
    )
    return bool(drawn and merged and drawn.timestamp > merged.timestamp)
