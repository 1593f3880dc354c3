"""Small uploads that wait are taken together: each with its own end, whatever the others are like,
and the table is what it would be had each come alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mm_assets.contract.dataset import Modality
from mm_assets.contract.errors import StoreError
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import inbox
from mm_assets.orchestration import together
from mm_assets.orchestration.run import Outcome, Runner
from mm_assets.orchestration.scope import GROUP, WORKER, worker_name
from mm_assets.orchestration.triggers import decide, runs, sensors
from mm_assets.orchestration.triggers.decide import Try, next_together
from mm_assets.orchestration.triggers.runs import PARTITION
from mm_assets.predictions.receipt import build_receipt
from mm_assets.registry.pins import CHAMPIONS
from mm_assets.registry.store import ModelStore
from mm_assets.tables.duckdb import file
from mm_assets.tables.open import open_store
from mm_assets.uploads import ledger
from mm_assets.uploads import take_in as taking
from tests.laws.champion import ENGINE, save
from tests.make import dataset, drop_zip, table
from tests.orchestration.daemon import Daemon

SPEC = dataset(
    model_with_image={"engine": ENGINE}, model_without_image={"engine": ENGINE}, upload_tries=2
)
STEPS = (
    "raw_uploads", "manifest", "records_with_image", "records_without_image",
    "predictions_with_image", "predictions_without_image", "predictions",
)  # fmt: skip
# They overlap, and one has a row that is refused: whichever is newer counts.
UPLOADS: list[tuple[str, ...]] = [
    ("a,1,red,", "b,2,red,"), ("b,3,blue,", "c,4,blue,"), ("c,old,red,", "d,5,red,"),
    ("a,6,blue,cat", "e,7,red,"), ("e,8,blue,", "f,9,red,"),
]  # fmt: skip


class World:
    """A lake with a champion, a Dagster instance, and what `mm sync` does in it."""

    def __init__(self, root: Path, instance: dg.DagsterInstance) -> None:
        self.lake, self.instance = Lake(Settings.from_environment()), instance
        self.store = open_store(self.lake.settings)
        models = ModelStore(self.lake, "pets")
        version = save(models, SPEC, Modality.WITHOUT_IMAGE, 1)
        models.promote(Modality.WITHOUT_IMAGE, version, "because")
        self.said: list[str] = []
        self.runner = Runner(SPEC, instance, self.said.append)

    def drop(self, number: int, rows: tuple[str, ...], name: str = "") -> None:
        name = name or f"{number}.zip"
        drop_zip(self.lake, name, {"t.csv": table("id,age,colour,label", *rows)}, "pets")
        at = 1.8e9 + number  # the order in which they count
        os.utime(self.lake.settings.lake_folder / inbox("pets") / name, (at, at))

    def sync(self) -> list[Outcome]:
        return list(self.runner.sync())

    def table(self) -> dict[str, dict[str, Any]]:
        own = ("run_id", "predicted_at", "upload", "model_version")
        rows = self.store.read("pets").to_pylist()
        return {r["record_id"]: {k: v for k, v in r.items() if k not in own} for r in rows}


@contextmanager
def world(root: Path) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        patch.setenv("MM_ROOT", str(root))
        patch.setenv("MM_LAKE", "data/lake")
        root.mkdir(exist_ok=True)
        yield World(root, instance)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path / "project") as made:
        yield made


def of_uploads(outcomes: list[Outcome]) -> list[Outcome]:
    return [one for one in outcomes if one.upload]


# -- in this process ------------------------------------------------------------------------------


def test_each_of_several_has_its_own_assets_checks_receipt_and_end(here: World) -> None:
    for number, rows in enumerate(UPLOADS):
        here.drop(number, rows)
    here.drop(9, (), "empty.zip")
    outcomes = of_uploads(here.sync())
    assert {one.job for one in outcomes} == {"uploads"}
    assert len({one.run_id for one in outcomes}) == 1
    ends = Counter(one.end.value for one in outcomes)
    assert ends == {"used": 4, "failed": 1, "nothing used": 1}  # half of its rows were refused
    assert ledger.pending_uploads(here.lake, "pets") == []
    for one in outcomes:
        assert build_receipt(here.lake, here.store, SPEC, one.upload or "")["upload"] == one.upload
        for step in STEPS:
            found = here.instance.fetch_materializations(
                dg.AssetRecordsFilter(
                    asset_key=dg.AssetKey(["pets", step]), asset_partitions=[one.upload or ""]
                ),
                limit=2,
            ).records
            assert [record.run_id for record in found] == [one.run_id], step
    run = here.instance.get_run_by_id(outcomes[0].run_id)
    assert run is not None
    assert run.tags[GROUP] == ""
    assert run.tags[CHAMPIONS] == "0-1"
    assert here.sync() == []


def test_the_checks_of_each_are_those_that_it_has_alone(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def evaluations(run_id: str) -> dict[str | None, set[tuple[Any, ...]]]:
        found: dict[str | None, set[tuple[Any, ...]]] = {}
        kind = dg.DagsterEventType.ASSET_CHECK_EVALUATION
        for entry in here.instance.all_logs(run_id, of_type=kind):
            told = entry.get_dagster_event().asset_check_evaluation_data
            said = (told.asset_key, told.check_name, told.passed, told.severity, told.blocking)
            found.setdefault(told.partition, set()).add((*said, told.description))
        return found

    for number in range(2):
        here.drop(number, (f"x{number},1,red,", f"y{number},old,red,"))
    together_ = of_uploads(here.sync())
    monkeypatch.setattr(decide, "FEWEST_TOGETHER", sys.maxsize)
    here.drop(2, ("x2,1,red,", "y2,old,red,"))
    [alone] = of_uploads(here.sync())
    assert alone.job == "upload"
    [expected] = evaluations(alone.run_id).values()
    assert len(expected) > 12
    found = evaluations(together_[0].run_id)
    assert found == {one.upload: expected for one in together_}
    assert [one.failed_checks for one in together_] == [alone.failed_checks] * 2


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The table when each upload has a run of its own."""
    with world(tmp_path_factory.mktemp("alone")) as made, pytest.MonkeyPatch.context() as patch:
        patch.setattr(decide, "FEWEST_TOGETHER", sys.maxsize)
        for number, rows in enumerate(UPLOADS):
            made.drop(number, rows)
        assert {one.job for one in of_uploads(made.sync())} == {"upload"}
        return made.table()


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    order=st.permutations(range(len(UPLOADS))),
    come=st.lists(st.integers(1, 4), min_size=1, max_size=5),
    at_once=st.integers(1, 4),
)
def test_however_they_are_taken_together_the_table_is_the_same(
    one_by_one: dict[str, Any], tmp_path_factory: Any, order: list[int], come: list[int],
    at_once: int,
) -> None:  # fmt: skip
    with world(tmp_path_factory.mktemp("some")) as made, pytest.MonkeyPatch.context() as patch:
        patch.setattr(together, "AT_ONCE", at_once)
        left = list(order)
        for number in [*come, len(left)]:
            some, left = left[:number], left[number:]
            for one in some:
                made.drop(one, UPLOADS[one])
            assert len(of_uploads(made.sync())) == len(some)
        assert made.table() == one_by_one


