"""`mm dev` before anything starts, and the end of what was started. tests/packaging runs it all."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from typer.testing import CliRunner

from mm_assets.cli.main import app
from mm_assets.contract.errors import SettingsError
from mm_assets.contract.settings import Settings
from mm_assets.drafting.templates import draft_from_template
from mm_assets.orchestration.dev import check_address, end_group, only_one, workspace_file


def dataset(settings: Settings, text: str) -> Path:
    file = settings.defs_folder / "blur" / "defs.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    return file


def test_a_port_that_is_taken_is_said_with_one_to_try() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(SettingsError) as caught:
            check_address("127.0.0.1", port)
    assert caught.value.code == "port_taken"
    assert f"--port {port + 1}" in caught.value.todo
    check_address("127.0.0.1", port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_a_host_where_nothing_can_listen_is_said(host: str) -> None:
    with pytest.raises(SettingsError) as caught:
        check_address(host, 3000)
    assert caught.value.code == "address_unusable"


def test_a_second_daemon_on_the_same_instance_is_refused(tmp_path: Path) -> None:
    with only_one(tmp_path):
        with pytest.raises(SettingsError) as caught, only_one(tmp_path):
            pass
        assert caught.value.code == "dev_running"
    with only_one(tmp_path):
        pass


def test_a_mistake_in_a_yaml_is_said_with_its_line_before_anything_starts(
    folder_settings: Settings,
) -> None:
    text = draft_from_template("blur").text.replace("camera: category", "camera: categry")
    file = dataset(folder_settings, text)
    line = text.splitlines().index("    camera: categry") + 1
    result = CliRunner().invoke(app, ["dev", "--port", "1"])
    assert result.exit_code == 1
    assert f"{file}:{line}" in result.stderr
    assert not (folder_settings.home / "mm-dev.lock").exists()


def test_a_demo_that_has_not_run_cannot_be_shown(folder_settings: Settings) -> None:
    result = CliRunner().invoke(app, ["dev", "--demo", "pets"])
    assert result.exit_code == 1
    assert "mm demo --dataset pets" in result.stderr


def test_a_project_without_a_workspace_gets_one_and_one_with_it_keeps_its_own(
    folder_settings: Settings,
) -> None:
    [location] = yaml.safe_load(workspace_file(folder_settings).read_text())["load_from"]
    assert location["python_module"]["location_name"] == "mm_assets"
    assert location["python_module"]["working_directory"] == str(folder_settings.root)
    own = folder_settings.root / "workspace.yaml"
    own.touch()
    assert workspace_file(folder_settings) == own


def test_the_location_has_the_same_name_in_a_checkout_so_that_sensors_keep_their_state() -> None:
    root = Path(__file__).parents[2]
    [location] = yaml.safe_load((root / "workspace.yaml").read_text())["load_from"]
    assert location["python_module"]["location_name"] == "mm_assets"


STUBBORN = """
import signal, subprocess, sys, time
child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
subprocess.Popen([sys.executable, "-c", child])
time.sleep(600)
"""  # noqa: E501


def test_what_a_process_leaves_behind_is_ended_too_even_if_it_does_not_listen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mm_assets.orchestration.dev.PATIENCE", 8)
    process = subprocess.Popen(
        [sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    [child] = psutil.Process(process.pid).children()
    os.kill(child.pid, signal.SIGTERM)
    end_group(process)
    assert process.returncode == -signal.SIGTERM
    until = time.monotonic() + 10  # a process that was killed is gone a moment later
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until
        time.sleep(0.02)
