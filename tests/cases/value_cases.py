"""How values are read: missing ones, numbers, categories in another spelling, IDs."""

from __future__ import annotations

from collections.abc import Sequence

from tests.cases.case import Case, lines

# Each stands for a missing number, whatever the YAML says.
MISSING = [
    ["NA", "n/a", "-", "NULL", "#N/A"],  # as in shared/cases
    ["", " ", "NaN", "None", "<NA>", "nan", "NaT"],  # pandas
    ["#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#NV", "#N/D"],  # spreadsheets
    ["\u00a0", "\u00a0NA\u202f", "\u200b", "-\ufeff"],  # web pages
    ["\\N", "(null)", "nil", "--", "—", "?", "."],  # databases, people, SAS
]
# Number as written, and what it is; None: refused with number_invalid, `?`: number_ambiguous.
NUMBERS: dict[str, list[tuple[str, float | str | None]]] = {
    "as in shared/cases": [
        ("1,234.5", 1234.5), ("1 234", 1234), ("12%", None), ("€45", None), ("45 kg", None),
    ],
    "English": [("1,234,567.5", 1234567.5), ("1,234", 1234), (".5", 0.5), ("+2", 2), ("1e3", 1000)],
    "German": [("1.234,5", 1234.5), ("12,5", 12.5), ("1.234.567", 1234567), ("2.000", 2000)],
    "French": [("1 234,5", 1234.5), ("1\u202f234,5", 1234.5), ("1\u00a0234", 1234)],
    "web pages": [("\u00a05\u00a0", 5), ("1,234.5\u200b", 1234.5), ("\ufeff6", 6)],
    "Swiss": [("1'234.50", 1234.5), ("12’345", 12345), ("1.5", 1.5)],
    "Indian": [("1,23,456.50", 123456.5), ("12,34,567", 1234567), ("1.5", 1.5)],
    "minus signs": [("-1.5", -1.5), ("−1.5", -1.5), ("–2", -2), ("(1.5)", None), ("1.5-", None)],
    "nobody knows": [("1,234", "?"), ("2,345", "?"), ("7", 7)],
    "groups that are none": [("1,23.5", None), ("12,34", None), ("1,234.5", 1234.5)],
    "no numbers": [
        ("inf", None), ("1e999", None), ("0x10", None), ("1_000", None), ("１２", None),
        ("True", None), ("2026-01-31", None), ("10:30", None), ("3 4", None), ("1/2", None),
    ],
}  # fmt: skip


def of_numbers(kind: str, written: Sequence[tuple[str, float | str | None]]) -> Case:
    """A table of one row for each number, between semicolons."""
    rows = [f'K{at};"{one}";red;x' for at, (one, _) in enumerate(written)]
    codes = {None: "number_invalid", "?": "number_ambiguous"}
    return Case(
        "a17", kind, lines("id;age;colour;notes", *rows),
        records={f"K{at}": (value, "red", "x") for at, (_, value) in enumerate(written)
                 if isinstance(value, float | int)},
        rejects={at: codes[value] for at, (_, value) in enumerate(written, 2)
                 if value is None or value == "?"},
        words=[f"'{one}'" for one, value in written if value is None or value == "?"],
    )  # fmt: skip


def of_missing(written: Sequence[str]) -> Case:
    rows = [f"K{at};{one};red;x" for at, one in enumerate(written)]
    return Case(
        "a16", " ".join(written), lines("id;age;colour;notes", *rows),
        records={f"K{at}": (None, "red", "x") for at in range(len(written))},
    )  # fmt: skip


VALUE_CASES = [
    *map(of_missing, MISSING),
    Case("a16", "what may be a number or a word stays a fault",
         lines("id;age;colour;notes", "K1;unknown;red;x", "K2;-9999;red;x"),
         records={"K2": (-9999.0, "red", "x")}, rejects={2: "number_invalid"}, words=["'unknown'"]),
    Case("a16", "blanks of web pages around words",
         lines("id;age;colour;notes", "K1;1;\u00a0red\u200b;\u00a0x", "K2;2;\u00a0;\u00a0"),
         records={"K1": (1.0, "red", "\u00a0x"), "K2": (2.0, None, None)}),
    Case("a16", "markers are words where they are no numbers",
         lines("id;age;colour;notes", "K1;1;NA;-", "K2;2; ;None"),
         records={"K1": (1.0, "NA", "-"), "K2": (2.0, None, "None")}),
    *(of_numbers(kind, written) for kind, written in NUMBERS.items()),
    Case("a17", "what the YAML says",
         lines("id;age;colour;notes", "K1;1,234;red;x", "K2;1.234;red;x"),
         spec={"decimal": ","}, records={"K1": (1.234, "red", "x"), "K2": (1234.0, "red", "x")}),
    Case("ids", "what looks like numbers stays text",
         lines("id;age;colour;notes", "007;1;red;x", "1.0;2;red;x", "1E5;3;red;x"),
         records={"007": (1.0, "red", "x"), "1.0": (2.0, "red", "x"), "1E5": (3.0, "red", "x")}),
    Case("ids", "long numbers that a spreadsheet has shortened",
         lines("id;age;colour;notes", "1.23457E+11;1;red;x", "1.5E+100;1;red;x", "1E+11;1.5;red;x",
               "1.5e+11;2;red;x", "a+b;3;red;x"),
         rejects={2: "id_number_lost", 3: "id_number_lost"}, words=["a spreadsheet has shortened"],
         records={"1E+11": (1.5, "red", "x"), "1.5e+11": (2.0, "red", "x"),
                  "a+b": (3.0, "red", "x")}),
    Case("ids", "blank, a path, too long",
         lines("id;age;colour;notes", "\u00a0;1;red;x", "../x;1;red;x", "x" * 1025 + ";1;red;x"),
         records={}, rejects={2: "id_blank", 3: "id_unsafe", 4: "id_too_long"}),
]  # fmt: skip
