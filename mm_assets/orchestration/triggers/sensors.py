"""The sensors of a dataset: thin shells around what `decide.py` decides and `ledger.py` notes."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import dagster as dg

from mm_assets.contract.errors import MMError, UploadError
from mm_assets.display.cells import visible
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import MANIFEST, TRAINING_SET, of_dataset, of_upload
from mm_assets.orchestration.scope import LakeResource, Log, Scope
from mm_assets.orchestration.triggers.decide import (
    CHUNK,
    Step,
    Try,
    choose,
    is_through,
    next_step,
    next_together,
    next_wave,
    should_draw,
    should_train,
)
from mm_assets.orchestration.triggers.runs import (
    TRY,
    Known,
    began_at,
    end_dead_runs,
    failed_predictions,
    finished_of,
    finished_uploads,
    is_busy,
    is_finished,
    together_of,
    tries_of,
    tries_since_success,
    uploads_under_way,
    why_it_failed,
)
from mm_assets.registry.pins import CHAMPIONS, generations, pin_text
from mm_assets.uploads import ledger
from mm_assets.uploads.find import Waiting, find_uploads

SECONDS = 5  # between two ticks
LISTING_SECONDS = 600  # between two listings of the inbox where events tell what is new
FOLDERS = 200  # looked into in one tick, and new uploads noted in one


def build_sensors(scope: Scope, jobs: Sequence[Any]) -> list[dg.SensorDefinition]:
    """The sensors of one dataset, of `jobs`; they run by themselves once the daemon does."""
    return [
        _uploads_sensor(scope, jobs),
        _training_sensor(scope),
        _repredict_sensor(scope),
        _monitoring_sensor(scope),
    ]


@dataclass
class _Cursor:
    """Where the uploads sensor goes on. It only serves fairness and pace: losing it loses nothing.

    after: the pending upload that was looked at last; folder: the folder of the inbox; listed_at:
    when the inbox was listed, in seconds since 1970.
    """

    after: str = ""
    folder: str = ""
    listed_at: float = 0.0

    @classmethod
    def read(cls, text: str | None) -> "_Cursor":
        try:
            said = json.loads(text or "{}")
            return cls(str(said["after"]), str(said["folder"]), float(said["listed_at"]))
        except (ValueError, TypeError, KeyError):  # none yet, or of another version
            return cls()

    def is_due(self, pace: float) -> bool:
        """Whether the inbox is to be listed; also when a listing is half done, or clocks jumped."""
        return bool(self.folder) or not 0 <= time.time() - self.listed_at < pace


def _uploads_sensor(scope: Scope, jobs: Sequence[Any]) -> dg.SensorDefinition:
    targets = (f"{scope.dataset}_upload", f"{scope.dataset}_uploads")

    @dg.sensor(
        name=f"{scope.dataset}_uploads",
        jobs=[job for job in jobs if job.name in targets],
        minimum_interval_seconds=SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Sees finished uploads in the inbox and runs each through to predictions; "
        "small ones that wait together, in one run.",
    )
    def uploads(context: dg.SensorEvaluationContext, lake: LakeResource) -> dg.SensorResult:
        bytes_, cursor = lake.lake(), _Cursor.read(context.cursor)
        for run_id in end_dead_runs(context.instance):
            Log(context).warning(f"run {run_id} was ended: its process is gone")
        pending = ledger.pending_uploads(bytes_, scope.dataset)
        waiting: list[Waiting] = []
        if cursor.is_due(LISTING_SECONDS if lake.settings().events else 0):
            before = cursor.folder
            new, waiting, cursor.folder = note_new(
                bytes_, context.instance, scope, pending, before, at_most=FOLDERS
            )
            pending = sorted({*pending, *new})
            if cursor.folder <= before:
                cursor.folder = ""  # once round
            # A full share means that there may be more.
            cursor.listed_at = 0.0 if len(new) == FOLDERS else time.time()
        chosen, cursor.after = choose(pending, cursor.after)
        requests, words = _next_runs(context, bytes_, scope, chosen)
        keys = [request.partition_key for request in requests if request.partition_key]
        partitions = scope.partitions
        return dg.SensorResult(
            # The partition may be there from a tick that was cut off; the run key decides.
            dynamic_partitions_requests=[partitions.build_add_request(keys)] if keys else [],
            run_requests=requests,
            cursor=json.dumps(asdict(cursor)),
            skip_reason=None if requests else _why_none(words, waiting, scope),
        )

    return uploads


def note_new(
    lake: Lake,
    instance: dg.DagsterInstance,
    scope: Scope,
    pending: Sequence[str],
    after: str = "",
    at_most: int | None = None,
) -> tuple[list[str], list[Waiting], str]:
    """Look through the inbox and note what is new: at most so many folders, and so many uploads.

    Returns the uploads noted, the folders that are not finished, and where to go on next time.
    """
    noted = {*pending, *ledger.set_aside_uploads(lake, scope.dataset)}
    known = Known(noted, instance, scope)
    found = find_uploads(lake, scope.dataset, known, after=after, at_most=at_most)
    new = [source for source in found.finished if source.upload not in noted]
    done = finished_of(instance, scope, [source.upload for source in new])
    new = [source for source in new if source.upload not in done][:at_most]
    for source in new:
        ledger.note(lake, source)
    return [source.upload for source in new], found.waiting, found.after


def _next_runs(
    context: dg.SensorEvaluationContext, lake: Lake, scope: Scope, chosen: Sequence[str]
) -> tuple[list[dg.RunRequest], list[str]]:
    """The runs to request for pending uploads; and of those that need none now, why, in words."""
    instance, pause = context.instance, scope.spec.retry_pause_seconds
    requests, words = [], []
    small, step, run_key = take_together(instance, lake, scope, chosen, pause)
    if step.do == "run":
        job, tags = f"{scope.dataset}_uploads", {"dagster/max_retries": "0"}
        requests.append(dg.RunRequest(run_key=run_key, job_name=job, tags=tags))
    for upload in chosen:
        if upload in small and step.do != "set aside":
            words.append(f"{upload}: it is taken together with others. {step.reason}".strip())
            continue
        request: dg.RunRequest | str
        try:
            request = _next_run(instance, lake, scope, upload)
        except UploadError as error:
            Log(context).warning(str(error))
            request = error.what
        if isinstance(request, dg.RunRequest):
            requests.append(request)
        elif request:
            words.append(f"{upload}: {request}")
    return requests, words


def _next_run(
    instance: dg.DagsterInstance, lake: Lake, scope: Scope, upload: str
) -> dg.RunRequest | str:
    """The run to request for a pending upload, or why there is none now."""
    pending, step = take_step(instance, lake, scope, upload, scope.spec.retry_pause_seconds)
    if pending is None or step.do != "run":
        return step.reason
    return dg.RunRequest(
        run_key=f"{upload}-{pending.round}-{step.number}",
        job_name=f"{scope.dataset}_upload",
        partition_key=upload,
        tags=run_tags(pending, step.number),
    )


def take_together(
    instance: dg.DagsterInstance, lake: Lake, scope: Scope, uploads: Sequence[str], pause: float
) -> tuple[set[str], Step, str]:
    """Those of pending uploads that one run can take together, what is to be done about them, and
    the key of the run, if there is to be one: the one before it stands in it.

    Where images are fetched from other machines, each upload goes by itself: some may be slow. So
    do those that a run of several had in its hands when it died: any of them may have killed it.
    """
    if not uploads or scope.spec.allow_urls:
        return set(), Step("set aside"), ""
    together = together_of(instance, scope)
    killers = set(together.in_hands).intersection(uploads)
    ledger.leave_alone(lake, scope.dataset, sorted(killers))
    noted = ledger.read_many_pending(lake, scope.dataset, uploads)
    small = {one.source.upload for one in noted if one.is_small}
    step = next_together(len(small), together.tries, time.time(), scope.spec.upload_tries, pause)
    return small, step, f"together-after-{together.newest or 'none'}"


def take_step(
    instance: dg.DagsterInstance, lake: Lake, scope: Scope, upload: str, pause: float
) -> tuple[ledger.Pending | None, Step]:
    """What comes next for a pending upload; settling and setting aside are done here.

    No note is returned when nothing is left to do. `pause`: seconds after the first failed try.
    """
    pending = ledger.read_pending(lake, scope.dataset, upload)
    if pending is None:
        return None, Step("wait")
    tries = tries_of(instance, scope, upload, pending.round)
    if is_through_now(instance, scope, pending, tries):
        ledger.settle(lake, scope.dataset, upload)
        return None, Step("wait")
    step = next_step(tries, time.time(), scope.spec.upload_tries, pause)
    if step.do == "run" and pending.is_small:
        ledger.leave_alone(lake, scope.dataset, [upload])  # no run of several takes it as well
    if step.do != "set aside":
        return pending, step
    run_id = [one.run_id for one in tries if one.counts][-1]
    reason = step.reason or why_it_failed(instance, run_id)
    ledger.set_aside(lake, pending, reason, step.number, run_id)
    return None, replace(step, reason=f"set aside: {reason}")


def is_through_now(
    instance: dg.DagsterInstance, scope: Scope, pending: ledger.Pending, tries: Sequence[Try]
) -> bool:
    """Whether the upload has its predictions; if a person asked for it again, then since that."""
    if not is_finished(instance, scope, pending.source.upload):
        return False
    return not pending.round or any(t.counts and t.state == "succeeded" for t in tries)


def run_tags(pending: ledger.Pending, number: int) -> dict[str, str]:
    """The tags of an upload's n-th try. Dagster's own retries stay out of it: one place decides."""
    letters = (c if c.isascii() and (c.isalnum() or c in "-_.") else "_"
               for c in pending.source.name)  # fmt: skip
    return {
        "mm/upload_name": "".join(letters)[:63],
        TRY: f"{pending.round}-{number}",
        "dagster/max_retries": "0",
        **({"mm/message": pending.source.message} if pending.source.message else {}),
    }


def _why_none(words: Sequence[str], waiting: Sequence[Waiting], scope: Scope) -> dg.SkipReason:
    unfinished = [f"{w.name}: {w.reason}" for w in waiting]
    said = f"No upload of {scope.dataset} needs a run now."
    for title, lines in (("Under way", words), ("Not finished", unfinished)):
        if lines:
            more = f"; and {len(lines) - 5} more" if len(lines) > 5 else ""
            said += f" {title}: {'; '.join(lines[:5])}{more}."
    return dg.SkipReason(visible(said, keep="\n"))


def has_something_to_predict(lake: Lake, dataset: str, upload: str) -> bool:
    """Whether the upload touched records without a label, or had rows refused, which another
    wording of the YAML may take; one small read."""
    document = lake.read_json(of_upload(dataset, upload, MANIFEST))
    counts = document["counts"] if document else {}
    return document is None or counts["to_predict"] + counts["rejected"] > 0


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
    ) -> dg.SensorResult | dg.SkipReason:
        job = f"{scope.dataset}_train"
        tries = tries_since_success(context.instance, job)
        step = next_step(tries, time.time(), spec.upload_tries, spec.retry_pause_seconds)
        if tries and step.do == "wait":
            return dg.SkipReason(f"The last training is not through: {step.reason}")
        if tries and step.do == "run":  # it was cut off: it is carried on, whatever came since
            again = _training_run(f"{tries[-1].run_id}-again", "the last one failed")
            return dg.SensorResult(run_requests=[again])
        # Counting labels means asking the table: only when something may have changed them.
        latest = context.instance.get_latest_materialization_event(scope.key("manifest"))
        document = lake.lake().read_json(of_dataset(scope.dataset, TRAINING_SET))
        trained_on = document["labelled"] if document else None
        seen = f"{latest.timestamp if latest else 0}/{trained_on}"
        if seen == context.cursor:
            return dg.SkipReason("No upload was joined since the labelled records were counted.")
        try:
            labelled = lake.table(patience=2.0).count_labelled(scope.dataset)
        except MMError as error:
            return dg.SkipReason(visible(f"The table could not be read now: {error.what}"))
        train, why = should_train(
            labelled, trained_on, spec.minimum_training_records, spec.retrain_growth
        )
        return dg.SensorResult(
            run_requests=[_training_run(f"train-{labelled}", why)] if train else [],
            skip_reason=None if train else dg.SkipReason(why),
            cursor=seen,
        )

    return training


def _training_run(key: str, why: str) -> dg.RunRequest:
    return dg.RunRequest(run_key=key, tags={"mm/why": why, "dagster/max_retries": "0"})


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
        if is_busy(context.instance, f"{scope.dataset}_train"):
            return dg.SkipReason("A training is under way; its promotions are handled together.")
        models = lake.models(scope.dataset)
        wanted = pin_text(generations(models))
        reason = dg.SkipReason(f"Every upload was predicted by the champions {wanted}.")
        if wanted == "0-0":
            return dg.SkipReason("There is no champion yet.")
        requests = list(_again(context.instance, scope, wanted))
        if requests or is_through(context.cursor, wanted):
            return dg.SensorResult(
                run_requests=requests,
                cursor=context.cursor,
                skip_reason=None if requests else reason,
            )
        under_way = uploads_under_way(context.instance, scope, wanted)
        finished = finished_uploads(context.instance, scope)
        chosen, cursor = next_wave(context.cursor, wanted, finished, under_way)
        requests = [
            _predict_run(upload, wanted, 1)
            for upload in chosen
            if has_something_to_predict(lake.lake(), scope.dataset, upload)
        ]
        return dg.SensorResult(
            run_requests=requests, cursor=cursor, skip_reason=None if requests else reason
        )

    return repredict


def _predict_run(upload: str, champions: str, number: int) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=f"{upload}-champions-{champions}-{number}",
        partition_key=upload,
        tags={CHAMPIONS: champions, "dagster/max_retries": "0"},
    )


def _again(instance: dg.DagsterInstance, scope: Scope, champions: str) -> Iterator[dg.RunRequest]:
    """Predictions by the present champions that failed, to be tried again."""
    spec = scope.spec
    for upload, tries in failed_predictions(instance, scope, champions, CHUNK).items():
        step = next_step(tries, time.time(), spec.upload_tries, spec.retry_pause_seconds)
        if step.do == "run":
            yield _predict_run(upload, champions, step.number)


def _monitoring_sensor(scope: Scope) -> dg.SensorDefinition:
    # Not an automation condition: one that looks at "updated since" loses predictions that come
    # between two ticks in which the pictures are drawn, too.
    @dg.sensor(
        name=f"{scope.dataset}_monitoring",
        job_name=f"{scope.dataset}_monitor",
        minimum_interval_seconds=2 * SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Draws the monitoring pictures again after new predictions.",
    )
    def monitoring(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        instance = context.instance
        if is_busy(instance, f"{scope.dataset}_monitor"):
            return dg.SkipReason("The pictures are being drawn.")
        merged = instance.get_latest_materialization_event(scope.key("predictions"))
        is_predicting = any(
            is_busy(instance, f"{scope.dataset}_{j}") for j in ("upload", "uploads", "predict")
        )
        draw, why = should_draw(
            merged.timestamp if merged else None,
            began_at(instance, scope.key("monitoring")),
            is_predicting,
            time.time(),
        )
        if not draw or merged is None:
            return dg.SkipReason(why)
        return dg.RunRequest(run_key=f"drawn-after-{merged.timestamp:.6f}")

    return monitoring
