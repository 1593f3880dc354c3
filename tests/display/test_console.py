"""What `mm` prints as CSV: the values as they are, and nothing that a spreadsheet would run."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from mm_assets.display.console import Format, print_rows


def printed(capsys: pytest.CaptureFixture[str], value: Any, form: Format = Format.CSV) -> str:
    print_rows([{"value": value}], ["value"], form)
    return capsys.readouterr().out


def cell(capsys: pytest.CaptureFixture[str], value: Any) -> str:
    (header, (found,)) = csv.reader(io.StringIO(printed(capsys, value)))
    assert header == ["value"]
    return found


@pytest.mark.parametrize(
    "formula",
    ["=cmd|' /C calc'!A0", "=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1+1",
     "-2+3e5", "--1", "+49 30 1", '=HYPERLINK("x","y")'],
)  # fmt: skip
def test_what_a_spreadsheet_would_run_is_escaped_in_csv_and_nowhere_else(
    capsys: pytest.CaptureFixture[str], formula: str
) -> None:
    assert cell(capsys, formula) == "'" + formula
    assert json.loads(printed(capsys, formula, Format.JSON)) == [{"value": formula}]


@pytest.mark.parametrize(
    ("value", "shown"),
    [("-1", "-1"), ("-1.5", "-1.5"), ("-2e+05", "-2e+05"), (-0.25, "-0.25"), (7, "7"),
     ("a=b", "a=b"), ("007", "007"), (None, ""), (True, "True"), ({"é": 1}, '{"é": 1}'),
     ('a,b\n"c"', 'a,b\n"c"'), ("a\r=1+1", "a\r=1+1")],
)  # fmt: skip
def test_every_other_value_is_printed_as_it_is(
    capsys: pytest.CaptureFixture[str], value: Any, shown: str
) -> None:
    assert cell(capsys, value) == shown
