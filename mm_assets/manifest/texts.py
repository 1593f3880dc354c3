"""The rows of one table as they were received, in SQL: their texts, their values, their labels.

Columns travel by position (`c0`, `t0`, `v0` …), because SQL does not tell `Name` from `name`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mm_assets.contract.dataset import ColumnKind, DatasetSpec
from mm_assets.contract.ids import MAXIMUM_BYTES, SHORTENED, SHORTENED_REASON
from mm_assets.contract.spellings import LABEL_WITH_DECIMALS, quoted
from mm_assets.contract.sql import literal
from mm_assets.manifest.numbers import SPACE, Form, missing_sql

Problem = tuple[str, str, str]  # in SQL: when there is one, its code, the reason
# What `ids.fault_of` says, in SQL.
ID_PROBLEMS = [
    (f"trim(record_id, {SPACE}) = ''", "id_blank", "'the ID is blank'"),
    (
        f"strlen(record_id) > {MAXIMUM_BYTES}",
        "id_too_long",
        f"'the ID has more than {MAXIMUM_BYTES:,} bytes: ' || left(record_id, 60) || ' …'",
    ),
    (
        r"regexp_matches(record_id, '[\x00-\x1f\x7f-\x{9f}\x{2028}\x{2029}/\\]|^\.\.?$')",
        "id_unsafe",
        "'the ID holds control characters or is a path'",
    ),
    (
        f"regexp_full_match(record_id, {literal(SHORTENED)})",
        "id_number_lost",
        literal(SHORTENED_REASON),
    ),
]


@dataclass(frozen=True)
class Told:
    """One table as `receive` stored it."""

    number: int
    entry: dict[str, Any]
    path: Path


def source_sql(spec: DatasetSpec, table: Told, only: str = "") -> str:
    """The table's rows of text; (n, r) is a row's own key. only: a condition that begins so."""
    position = {name: f"c{i}" for i, name in enumerate(table.entry["columns"])}
    texts = [
        f"{position.get(name, 'NULL::VARCHAR')} AS t{k}" for k, name in enumerate(spec.columns)
    ]
    texts += [
        f"{position.get(name, 'NULL::VARCHAR')} AS {what}_text"
        for what, name in spec.split_columns.items()
    ]
    label = position.get(spec.label_column, "NULL::VARCHAR")
    return (
        f"SELECT {table.number} AS n, file_row_number AS r, _file, _line, "
        f"{bool(table.entry['labels_only'])} AS labels_only, "
        f"coalesce(nfc_normalize({position[spec.id_column]}), '') AS record_id, "  # '' is refused
        f"{label} AS label_text"
        f"{''.join(', ' + text for text in texts)} "
        f"FROM read_parquet({literal(str(table.path))}, file_row_number = true) {only}"
    )


def number_columns(spec: DatasetSpec, table: Told) -> dict[str, str]:
    """Columns of numbers that the table has: name to where its text stands."""
    there = set(table.entry["columns"])
    found = {
        name: f"t{k}"
        for k, (name, column) in enumerate(spec.columns.items())
        if column.kind is ColumnKind.NUMBER and name in there
    }
    if spec.is_regression and spec.label_column in there:
        found[spec.label_column] = "label_text"
    return found


def values_sql(
    spec: DatasetSpec,
    table: Told,
    forms: Mapping[str, Form],
    only: str = "",
    *,
    columns: Iterable[int] | None = None,
    judged: bool = False,
) -> str:
    """A table's rows with their values: v0 …, NULL where one is missing or wrong.

    columns: which, if not all. judged: of rows that nothing is wrong with.
    """
    values = []
    wanted = range(len(spec.columns)) if columns is None else set(columns)
    for k, (name, column) in enumerate(spec.columns.items()):
        if k not in wanted:
            continue
        gone = missing_sql(f"t{k}", spec.missing_values, number=False)
        if column.kind is ColumnKind.NUMBER:
            form = forms.get(name, Form())
            value = form.judged_sql(f"t{k}") if judged else form.value_sql(f"t{k}")
            if missing_numbers(spec):
                value = f"CASE WHEN NOT {gone} THEN {value} END"
        elif column.kind is ColumnKind.TEXT:
            value = f"CASE WHEN NOT {gone} THEN t{k} END"
        else:
            value = f"CASE WHEN NOT {gone} THEN trim(t{k}, {SPACE}) END"
        values.append(f", {value} AS v{k}")
    return f"SELECT *{''.join(values)} FROM ({source_sql(spec, table, only)})"


def missing_numbers(spec: DatasetSpec) -> bool:
    """Whether something that is a number, or that DuckDB takes for one, means a missing value."""
    return any(character.isdigit() for token in spec.missing_values for character in token)


def both_ways(text: str, sign: str) -> str:
    value = f"trim({text}, {SPACE})"
    bare, point = f"replace({value}, '{sign}', '')", f"replace({value}, '{sign}', '.')"
    return f"'''' || {value} || ''' may be ' || {bare} || ' or ' || {point}"


def judged_label_sql(spec: DatasetSpec, form: Form) -> tuple[str, str]:
    """The label, null where it is missing, and whether anything is wrong with it."""
    wrong = " OR ".join(when for when, _, _ in label_problems(spec, form))
    return f"CASE WHEN NOT {_no_label_sql(spec)} THEN {label_sql(spec, form)} END", wrong


def _no_label_sql(spec: DatasetSpec) -> str:
    return missing_sql("label_text", spec.missing_values, number=spec.is_regression)


def label_problems(spec: DatasetSpec, form: Form) -> Iterator[Problem]:
    gone = _no_label_sql(spec)
    reason = f"{literal(spec.label_column)} || ' is ''' || left(label_text, 60) || ''''"
    if spec.is_regression:
        wrong = f"NOT {gone} AND ({form.value_sql('label_text')}) IS NULL"
        if form.open:
            both = f"{literal(spec.label_column + ' ')} || {both_ways('label_text', form.open)}"
            yield f"{wrong} AND {form.open_sql('label_text')}", "number_ambiguous", both
        yield wrong, "label_invalid", f"{reason} || ', no finite number'"
    elif spec.classes is not None:
        outside = f"NOT {gone} AND NOT list_contains($classes, {label_sql(spec, form)})"
        known = literal(f", not one of the classes: {quoted(spec.classes)}")
        yield outside, "label_invalid", f"{reason} || {known}"
    yield f"labels_only AND {gone}", "value_missing", "'no label in a label table'"


def label_sql(spec: DatasetSpec, form: Form) -> str:
    """A label as it is kept: the class that it is, or where none are listed `1` for `1.0`."""
    trimmed = f"trim(label_text, {SPACE})"
    if spec.is_regression:
        return trimmed if form.plain else form.text_sql("label_text")
    if spec.classes is None:
        whole = f"regexp_replace({trimmed}, '{LABEL_WITH_DECIMALS}', '\\1')"
        return f"CASE WHEN contains({trimmed}, '.') THEN {whole} ELSE {trimmed} END"
    found = f"list_position($spelled::VARCHAR[], {trimmed})"
    return f"coalesce(list_extract($meant::VARCHAR[], {found}), {trimmed})"


def split_sql(spec: DatasetSpec, what: str) -> str:
    """The value of a column that says how records are split; a group's `7.0` is `7`."""
    gone = missing_sql(f"{what}_text", spec.missing_values, number=True)  # `n/a` is no group
    value = f"nfc_normalize(trim({what}_text, {SPACE}))"
    if what == "group":
        value = f"regexp_replace({value}, '{LABEL_WITH_DECIMALS}', '\\1')"
    return f"CASE WHEN NOT {gone} THEN {value} END"
