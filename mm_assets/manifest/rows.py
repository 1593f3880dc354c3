"""From rows of text to typed records, or rejects with a code, all in DuckDB SQL.

The rows stay on disk. What decides about them (ID, label, a hash, what is wrong) is a narrow table
that DuckDB spills when it must; the values are made when they are asked for, a batch at a time.
Columns travel by position (`c0`, `t0`, `v0` …), because SQL does not tell `Name` from `name`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_assets.contract.dataset import ColumnKind, DatasetSpec
from mm_assets.contract.errors import REFUSALS
from mm_assets.contract.ids import MAXIMUM_BYTES
from mm_assets.contract.spellings import LABEL_WITH_DECIMALS, Known
from mm_assets.contract.sql import literal
from mm_assets.lake.lake import Lake
from mm_assets.lake.local import working_folder
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
    read_with,
)
from mm_assets.reading.in_memory import in_memory
from mm_assets.reading.table import SPACE as TABLE_SPACE
from mm_assets.uploads.received import refusals_table

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

MEMORY = "400MB"  # of DuckDB; what is more goes to disk
FEW_ROWS, FEW_BYTES = 1_000, 1 << 20
BATCH_ROWS = 65_536
COLUMNS_AT_ONCE = 40
_Problem = tuple[str, str, str]  # in SQL: when there is one, its code, the reason
# What `ids.fault_of` says, in SQL.
_ID_PROBLEMS = [
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
]
# A record's own columns. The dataset's columns are in the struct column `features`, so that no
# name of theirs can meet one of ours.
RECORD_COLUMNS = ("record_id", "row_file", "row_line", "labels_only", "label", "row_hash")


def record_columns(spec: DatasetSpec) -> tuple[str, ...]:
    """RECORD_COLUMNS, then `split_group` and `split_time`, text, where the YAML names columns."""
    return (*RECORD_COLUMNS, *(f"split_{what}" for what in spec.split_columns))


@dataclass(frozen=True)
class TypedRows:
    """What became of the rows of one upload.

    index: record_id, labels_only and label of each record. rejects: as refusals_table.
    labels_joined counts rows of labels-only tables that were joined to a row with features.
    numbers: columns whose numbers are not written as computers do, by table.
    batches: given a table with record_id and other columns, those of its records that are here,
    some at a time: `record_columns`, `features` (a struct of float64 or string) and its columns.
    """

    index: pa.Table
    rejects: pa.Table
    labels_joined: int
    numbers: dict[str, Any]
    batches: Callable[[pa.Table], Iterator[pa.Table]]


@contextmanager
def typed_rows(lake: Lake, spec: DatasetSpec, receipt: dict[str, Any]) -> Iterator[TypedRows]:
    """Type the rows of one received upload."""
    with working_folder("rows") as folder:
        entries = [entry for entry in receipt["tables"] if not entry.get("images_only")]
        for entry in entries:
            path = folder / entry["rows_file"]
            lake.fetch_published(receipt, entry["rows_file"], path)
        with typed_files(spec, entries, folder) as typed:
            yield typed


@contextmanager
def typed_files(
    spec: DatasetSpec, entries: Sequence[dict[str, Any]], folder: Path
) -> Iterator[TypedRows]:
    """The same of tables that lie in a folder. entries: of each, as a receipt has them."""
    if not entries:
        yield TypedRows(_empty_index(), refusals_table([]), 0, {}, lambda _: iter(()))
        return
    tables = [_Told(n, entry, folder / entry["rows_file"]) for n, entry in enumerate(entries)]
    with _database(tables, folder) as db:
        yield _judged(db, spec, tables)


@contextmanager
def _database(tables: Sequence[_Told], folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database of its own that spills into `folder`; for a few rows that takes too long."""
    import duckdb
    import pyarrow.parquet as pq

    size = sum(table.path.stat().st_size for table in tables)
    rows = sum(pq.read_metadata(table.path).num_rows for table in tables)
    if rows <= FEW_ROWS and size <= FEW_BYTES:
        with in_memory(threads=1) as db:
            yield db
        return
    with duckdb.connect() as db:
        db.execute(f"SET memory_limit = '{MEMORY}'")
        db.execute(f"SET temp_directory = {literal(str(folder))}")
        yield db


