"""The benchmark of quality: a small run ends in a table, and the page is what was measured."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from benchmarks.quality import page, promises, stored
from benchmarks.quality.__main__ import app
from benchmarks.quality.figures import Measured
from benchmarks.quality.measure import figures, measure
from benchmarks.quality.sets import LABEL, TRUTH, every_set, wine
from benchmarks.quality.stored import Cell
from mm_assets.contract.review import Review

TINY = ["--sets", "wine", "--rivals", "guess,linear", "--splits", "2"]


def asked(folder: Path, *arguments: str) -> str:
    result = CliRunner().invoke(app, [*TINY, "--folder", str(folder), *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def cell(name: str, rival: str, split: int, **metrics: float) -> dict:
    return {
        "set": name, "rival": rival, "split": split, "metrics": metrics, "training": 8,
        "held_out": 2, "train_seconds": 1.0, "predict_seconds": 0.1, "minutes": 2.0,
        "date": "2026-11-28", "data": "0", "problem_type": "binary",
    }  # fmt: skip


def test_a_small_run_ends_in_a_table_and_a_second_one_measures_nothing_again(
    tmp_path: Path,
) -> None:
    shown = asked(tmp_path)
    assert re.search(r"linear\W+2\W+0\.9", shown), shown
    files = sorted(tmp_path.iterdir())
    assert [f.name for f in files] == [
        "wine-guess-0.json", "wine-guess-1.json", "wine-linear-0.json", "wine-linear-1.json",
    ]  # fmt: skip
    before = [path.stat().st_mtime_ns for path in files]
    assert asked(tmp_path) == shown
    assert [path.stat().st_mtime_ns for path in files] == before


def test_a_run_that_was_cut_off_measures_what_is_missing_or_was_of_other_data(
    tmp_path: Path,
) -> None:
    asked(tmp_path)
    missing, changed = tmp_path / "wine-linear-0.json", tmp_path / "wine-guess-1.json"
    missing.unlink()
    other = json.loads(changed.read_text())
    changed.write_text(json.dumps({**other, "data": "other"}))
    asked(tmp_path)
    assert missing.is_file()
    assert json.loads(changed.read_text())["data"] == other["data"]


def test_an_unknown_rival_is_answered_with_those_that_there_are() -> None:
    result = CliRunner().invoke(app, ["--rivals", "magic"])
    assert result.exit_code == 2
    assert "automatic" in result.output


def test_all_rivals_get_the_same_held_out_records_and_the_same_number() -> None:
    measured = [measure(wine(), Cell("wine", rival, 1), 1.0) for rival in ("guess", "boosting")]
    assert measured[0]["held_out"] == measured[1]["held_out"] == 36
    assert measured[0]["metrics"]["accuracy"] < 0.5 < 0.8 < measured[1]["metrics"]["accuracy"]


@pytest.mark.parametrize("name", sorted({*every_set()} - {"pets", "houses", "fashion"}))
def test_a_set_is_the_same_each_time_and_engines_can_take_it(name: str) -> None:
    first, second = every_set()[name](), every_set()[name]()
    assert first.fingerprint() == second.fingerprint()
    assert {*first.columns, LABEL} <= {*first.records}
    assert len(first.records) >= 150
    for column, kind in first.columns.items():
        values = first.records[column].dropna()
        expected = {"number": float, "image": bytes}.get(kind, str)
        assert all(isinstance(value, expected) for value in values), column


def test_a_mistyped_label_is_learnt_from_and_the_truth_judges() -> None:
    claims = every_set()["claims"]()
    wrong = claims.records[LABEL] != claims.records[TRUTH]
    assert wrong.sum() == 9
    assert (claims.records[LABEL] > 500 * claims.records[TRUTH]).sum() == 9
    perfect = pd.DataFrame({"value": claims.truth})
    found = figures(claims, claims.truth, perfect, claims.records[LABEL])
    assert found["mean_absolute_error"] == 0
    assert found["r2"] == found["r2_log"] == 1


def test_the_verdict_is_of_paired_differences_over_common_splits() -> None:
    cells = [cell("s", "linear", split, accuracy=0.8 + split / 100) for split in range(4)]
    cells += [cell("s", "guess", split, accuracy=0.5) for split in range(4)]
    cells += [cell("s", "automatic", split, accuracy=0.78 + split / 100) for split in range(3)]
    verdict = Measured(cells).verdict("s", "accuracy")
    assert verdict is not None
    assert (verdict.rival, verdict.splits, verdict.holds) == ("linear", 3, False)
    assert verdict.behind == pytest.approx(0.02)
    assert verdict.error == pytest.approx(0, abs=1e-9)
    better = [c for c in cells if c["rival"] != "automatic"]
    better += [cell("s", "automatic", split, accuracy=0.9) for split in range(4)]
    verdict = Measured(better).verdict("s", "accuracy")
    assert verdict is not None
    assert verdict.holds
    assert verdict.behind < 0


def test_of_an_error_less_is_better_and_equal_means_share_a_rank() -> None:
    cells = [
        cell(name, rival, split, mean_absolute_error=error + split, r2=0.5)
        for name in ("a", "b")
        for rival, error in (("guess", 9.0), ("linear", 2.0), ("automatic", 1.0))
        for split in range(2)
    ]
    measured = Measured(cells)
    assert measured.ranks(0) == {"guess": 3.0, "linear": 2.0, "automatic": 1.0}
    assert measured.ranks(1) == {"guess": 2.0, "linear": 2.0, "automatic": 2.0}
    assert measured.best("a", "mean_absolute_error") == "linear"


def test_the_page_is_what_the_writer_makes_of_the_stored_measurements() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.section(stored.read_results()) in text


def test_the_stored_measurements_name_no_path_and_fill_the_page() -> None:
    text = stored.RESULTS.read_text(encoding="utf-8")
    assert not re.search(r'"/|\\\\|/home|/work|/tmp', text)
    results = stored.read_results()
    assert {c["set"] for c in results["cells"]} <= results["sets"].keys()
    assert len({c["set"] for c in results["cells"]}) >= 8


def test_writing_replaces_the_section_and_nothing_else(tmp_path: Path) -> None:
    copy = tmp_path / "results.md"
    copy.write_text(page.PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    few = {
        "about": stored.read_results()["about"],
        "sets": {"s": "few records"},
        "cells": [cell("s", "guess", 0, accuracy=0.25)],
    }
    page.put(few, copy)
    text = copy.read_text(encoding="utf-8")
    assert "few records" in text
    assert "0.250" in text
    page.put(stored.read_results(), copy)
    assert copy.read_text(encoding="utf-8") == page.PAGE.read_text(encoding="utf-8")


def test_the_page_of_promises_is_what_was_measured(tmp_path: Path) -> None:
    rows = json.loads(promises.RESULTS.read_text(encoding="utf-8"))
    assert promises.section(rows) in page.PAGE.read_text(encoding="utf-8")
    for row in rows:
        for of in row["targets"].values():
            assert 0 <= of["kept"] <= of["promised"] <= row["splits"]


def test_a_split_is_judged_by_records_that_were_held_out(tmp_path: Path) -> None:
    said = promises.said_of(wine(), 0, minutes=0.2)
    assert len(said["truth"]) + len(said["labels"]) == len(wine().records)
    told = promises.judged(said, Review(largest_share=0.2), of_numbers=False)
    right = said["classes"][said["predicted"].argmax(axis=1)] == said["truth"]
    assert told["errors"] == 1 - right.mean()
    assert 0 <= told["share"] <= 0.5
