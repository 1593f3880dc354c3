"""What came from data is shown, not obeyed: on a terminal, in JSON, on a page, in a picture."""

from __future__ import annotations

import io
import json
import pickle
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mm_assets as mm
from mm_assets.contract.errors import MMError
from mm_assets.display import console
from mm_assets.display.cells import block, shown, visible, visible_json
from mm_assets.display.html import escaped, html_table
from mm_assets.display.pictures import markdown_picture, short

TITLE = "\x1b]0;owned\x07"
ACTS = ["\x1b", "\x00", "\x07", "\r", "\x7f", "\x9b", "\x85", "\u202e", "\u2066", "\u200f",
        "\u061c",
        "\u200b", "\ufeff", "\xad", "\u2028", "\u2029", "\ud800", "\U000e0041", "\u3164",
        "\ufffe"]  # fmt: skip


def acting(text: str, keep: str = "") -> list[str]:
    """The characters in it that act on a terminal or a page."""
    return [c for c in text if c not in keep and (unicodedata.category(c)[0] == "C" or c in ACTS)]


@pytest.mark.parametrize(("letter", "shown_as"), [
    ("\x1b", "\\x1b"), ("\x00", "\\x00"), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t"),
    ("\x7f", "\\x7f"), ("\x9b", "\\x9b"), ("\u202e", "\\u202e"), ("\ud800", "\\ud800"),
    ("\U000e0041", "\\U000e0041"), ("\u2028", "\\u2028"), ("\ufeff", "\\ufeff"),
])  # fmt: skip
def test_what_acts_is_an_escape(letter: str, shown_as: str) -> None:
    assert visible(f"a{letter}b") == f"a{shown_as}b"


@pytest.mark.parametrize("letter", ACTS)
def test_nothing_that_acts_is_left(letter: str) -> None:
    assert not acting(visible(letter))
    assert not acting(visible(f"a{letter}", keep="\n"), "\n")


@pytest.mark.parametrize("text", [
    "", "plain text", "größer – „müde“ 5 €", "日本語のテキスト", "Привет", "שלום", "مرحبا", "สวัสดี",
    "👍🏽", "👩‍🔬", "👨‍👩‍👧", "❤️", "می‌خواهم", "क्‍ष", "e\u0301", "a\u00a0b", "\u0600١٢", "C:\\x1b",
])  # fmt: skip
def test_what_people_write_is_left_alone(text: str) -> None:
    assert visible(text) == text
    assert json.loads(visible_json(json.dumps(text, ensure_ascii=False))) == text


def test_every_hidden_character_of_unicode_is_found() -> None:
    kinds = ("Cc", "Cf", "Cs", "Zl", "Zp")
    hidden = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) in kinds]
    raw = {c for c in hidden if visible(c) == c}
    # The signs that Arabic and Syriac write around numbers are seen.
    assert {unicodedata.name(c).split()[0] for c in raw} == {"ARABIC", "SYRIAC", "KAITHI"}
    assert len(hidden) > 2_200


def test_a_joiner_stays_only_where_a_script_needs_it() -> None:
    assert visible("pay\u200dpal") == "pay\\u200dpal"
    assert visible("\u200cx") == "\\u200cx"
    assert visible("ab\u200c") == "ab\\u200c"


@given(st.text(st.characters()))
def test_no_text_acts_and_json_stays_equal(text: str) -> None:
    again = visible(text)
    assert visible(again) == again
    assert all(unicodedata.category(c) not in ("Cc", "Cs", "Zl", "Zp") for c in again)
    whole = json.dumps({"a": [text]}, indent=2, ensure_ascii=False)
    assert json.loads(visible_json(whole)) == {"a": [text]}
    assert all(unicodedata.category(c) not in ("Cc", "Cs", "Zl", "Zp") or c == "\n"
               for c in visible_json(whole))  # fmt: skip


def test_a_second_line_cannot_pass_for_a_message() -> None:
    assert block("a\n✓ sent\n  What to do: b") == "a\n  ✓ sent\n  What to do: b"


# -- where it is shown ----------------------------------------------------------------------------


@pytest.mark.parametrize("tell", [console.say, console.good, console.warn, console.bad])
def test_messages_show_it(tell, capsys) -> None:
    tell(f"file {TITLE}\x1b[2J \u202e :key: [red]x[/red]\n✓ sent")
    said = capsys.readouterr()
    assert not acting(said.out + said.err, "\n")
    assert "\\x1b]0;owned\\x07\\x1b[2J \\u202e :key: [red]x[/red]\n  ✓ sent" in said.err


@pytest.mark.parametrize("form", list(console.Format))
def test_tables_json_and_csv_show_it(form, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    row = {"\x1bhead": f"{TITLE}\u202e\x85", "n": 1}
    console.print_rows([row], list(row), form, f"title {TITLE}")
    out = capsys.readouterr().out
    assert not acting(out, "\n")
    if form is console.Format.JSON:
        assert json.loads(out) == [row]


def test_csv_for_a_file_holds_the_values_as_they_are(capsys) -> None:
    console.print_rows([{"a": f"{TITLE}\u202e"}], ["a"], console.Format.CSV)
    assert capsys.readouterr().out == f"a\n{TITLE}\u202e\n"


def test_a_progress_bar_shows_the_name_of_a_file(monkeypatch) -> None:
    text = io.StringIO()
    monkeypatch.setattr(console.err(), "_file", text)
    with console.byte_progress("sending") as update:
        update(1, 2, f"{TITLE}\u202e.csv")
    assert not acting(text.getvalue(), "\n")


def test_an_error_shows_it_and_keeps_its_own_line() -> None:
    error = MMError(code="x", what=f"no {TITLE}", where="a\nb\u202e", todo="do\x1b[2J\nit")
    assert str(error) == ("[x] no \\x1b]0;owned\\x07 (a\\nb\\u202e)\n  What to do: do\\x1b[2J\\nit")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert error.what == f"no {TITLE}"


def test_a_notebook_shows_it() -> None:
    rows = mm.Rows([{"a": f"{TITLE}<b>\u202e"}], ["a"], f"<i>{TITLE}")
    for text in (repr(rows), rows._repr_html_(), mm.Rows([], ["a"], f"<i>{TITLE}")._repr_html_()):
        assert not acting(text, "\n")
    assert "&lt;b&gt;" in rows._repr_html_()
    assert "<i>" not in mm.Rows([], ["a"], f"<i>{TITLE}")._repr_html_()
    assert escaped(f"<{TITLE}") == "&lt;\\x1b]0;owned\\x07"
    assert not acting(html_table([{"a\x1b": "\u202e"}], ["a\x1b"], "\x00"))


def test_labels_and_captions_of_pictures_show_it() -> None:
    assert short(f"a\n{TITLE}\u202e\tb") == "a \\x1b]0;owned\\x07\\u202…"
    assert not acting(markdown_picture(b"", f"{TITLE}\u202e"))
    assert shown(f"{TITLE}") == "\\x1b]0;owned\\x07"
