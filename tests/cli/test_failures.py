"""What fails is said once, with what to do: not as a traceback, nor as twenty skipped steps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mm_assets.cli.main import app
from mm_assets.contract.settings import Settings
from mm_assets.contract.spec_file import load_spec
from mm_assets.orchestration.run import Runner, open_instance
from tests.lake.test_disk import small_disk
from tests.make import PARTS, table, write_parts


def mm(*arguments: object):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert "Traceback" not in result.stderr
    return result


@pytest.fixture
def no_table(dynamodb_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A project whose table in DynamoDB was not made yet."""
    monkeypatch.setenv("MM_TABLE", f"dynamodb://test-{uuid.uuid4().hex}")
    write_parts(dynamodb_settings)
    return Settings.from_environment()


def test_a_table_that_is_not_there_is_one_message_everywhere(no_table: Settings, tmp_path) -> None:
    folder = tmp_path / "up"
    folder.mkdir()
    (folder / "t.csv").write_bytes(table("part,weight", "a,1"))
    assert mm("upload", folder).exit_code == 0
    for command in ("sync", "train", "predictions", "checks", "review list"):
        done = mm(*command.split())
        assert done.exit_code == 1, command
        assert done.stderr.count("[table_missing]") == 1, done.stderr
        assert "Run `mm table --create`" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 2, done.stderr
    doctor = json.loads(mm("doctor", "--format", "json").stdout)
    [found] = [one for one in doctor if one["what"] == "table"]
    assert "[table_missing]" in found["found"]
    assert "mm table --create" in found["todo"]
    # No try was lost of it: once the table is there, the upload goes through.
    assert mm("table", "--create").exit_code == 0
    assert mm("sync").exit_code == 0


def test_a_run_that_fails_says_so_in_one_line_without_the_steps_that_were_skipped(
    no_table: Settings,
) -> None:
    spec = load_spec(no_table.defs_folder / "parts" / "defs.yaml")
    said: list[str] = []
    with open_instance(no_table) as instance:
        outcome = Runner(spec, instance, said.append).run("train", None)
    assert outcome.problem.startswith("[table_missing] the table is not there")
    assert said == []


def test_the_same_failure_of_several_runs_is_told_once(capsys) -> None:
    from mm_assets.cli.runs import report_of
    from mm_assets.orchestration.run import Outcome

    told = report_of("parts", set())
    for upload in ("u1", "u2"):
        told(Outcome("upload", upload, "run", False, "[lake_full] no space left"))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "✗ parts: upload u1 failed: [lake_full] no space left",
        "✗ parts: upload u2 failed: for the same reason",
    ]


@pytest.mark.parametrize("command", ["sync", "train"])
def test_a_full_disk_under_dagster_is_said_in_words(tmp_path: Path, command: str) -> None:
    disk, defs = tmp_path / "disk", tmp_path / "defs"
    disk.mkdir()
    (defs / "parts").mkdir(parents=True)
    (defs / "parts" / "defs.yaml").write_text(PARTS)
    environment = {
        **os.environ, "MM_ROOT": str(disk), "MM_DEFS": str(defs), "MM_LAKE": str(tmp_path / "lake"),
        "MM_TABLE": f"duckdb:///{tmp_path / 'table.duckdb'}", "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]), "DAGSTER_HOME": str(disk / "dagster"),
    }  # fmt: skip
    (tmp_path / "lake" / "inbox" / "parts").mkdir(parents=True)
    start = "from mm_assets.cli.main import main; main()"
    filled = f'head -c 900k /dev/zero > "{disk}/filler"; exec "$@"'
    done = subprocess.run(
        [*small_disk(disk), "sh", "-c", filled, "sh", sys.executable, "-c", start, command],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "[disk_full] Dagster's own database" in done.stderr
    assert "Free some space" in done.stderr


def test_a_mistake_in_the_yaml_of_another_dataset_does_not_stop_one_that_is_named(
    folder_settings: Settings, tmp_path: Path
) -> None:
    write_parts(folder_settings)
    other = folder_settings.defs_folder / "cars" / "defs.yaml"
    other.parent.mkdir()
    other.write_text(PARTS.replace("parts", "cars").replace("binary", "binray"))
    (tmp_path / "t.csv").write_bytes(table("part,weight", "a,1"))
    assert mm("upload", tmp_path / "t.csv", "-d", "parts").exit_code == 0
    assert mm("sync", "-d", "parts").exit_code == 0
    for command in ("sync", "sync -d cars", "uploads"):
        done = mm(*command.split())
        assert done.exit_code == 1
        assert "`problem_type` is 'binray'" in done.stderr
    other.write_text(PARTS)  # whose is the name?
    assert "[spec_twice]" in mm("uploads", "-d", "parts").stderr