def type_rows(lake: Lake, spec: DatasetSpec, receipt: dict[str, Any]) -> tuple[pa.Table, TypedRows]:
    """As `typed_rows`, with all records in one table, by record_id."""
    import pyarrow as pa

    with typed_rows(lake, spec, receipt) as typed:
        records = typed.batches(typed.index.select(["record_id"]))
        return pa.concat_tables([empty_records(spec), *records]).sort_by("record_id"), typed


@dataclass(frozen=True)
class _Told:
    """One table as `receive` stored it."""

    number: int
    entry: dict[str, Any]
    path: Path


def _judged(db: duckdb.DuckDBPyConnection, spec: DatasetSpec, tables: list[_Told]) -> TypedRows:
    forms = _judge(db, spec, tables)
    rejects, labels_joined = _choose(db, spec, tables, forms)
    db.execute("DROP VIEW good")
    for name in ("doubled", "problems", "judged"):
        db.execute(f"DROP TABLE {name}")
    index = db.sql("SELECT record_id, labels_only, label FROM chosen").to_arrow_table()
    numbers = {
        table.entry.get("file", ""): noted
        for table in tables
        if (noted := read_with(forms[table.number].items()))
    }
    values = " UNION ALL ".join(_values_sql(spec, t, forms[t.number], judged=True) for t in tables)
    return TypedRows(
        index.cast(_empty_index().schema), rejects, labels_joined, numbers,
        lambda beside: _batches(db, spec, values, beside),
    )  # fmt: skip


def _judge(
    db: duckdb.DuckDBPyConnection, spec: DatasetSpec, tables: list[_Told]
) -> dict[int, dict[str, Form]]:
    """Make `judged` and `problems`; returns how the numbers of each table are written.

    First as computers write them; where that fits not everywhere, the rows that it does not fit
    are looked at. All are judged again only where that changes what other rows say.
    """
    classes = _classes(db, spec, tables)
    forms = {table.number: _forms_at_first(spec, table) for table in tables}
    doubtful = _judge_all(db, spec, tables, forms, classes)
    found = {
        table.number: forms[table.number] | _forms(db, spec, table)
        for table in tables
        if table.number in doubtful
    }
    again = any(
        form != forms[n][name] and (not form.keeps_plain or name == spec.label_column)
        for n, own in found.items()
        for name, form in own.items()
    )
    forms |= found
    if again:
        doubtful = _judge_all(db, spec, tables, forms, classes)
    db.execute("CREATE TEMP TABLE problems (n INTEGER, r BIGINT, code VARCHAR, reason VARCHAR)")
    for table in tables:
        if table.number in doubtful:
            _find_problems(db, spec, table, forms[table.number], classes)
    return forms


def _judge_all(
    db: duckdb.DuckDBPyConnection,
    spec: DatasetSpec,
    tables: list[_Told],
    forms: dict[int, dict[str, Form]],
    classes: dict[str, list[str]],
) -> set[int]:
    """Make the table `judged`; returns the tables in which something may be wrong."""
    judged = " UNION ALL ".join(_judge_sql(spec, t, forms[t.number]) for t in tables)
    db.execute(f"CREATE OR REPLACE TEMP TABLE judged AS {judged}", classes)
    return {n for (n,) in db.execute("SELECT DISTINCT n FROM judged WHERE doubtful").fetchall()}


