"""Many rounds of kills: counted, taken up again, and ended when nothing works any more."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.kill import many
from tests.kill.project import differences


def test_rounds_go_on_behind_those_that_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    played: list[tuple[int, int]] = []

    def one_round(_folder: Path, seed: int, kills: int, *_: Any) -> tuple[Counter[str], Any]:
        played.append((seed, kills))
        return Counter(worker=kills), {"lost": int(seed == 3), "duplicated": 0, "different": 0}

    monkeypatch.setattr(many, "one_round", one_round)
    log = tmp_path / "log.jsonl"
    many.go_on(log, 30, ["folder"])
    assert played == [(1, 27), (2, 3)]
    many.go_on(log, 40, ["folder"])
    assert played[2:] == [(3, 10)]
    monkeypatch.setattr(sys, "argv", ["many", "--show", "--log", str(log)])
    with pytest.raises(SystemExit, match="True"):
        many.main()
    assert "| folder + DuckDB | 3 | 40 | 40 worker | 1 | 0 | 0 | 0 |" in capsys.readouterr().out


def test_rounds_that_do_not_end_are_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many, "one_round", lambda *_: 1 / 0)
    many.go_on(tmp_path / "log.jsonl", 30, ["folder"])
    assert len(many.read_log(tmp_path / "log.jsonl")) == many.MOST_FAILED
    assert "ZeroDivisionError" in (tmp_path / "round-1" / "traceback").read_text()


def test_what_is_lost_twice_or_otherwise_is_counted() -> None:
    quiet = {"rows": {"a": 1, "b": 2}, "records": {"a": 1, "b": 1}, "pending": []}
    killed = {"rows": {"a": 3, "c": 1}, "records": {"a": 2, "c": 1}, "pending": ["u"]}
    assert differences(quiet, killed) == {
        "lost": 1, "duplicated": 1, "different": 2, "pending": 1
    }  # fmt: skip
