"""The room with the demos can be left out: everything else goes on, and its commands say so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HIDDEN = """
import importlib, pkgutil, sys

class Hidden:  # what Python finds where the folder is not there
    def find_spec(self, name, path=None, target=None):
        if name == "mm_assets.demo" or name.startswith("mm_assets.demo."):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
"""
EVERY_MODULE = """
import mm_assets
names = [name for _, name, _ in pkgutil.walk_packages(mm_assets.__path__, "mm_assets.")
         if not name.startswith("mm_assets.demo")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""
COMMAND = """
from mm_assets.cli.main import app
app(sys.argv[1:])
"""


def without_demos(code: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HIDDEN + code, *arguments],
        env={**os.environ, "MM_ROOT": str(folder), "NO_COLOR": "1"},
        check=False,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    "command",
    [["demo"], ["demo", "--dataset", "blur"], ["checks", "--sample"], ["dev", "--demo", "pets"]],
    ids=" ".join,
)
def test_a_command_of_the_demos_says_that_they_are_not_there(
    command: list[str], tmp_path: Path
) -> None:
    done = without_demos(COMMAND, tmp_path, *command)
    assert done.returncode == 1, done.stderr
    assert "[demo_missing]" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_nothing_else_imports_the_demos(tmp_path: Path) -> None:
    done = without_demos(EVERY_MODULE, tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 150


def test_other_commands_go_on(tmp_path: Path) -> None:
    done = without_demos(COMMAND, tmp_path, "init", "--template", "pets")
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("defs.yaml"))
