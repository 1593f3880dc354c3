"""What is wrong with rows, and how their numbers are written, in SQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_assets.contract.dataset import ColumnKind, DatasetSpec
from mm_assets.contract.spellings import Known
from mm_assets.contract.sql import literal
from mm_assets.manifest.looking import ODD, Looked, look
from mm_assets.manifest.numbers import (
    NOTHING,
    SPACE,
    Evidence,
    Form,
    decide,
    decide_typed,
    evidence_sql,
    missing_sql,
    odd_sql,
    points_sql,
)
from mm_assets.manifest.texts import (
    ID_PROBLEMS,
    Problem,
    Told,
    both_ways,
    judged_label_sql,
    label_problems,
    missing_numbers,
    number_columns,
    source_sql,
    values_sql,
)

if TYPE_CHECKING:
    import duckdb

FEW_ROWS = 1_000
COLUMNS_AT_ONCE = 40


def judge(
    db: duckdb.DuckDBPyConnection, spec: DatasetSpec, tables: list[Told], folder: Path
) -> list[Judged]:
    """Make the tables `judged` and `problems`.

    Numbers are first taken as computers write them; where that fits not everywhere, the rows that
    it does not fit are looked at. All are judged again only where that changes what others say.
    """
    classes = _classes(db, spec, tables)
    at_first = {table.number: _forms_at_first(spec, table) for table in tables}
    looks = look(db, spec, tables, at_first, classes, folder)
    db.execute("CREATE TEMP TABLE problems (n INTEGER, r BIGINT, code VARCHAR, reason VARCHAR)")
    found = []
    for looked in looks:
        table, forms = looked.table, at_first[looked.table.number]
        if looked.found_odd or looked.gone_numbers:
            forms = forms | _forms(db, spec, looked)
        again = {
            k
            for k, name in enumerate(spec.columns)
            if name in forms and not (forms[name].plain or forms[name].keeps_plain)
        }
        label_again = forms.get(spec.label_column) != at_first[table.number].get(spec.label_column)
        if again or label_again:
            _judge_again(db, spec, looked, forms, classes, again=again, label_again=label_again)
        judged = Judged(looked, forms, again)
        if again or looked.found_odd:
            _find_problems(db, spec, judged, classes)
        found.append(judged)
    return found


@dataclass(frozen=True)
class Judged:
    """One table, judged. forms: how its numbers are written. again: columns, by their place in the
    YAML, of which the first look settled nothing."""

    looked: Looked
    forms: dict[str, Form]
    again: set[int]

    @property
    def by_sql(self) -> list[int]:
        """The columns with numbers that the first look left to DuckDB."""
        return sorted(self.again | self.looked.odd_numbers)


def _judge_again(
    db: duckdb.DuckDBPyConnection,
    spec: DatasetSpec,
    looked: Looked,
    forms: Mapping[str, Form],
    classes: dict[str, list[str]],
    *,
    again: set[int],
    label_again: bool,
) -> None:
    """Put into `judged` what follows from numbers that are written otherwise."""
    said = []
    if again:
        sound = []
        for k, (name, column) in enumerate(spec.columns.items()):
            if k in again or k in looked.odd_numbers:
                gone = missing_sql(f"t{k}", spec.missing_values, number=False)
                otherwise = "false" if column.required else gone
                sound.append(
                    f"CASE WHEN {_sound_sql(spec, k, forms[name])} THEN true ELSE {otherwise} END"
                )
        said.append(f"NOT coalesce({' AND '.join(sound)}, false) AS odd_number")
    if label_again:
        form = forms.get(spec.label_column, Form())
        label, wrong = judged_label_sql(spec, form)
        said += [f"{label} AS label", f"{wrong} AS odd_label"]
        looked.odd_labels = True
    names = [one.rpartition(" AS ")[2] for one in said]
    new = f"SELECT r, {', '.join(said)} FROM ({source_sql(spec, looked.table)})"
    db.execute(f"CREATE OR REPLACE TEMP TABLE again AS {new}", classes if label_again else {})
    db.execute(
        f"UPDATE judged SET {', '.join(f'{name} = again.{name}' for name in names)} "
        f"FROM again WHERE judged.n = {looked.table.number} AND judged.r = again.r"
    )
    db.execute("DROP TABLE again")


def _sound_sql(spec: DatasetSpec, k: int, form: Form) -> str:
    sound = f"({form.sound_sql(f't{k}')})"
    if missing_numbers(spec):
        sound += f" AND NOT {missing_sql(f't{k}', spec.missing_values, number=False)}"
    return sound


def _one(db: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    """The one row that a query has."""
    (row,) = db.execute(query).fetchall()
    return tuple(row)


# -- numbers --------------------------------------------------------------------------------------


def _forms_at_first(spec: DatasetSpec, table: Told) -> dict[str, Form]:
    """What the numbers of each column are taken for, before anything of them was read."""
    columns = number_columns(spec, table)
    if spec.decimal == "," and not table.entry.get("typed"):
        return decide(dict.fromkeys(columns, NOTHING), spec.decimal)
    return dict.fromkeys(columns, Form())


def _forms(db: duckdb.DuckDBPyConnection, spec: DatasetSpec, looked: Looked) -> dict[str, Form]:
    """How the numbers of each column are written, as far as its odd ones were not plain."""
    table = looked.table
    columns = number_columns(spec, table)
    typed = table.entry.get("typed")
    if spec.decimal is not None and not typed:
        return decide(dict.fromkeys(columns, NOTHING), spec.decimal)
    gone = {
        name: missing_sql(text, spec.missing_values, number=True) for name, text in columns.items()
    }
    doubtful = f"WHERE r IN (SELECT r FROM judged WHERE {ODD} AND n = {table.number})"

    def counted(
        names: list[str], asked: Callable[[str, str], list[str]], only: str
    ) -> dict[str, list[int]]:
        """Some counts for each column; some columns at a time."""
        found: dict[str, list[int]] = {}
        source = source_sql(spec, table, only) if names else ""
        for start in range(0, len(names), COLUMNS_AT_ONCE):
            some = names[start : start + COLUMNS_AT_ONCE]
            counts = [", ".join(asked(columns[name], gone[name])) for name in some]
            told = list(_one(db, f"SELECT {', '.join(counts)} FROM ({source})"))
            each = len(told) // len(some)
            found |= {name: told[k * each : (k + 1) * each] for k, name in enumerate(some)}
        return found

    def evidence(names: list[str]) -> dict[str, Evidence]:
        """A comma is in doubtful rows only; a point may be in any, and mostly is in the first."""
        told = counted(names, evidence_sql, doubtful)
        found = {name: Evidence(*own) for name, own in told.items()}
        for only in (f"LIMIT {FEW_ROWS}", ""):
            rest = [name for name, own in found.items() if not own.point]
            points = counted(rest, lambda text, _: points_sql(text), only)
            for name, (point, open_point) in points.items():
                found[name] = found[name]._replace(point=point, open_point=open_point)
        return found

    doubted = {name for k, name in enumerate(spec.columns) if k in looked.odd_numbers}
    if looked.odd_labels:
        doubted.add(spec.label_column)
    names = [name for name in columns if name in doubted]
    odd = counted(names, lambda text, missing: [odd_sql(text, missing)], doubtful)
    found = evidence([name for name, (count,) in odd.items() if count])
    if typed:
        return {name: decide_typed(own) for name, own in found.items()}
    if any(one.comma or one.open_comma for one in found.values()):
        found |= evidence([name for name in columns if name not in found])
    return decide(found, None)


# -- what is wrong --------------------------------------------------------------------------------


def _find_problems(
    db: duckdb.DuckDBPyConnection,
    spec: DatasetSpec,
    judged: Judged,
    classes: dict[str, list[str]],
) -> None:
    """Add to `problems` the first thing that is wrong with each odd row, if anything is.

    Some columns at a time: DuckDB needs gigabytes for one question about hundreds.
    """
    looked, forms = judged.looked, judged.forms
    groups: list[tuple[list[Problem], list[int], dict[str, Any]]] = []
    if looked.odd_ids:
        groups.append((ID_PROBLEMS, [], {}))
    names = list(spec.columns)
    columns = sorted({*judged.by_sql, *looked.missing})
    for start in range(0, len(columns), COLUMNS_AT_ONCE):
        some = columns[start : start + COLUMNS_AT_ONCE]
        told = [_column_problems(spec, k, names[k], forms.get(names[k], Form())) for k in some]
        groups.append(([problem for problems in told for problem in problems], some, {}))
    if looked.odd_labels:
        labels = label_problems(spec, forms.get(spec.label_column, Form()))
        groups.append((list(labels), [], classes))
    for problems, some, parameters in groups:
        if problems:
            found = _problems_sql(spec, looked.table, forms, problems, some)
            db.execute(f"INSERT INTO problems {found}", parameters)


def _problems_sql(
    spec: DatasetSpec,
    table: Told,
    forms: Mapping[str, Form],
    problems: Sequence[Problem],
    columns: Sequence[int],
) -> str:
    """columns: whose values the problems are about."""
    code = "".join(f" WHEN {when} THEN '{code}'" for when, code, _ in problems)
    why = "".join(f" WHEN {when} THEN {reason}" for when, _, reason in problems)
    # Before anything is computed, and not after.
    only = (
        f"WHERE r IN (SELECT r FROM judged ANTI JOIN problems USING (n, r) "
        f"WHERE {ODD} AND n = {table.number})"
    )
    values = values_sql(spec, table, forms, only, columns=columns)
    return f"""
        FROM (SELECT n, r, CASE{code} END AS code, CASE{why} END AS reason FROM ({values}))
        WHERE code IS NOT NULL"""


def _column_problems(spec: DatasetSpec, k: int, name: str, form: Form) -> Iterator[Problem]:
    """What can be wrong with a value: when, the code, and the reason, each in SQL."""
    column, shown = spec.columns[name], literal(f"column '{name}': ")
    is_number = column.kind is ColumnKind.NUMBER
    gone = missing_sql(f"t{k}", spec.missing_values, number=is_number)
    if column.required:
        yield (
            f"v{k} IS NULL AND NOT labels_only AND {gone}",
            "value_missing",
            f"{shown} || 'no value'",
        )
    if is_number:
        wrong = f"v{k} IS NULL AND NOT {gone}"
        if form.open:
            reason = f"{shown} || {both_ways(f't{k}', form.open)}"
            yield f"{wrong} AND {form.open_sql(f't{k}')}", "number_ambiguous", reason
        reason = f"{shown} || '''' || left(t{k}, 60) || ''' is no finite number'"
        yield wrong, "number_invalid", reason


def _classes(
    db: duckdb.DuckDBPyConnection, spec: DatasetSpec, tables: list[Told]
) -> dict[str, list[str]]:
    """The classes, labels that are spelled otherwise than their class, and what each means."""
    if spec.classes is None:
        return {}
    with_labels = [table for table in tables if spec.label_column in table.entry["columns"]]
    found: list[tuple[Any, ...]] = []
    if with_labels:
        sources = " UNION ALL ".join(source_sql(spec, table) for table in with_labels)
        found = db.execute(
            f"SELECT DISTINCT trim(label_text, {SPACE}) AS told FROM ({sources}) "
            "WHERE told IS NOT NULL AND NOT list_contains($classes, told)",
            {"classes": list(spec.classes)},
        ).fetchall()
    known = Known(spec.classes)
    meant = {told: known.meant(told) for (told,) in found if known.knows(told)}
    return {
        "classes": list(spec.classes), "spelled": list(meant), "meant": list(meant.values()),
    }  # fmt: skip
