"""Dagster's own pages in a real browser: what a person sees, and what the buttons do."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import psutil
import pytest
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.scheduler.instigation import InstigatorStatus

from tests.kill.project import DATASET, Project, make_waves, process_as_before, run_quietly

ASKED_FOR = "__ASSET_JOB"  # the job of what a person materialises; sensors have jobs of ours
PATIENCE = 180  # seconds, on a machine that does much else


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """Two uploads with predictions, and champions; its YAML names owners, its settings a page."""
    waves = make_waves(1)
    made = Project(tmp_path / "project", more={"MM_SERVE_URL": "http://127.0.0.1:1/"})
    told = made.file.read_text().replace("dataset: kill", "dataset: kill\n  owners: [team:keepers]")
    told = told.replace("age: number", "age: {kind: number, description: In years.}")
    made.file.write_text(told)
    with process_as_before():
        run_quietly(made, [waves[0], waves[1][:1]], trained=(0,))
    yield made
    shutil.rmtree(made.root, ignore_errors=True)


@pytest.fixture
def pages(project: Project) -> Iterator[str]:
    """The address of `mm dev` on the project."""
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    command = [str(Path(sys.executable).parent / "mm"), "dev", "--port", str(port)]
    log = project.root / "dev.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=project.root, env=project.environment, stdout=file, stderr=file
        )
    address = f"http://127.0.0.1:{port}"
    try:
        _until(lambda: _answers(address) or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield address
    finally:
        process.terminate()  # that it ends so is tested in test_dev.py
        try:
            process.wait(90)
        except subprocess.TimeoutExpired:
            for one in [*psutil.Process(process.pid).children(recursive=True), process]:
                one.kill()
            process.wait()


def test_what_a_person_sees_and_does_on_dagsters_pages(
    chromium: dict[str, Any], project: Project, pages: str
) -> None:
    from playwright.sync_api import sync_playwright

    with (
        sync_playwright() as started,
        dg.DagsterInstance.from_config(str(project.root / "dagster")) as instance,
    ):
        browser = started.chromium.launch(**chromium)
        page = browser.new_page(viewport={"width": 1440, "height": 1600})
        page.set_default_timeout(PATIENCE * 1000)
        _materialise(page, pages, instance)
        _see_an_asset(page, pages)
        _turn_a_sensor_off_and_on(page, pages, instance)
        _backfill_two(page, pages, instance)
        browser.close()


def _materialise(page: Any, pages: str, instance: dg.DagsterInstance) -> None:
    page.goto(f"{pages}/assets/{DATASET}/monitoring")
    page.get_by_role("button", name="Materialize").first.click()
    asked_for = dg.RunsFilter(job_name=ASKED_FOR, statuses=[dg.DagsterRunStatus.SUCCESS])
    _until(lambda: bool(instance.get_runs(asked_for)))


def _see_an_asset(page: Any, pages: str) -> None:
    """A chart without a click, the link to the page, whose it is, what its columns mean."""
    page.goto(f"{pages}/assets/{DATASET}/monitoring")
    page.locator("img[src^='data:image/svg+xml']").first.wait_for()
    drawn = page.locator("img[src^='data:image/svg+xml']").first
    assert drawn.evaluate("one => one.complete && one.naturalWidth > 0")
    page.get_by_role("link", name="The page for people").first.wait_for()
    page.goto(f"{pages}/assets/{DATASET}/manifest")
    page.get_by_text("age", exact=True).wait_for()
    page.get_by_text("In years.", exact=True).wait_for()
    page.get_by_text("keepers", exact=True).first.wait_for()


def _turn_a_sensor_off_and_on(page: Any, pages: str, instance: dg.DagsterInstance) -> None:
    name = f"{DATASET}_monitoring"
    page.goto(f"{pages}/locations/mm_assets/sensors/{name}")
    switch = page.locator("tr", has_text="Running").locator("label").first
    for wanted in (False, True):
        switch.click()
        _until(partial(_is_set, instance, name, wanted))


def _backfill_two(page: Any, pages: str, instance: dg.DagsterInstance) -> None:
    page.goto(f"{pages}/locations/mm_assets/jobs/{DATASET}_predict")
    page.get_by_role("button", name="Materialize all").first.click()
    page.get_by_role("button", name="All", exact=True).last.click()
    page.get_by_role("button", name="Launch backfill").click()
    _until(lambda: _ended(instance))
    [backfill] = instance.get_backfills()
    assert backfill.status is BulkActionStatus.COMPLETED_SUCCESS
    runs = instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": backfill.backfill_id}))
    assert [run.status for run in runs] == [dg.DagsterRunStatus.SUCCESS] * 2
    page.goto(f"{pages}/runs/b/{backfill.backfill_id}")
    page.get_by_text("Completed").first.wait_for()


def _ended(instance: dg.DagsterInstance) -> bool:
    going_on = (BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING, BulkActionStatus.FAILING)
    return any(one.status not in going_on for one in instance.get_backfills())


def _is_set(instance: dg.DagsterInstance, sensor: str, wanted: bool) -> bool:
    """As Dagster's daemon decides it: what the person said, else the sensor's own default."""
    states = {one.instigator_name: one.status for one in instance.all_instigator_state()}
    on = (InstigatorStatus.RUNNING, InstigatorStatus.DECLARED_IN_CODE)
    return (states[sensor] in on) is wanted


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/server_info").is_success
    except httpx.TransportError:
        return False


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.3)
