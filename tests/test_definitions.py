"""The code location: what it holds, and what it does not import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"ray", "torch", "autogluon", "lightning", "transformers", "timm", "sklearn", "matplotlib"}
# What the code location needs only once something runs: each run's process would wait for them.
NOT_YET = {"pandas", "pyarrow", "duckdb", "numpy", "PIL", "dagster_aws", "boto3", "httpcore"}

ASSETS = {
    "raw_uploads", "manifest", "records_with_image", "records_without_image", "training_set",
    "model_with_image", "model_without_image", "predictions_with_image",
    "predictions_without_image", "predictions", "monitoring",
}  # fmt: skip


@pytest.fixture(scope="module")
def definitions() -> dg.Definitions:
    from dagster_project.definitions import defs

    return defs()


def test_every_dataset_has_the_assets_of_the_design(definitions):
    keys = {key.path[0]: set() for key in definitions.resolve_all_asset_keys()}
    for key in definitions.resolve_all_asset_keys():
        keys[key.path[0]].add(key.path[1])
    assert {"pets", "fashion", "petfinder", "blur", "vehicles", "cancer", "houses"} == keys.keys()
    lacks = {"vehicles": "without_image", "cancer": "with_image"}
    for dataset, names in keys.items():
        possible = {name for name in ASSETS if not name.endswith(lacks.get(dataset, "(nothing)"))}
        assert names == possible, dataset


def test_every_asset_has_a_check(definitions):
    checked = {key.asset_key for key in definitions.resolve_asset_graph().asset_check_keys}
    assert checked == set(definitions.resolve_all_asset_keys())


def test_every_dataset_has_its_jobs_and_sensors(definitions):
    repository = definitions.get_repository_def()
    jobs = {job.name for job in repository.get_all_jobs()}
    sensors = {sensor.name for sensor in repository.sensor_defs}
    for job in ("upload", "train", "predict", "monitor"):
        assert f"pets_{job}" in jobs
    assert {f"pets_{name}" for name in ("uploads", "training", "repredict", "monitoring")} <= (
        sensors
    )


def test_upload_runs_stay_in_one_process(definitions):
    job = definitions.resolve_job_def("pets_upload")
    assert job.executor_def is dg.in_process_executor


def test_asset_keys_and_dependencies_follow_the_flow(definitions):
    graph = definitions.resolve_asset_graph()

    def parents(name):
        return {key.path[1] for key in graph.get(dg.AssetKey(["pets", name])).parent_keys}

    assert parents("manifest") == {"raw_uploads"}
    assert parents("records_with_image") == {"manifest"}
    assert parents("predictions_with_image") == {"records_with_image", "model_with_image"}
    assert parents("predictions") == {"predictions_with_image", "predictions_without_image"}


def modules_after(code: str, **environment: str) -> set[str]:
    script = (
        f"{code}\nimport sys\nprint('MODULES', *sorted({{m.split('.')[0] for m in sys.modules}}))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("MODULES")[2].split())


def test_loading_the_code_location_imports_nothing_heavy():
    loaded = modules_after("from dagster_project.definitions import defs; defs()")
    assert "dagster" in loaded
    assert not loaded & (HEAVY | NOT_YET)


def test_a_sensor_tick_imports_nothing_heavy(tmp_path):
    (tmp_path / "lake/inbox/pets").mkdir(parents=True)
    (tmp_path / "lake/inbox/pets/some.zip").write_bytes(b"a zip some day")
    code = """
import dagster as dg
from dagster_project.definitions import defs
from mm_assets.orchestration.scope import LakeResource
repository = defs().get_repository_def()
with dg.instance_for_test() as instance:
    for name in ("pets_uploads", "pets_training", "pets_repredict"):
        sensor = repository.get_sensor_def(name)
        resources = {"lake": LakeResource()}
        with dg.build_sensor_context(
            instance, instance_ref=instance.get_ref(), repository_def=repository,
            resources=resources
        ) as context:
            tick = sensor.evaluate_tick(context)
            print(name, len(tick.run_requests or []), tick.skip_message)
            assert (len(tick.run_requests or []) == 1) == (name == "pets_uploads")
"""
    loaded = modules_after(code, MM_DATA=str(tmp_path), MM_LAKE=str(tmp_path / "lake"))
    assert not loaded & HEAVY


def test_mm_upload_imports_nothing_heavy(tmp_path):
    loaded = modules_after(
        "import mm_assets.cli.main, mm_assets.uploads.send, mm_assets.uploads.check"
    )
    assert not loaded & (HEAVY | {"dagster"})


def test_the_command_line_speaks_before_it_loads():
    loaded = modules_after("import mm_assets.cli.main")
    needless = {"pydantic", "pydantic_settings", "rich", "numpy", "httpx", "yaml", "fastapi"}
    assert not loaded & (HEAVY | NOT_YET | needless | {"dagster"})
