"""The rule for numbers is one, in SQL for the pipeline and in Python for drafts."""

from __future__ import annotations

import re

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_assets.manifest.numbers import (
    MARKERS,
    Evidence,
    Form,
    decide,
    evidence_of,
    evidence_sql,
    missing_sql,
    parser,
    points_sql,
)

piece = st.sampled_from([".", ",", " ", "\u00a0", "'", "-", "+", "e", "E", "−", "000", "123", "NA"])
digits = st.integers(0, 99999).map(str)
written = st.lists(piece | digits, min_size=1, max_size=6).map("".join)
shaped = st.from_regex(
    re.compile(r"[+-]?[0-9]{1,4}([ ,.'][0-9]{3}){0,2}([.,][0-9]{0,4})?"), fullmatch=True
)
FORMS = [Form(decimal, plain=False, open=is_open) for decimal in ".," for is_open in ("", ",", ".")]


def asked(query: str, texts: list[str]) -> list[tuple]:
    with duckdb.connect() as db:
        return db.execute(
            f"WITH told AS (SELECT unnest($texts) AS t) {query}", {"texts": texts}
        ).fetchall()


@settings(max_examples=60, deadline=None)
@given(st.lists(written | shaped, min_size=1, max_size=30), st.sampled_from(FORMS))
def test_sql_and_python_read_the_same_numbers(texts: list[str], form: Form) -> None:
    found = [value for (value,) in asked(f"SELECT {form.value_sql('t')} FROM told", texts)]
    assert found == [parser(form)(text) for text in texts]


@settings(max_examples=60, deadline=None)
@given(st.lists(written | shaped, min_size=1, max_size=30))
def test_sql_and_python_count_the_same_evidence(texts: list[str]) -> None:
    gone = missing_sql("t", [""], number=True)
    (told,) = asked(f"SELECT {', '.join(evidence_sql('t', gone))} FROM told", texts)
    kept = [t for t in texts if t.strip(" \t\r\n").lower() not in (*MARKERS, "")]
    assert Evidence(*told)[1:] == evidence_of(kept)[1:]


@settings(max_examples=60, deadline=None)
@given(st.lists(written | shaped, min_size=1, max_size=30), st.sampled_from([Form(), *FORMS]))
def test_the_shorter_questions_have_the_same_answers(texts: list[str], form: Form) -> None:
    value = form.value_sql("t")
    sound = f"coalesce({form.sound_sql('t')}, false)"
    query = f"SELECT {value}, {sound}, {form.judged_sql('t')}, {Form().value_sql('t')} FROM told"
    for number, is_sound, judged, plain in asked(query, texts):
        assert is_sound == (number is not None)
        assert not is_sound or judged == number
        assert not form.keeps_plain or plain is None or number == plain
    dotted = [text for text in texts if "." in text]
    (points,) = asked(f"SELECT {', '.join(points_sql('t'))} FROM told", texts)
    found = evidence_of(dotted)
    assert points == (found.point, found.open_point)


@settings(max_examples=200, deadline=None)
@given(shaped, shaped)
def test_what_is_certain_for_one_sign_is_never_certain_for_the_other(one: str, other: str) -> None:
    for text in (one, other):
        found = evidence_of([text])
        assert not (found.point and found.comma)
        assert found.point + found.comma + found.open_comma + found.open_point <= 1


@pytest.mark.parametrize(
    ("texts", "decimal", "is_open"),
    [
        (["1,5"], ",", ""),
        (["1.5"], ".", ""),
        (["1,234"], ".", ","),
        (["1,234", "1,5"], ",", ""),
        (["1.234", "7"], ".", ""),
        (["1.234.567"], ",", ""),
        (["1.5", "1,5"], ".", ","),
    ],
)
def test_a_column_alone_decides(texts: list[str], decimal: str, is_open: str) -> None:
    form = decide({"x": evidence_of(texts)}, None)["x"]
    assert (form.decimal, form.open) == (decimal, is_open)
