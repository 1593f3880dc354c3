"""Ctrl-C in `mm train`, a real process: what is learnt so far is kept, judged and promoted."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import mm_assets as mm
from mm_assets.cli.main import app
from mm_assets.contract.settings import Settings
from tests.make import draw_image, table, zipped

ROOT = Path(__file__).parents[2]
YAML = """
type: mm_assets.pipeline.DatasetPipeline
attributes:
  dataset: pets
  id_column: id
  label_column: kind
  problem_type: binary
  columns: {{age: number}}
  image_longest_side: 16
  minimum_training_records: 20
  model_with_image: {with_image}
  model_without_image: {without_image}
"""
SLOW = {
    "engine": "tests.engines.toy_engine:Slow",
    "hyperparameters": {"centre": 50.0, "slope": 0.5},
}
QUICK = {"engine": "tests.engines.toy_engine:Toy", "hyperparameters": SLOW["hyperparameters"]}


def slow(ready: Path, **more: object) -> dict[str, object]:
    options = {**SLOW["hyperparameters"], "ready": str(ready), **more}  # type: ignore[dict-item]
    return {**SLOW, "hyperparameters": options}


MM = "from mm_assets.cli.main import main; main()"
ON_A_TERMINAL = f"""
import os, pty, sys
command = [sys.executable, "-W", "ignore", "-c", {MM!r}, *sys.argv[1:]]
sys.exit(os.waitstatus_to_exitcode(pty.spawn(command)))
"""


class Training:
    """`mm train`, a process of its own."""

    def __init__(
        self, settings: Settings, with_image: object, without_image: object, *, terminal: bool
    ) -> None:
        write_yaml(settings, with_image, without_image)
        self.terminal = terminal
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", ON_A_TERMINAL if terminal else MM, "train"],
            cwd=ROOT, env={**os.environ, "COLUMNS": "150"}, text=True, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if terminal else subprocess.PIPE,
        )  # fmt: skip

    def interrupt(self, ready: Path) -> None:
        """Ctrl-C, as soon as the file is there."""
        until = time.monotonic() + 120
        while not ready.exists():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < until
            time.sleep(0.05)
        ready.unlink()
        time.sleep(0.2)
        if self.terminal:
            assert self.process.stdin is not None
            self.process.stdin.write("\x03")
            self.process.stdin.flush()
        else:
            self.process.send_signal(signal.SIGINT)

    def end(self) -> tuple[int, str]:
        """Its exit code and what it said."""
        shown, errors = self.process.communicate(timeout=120)
        said = shown if self.terminal else errors
        assert "Traceback" not in said, said
        return self.process.returncode, said


def write_yaml(settings: Settings, with_image: object, without_image: object) -> None:
    file = settings.defs_folder / "pets" / "defs.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    engines = {"with_image": with_image, "without_image": without_image}
    file.write_text(YAML.format(**{name: json.dumps(one) for name, one in engines.items()}))


SYNCED: list[Path] = []  # a project that has taken in its records; each test works on a copy


@pytest.fixture
def settings(folder_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A project that has taken in 60 labelled records, 40 of them with an image."""
    root = folder_settings.root
    if SYNCED:
        shutil.copytree(SYNCED[0], root, dirs_exist_ok=True)
        return folder_settings
    write_yaml(folder_settings, QUICK, QUICK)
    rows = [f"r{n:02},{n + 20},{'dog' if n >= 30 else 'cat'}" for n in range(60)]
    files = {f"r{n:02}.png": draw_image(n) for n in range(10, 50)}
    path = tmp_path_factory.mktemp("sent") / "labelled.zip"
    path.write_bytes(zipped({"t.csv": table("id,age,kind", *rows), **files}))
    for command in (("upload", str(path)), ("sync",)):
        assert CliRunner().invoke(app, command).exit_code == 0
    SYNCED.append(tmp_path_factory.mktemp("synced") / "project")
    shutil.copytree(root, SYNCED[0])
    return folder_settings


