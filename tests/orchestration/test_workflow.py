"""Workflows: what their YAML becomes, what their schedules decide, and `mm workflow`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from typer.testing import CliRunner

from mm_assets.cli.workflow import app
from mm_assets.contract.errors import SpecError
from mm_assets.contract.spec_file import load_spec
from mm_assets.lake.lake import Lake
from mm_assets.orchestration.run import Runner, open_instance
from mm_assets.orchestration.workflow import OTHERWISE, STEPS, Choice, Workflow, load_definitions
from tests.make import drop_zip, table

ROOT = Path(__file__).parents[2]
DATASET = """
type: mm_assets.pipeline.DatasetPipeline
attributes:
  dataset: pets
  id_column: id
  label_column: kind
  problem_type: binary
  columns: {age: number}
"""
NIGHTLY = """
type: mm_assets.workflow.Workflow
attributes:
  workflow: nightly
  description: Trains if it got worse.
  schedule: "0 3 * * *"
  timezone: Europe/Berlin
  choice: {dataset: pets, figure: live_accuracy, below: 0.8}
  steps: ['key:"pets/training_set"']
  otherwise: ['key:"pets/monitoring"']
---
type: mm_assets.workflow.Workflow
attributes:
  workflow: join_again
  steps: [key:pets/manifest, key:pets/records_with_image]
  schedule: "0 4 * * *"
  enabled: false
"""


@pytest.fixture
def project(folder_settings):
    write(folder_settings, "pets", DATASET)
    write(folder_settings, "nightly", NIGHTLY)
    return folder_settings


def write(settings, name: str, text: str) -> Path:
    file = settings.defs_folder / name / "defs.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


@pytest.fixture
def run():
    def invoke(*arguments: str, code: int = 0):
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
        assert "Traceback" not in result.stderr
        return result

    return invoke


def steps_of(definitions: dg.Definitions, name: str) -> set[str]:
    job = definitions.get_repository_def().get_job(name)
    return {key.to_user_string() for key in job.asset_layer.executable_asset_keys}


# -- what the YAML becomes ------------------------------------------------------------------------


def test_a_workflow_is_a_job_for_each_branch_with_a_schedule_each(project) -> None:
    definitions = load_definitions(project)
    repository = definitions.get_repository_def()
    assert steps_of(definitions, "nightly") == {"pets/training_set"}
    assert steps_of(definitions, "nightly_otherwise") == {"pets/monitoring"}
    schedules = {s.name: s for s in repository.schedule_defs}
    assert schedules.keys() == {
        "nightly_schedule", "nightly_otherwise_schedule", "join_again_schedule",
    }  # fmt: skip
    nightly = schedules["nightly_schedule"]
    assert (nightly.cron_schedule, nightly.execution_timezone) == ("0 3 * * *", "Europe/Berlin")
    assert nightly.default_status is dg.DefaultScheduleStatus.RUNNING
    assert schedules["join_again_schedule"].default_status is dg.DefaultScheduleStatus.STOPPED
    job = repository.get_job("nightly")
    assert job.executor_def is dg.in_process_executor
    assert job.tags["mm/dataset"] == "pets"


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ('key:"pets/manifest"', 1),
        ("key:pets/manifest", 1),
        ('+key:"pets/manifest"', 2),
        ('key:"pets/model_with_image"+', 4),
        ('group:"pets"', 11),
    ],
)
def test_assets_are_named_as_in_dagster_s_selection_syntax(project, line, count) -> None:
    text = f"type: mm_assets.workflow.Workflow\nattributes: {{workflow: w, steps: ['{line}']}}\n"
    write(project, "w", text)
    assert len(steps_of(load_definitions(project), "w")) == count


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("workflow: nightly", "workflow: Nightly!"), "a-z, 0-9 and _"),
        (("below: 0.8", "below: 0.8, above: 0.9"), "either `below` or `above`"),
        ((", below: 0.8", ""), "either `below` or `above`"),
        (("  choice: {dataset: pets, figure: live_accuracy, below: 0.8}\n", ""), "with `choice`"),
        (("['key:\"pets/training_set\"']", "[]"), "at least one asset"),
        (('key:"pets/training_set"', "pets and cats"), "'pets and cats' names no assets"),
        (("pets/training_set", "pets/trainig_set"), "training_set"),
        (('"0 3 * * *"', '"0 33 * * *"'), "cron"),
        (("Europe/Berlin", "Europe/Atlantis"), "Atlantis"),
        (("description:", "descripton:"), "defs.yaml:5"),
        (("  workflow: nightly\n", ""), "attributes.workflow at"),
        (("dataset: pets, ", ""), "choice"),
        (("steps: [", "steps: [["), "defs.yaml"),
    ],
)
def test_a_mistake_in_the_yaml_is_answered_in_words(project, change, words) -> None:
    write(project, "nightly", NIGHTLY.replace(*change))
    with pytest.raises(SpecError) as raised:
        load_definitions(project)
    assert raised.value.code in ("workflow_invalid", "definitions_broken")
    assert words in str(raised.value)
    assert raised.value.todo


def test_a_failed_step_is_tried_again_as_often_as_the_yaml_says() -> None:
    tries: list[int] = []

    @dg.asset(key_prefix="pets")
    def flaky() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise ValueError("not yet")

    workflow = Workflow(workflow="w", steps=["key:pets/flaky"], retries=2, retry_pause_seconds=0)
    made = workflow.build_defs(dg.ComponentTree.for_test().load_context)
    definitions = dg.Definitions.merge(made, dg.Definitions(assets=[flaky]))
    with dg.instance_for_test() as instance:
        assert definitions.resolve_job_def("w").execute_in_process(instance=instance).success
    assert len(tries) == 3


# -- what the schedules decide --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("figures", "side", "branch", "words"),
    [
        ({"live_accuracy": 0.79}, "below", STEPS, "live_accuracy of pets is 0.79"),
        ({"live_accuracy": 0.8}, "below", OTHERWISE, "below 0.8"),
        ({"live_accuracy": 0.81}, "above", STEPS, "above 0.8"),
        ({"live_accuracy": 0}, "above", OTHERWISE, "is 0;"),
        ({"live_accuracy": float("nan"), "records": 3}, "below", None, "it has live_accuracy"),
        ({"records": 3}, "below", None, "no figure live_accuracy yet; it has records"),
        ({}, "below", None, "it has nothing"),
        (None, "below", None, "no monitoring yet"),
    ],
)
def test_a_choice_decides_both_ways_and_says_when_it_cannot(figures, side, branch, words) -> None:
    choice = Choice(dataset="pets", figure="live_accuracy", **{side: 0.8})
    chosen, why = choice.decide(figures)
    assert chosen == branch
    assert words in why


def monitored(instance: dg.DagsterInstance, **figures: float) -> None:
    metadata = {name.replace("_", " "): value for name, value in figures.items()}
    metadata["confidence picture"] = dg.MetadataValue.md("![x](data:)")
    instance.report_runless_asset_event(
        dg.AssetMaterialization(dg.AssetKey(["pets", "monitoring"]), metadata=metadata)
    )


def ticks(definitions, instance, at: datetime, *names: str) -> dict[str, object]:
    """What schedules answer at a moment: a skip's words, or the number of runs."""
    repository, answers = definitions.get_repository_def(), {}
    for name in names:
        context = dg.build_schedule_context(
            instance, scheduled_execution_time=at, repository_def=repository
        )
        data = repository.get_schedule_def(name).evaluate_tick(context)
        answers[name] = data.skip_message or len(data.run_requests or [])
    return answers


