"""Without a checkout: the wheel in an environment of its own, from an empty folder to predictions.

The environment holds the wheel alone; what the wheel depends on is read from the environment of the
tests, whose own editable install of this checkout can't be seen from there.
"""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
import venv
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from PIL import Image

from mm_assets.drafting.templates import template_names

ROOT = Path(__file__).parents[2]
FAST = "{engine: sklearn, hyperparameters: {steps: [{class: sklearn.ensemble.ExtraTreesClassifier, n_estimators: 20}]}}"  # noqa: E501
STATE = ("MM_", "AWS_", "DAGSTER_", "PYTHON", "VIRTUAL_ENV")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built with what is installed."""
    folder = tmp_path_factory.mktemp("dist")
    command = ["-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [file] = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def stranger(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """`mm` and `python` of an environment with the wheel, and an empty folder to work in."""
    home = tmp_path_factory.mktemp("stranger")
    venv.create(home / "venv", symlinks=True)
    python = home / "venv" / "bin" / "python"
    packages = sysconfig.get_path("purelib", vars={"base": str(home / "venv")})
    # A path in a .pth is searched, but the .pth files of editable installs in it are not obeyed.
    Path(packages, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = ["uv", "pip", "install", "--quiet", "--offline", "--no-deps", "--python", str(python)]
    subprocess.run([sys.executable, "-m", *install, str(wheel)], check=True)
    folder = home / "project"
    folder.mkdir()
    clean = {name: value for name, value in os.environ.items() if not name.startswith(STATE)}
    return SimpleNamespace(python=python, mm=python.with_name("mm"), folder=folder, env=clean)


@pytest.fixture(scope="module")
def deliveries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two uploads of parts, with labels and without; three of four parts have an image."""
    folder, chance = tmp_path_factory.mktemp("deliveries"), random.Random(0)
    for name, number in (("labelled", 80), ("unlabelled", 20)):
        (folder / name).mkdir()
        rows = [["part", "weight", "good"]]
        for n in range(number):
            part, good = f"{name[0]}{n:03}", n % 2
            label = ("no", "yes")[good] if name == "labelled" else ""
            rows.append([part, f"{1 + 4 * good + chance.random():.3f}", label])
            if n % 4:
                colour = (40 + 160 * good, chance.randrange(256), 90)
                Image.new("RGB", (16, 16), colour).save(folder / name / f"{part}.png")
        with (folder / name / "parts.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    return folder


def run(stranger: SimpleNamespace, *words: object, code: int = 0, within: str = ".") -> Any:
    done = subprocess.run(
        list(map(str, words)), cwd=stranger.folder / within, env=stranger.env,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_the_wheel_is_the_package_and_the_templates_and_an_index_would_take_it(wheel) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"mm_assets"}
    assert "mm_assets/py.typed" in names
    assert "mm_assets/training/report/page.html.j2" in names
    assert "mm_assets/project/dagster.yaml" in names
    for template in template_names():
        assert f"mm_assets/project/defs/{template}/defs.yaml" in names
    check = [sys.executable, "-m", "twine", "check", "--strict", str(wheel)]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert wheel.stat().st_size < 2_000_000


def test_what_is_tested_here_is_the_wheel_and_not_the_checkout(stranger) -> None:
    code = "import mm_assets, importlib.util as u; print(mm_assets.__file__)"
    code += "; print(u.find_spec('dagster_project'))"
    place, project = run(stranger, stranger.python, "-c", code).stdout.split()
    assert Path(place).is_relative_to(stranger.python.parents[1])
    assert project == "None"


def test_from_an_empty_folder_to_predictions(stranger, deliveries) -> None:
    mm = stranger.mm
    assert "no_dataset" in run(stranger, mm, "sync", code=1).stderr
    table, images = deliveries / "labelled" / "parts.csv", deliveries / "labelled"
    run(stranger, mm, "init", table, "--images", images, "--id", "part", "--label", "good",
        "--dataset", "parts")  # fmt: skip
    file = stranger.folder / "defs" / "parts" / "defs.yaml"
    text = file.read_text().replace("{engine: automatic}", FAST)
    file.write_text(text.replace("  image_longest_side", "  image_features: [brightness]\n  image_longest_side"))  # fmt: skip  # noqa: E501
    for name in ("labelled", "unlabelled"):
        run(stranger, mm, "upload", deliveries / name)
    assert "unlabelled" in run(stranger, mm, "sync").stderr
    assert run(stranger, mm, "train").stderr.count("champion") >= 2
    (stranger.folder / "below").mkdir()
    said = run(stranger, mm, "predictions", "--format", "json", within="below").stdout
    rows = json.loads(said)
    assert len(rows) == 20
    assert sum(row["modality"] == "with_image" for row in rows) == 15
    right = sum((int(row["record_id"][1:]) % 2 == 1) == (row["prediction"] == "yes")
                for row in rows)  # fmt: skip
    assert right >= 19
    state = {path.name for path in (stranger.folder / "data").iterdir()}
    assert {"lake", "predictions.duckdb", "dagster"} <= state
    settings = (stranger.folder / "data" / "dagster" / "dagster.yaml").read_text()
    assert "run_monitoring" in settings


def test_templates_come_along_and_can_be_copied_under_another_name(stranger) -> None:
    run(stranger, stranger.mm, "init", "--template", "blur")
    run(stranger, stranger.mm, "init", "--template", "cancer", "--dataset", "biopsies")
    jobs = json.loads(run(stranger, stranger.mm, "workflow", "list", "--format", "json").stdout)
    assert {"blur_upload", "biopsies_upload"} <= {job["name"] for job in jobs}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(port: int, query: str) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql", json.dumps({"query": query}).encode(),
        {"Content-Type": "application/json"},
    )  # fmt: skip
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return json.loads(opener.open(request, timeout=30).read())["data"]


def test_mm_dev_serves_the_folder_and_ends_with_all_that_it_started(stranger) -> None:
    run(stranger, stranger.mm, "init", "--template", "blur", "--force")
    port = free_port()
    log = stranger.folder / "dev.log"
    with log.open("w") as file:
        dev = subprocess.Popen(
            [stranger.mm, "dev", "--port", str(port)],
            cwd=stranger.folder, env=stranger.env, stdout=file, stderr=file,
        )  # fmt: skip
    try:
        until = time.monotonic() + 90
        while "is up" not in log.read_text():
            assert dev.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.2)
        found = ask(port, "{assetNodes {assetKey {path}}}")["assetNodes"]
        assert ["blur", "predictions"] in [one["assetKey"]["path"] for one in found]
        taken = run(stranger, stranger.mm, "dev", "--port", port, code=1).stderr
        assert f"something listens on port {port} already" in taken
        started = psutil.Process(dev.pid).children(recursive=True)
        assert len(started) >= 4  # dagster dev, UI, daemon, code server
        dev.send_signal(signal.SIGINT)
        assert dev.wait(150) == 0
    finally:
        if dev.poll() is None:  # it did not come to its end: nothing of it may live on
            for one in [*psutil.Process(dev.pid).children(recursive=True), dev]:
                one.kill()
    assert "Dagster has ended, with all that it had started" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert [one for one in started if one.is_running() and one.status() != "zombie"] == []