def _one(db: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    """The one row that a query has."""
    (row,) = db.execute(query).fetchall()
    return tuple(row)


def _source_sql(spec: DatasetSpec, table: _Told, only: str = "") -> str:
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


# -- numbers --------------------------------------------------------------------------------------


def _number_columns(spec: DatasetSpec, table: _Told) -> dict[str, str]:
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


def _forms_at_first(spec: DatasetSpec, table: _Told) -> dict[str, Form]:
    """What the numbers of each column are taken for, before anything of them was read."""
    columns = _number_columns(spec, table)
    if spec.decimal == "," and not table.entry.get("typed"):
        return decide(dict.fromkeys(columns, NOTHING), spec.decimal)
    return dict.fromkeys(columns, Form())


def _forms(db: duckdb.DuckDBPyConnection, spec: DatasetSpec, table: _Told) -> dict[str, Form]:
    """How the numbers of each column are written, as far as its doubtful rows were not plain."""
    columns = _number_columns(spec, table)
    typed = table.entry.get("typed")
    if spec.decimal is not None and not typed:
        return decide(dict.fromkeys(columns, NOTHING), spec.decimal)
    gone = {
        name: missing_sql(text, spec.missing_values, number=True) for name, text in columns.items()
    }
    doubtful = f"WHERE r IN (SELECT r FROM judged WHERE doubtful AND n = {table.number})"

    def counted(
        names: list[str], asked: Callable[[str, str], list[str]], only: str
    ) -> dict[str, list[int]]:
        """Some counts for each column; some columns at a time."""
        source = _source_sql(spec, table, only)
        found: dict[str, list[int]] = {}
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

    odd = counted(list(columns), lambda text, missing: [odd_sql(text, missing)], doubtful)
    found = evidence([name for name, (count,) in odd.items() if count])
    if typed:
        return {name: decide_typed(own) for name, own in found.items()}
    if any(one.comma or one.open_comma for one in found.values()):
        found |= evidence([name for name in columns if name not in found])
    return decide(found, None)


# -- judging --------------------------------------------------------------------------------------


def _values_sql(
    spec: DatasetSpec,
    table: _Told,
    forms: Mapping[str, Form],
    only: str = "",
    *,
    judged: bool = False,
) -> str:
    """A table's rows with their values: v0 …, NULL where one is missing or wrong.

    judged: of rows that nothing is wrong with; it is left to Arrow, which is ten times faster, to
    trim their texts.
    """
    values = []
    for k, (name, column) in enumerate(spec.columns.items()):
        gone = missing_sql(f"t{k}", spec.missing_values, number=False)
        if column.kind is ColumnKind.NUMBER:
            form = forms.get(name, Form())
            value = form.judged_sql(f"t{k}") if judged else form.value_sql(f"t{k}")
            if _missing_numbers(spec):
                value = f"CASE WHEN NOT {gone} THEN {value} END"
        elif judged:
            value = f"t{k}"
        elif column.kind is ColumnKind.TEXT:
            value = f"CASE WHEN NOT {gone} THEN t{k} END"
        else:
            value = f"CASE WHEN NOT {gone} THEN trim(t{k}, {SPACE}) END"
        values.append(f", {value} AS v{k}")
    return f"SELECT *{''.join(values)} FROM ({_source_sql(spec, table, only)})"


def _missing_numbers(spec: DatasetSpec) -> bool:
    """Whether something that is a number, or that DuckDB takes for one, means a missing value."""
    return any(character.isdigit() for token in spec.missing_values for character in token)


def _judge_sql(spec: DatasetSpec, table: _Told, forms: Mapping[str, Form]) -> str:
    """Each row's ID and label, and whether something may be wrong with it."""
    form = forms.get(spec.label_column, Form())
    gone = missing_sql("label_text", spec.missing_values, number=spec.is_regression)
    doubts = ["coalesce(" + " OR ".join(when for when, _, _ in _ID_PROBLEMS) + ", true)"]
    sound = []
    for k, (name, column) in enumerate(spec.columns.items()):
        if column.kind is not ColumnKind.NUMBER:
            doubts += [f"v{k} IS NULL"] if column.required else []
        elif _missing_numbers(spec):
            sound.append(f"v{k} IS NOT NULL")
        else:
            sound.append(forms.get(name, Form()).sound_sql(f"t{k}"))
    if sound:
        doubts.append(f"NOT coalesce({' AND '.join(sound)}, false)")
    doubts += [when for when, _, _ in _label_problems(spec, gone, form)]
    return f"""
        SELECT n, r, _file, _line, labels_only, record_id,
            CASE WHEN NOT {gone} THEN {_label_sql(spec, form)} END AS label,
            {" OR ".join(doubts)} AS doubtful
        FROM ({_values_sql(spec, table, forms)})"""


def _find_problems(
    db: duckdb.DuckDBPyConnection,
    spec: DatasetSpec,
    table: _Told,
    forms: Mapping[str, Form],
    classes: dict[str, list[str]],
) -> None:
    """Add to `problems` the first thing that is wrong with each doubtful row, if anything is.

    Some columns at a time: DuckDB needs gigabytes for one question about hundreds.
    """
    columns = list(enumerate(spec.columns))
    groups: list[tuple[list[_Problem], dict[str, Any]]] = [(_ID_PROBLEMS, {})]
    for start in range(0, len(columns), COLUMNS_AT_ONCE):
        some = columns[start : start + COLUMNS_AT_ONCE]
        told = [_column_problems(spec, k, name, forms.get(name, Form())) for k, name in some]
        groups.append(([problem for problems in told for problem in problems], {}))
    gone = missing_sql("label_text", spec.missing_values, number=spec.is_regression)
    labels = _label_problems(spec, gone, forms.get(spec.label_column, Form()))
    groups.append((list(labels), classes))
    for problems, parameters in groups:
        if problems:
            db.execute(
                f"INSERT INTO problems {_problems_sql(spec, table, forms, problems)}", parameters
            )


def _problems_sql(
    spec: DatasetSpec, table: _Told, forms: Mapping[str, Form], problems: Sequence[_Problem]
) -> str:
    code = "".join(f" WHEN {when} THEN '{code}'" for when, code, _ in problems)
    why = "".join(f" WHEN {when} THEN {reason}" for when, _, reason in problems)
    # Before anything is computed, and not after.
    only = (
        f"WHERE r IN (SELECT r FROM judged ANTI JOIN problems USING (n, r) "
        f"WHERE doubtful AND n = {table.number})"
    )
    return f"""
        FROM (SELECT n, r, CASE{code} END AS code, CASE{why} END AS reason
              FROM ({_values_sql(spec, table, forms, only)})) WHERE code IS NOT NULL"""


def _column_problems(spec: DatasetSpec, k: int, name: str, form: Form) -> Iterator[_Problem]:
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
            reason = f"{shown} || {_both_ways(f't{k}', form.open)}"
            yield f"{wrong} AND {form.open_sql(f't{k}')}", "number_ambiguous", reason
        reason = f"{shown} || '''' || left(t{k}, 60) || ''' is no finite number'"
        yield wrong, "number_invalid", reason


def _both_ways(text: str, sign: str) -> str:
    value = f"trim({text}, {SPACE})"
    bare, point = f"replace({value}, '{sign}', '')", f"replace({value}, '{sign}', '.')"
    return f"'''' || {value} || ''' may be ' || {bare} || ' or ' || {point}"


def _label_problems(spec: DatasetSpec, gone: str, form: Form) -> Iterator[_Problem]:
    reason = f"{literal(spec.label_column)} || ' is ''' || left(label_text, 60) || ''''"
    if spec.is_regression:
        wrong = f"NOT {gone} AND ({form.value_sql('label_text')}) IS NULL"
        if form.open:
            both = f"{literal(spec.label_column + ' ')} || {_both_ways('label_text', form.open)}"
            yield f"{wrong} AND {form.open_sql('label_text')}", "number_ambiguous", both
        yield wrong, "label_invalid", f"{reason} || ', no finite number'"
    elif spec.classes is not None:
        outside = f"NOT {gone} AND NOT list_contains($classes, {_label_sql(spec, form)})"
        yield outside, "label_invalid", f"{reason} || ', not one of the classes'"
    yield f"labels_only AND {gone}", "value_missing", "'no label in a label table'"


def _label_sql(spec: DatasetSpec, form: Form) -> str:
    """A label as it is kept: the class that it is, or where none are listed `1` for `1.0`."""
    trimmed = f"trim(label_text, {SPACE})"
    if spec.is_regression:
        return trimmed if form.plain else form.text_sql("label_text")
    if spec.classes is None:
        whole = f"regexp_replace({trimmed}, '{LABEL_WITH_DECIMALS}', '\\1')"
        return f"CASE WHEN contains({trimmed}, '.') THEN {whole} ELSE {trimmed} END"
    found = f"list_position($spelled::VARCHAR[], {trimmed})"
    return f"coalesce(list_extract($meant::VARCHAR[], {found}), {trimmed})"


def _classes(
    db: duckdb.DuckDBPyConnection, spec: DatasetSpec, tables: list[_Told]
) -> dict[str, list[str]]:
    """The classes, labels that are spelled otherwise than their class, and what each means."""
    if spec.classes is None:
        return {}
    with_labels = [table for table in tables if spec.label_column in table.entry["columns"]]
    found: list[tuple[Any, ...]] = []
    if with_labels:
        sources = " UNION ALL ".join(_source_sql(spec, table) for table in with_labels)
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


# -- choosing -------------------------------------------------------------------------------------


_GOOD = (
    "CREATE TEMP VIEW good AS FROM judged ANTI JOIN problems USING (n, r)",
    """CREATE TEMP TABLE doubled AS
        SELECT record_id FROM good GROUP BY record_id HAVING count(*) > 1""",
)
_ALL_CHOSEN = "CREATE TEMP TABLE chosen AS SELECT n, r, labels_only, record_id, label FROM good"
_RIVALS = (
    "CREATE TEMP TABLE rivals AS FROM good SEMI JOIN doubled USING (record_id)",
    "CREATE TEMP TABLE compared (n INTEGER, r BIGINT, told VARCHAR)",
)
_CHOSEN = """
    CREATE TEMP TABLE chosen AS
    SELECT n, r, labels_only, record_id, label
    FROM good ANTI JOIN doubled USING (record_id)
    UNION ALL
    SELECT a.n, a.r, a.labels_only, a.record_id, coalesce(a.label, b.label)
    FROM (SELECT * FROM firsts
          QUALIFY row_number() OVER (PARTITION BY record_id ORDER BY labels_only) = 1) AS a
    LEFT JOIN (SELECT record_id, label FROM firsts WHERE labels_only) AS b
        ON b.record_id = a.record_id AND NOT a.labels_only"""


def _firsts_sql(copies: Sequence[str]) -> str:
    """Of several rows of one record: the first with features, and the first labels-only row.

    Rows of `copies` (numbers of tables) come last.
    """
    last = f"n IN ({', '.join(copies)})" if copies else "false"
    return f"""
        CREATE TEMP TABLE firsts AS
        SELECT *, count(*) OVER (PARTITION BY record_id) > 1 AS joined FROM (
            SELECT * FROM rivals JOIN compared USING (n, r) QUALIFY row_number() OVER (
                PARTITION BY record_id, labels_only ORDER BY {last}, _file, _line) = 1)"""


def _compared_sql(spec: DatasetSpec, table: _Told, forms: Mapping[str, Form]) -> str:
    """The values of rival rows in one text, so that equal ones are told from others."""
    # With their lengths, so that no value can look like two, or like a missing one.
    told = (
        " || ".join(
            f"coalesce(strlen(v{k}::VARCHAR) || ':' || v{k}::VARCHAR, '-')"
            for k in range(len(spec.columns))
        )
        or "''"
    )
    only = f"WHERE r IN (SELECT r FROM rivals WHERE n = {table.number})"
    values = _values_sql(spec, table, forms, only)
    return f"INSERT INTO compared SELECT n, r, {told} FROM ({values})"


def _conflicts_sql(spec: DatasetSpec) -> str:
    """Labels-only rows whose row with features has another label of its own."""
    compared = "try_cast({}.label AS DOUBLE)" if spec.is_regression else "{}.label"
    return f"""
        CREATE TEMP TABLE conflicts AS
        SELECT brought.*, own.label AS own_label, own._line AS own_line, own._file AS own_file
        FROM firsts AS own JOIN firsts AS brought USING (record_id)
        WHERE brought.labels_only AND NOT own.labels_only
            AND {compared.format("brought")} <> {compared.format("own")}"""


_LABELS_JOINED = """
    SELECT count(*) - (SELECT count(*) FROM conflicts) FROM firsts WHERE labels_only AND joined"""


_WRONG = """
        SELECT code, reason, _file AS file, _line AS line,
            CASE WHEN code <> 'id_too_long' THEN record_id END AS record_id
        FROM problems JOIN judged USING (n, r)"""
_BEATEN = """
        SELECT 'label_conflict', 'the label is ''' || left(label, 60) || ''' here and '''
            || left(own_label, 60) || ''' in ' || coalesce('line ' || own_line || ' of ', '')
            || own_file,
            _file, _line, record_id
        FROM conflicts
        UNION ALL
        SELECT CASE WHEN j.told = f.told AND j.label IS NOT DISTINCT FROM f.label
                THEN 'duplicate_row' ELSE 'duplicate_id' END,
            'the ID stands first in ' || coalesce('line ' || f._line || ' of ', '') || f._file,
            j._file, j._line, j.record_id
        FROM (FROM rivals JOIN compared USING (n, r)) AS j
            JOIN firsts AS f USING (record_id, labels_only)
        WHERE (j.n, j.r) <> (f.n, f.r)"""


def _choose(
    db: duckdb.DuckDBPyConnection,
    spec: DatasetSpec,
    tables: list[_Told],
    forms: dict[int, dict[str, Form]],
) -> tuple[pa.Table, int]:
    """Make `chosen`, one row for each record; returns the rejects, and how many labels joined."""
    for statement in _GOOD:
        db.execute(statement)
    if not _one(db, "SELECT count(*) FROM doubled")[0]:
        db.execute(_ALL_CHOSEN)
        return _rejects(db, _WRONG), 0
    for statement in _RIVALS:
        db.execute(statement)
    for table in tables:
        db.execute(_compared_sql(spec, table, forms[table.number]))
    copies = [str(table.number) for table in tables if table.entry.get("copy_of")]
    for statement in (_firsts_sql(copies), _conflicts_sql(spec), _CHOSEN):
        db.execute(statement)
    found = _rejects(db, f"{_WRONG} UNION ALL {_BEATEN}"), int(_one(db, _LABELS_JOINED)[0])
    for name in ("conflicts", "firsts", "compared", "rivals"):
        db.execute(f"DROP TABLE {name}")
    return found


def _rejects(db: duckdb.DuckDBPyConnection, refused: str) -> pa.Table:
    import pyarrow as pa

    query = (
        f"SELECT refused.code, reason, file, line, record_id, todo FROM ({refused}) AS refused "
        "JOIN todo USING (code) ORDER BY file, line"
    )
    db.register("todo", pa.table({"code": list(REFUSALS), "todo": list(REFUSALS.values())}))
    rejects = db.sql(query).to_arrow_table().cast(refusals_table([]).schema)
    db.unregister("todo")
    return rejects


def _batches(
    db: duckdb.DuckDBPyConnection, spec: DatasetSpec, values: str, beside: pa.Table
) -> Iterator[pa.Table]:
    """Only what DuckDB has to compute comes from it; the rest is taken by its place."""
    import numpy as np
    import pyarrow as pa

    beside = beside.combine_chunks()  # taking from many chunks is slow
    places = pa.array(np.arange(beside.num_rows, dtype=np.int64))
    db.register("beside", pa.table({"record_id": beside["record_id"], "place": places}))
    db.execute(
        "CREATE OR REPLACE TEMP TABLE asked AS "
        "SELECT n, r, label, place FROM chosen JOIN beside USING (record_id)"
    )
    db.unregister("beside")
    columns = [f", v{k}" for k in range(len(spec.columns))]
    columns += [f", {_split_sql(spec, what)} AS split_{what}" for what in spec.split_columns]
    texts = ", '\x1f', ".join(f"t{k}" for k in range(len(spec.columns)))
    reader = db.sql(
        f"""
        SELECT record_id, _file AS row_file, _line AS row_line, labels_only, label,
            md5({f"concat({texts})" if texts else "''"}) AS row_hash, place{"".join(columns)}
        FROM ({values}) AS told JOIN asked ON told.n = asked.n AND told.r = asked.r"""
    ).to_arrow_reader(BATCH_ROWS)
    own = empty_records(spec).schema
    for batch in reader:
        found = pa.Table.from_batches([batch])
        features = _features(spec, found)
        records = found.select(list(record_columns(spec)))
        records = records.append_column("features", features).cast(own)
        near = beside.take(found["place"])
        for name in near.column_names:
            if name != "record_id":
                records = records.append_column(name, near[name])
        yield records


def _split_sql(spec: DatasetSpec, what: str) -> str:
    """The value of a column that says how records are split; a group's `7.0` is `7`."""
    gone = missing_sql(f"{what}_text", spec.missing_values, number=True)  # `n/a` is no group
    value = f"nfc_normalize(trim({what}_text, {SPACE}))"
    if what == "group":
        value = f"regexp_replace({value}, '{LABEL_WITH_DECIMALS}', '\\1')"
    return f"CASE WHEN NOT {gone} THEN {value} END"


def _features(spec: DatasetSpec, found: pa.Table) -> pa.Array:
    """The values of some records, one struct each; texts come as they stand in the file."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not spec.columns:
        return pa.nulls(found.num_rows)
    missing = pa.array(list(spec.missing_values), pa.string())
    values = []
    for k, column in enumerate(spec.columns.values()):
        value = found[f"v{k}"].combine_chunks()
        if column.kind is not ColumnKind.NUMBER:
            value = value.cast(pa.string())
            trimmed = pc.utf8_trim(value, TABLE_SPACE)
            gone = pc.is_in(trimmed, value_set=missing)
            kept = value if column.kind is ColumnKind.TEXT else trimmed
            value = pc.if_else(gone, pa.scalar(None, pa.string()), kept)
        values.append(value)
    return pa.StructArray.from_arrays(values, names=list(spec.columns))


def _empty_index() -> pa.Table:
    import pyarrow as pa

    return pa.schema(
        [("record_id", pa.string()), ("labels_only", pa.bool_()), ("label", pa.string())]
    ).empty_table()


def empty_records(spec: DatasetSpec) -> pa.Table:
    """No records, in the columns that `TypedRows.batches` has."""
    import pyarrow as pa

    kinds = {ColumnKind.NUMBER: pa.float64()}
    fields = [(name, kinds.get(c.kind, pa.string())) for name, c in spec.columns.items()]
    schema = pa.schema(
        [("record_id", pa.string()), ("row_file", pa.string()), ("row_line", pa.int64()),
         ("labels_only", pa.bool_()), ("label", pa.string()), ("row_hash", pa.string()),
         *((f"split_{what}", pa.string()) for what in spec.split_columns),
         ("features", pa.struct(fields) if fields else pa.null())]
    )  # fmt: skip
    return schema.empty_table()