Start = Callable[..., Training]


@pytest.fixture
def start(settings: Settings) -> Iterator[Start]:
    begun: list[Training] = []

    def training(*engines: object, terminal: bool = False) -> Training:
        begun.append(Training(settings, *engines, terminal=terminal))
        return begun[-1]

    yield training
    for one in begun:
        if one.process.poll() is None:
            one.process.kill()


def champions() -> dict[str, dict[str, object]]:
    return {one["modality"]: one for one in mm.open().champions()}


def test_ctrl_c_keeps_the_best_so_far_and_promotes_it(start: Start, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    training = start(slow(ready), QUICK)
    training.interrupt(ready)
    code, said = training.end()
    assert code == 3, said
    words = "model_with_image stopped early, with the best so far"
    assert f"! pets: train: used in part: {words}\n" in said
    member = "2 of 3 · sleep · best so far: log loss 0.4 (age) · 60 s left"
    assert f"with_image: {SLOW['engine']}: {member}\n" in said  # no terminal: lines that stay
    assert "✓ with_image: champion" in said
    assert "✓ pets: monitor" in said  # everything goes on as ever
    there = champions()
    assert there["with_image"]["engine"] == SLOW["engine"]
    assert there["without_image"]["engine"] == QUICK["engine"]


def test_on_a_terminal_the_member_and_the_time_are_seen_and_ctrl_c_is_heard(
    start: Start, tmp_path: Path
) -> None:
    ready = tmp_path / "ready"
    training = start(slow(ready), QUICK, terminal=True)
    training.interrupt(ready)
    code, said = training.end()
    assert code == 3, said
    seen = re.sub("\x1b\\[[0-9;?]*[a-zA-Z]", "", said)
    assert re.search(
        "2 of 3 (60|59) s left with_image: .*: sleep · best so far: log loss 0.4", seen
    )
    assert "used in part: model_with_image stopped early, with the best so far" in seen


def test_after_ctrl_c_no_other_model_begins_to_learn(start: Start, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    training = start(QUICK, slow(ready))
    training.interrupt(ready)
    code, said = training.end()
    assert code == 3, said
    assert (
        "! pets: train: used in part: 1 of 2 models not trained: with_image training_stopped; "
        "model_without_image stopped early, with the best so far\n"
    ) in said
    assert "training_stopped: with_image has not learnt" in said
    assert "Run `mm train` again." in said
    assert champions()["with_image"]["version"] is None
    assert champions()["without_image"]["version"] is not None


@pytest.mark.parametrize("engine", ["has learnt nothing yet", "knows nothing of it"])
def test_where_there_is_nothing_to_keep_ctrl_c_ends_the_training(
    start: Start, tmp_path: Path, engine: str
) -> None:
    ready = tmp_path / "ready"
    more = {"deaf": True} if engine == "knows nothing of it" else {"good": False}
    training = start(QUICK, slow(ready, **more))
    training.interrupt(ready)
    code, said = training.end()
    assert code == 1, said
    assert "✗ pets: train failed: it was interrupted; run the same command again\n" in said
    assert champions()["without_image"]["version"] is None


def test_a_second_ctrl_c_ends_the_training(start: Start, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    training = start(QUICK, slow(ready, lingers=True))
    training.interrupt(ready)
    training.interrupt(ready)
    code, said = training.end()
    assert code == 1, said
    assert "✗ pets: train failed: it was interrupted" in said
    assert champions()["without_image"]["version"] is None


def test_of_engines_that_compete_those_that_were_through_are_kept(
    start: Start, tmp_path: Path
) -> None:
    ready = tmp_path / "ready"
    training = start([QUICK, slow(ready, deaf=True), QUICK], QUICK)
    training.interrupt(ready)
    code, said = training.end()
    assert code == 3, said
    assert "model_with_image stopped early" in said
    assert f"{SLOW['engine']} has not learnt: the training was stopped by Ctrl-C" in said
    assert str(champions()["with_image"]["engine"]) == QUICK["engine"]
