"""When the monitoring pictures are drawn again: after new predictions, and never too late."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent, DagsterEventType, StepMaterializationData

from mm_assets.orchestration.triggers.decide import LONGEST_WITHOUT_PICTURES, should_draw
from tests.orchestration.daemon import Daemon


@pytest.mark.parametrize(
    ("merged", "drawn_from", "is_busy", "now", "expected"),
    [
        (None, None, False, 10.0, False),
        (5.0, None, False, 10.0, True),
        (5.0, None, True, 10.0, False),
        (5.0, 4.0, False, 10.0, True),
        (5.0, 6.0, False, 10.0, False),
        (5.0, 4.0, True, 10.0, False),
        (5.0, 4.0, True, 4.0 + LONGEST_WITHOUT_PICTURES, True),
    ],
)
def test_pictures_follow_predictions(
    merged: float | None, drawn_from: float | None, is_busy: bool, now: float, expected: bool
) -> None:
    assert should_draw(merged, drawn_from, is_busy, now)[0] is expected


def begin(daemon: Daemon, run: dg.DagsterRun) -> None:
    report(daemon, run, DagsterEventType.PIPELINE_START)


def draw(daemon: Daemon, run: dg.DagsterRun) -> None:
    """The run's asset is there, and the run ends well."""
    drawn = dg.AssetMaterialization(daemon.scope.key("monitoring"))
    report(
        daemon, run, DagsterEventType.ASSET_MATERIALIZATION, StepMaterializationData(drawn)
    )  # fmt: skip
    report(daemon, run, DagsterEventType.PIPELINE_SUCCESS)


def report(daemon: Daemon, run: dg.DagsterRun, kind: DagsterEventType, data: Any = None) -> None:
    event = DagsterEvent(kind.value, run.job_name, event_specific_data=data)
    daemon.instance.report_dagster_event(event, run.run_id)


def tick(daemon: Daemon) -> list[dg.DagsterRun]:
    return daemon.tick("monitoring", "monitor")


def test_new_predictions_are_drawn_once(folder_daemon: Daemon) -> None:
    assert tick(folder_daemon) == []
    folder_daemon.materialise("u1")
    [run] = tick(folder_daemon)
    assert tick(folder_daemon) == []  # it is under way
    begin(folder_daemon, run)
    draw(folder_daemon, run)
    assert tick(folder_daemon) == []
    folder_daemon.materialise("u2")
    assert len(tick(folder_daemon)) == 1


def test_predictions_that_come_while_pictures_are_drawn_are_drawn_next(
    folder_daemon: Daemon,
) -> None:
    """An automation condition forgot them: both came between two of its ticks."""
    folder_daemon.materialise("u1")
    [run] = tick(folder_daemon)
    begin(folder_daemon, run)
    folder_daemon.materialise("u2")
    draw(folder_daemon, run)
    assert len(tick(folder_daemon)) == 1


def test_pictures_wait_for_predictions_that_are_under_way(folder_daemon: Daemon) -> None:
    folder_daemon.materialise("u1")
    upload = folder_daemon.run("upload", {})
    assert tick(folder_daemon) == []
    folder_daemon.end(upload, "failed")
    assert len(tick(folder_daemon)) == 1


def test_a_failed_drawing_is_not_asked_for_again_by_the_sensor(folder_daemon: Daemon) -> None:
    """Dagster's own retries do that; a picture that can't be drawn is no endless loop."""
    folder_daemon.materialise("u1")
    [run] = tick(folder_daemon)
    folder_daemon.end(run, "failed")
    assert tick(folder_daemon) == []