def test_one_that_breaks_costs_the_others_nothing(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = taking.take_in

    def take_in(lake: Lake, spec: Any, source: Any, **how: Any) -> Any:
        if source.name == "2.zip":
            raise ZeroDivisionError("poison")
        return whole(lake, spec, source, **how)

    monkeypatch.setattr(taking, "take_in", take_in)
    for number, rows in enumerate(UPLOADS):
        here.drop(number, rows)
    outcomes = of_uploads(here.sync())
    assert [(one.job, one.success) for one in outcomes] == [("uploads", True)] * 4 + [
        ("upload", False)
    ]
    assert "poison" in outcomes[-1].problem
    [left] = ledger.pending_uploads(here.lake, "pets")
    assert left == outcomes[-1].upload
    noted = ledger.read_pending(here.lake, "pets", left)
    assert noted is not None
    assert not noted.is_small
    here.sync()
    assert ledger.set_aside_uploads(here.lake, "pets") == [left]
    monkeypatch.setattr(taking, "take_in", whole)
    ledger.retry(here.lake, "pets", left)
    assert [one.job for one in of_uploads(here.sync())] == ["upload"]  # a person asked for it


def test_a_cause_that_is_not_in_the_uploads_ends_the_run(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise StoreError(code="table_busy", what="it is busy", where="here", todo="Wait.")

    monkeypatch.setattr(taking, "take_in", refuse)
    monkeypatch.setattr(together, "AT_ONCE", 2)
    for number, rows in enumerate(UPLOADS):
        here.drop(number, rows)
    list(here.runner.sync())
    of_several = here.instance.get_runs(dg.RunsFilter(job_name="pets_uploads"))
    assert [run.status for run in of_several] == [dg.DagsterRunStatus.FAILURE] * 2
    assert "none of 2 uploads got through" in runs.why_it_failed(
        here.instance, of_several[0].run_id
    )
    assert len(ledger.pending_uploads(here.lake, "pets")) == len(UPLOADS)  # nothing is lost


def test_what_a_killed_run_finished_is_settled_and_not_done_again(here: World) -> None:
    for number in range(3):
        here.drop(number, UPLOADS[number])
    first = of_uploads(here.sync())
    for one in first:  # as if it died before it took the notes away
        source = ledger.read_source(here.lake, "pets", one.upload or "")
        ledger.note(here.lake, source)
    assert of_uploads(here.sync()) == []
    assert ledger.pending_uploads(here.lake, "pets") == []


def test_the_table_is_opened_for_a_group_and_not_for_each_upload(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: Counter[str] = Counter()
    patiently_opened = file._patiently_opened  # noqa: SLF001

    def counting(*given: Any) -> Any:
        opened["times"] += 1
        return patiently_opened(*given)

    monkeypatch.setattr(file, "_patiently_opened", counting)
    found = []
    for some in (range(2), range(2, 10)):
        for number in some:
            here.drop(number, (f"x{number},1,red,",))
        opened.clear()
        here.sync()
        found.append(opened["times"])
    assert found[0] == found[1] <= 8


def test_an_upload_asks_little_of_the_lake(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run wrote itself it does not ask for: that was most of 74 objects that were read."""
    monkeypatch.setattr(ledger, "FEW", 1)  # as where there are many
    asked: Counter[str] = Counter()

    def count(name: str) -> None:
        whole = getattr(Lake, name)

        def counted(*given_: Any, **named: Any) -> Any:
            asked[name] += 1
            return whole(*given_, **named)

        monkeypatch.setattr(Lake, name, counted)

    for name in ("read", "read_range", "fetch", "open", "stat", "write", "create_json", "list"):
        count(name)
    found = []
    for some in (range(2), range(2, 6), range(6, 14)):  # the first reads the champion, too
        for number in some:
            here.drop(number, (f"x{number},1,red,",))
        asked.clear()
        assert len(of_uploads(here.sync())) == len(some)
        found.append(Counter(asked))
    more = {name: (found[2][name] - found[1][name]) / 4 for name in asked}
    assert sum(more.get(name, 0) for name in ("read", "read_range", "fetch", "open")) <= 15
    assert more["write"] + more["create_json"] <= 26  # two modalities
    assert more["stat"] <= 2
    assert more["list"] <= 4


# -- under the daemon -----------------------------------------------------------------------------


@pytest.fixture
def daemon(
    instance: dg.DagsterInstance, folder_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Daemon:
    name = f"together{time.monotonic_ns()}"
    spec = dataset(dataset=name, retry_pause_seconds=60)
    return Daemon(instance, Lake(folder_settings), spec, monkeypatch, together=True)


def drop(daemon: Daemon, *numbers: int) -> None:
    for number in numbers:
        files = {"t.csv": table("id,age", f"{number},1")}
        drop_zip(daemon.lake, f"{number}.zip", files, daemon.scope.dataset)


def jobs(daemon: Daemon, started: list[dg.DagsterRun]) -> list[str]:
    return [run.job_name.removeprefix(f"{daemon.scope.dataset}_") for run in started]


def begin(daemon: Daemon, run: dg.DagsterRun, in_hands: list[str]) -> None:
    daemon.instance.add_run_tags(run.run_id, {GROUP: ",".join(in_hands)})
    started = dg.DagsterEvent(dg.DagsterEventType.PIPELINE_START.value, run.job_name)
    daemon.instance.report_dagster_event(started, run.run_id)


def test_one_run_is_asked_for_however_many_wait(daemon: Daemon) -> None:
    drop(daemon, 1, 2, 3)
    cut_off = daemon.evaluate("uploads").run_requests
    started = daemon.tick()
    assert jobs(daemon, started) == ["uploads"]
    assert (
        cut_off[0].run_key
        == daemon.instance.get_run_by_id(started[0].run_id).tags[  # type: ignore[union-attr]
            "dagster/run_key"
        ]
    )
    drop(daemon, 4)  # it takes what comes meanwhile
    assert daemon.tick() == []
    assert "it is taken together with others" in daemon.evaluate("uploads").skip_message


def test_a_single_one_and_a_large_one_have_runs_of_their_own(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(daemon, 1)
    assert jobs(daemon, daemon.tick()) == ["upload"]
    drop(daemon, 2)  # the first is not taken up again with it
    assert jobs(daemon, daemon.tick()) == ["upload"]
    monkeypatch.setattr(ledger, "SMALL", 10)
    drop(daemon, 3, 4)
    assert jobs(daemon, daemon.tick()) == ["upload", "upload"]


def test_where_images_are_fetched_each_goes_by_itself(
    instance: dg.DagsterInstance, folder_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = dataset(dataset="fetched", image_column="photo", allow_urls=["example.org"])
    daemon = Daemon(instance, Lake(folder_settings), spec, monkeypatch, together=True)
    drop(daemon, 1, 2)
    assert jobs(daemon, daemon.tick()) == ["upload", "upload"]


def test_what_a_run_had_in_its_hands_when_it_died_goes_by_itself(daemon: Daemon) -> None:
    drop(daemon, 1, 2, 3, 4)
    [run] = daemon.tick()
    waiting = ledger.pending_uploads(daemon.lake, daemon.scope.dataset)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        daemon.instance.add_run_tags(run.run_id, {WORKER: worker_name(process.pid)})
        begin(daemon, run, waiting[:1])
        assert daemon.tick() == []
        process.kill()
    started = daemon.tick()  # and at once, without a pause
    assert sorted(jobs(daemon, started)) == ["upload", "uploads"]
    assert [run.tags[PARTITION] for run in started if PARTITION in run.tags] == waiting[:1]


def test_after_a_run_that_failed_of_another_cause_there_is_a_pause(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(daemon, 1, 2, 3)
    [run] = daemon.tick()
    begin(daemon, run, [])
    daemon.end(run, "failed")
    assert daemon.tick() == []
    assert "the next is in" in daemon.evaluate("uploads").skip_message
    now = time.time()
    monkeypatch.setattr(sensors.time, "time", lambda: now + 61)
    assert jobs(daemon, daemon.tick()) == ["uploads"]


def test_a_promotion_finds_what_a_run_of_several_has_in_its_hands(daemon: Daemon) -> None:
    drop(daemon, 1, 2, 3)
    [run] = daemon.tick()
    waiting = ledger.pending_uploads(daemon.lake, daemon.scope.dataset)
    name = daemon.scope.partitions.name or ""
    daemon.instance.add_dynamic_partitions(name, waiting)
    begin(daemon, run, waiting[:2])
    found = runs.uploads_under_way(daemon.instance, daemon.scope, "1-1")
    assert found == set(waiting[:2])
    # One that has looked at the champions already predicts nothing twice of the same ones.
    daemon.instance.add_run_tags(run.run_id, {CHAMPIONS: "1-1"})
    assert runs.uploads_under_way(daemon.instance, daemon.scope, "1-1") == set()
    assert runs.uploads_under_way(daemon.instance, daemon.scope, "2-1") == set(waiting[:2])


@pytest.mark.parametrize(
    ("small", "tries", "does"),
    [
        (5, [], "run"),
        (1, [], "set aside"),  # alone
        (1, [Try("a", "running")], "wait"),
        (5, [Try("a", "failed", 95.0)], "wait"),
        (5, [Try("a", "failed", 80.0)], "run"),
        (5, [Try("a", "canceled", 95.0)], "run"),
        (5, [Try(str(n), "failed", 99.0) for n in range(5)], "set aside"),
        (5, [Try(str(n), "failed", 99.0 - 3600) for n in range(5)], "run"),
    ],
)
def test_when_a_run_of_several_is_asked_for(small: int, tries: list[Try], does: str) -> None:
    assert next_together(small, tries, 100.0, maximum=5, pause=15.0).do == does