def test_of_both_branches_exactly_one_is_requested_whatever_comes_meanwhile(project) -> None:
    definitions = load_definitions(project)
    both = ("nightly_schedule", "nightly_otherwise_schedule")
    with dg.instance_for_test() as instance:
        before = datetime.now(UTC) + timedelta(seconds=1)
        unknown = ticks(definitions, instance, before, *both)
        assert all("no monitoring yet" in words for words in unknown.values())
        monitored(instance, live_accuracy=0.7, records=5)
        at = datetime.now(UTC)
        first = ticks(definitions, instance, at, both[0])
        monitored(instance, live_accuracy=0.9)  # between the two ticks of one moment
        second = ticks(definitions, instance, at, both[1])
        assert first == {both[0]: 1}
        assert "live_accuracy of pets is 0.7" in second[both[1]]
        later = ticks(definitions, instance, datetime.now(UTC) + timedelta(seconds=1), *both)
        assert later[both[1]] == 1
        assert "is 0.9" in later[both[0]]


def test_a_schedule_of_assets_of_each_upload_says_how_to_start_it(project) -> None:
    with dg.instance_for_test() as instance:
        said = ticks(load_definitions(project), instance, datetime.now(UTC), "join_again_schedule")
    assert "--upload KEY" in said["join_again_schedule"]


# -- mm workflow ----------------------------------------------------------------------------------


def test_jobs_are_listed_with_what_starts_them(project, run) -> None:
    rows = {row["name"]: row for row in json.loads(run("list", "--format", "json").stdout)}
    assert rows.keys() == {
        "nightly", "nightly_otherwise", "join_again", "pets_upload", "pets_uploads", "pets_train",
        "pets_predict", "pets_monitor",
    }  # fmt: skip
    assert rows["nightly"]["started_by"] == "0 3 * * * Europe/Berlin"
    assert "switched off" in rows["join_again"]["started_by"]
    assert rows["pets_upload"]["started_by"] == "sensor pets_uploads"
    assert (rows["pets_upload"]["steps"], rows["pets_upload"]["each"]) == (7, "upload")
    assert rows["nightly"]["choice"] == "live_accuracy of pets below 0.8"


