"""The sensors on a real Dagster instance, over a folder and over S3: whatever is cut off, lost,
repeated or poisoned, every upload is taken through, once, and none holds another back.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from mm_assets.api.models import rollback
from mm_assets.contract.dataset import Modality
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import inbox, of_upload, pending_prefix
from mm_assets.orchestration.scope import WORKER, worker_name
from mm_assets.orchestration.triggers import runs, sensors
from mm_assets.orchestration.triggers.runs import CHAMPIONS, PARTITION
from mm_assets.registry.store import ModelStore
from mm_assets.uploads import ledger
from tests.laws.champion import ENGINE, save
from tests.make import drop_folder, drop_zip, table
from tests.orchestration.daemon import Daemon, counted, fill, forget

DaemonOf = Callable[..., Daemon]


def drop(daemon: Daemon, name: str, row: int = 0) -> None:
    drop_zip(daemon.lake, name, {"t.csv": table("id,age", f"{row},1")}, daemon.scope.dataset)


def names(daemon: Daemon, uploads: list[str]) -> list[str]:
    read = (ledger.read_pending(daemon.lake, daemon.scope.dataset, u) for u in uploads)
    sources = (daemon.lake.read_json(of_upload(daemon.scope.dataset, u, "source")) for u in uploads)
    return [p.source.name if p else s["name"] for p, s in zip(read, sources, strict=True)]


def pending(daemon: Daemon) -> list[str]:
    return ledger.pending_uploads(daemon.lake, daemon.scope.dataset)


# -- what arrives ---------------------------------------------------------------------------------


def test_uploads_of_the_same_second_are_all_taken_once(daemon: Daemon) -> None:
    for number in range(5):
        drop(daemon, f"{number}.zip", number)
    if not daemon.lake.settings.is_s3:
        for file in (daemon.lake.settings.lake_folder / inbox(daemon.scope.dataset)).iterdir():
            os.utime(file, (1.8e9, 1.8e9))
    taken = daemon.take_all()
    assert sorted(names(daemon, taken)) == [f"{n}.zip" for n in range(5)]
    assert pending(daemon) == []


@pytest.mark.parametrize("moment", [0.0, 1e9, 4.1e9])
def test_a_wrong_clock_at_the_sender_hides_no_upload(folder_daemon: Daemon, moment: float) -> None:
    drop(folder_daemon, "now.zip")
    assert len(folder_daemon.take_all()) == 1
    drop(folder_daemon, "then.zip")
    folder = folder_daemon.lake.settings.lake_folder / inbox(folder_daemon.scope.dataset)
    os.utime(folder / "then.zip", (moment, moment))
    assert names(folder_daemon, folder_daemon.take_all()) == ["then.zip"]


def test_what_is_overwritten_is_an_upload_of_its_own(daemon: Daemon) -> None:
    drop(daemon, "a.zip", 1)
    [first] = daemon.tick()
    drop(daemon, "a.zip", 2)
    [second] = daemon.tick()
    assert first.tags[PARTITION] != second.tags[PARTITION]
    for run in (first, second):
        daemon.end(run)
    assert daemon.tick() == []
    assert pending(daemon) == []


def test_what_is_deleted_before_its_run_is_still_taken_through(daemon: Daemon) -> None:
    drop(daemon, "a.zip")
    daemon.evaluate("uploads")
    daemon.lake.delete(f"{inbox(daemon.scope.dataset)}a.zip")
    assert names(daemon, daemon.take_all()) == ["a.zip"]  # its run says that it is gone
    assert pending(daemon) == []


def test_what_is_deleted_before_it_is_seen_is_nothing(daemon: Daemon) -> None:
    drop(daemon, "a.zip")
    daemon.lake.delete(f"{inbox(daemon.scope.dataset)}a.zip")
    assert daemon.take_all() == []


# -- what is cut off ------------------------------------------------------------------------------


def test_a_crash_before_the_run_requests_were_stored_loses_nothing(daemon: Daemon) -> None:
    drop(daemon, "a.zip")
    cut_off = daemon.evaluate("uploads")
    daemon.add_partitions(cut_off)
    [again] = daemon.evaluate("uploads").run_requests
    assert again.run_key == cut_off.run_requests[0].run_key
    assert len(daemon.take_all()) == 1


def test_a_crash_before_the_cursor_was_stored_runs_nothing_twice(daemon: Daemon) -> None:
    drop(daemon, "a.zip")
    cut_off = daemon.evaluate("uploads")
    run = daemon.launch(cut_off.run_requests[0])
    assert run is not None
    assert daemon.tick() == []
    daemon.end(run)
    assert daemon.tick() == []
    assert pending(daemon) == []


def test_a_run_that_was_made_but_never_launched_is_requested_again(
    folder_daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(folder_daemon, "a.zip")
    [request] = folder_daemon.evaluate("uploads").run_requests
    tags = {**request.tags, PARTITION: request.partition_key}
    folder_daemon.run("upload", tags, dg.DagsterRunStatus.NOT_STARTED)
    assert folder_daemon.evaluate("uploads").run_requests == []
    monkeypatch.setattr(runs, "LAUNCH_SECONDS", -1.0)
    [again] = folder_daemon.evaluate("uploads").run_requests
    assert again.run_key == request.run_key  # Dagster launches the run that is there


@pytest.mark.parametrize(
    "cursor",
    [None, "", "{", "[]", "5", "20261121-101530123-1f0c9a2b3c", '{"after": null}',
     '{"after": 5, "folder": [], "listed_at": null}',
     '{"after": "zzz", "folder": "zzz", "listed_at": 9e99}', '{"champions": "1-1"}'],
)  # fmt: skip
def test_a_cursor_that_is_lost_or_of_another_version_loses_nothing(
    folder_daemon: Daemon, cursor: str | None
) -> None:
    drop(folder_daemon, "a.zip")
    drop_folder(folder_daemon.lake, "b", {"t.csv": b"id\n1\n"}, folder_daemon.scope.dataset)
    folder_daemon.cursors["uploads"] = cursor
    folder_daemon.cursors["repredict"] = cursor
    assert sorted(names(folder_daemon, folder_daemon.take_all())) == ["a.zip", "b"]
    folder_daemon.evaluate("repredict")


def test_losing_dagsters_instance_is_made_good_by_retrying_all(folder_daemon: Daemon) -> None:
    dataset = folder_daemon.scope.dataset
    drop(folder_daemon, "a.zip")
    [upload] = folder_daemon.take_all()
    folder_daemon.lake.delete(f"{inbox(dataset)}a.zip")  # moved out when it was received
    with dg.instance_for_test() as fresh:
        folder_daemon.instance = fresh
        assert folder_daemon.take_all() == []
        assert runs.retry_all(fresh, folder_daemon.scope, folder_daemon.lake) == [upload]
        assert runs.retry_all(fresh, folder_daemon.scope, folder_daemon.lake) == []
        assert folder_daemon.take_all() == [upload]
        assert runs.retry_all(fresh, folder_daemon.scope, folder_daemon.lake) == []


# -- what never works -----------------------------------------------------------------------------


def fail_until_set_aside(daemon: Daemon, name: str, most: int = 30) -> int:
    """Every run of this upload fails, all others succeed; how often it was tried."""
    tried = 0
    for _ in range(most):
        for run in daemon.tick():
            is_poison = names(daemon, [run.tags[PARTITION]]) == [name]
            tried += is_poison
            daemon.end(run, "failed" if is_poison else "succeeded")
        if ledger.set_aside_uploads(daemon.lake, daemon.scope.dataset):
            break
    return tried


def test_an_upload_that_always_fails_is_set_aside_and_holds_no_other_back(
    daemon_of: DaemonOf, lake: Lake
) -> None:
    daemon = daemon_of(lake, upload_tries=3)
    dataset = daemon.scope.dataset
    for number in range(4):
        drop(daemon, f"{number}.zip", number)
    assert fail_until_set_aside(daemon, "1.zip") == 3
    assert pending(daemon) == []
    [aside] = ledger.set_aside_uploads(lake, dataset)
    said = ledger.read_set_aside(lake, dataset, aside)
    assert said is not None
    assert (said["name"], said["tries"]) == ("1.zip", 3)
    assert "it broke" in said["reason"]
    assert daemon.take_all() == []  # it stays in the inbox, and stays set aside
    ledger.retry(lake, dataset, aside)
    assert daemon.take_all() == [aside]
    assert ledger.set_aside_uploads(lake, dataset) == pending(daemon) == []


def test_an_upload_can_be_retried_again_and_again(folder_daemon: Daemon) -> None:
    drop(folder_daemon, "a.zip")
    [upload] = folder_daemon.take_all()
    for _ in range(3):
        ledger.retry(folder_daemon.lake, folder_daemon.scope.dataset, upload)
        assert folder_daemon.take_all() == [upload]
        assert folder_daemon.take_all() == []


def test_between_two_tries_there_is_a_pause_in_which_others_go_on(
    daemon_of: DaemonOf, folder_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = daemon_of(Lake(folder_settings), retry_pause_seconds=60)
    drop(daemon, "a.zip", 1)
    [run] = daemon.tick()
    daemon.end(run, "failed")
    drop(daemon, "b.zip", 2)
    assert names(daemon, [run.tags[PARTITION] for run in daemon.tick()]) == ["b.zip"]
    assert "try 1 of 5 failed; the next is in" in daemon.evaluate("uploads").skip_message
    now = time.time()
    monkeypatch.setattr(sensors.time, "time", lambda: now + 61)
    assert len(daemon.tick()) == 1


def test_an_upload_that_kills_its_process_is_set_aside_too(
    daemon_of: DaemonOf, folder_settings: Settings
) -> None:
    daemon = daemon_of(Lake(folder_settings), upload_tries=2)
    drop(daemon, "a.zip")
    for _ in range(2):
        [run] = daemon.tick()
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
            daemon.instance.add_run_tags(run.run_id, {WORKER: worker_name(process.pid)})
            started = dg.DagsterEvent(dg.DagsterEventType.PIPELINE_START.value, run.job_name)
            daemon.instance.report_dagster_event(started, run.run_id)
            assert daemon.tick() == []
            process.kill()
    assert daemon.tick() == []
    [aside] = ledger.set_aside_uploads(daemon.lake, daemon.scope.dataset)
    said = ledger.read_set_aside(daemon.lake, daemon.scope.dataset, aside)
    assert said is not None
    assert "is gone" in said["reason"]


def test_an_upload_whose_run_a_person_canceled_is_set_aside(folder_daemon: Daemon) -> None:
    drop(folder_daemon, "a.zip")
    [run] = folder_daemon.tick()
    folder_daemon.end(run, "canceled")
    assert folder_daemon.tick() == []
    [aside] = ledger.set_aside_uploads(folder_daemon.lake, folder_daemon.scope.dataset)
    said = ledger.read_set_aside(folder_daemon.lake, folder_daemon.scope.dataset, aside)
    assert said is not None
    assert said["reason"] == "its run was canceled"


def test_a_note_that_cannot_be_read_holds_no_other_back(folder_daemon: Daemon) -> None:
    dataset = folder_daemon.scope.dataset
    folder_daemon.lake.write(f"{pending_prefix(dataset)}0.json", b"{")
    folder_daemon.lake.write(f"{pending_prefix(dataset)}1.json", b'{"source": {}, "round": 0}')
    drop(folder_daemon, "a.zip")
    assert names(folder_daemon, folder_daemon.take_all()) == ["a.zip"]


# -- how much it costs ----------------------------------------------------------------------------


def test_one_new_upload_among_6000_files_costs_a_few_requests(
    daemon_of: DaemonOf, s3_settings: Settings, s3_client: Any
) -> None:
    daemon = daemon_of(Lake(s3_settings, s3_client))
    for number in range(3):
        kept = json.dumps({"files": [], "number": number}).encode()
        fill(s3_settings, f"{inbox(daemon.scope.dataset)}kept-{number}", 1000, kept)
        fill(s3_settings, f"{inbox(daemon.scope.dataset)}unfinished-{number}", 1000)
    assert len(daemon.take_all()) == 3
    drop(daemon, "new.zip")
    with counted(s3_client) as requests:
        began = time.monotonic()
        assert len(daemon.tick()) == 1
        seconds = time.monotonic() - began
    # The inbox, pending, withdrawn, set aside; one look at each folder, two at unfinished ones.
    assert requests["ListObjectsV2"] == 4 + 6 + 3
    assert requests.total() == requests["ListObjectsV2"]
    assert seconds < 20
    forget(s3_settings)


def test_many_finished_folders_that_stay_are_looked_at_in_turn(
    daemon_of: DaemonOf, s3_settings: Settings, s3_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensors, "FOLDERS", 4)
    daemon = daemon_of(Lake(s3_settings, s3_client), keep_inbox=True)
    dataset = daemon.scope.dataset
    for number in range(11):
        drop_folder(daemon.lake, f"f{number:02d}", {"t.csv": b"id\n%d\n" % number}, dataset)
    assert len(daemon.take_all()) == 11
    for late in ("a", "f05x", "z"):
        drop_folder(daemon.lake, late, {"t.csv": late.encode()}, dataset)
    taken = []
    for _ in range(5):
        with counted(s3_client) as requests:
            new = daemon.tick()
        assert requests["ListObjectsV2"] <= 4 + 4 + len(new)
        for run in new:
            daemon.end(run)
        taken += names(daemon, [run.tags[PARTITION] for run in new])
    assert sorted(taken) == ["a", "f05x", "z"]


def test_more_new_uploads_than_one_tick_notes_are_noted_by_the_next(
    folder_daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensors, "FOLDERS", 5)
    for number in range(12):
        drop(folder_daemon, f"{number}.zip", number)
    assert [len(folder_daemon.tick()) for _ in range(4)] == [5, 5, 2, 0]


def test_with_events_the_inbox_is_listed_only_now_and_then(
    daemon_of: DaemonOf, s3_settings: Settings, s3_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensors, "FOLDERS", 2)
    monkeypatch.setenv("MM_EVENTS", "sqs://http://127.0.0.1:1/123456789012/queue")
    daemon = daemon_of(Lake(s3_settings, s3_client))
    for number in range(3):
        daemon.lake.write(f"{inbox(daemon.scope.dataset)}unfinished{number}/t.csv", b"x")
    drop(daemon, "a.zip")
    assert len(daemon.take_all()) == 1  # once round, in shares
    drop(daemon, "missed.zip")
    with counted(s3_client) as requests:
        for _ in range(3):
            assert daemon.tick() == []
    assert requests == {"ListObjectsV2": 6}  # what is pending, what is withdrawn, nothing else
    now = time.time()
    for jump in (sensors.LISTING_SECONDS + 1, -1000.0):  # also when a clock was set back
        before = dict(daemon.cursors)
        monkeypatch.setattr(sensors.time, "time", lambda jump=jump: now + jump)
        tick = daemon.evaluate("uploads")
        assert len(tick.run_requests) == 1
        assert daemon.cursors == before


def test_no_sensor_loads_all_uploads_to_find_that_there_is_little_to_do(
    folder_daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    champions(monkeypatch, 1)
    drop(folder_daemon, "a.zip")
    folder_daemon.take_all()
    folder_daemon.tick("repredict", "predict")
    for name in ("get_materialized_partitions", "get_dynamic_partitions"):
        monkeypatch.setattr(folder_daemon.instance, name, lambda *_, **__: pytest.fail("loads all"))
    drop(folder_daemon, "b.zip")
    for name, job in (("uploads", "upload"), ("training", "train"), ("repredict", "predict")):
        folder_daemon.tick(name, job)


# -- a promotion ----------------------------------------------------------------------------------


def champions(monkeypatch: pytest.MonkeyPatch, generation: int) -> None:
    found = {Modality.WITH_IMAGE: generation, Modality.WITHOUT_IMAGE: 0}
    monkeypatch.setattr(sensors, "generations", lambda _: found)


def repredicted(daemon: Daemon, most: int = 5) -> list[str]:
    done: list[str] = []
    for _ in range(most):
        for run in daemon.tick("repredict", "predict"):
            done.append(run.tags[PARTITION])
            daemon.end(run)
    return done


def test_a_promotion_predicts_what_is_finished_and_later_what_was_under_way(
    folder_daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = folder_daemon
    drop(daemon, "a.zip", 1)
    [finished] = daemon.take_all()
    drop(daemon, "b.zip", 2)
    drop(daemon, "c.zip", 3)
    late, dead = daemon.tick()
    for run in (late, dead):
        started = dg.DagsterEvent(dg.DagsterEventType.PIPELINE_START.value, run.job_name)
        daemon.instance.report_dagster_event(started, run.run_id)
    champions(monkeypatch, 1)
    assert repredicted(daemon) == [finished]
    daemon.end(late)
    daemon.end(dead, "failed")
    assert repredicted(daemon) == [late.tags[PARTITION]]
    # The dead one's next run begins with the new champion: nothing is left to wait for.
    assert "Every upload was predicted" in daemon.evaluate("repredict").skip_message


def test_a_rollback_predicts_every_upload_again_and_only_once(
    daemon_of: DaemonOf, folder_settings: Settings
) -> None:
    daemon = daemon_of(Lake(folder_settings), model_without_image={"engine": ENGINE})
    drop(daemon, "a.zip", 1)
    [finished] = daemon.take_all()
    models = ModelStore(daemon.lake, daemon.spec.dataset)
    for number in (1, 2):
        version = save(models, daemon.spec, Modality.WITHOUT_IMAGE, number)
        models.promote(Modality.WITHOUT_IMAGE, version, "because")
    assert repredicted(daemon) == [finished]
    rollback(daemon.lake, daemon.spec)
    assert repredicted(daemon) == [finished]
    assert daemon.instance.get_run_records(dg.RunsFilter(tags={CHAMPIONS: "0-3"}))


def test_a_run_that_already_predicts_with_the_new_champion_is_not_late(
    folder_daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(folder_daemon, "a.zip")
    [run] = folder_daemon.tick()
    folder_daemon.instance.add_run_tags(run.run_id, {CHAMPIONS: "1-0"})
    started = dg.DagsterEvent(dg.DagsterEventType.PIPELINE_START.value, run.job_name)
    folder_daemon.instance.report_dagster_event(started, run.run_id)
    champions(monkeypatch, 1)
    assert repredicted(folder_daemon) == []
    folder_daemon.end(run)
    assert repredicted(folder_daemon) == []


def test_predictions_that_fail_are_tried_again_and_never_hide_each_other(
    daemon_of: DaemonOf, folder_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensors, "CHUNK", 2)
    daemon = daemon_of(Lake(folder_settings), upload_tries=3)
    for number in range(5):
        drop(daemon, f"{number}.zip", number)
    uploads = sorted(daemon.take_all())
    champions(monkeypatch, 1)
    for run in daemon.tick("repredict", "predict"):
        daemon.end(run, "failed")
    succeeded = []
    for _ in range(12):
        for run in daemon.tick("repredict", "predict"):
            is_poison = run.tags[PARTITION] == uploads[0]
            daemon.end(run, "failed" if is_poison else "succeeded")
            succeeded += [] if is_poison else [run.tags[PARTITION]]
    assert sorted(succeeded) == uploads[1:]
    own = dg.RunsFilter(tags={PARTITION: uploads[0], CHAMPIONS: "1-0"})
    assert len(daemon.instance.get_run_records(own)) == 3
