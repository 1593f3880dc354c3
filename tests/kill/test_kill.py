"""Kills of workers, code servers, daemons and everything end where an undisturbed run ends.

Eighteen kills have each kind at least twice, and `test_on_servers.py` adds a crash of the database
and a kill of everything; 200 (MM_NIGHTLY=1) meet many more moments. Every moment between two steps
is met in tests/laws/test_moments.py.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.kill.harness import KINDS, run_under_fire
from tests.kill.project import PARTS, Project, differences, make_waves, run_quietly

KILLS = 200 if os.environ.get("MM_NIGHTLY") == "1" else 2 * len(KINDS)


@pytest.mark.timeout(7200)
def test_what_is_killed_at_any_moment_ends_in_the_same_table(tmp_path: Path) -> None:
    quiet = run_quietly(Project(tmp_path / "quiet"), make_waves(0))
    assert quiet["newest champion everywhere"]
    assert not quiet["pending"]
    assert not quiet["set aside"]
    assert len(quiet["rows"]) == 20 * PARTS
    killed, kills = run_under_fire(Project(tmp_path / "killed"), 0, KILLS, print)
    assert sum(kills.values()) == KILLS
    assert kills.keys() == {*KINDS}
    assert not any(differences(quiet, killed).values()), differences(quiet, killed)