def test_a_job_is_shown_with_its_steps_in_order(project, run) -> None:
    steps = json.loads(run("show", "pets_upload", "--format", "json").stdout)["steps"]
    place = {step["step"]: n for n, step in enumerate(steps)}
    for step in steps:
        for parent in filter(None, step["depends_on"].split(", ")):
            assert place.get(parent, -1) < place[step["step"]]
    assert steps[1]["depends_on"] == "pets/raw_uploads"
    said = run("show", "nightly").stderr
    assert "Choice: live_accuracy of pets below 0.8" in said
    assert "pets_train" in run("show", "nonsense", code=1).stderr


def test_a_workflow_runs_here_by_hand_or_by_its_choice(project, run) -> None:
    assert "workflow_undecided" in run("run", "nightly", "--choose", code=1).stderr
    said = run("run", "nightly", "--format", "json")
    assert json.loads(said.stdout)[0]["good"]
    assert "✓ pets/training_set" in said.stderr
    with open_instance(project) as instance:
        monitored(instance, live_accuracy=0.9)
        latest = instance.get_latest_materialization_event(dg.AssetKey(["pets", "training_set"]))
        assert latest is not None
    said = run("run", "nightly", "--choose")
    assert "✓ nightly_otherwise: run " in said.stderr
    assert "✓ pets/monitoring" in said.stderr
    assert "workflow_no_choice" in run("run", "join_again", "--choose", code=1).stderr


def test_a_job_of_each_upload_runs_for_the_one_that_is_named(project, run) -> None:
    lake = Lake(project)
    run("run", "join_again", code=2)
    run("run", "nightly", "--upload", "x", code=2)
    run("run", "nightly", "--choose", "--otherwise", code=2)
    assert "upload_unknown" in run("run", "join_again", "--upload", "x", code=2).stderr
    drop_zip(lake, "some.zip", {"t.csv": table("id,age", "a,1")})
    spec = load_spec(project.defs_folder / "pets" / "defs.yaml")
    with open_instance(project) as instance:
        outcome = next(Runner(spec, instance, print).sync())
    said = run("run", "join_again", "--upload", "some", "--format", "json")
    assert json.loads(said.stdout)[0]["upload"] == outcome.upload
    lake.delete(f"datasets/pets/uploads/{outcome.upload}/raw_uploads.json")
    failed = run("run", "join_again", "--upload", outcome.upload, code=1)
    assert "not_materialised" in failed.stderr


# -- what is shipped ------------------------------------------------------------------------------


def test_the_shipped_example_loads_and_begins_switched_off() -> None:
    from dagster_project.definitions import defs

    repository = defs().get_repository_def()
    assert repository.has_job("pets_nightly")
    schedules = [s for s in repository.schedule_defs if s.name.startswith("pets_nightly")]
    assert len(schedules) == 2
    assert all(s.default_status is dg.DefaultScheduleStatus.STOPPED for s in schedules)


def of_the_page(language: str) -> list[str]:
    page = (ROOT / "docs" / "workflows.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def test_every_yaml_and_python_of_the_page_about_workflows_works(tmp_path: Path) -> None:
    defs = tmp_path / "dagster_project" / "defs"
    shutil.copytree(ROOT / "dagster_project", defs.parent)
    letter, template = of_the_page("python")
    (defs / "letter").mkdir()
    (defs / "letter" / "assets.py").write_text(letter)
    for number, text in enumerate(of_the_page("yaml")):
        folder = defs / f"page_{number}"
        folder.mkdir()
        (folder / "defs.yaml").write_text(text)
        if "template_vars_module" in text:
            (folder / "template_vars.py").write_text(template)
    of_letter = "attributes: {workflow: w, steps: ['key:pets/letter']}"
    (defs / "page_letter").mkdir()
    text = f"type: mm_assets.workflow.Workflow\n{of_letter}\n"
    (defs / "page_letter" / "defs.yaml").write_text(text)
    code = "from mm_assets.cli.workflow import app; app(['list', '--format', 'json'])"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "MM_ROOT": str(tmp_path),
             "NIGHTLY_CRON": "0 2 * * *"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows.keys() >= {"pets_nights", "pets_nights_otherwise", "cars_upload"}
    assert rows["pets_letter"]["started_by"] == "0 2 * * * UTC"
    assert rows["fashion_models"]["steps"] == rows["pets_models"]["steps"] == 3
    assert rows["pets_join_again"]["each"] == "upload"
    assert rows["w"]["steps"] == 1
