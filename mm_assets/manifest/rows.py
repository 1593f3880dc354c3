"""From rows of text to typed records, or rejects with a code, all in DuckDB SQL.

The rows stay on disk. What decides about them (ID, label, a hash, what is wrong) is a narrow table
that DuckDB spills when it must; the values are made when they are asked for, a batch at a time.
Columns travel by position (`c0`, `t0`, `v0` …), because SQL does not tell `Name` from `name`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_assets.contract.dataset import ColumnKind, DatasetSpec
from mm_assets.contract.errors import REFUSALS
from mm_assets.contract.ids import MAXIMUM_BYTES
from mm_assets.contract.spellings import LABEL_WITH_DECIMALS, Known
from mm_assets.lake.lake import Lake
from mm_assets.lake.local import working_folder
from mm_assets.manifest.numbers import (
    SPACE,
    Evidence,
    Form,
    decide,
    evidence_sql,
    looks_like_number,
    missing_sql,
    odd_sql,
    read_with,
)
from mm_assets.uploads.receive import refusals_table

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

MEMORY = "400MB"  # of DuckDB; what is more goes to disk
BATCH_ROWS = 65_536
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


@dataclass(frozen=True)
class TypedRows:
    """What became of the rows of one upload.

    index: record_id, labels_only and label of each record. rejects: as refusals_table.
    labels_joined counts rows of labels-only tables that were joined to a row with features.
    numbers: columns whose numbers are not written as computers do, by table.
    batches: gives the records, RECORD_COLUMNS and `features`, a struct of float64 or string, by
    record_id, some at a time.
    """

    index: pa.Table
    rejects: pa.Table
    labels_joined: int
    numbers: dict[str, Any]
    batches: Callable[[], Iterator[pa.Table]]


@contextmanager
def typed_rows(
    lake: Lake, spec: DatasetSpec, receipt: dict[str, Any], record_ids: pa.Array | None = None
) -> Iterator[TypedRows]:
    """Type the rows of one received upload; with `record_ids`, hand out only those records."""
    import duckdb

    with working_folder("rows") as folder, duckdb.connect() as db:
        db.execute("SET preserve_insertion_order = false")
        db.execute(f"SET memory_limit = '{MEMORY}'")
        db.execute(f"SET temp_directory = {quote(str(folder))}")
        tables = []
        for number, entry in enumerate(receipt["tables"]):
            path = folder / entry["rows_file"]
            lake.fetch_published(receipt, entry["rows_file"], path)
            tables.append(_Told(number, entry, path))
        if tables:
            yield _judged(db, spec, tables, record_ids)
        else:
            yield TypedRows(_empty_index(), refusals_table([]), 0, {}, lambda: iter(()))


def type_rows(
    lake: Lake, spec: DatasetSpec, receipt: dict[str, Any], record_ids: pa.Array | None = None
) -> tuple[pa.Table, TypedRows]:
    """As `typed_rows`, with all records in one table."""
    import pyarrow as pa

    with typed_rows(lake, spec, receipt, record_ids) as typed:
        return pa.concat_tables([empty_records(spec), *typed.batches()]), typed


@dataclass(frozen=True)
class _Told:
    """One table as `receive` stored it."""

    number: int
    entry: dict[str, Any]
    path: Path


def _judged(
    db: duckdb.DuckDBPyConnection,
    spec: DatasetSpec,
    tables: list[_Told],
    record_ids: pa.Array | None,
) -> TypedRows:
    forms = {table.number: _forms(db, spec, table) for table in tables}
    judged = " UNION ALL ".join(_judge_sql(spec, t, forms[t.number]) for t in tables)
    db.execute(f"CREATE TEMP TABLE judged AS {judged}", _classes(db, spec, tables))
    for statement in (*_CHOOSE, _conflicts_sql(spec), _CHOSEN):
        db.execute(statement)
    rejects = _rejects(db)
    if record_ids is not None:
        _keep_only(db, record_ids)
    index = db.sql("SELECT record_id, labels_only, label FROM chosen").to_arrow_table()
    numbers = {
        table.entry.get("file", ""): noted
        for table in tables
        if (noted := read_with(forms[table.number].items()))
    }
    values = " UNION ALL ".join(_values_sql(spec, t, forms[t.number]) for t in tables)
    return TypedRows(
        index.cast(_empty_index().schema), rejects, _one(db, _LABELS_JOINED)[0], numbers,
        lambda: _batches(db, spec, values),
    )  # fmt: skip


def _one(db: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    """The one row that a query has."""
    (row,) = db.execute(query).fetchall()
    return tuple(row)


def quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _source_sql(spec: DatasetSpec, table: _Told) -> str:
    """The table's rows of text; (n, r) is a row's own key."""
    position = {name: f"c{i}" for i, name in enumerate(table.entry["columns"])}
    texts = [
        f"{position.get(name, 'NULL::VARCHAR')} AS t{k}" for k, name in enumerate(spec.columns)
    ]
    label = position.get(spec.label_column, "NULL::VARCHAR")
    return (
        f"SELECT {table.number} AS n, file_row_number AS r, _file, _line, "
        f"{bool(table.entry['labels_only'])} AS labels_only, "
        f"nfc_normalize({position[spec.id_column]}) AS record_id, {label} AS label_text"
        f"{''.join(', ' + text for text in texts)} "
        f"FROM read_parquet({quote(str(table.path))}, file_row_number = true)"
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


def _forms(db: duckdb.DuckDBPyConnection, spec: DatasetSpec, table: _Told) -> dict[str, Form]:
    """How the numbers of each column are written; what computers wrote is not looked at twice."""
    columns = _number_columns(spec, table)
    plain = dict.fromkeys(columns, Form())
    if not columns or table.entry.get("typed"):
        return plain
    gone = {
        name: missing_sql(text, spec.missing_values, number=True) for name, text in columns.items()
    }
    source = _source_sql(spec, table)
    odd = [odd_sql(text, gone[name]) for name, text in columns.items()]
    counted = _one(db, f"SELECT {', '.join(odd)} FROM ({source})")
    if not any(counted) and spec.decimal != ",":
        return plain
    counts = [one for name, text in columns.items() for one in evidence_sql(text, gone[name])]
    told = _one(db, f"SELECT {', '.join(counts)} FROM ({source})")
    places = range(0, len(told), len(Evidence._fields))
    found = {
        name: Evidence(*told[at : at + len(Evidence._fields)])
        for name, at in zip(columns, places, strict=True)
    }
    return decide(found, spec.decimal)


# -- judging --------------------------------------------------------------------------------------


def _values_sql(spec: DatasetSpec, table: _Told, forms: Mapping[str, Form]) -> str:
    """A table's rows with their values: v0 …, NULL where one is missing or wrong."""
    values = []
    for k, (name, column) in enumerate(spec.columns.items()):
        gone = missing_sql(f"t{k}", spec.missing_values, number=False)
        if column.kind is ColumnKind.NUMBER:
            value = forms[name].value_sql(f"t{k}") if name in forms else "NULL::DOUBLE"
            if any(map(looks_like_number, spec.missing_values)):
                value = f"CASE WHEN NOT {gone} THEN {value} END"
        elif column.kind is ColumnKind.TEXT:
            value = f"CASE WHEN NOT {gone} THEN t{k} END"
        else:
            value = f"CASE WHEN NOT {gone} THEN trim(t{k}, {SPACE}) END"
        values.append(f", {value} AS v{k}")
    return f"SELECT *{''.join(values)} FROM ({_source_sql(spec, table)})"


def _judge_sql(spec: DatasetSpec, table: _Told, forms: Mapping[str, Form]) -> str:
    """Each row's label, its hash, and the first thing wrong with it."""
    label_form = forms.get(spec.label_column, Form())
    gone = missing_sql("label_text", spec.missing_values, number=spec.is_regression)
    # Each looks closer only at the rows that its condition holds for: CASE does, AND does not.
    told = [_told_sql("true", _ID_PROBLEMS)]
    for k, name in enumerate(spec.columns):
        if problems := list(_column_problems(spec, k, name, forms.get(name, Form()))):
            told.append(_told_sql(f"v{k} IS NULL", problems))
    if problems := list(_label_problems(spec, gone, label_form)):
        told.append(_told_sql("labels_only OR label_text IS NOT NULL", problems))
    # Texts with their lengths, so that no value can look like two, or like a missing one.
    hashed = ", ".join(
        f"v{k}::VARCHAR, ','"
        if column.kind is ColumnKind.NUMBER
        else f"strlen(v{k}), ':', v{k}"
        for k, column in enumerate(spec.columns.values())
    )
    return f"""
        SELECT * EXCLUDE problem, problem.code AS code, problem.reason AS reason FROM (
            SELECT n, r, _file, _line, labels_only, record_id,
                CASE WHEN NOT {gone} THEN {_label_sql(spec, label_form)} END AS label,
                md5({f"concat({hashed})" if hashed else "''"}) AS row_hash,
                coalesce({", ".join(told)}) AS problem
            FROM ({_values_sql(spec, table, forms)}))"""


def _told_sql(when: str, problems: Iterable[tuple[str, str, str]]) -> str:
    """The first problem of a row, as code and reason, or NULL."""
    cases = "".join(
        f" WHEN {wrong} THEN {{code: '{code}', reason: {reason}}}"
        for wrong, code, reason in problems
    )
    return f"CASE WHEN {when} THEN CASE{cases} END END"


def _column_problems(
    spec: DatasetSpec, k: int, name: str, form: Form
) -> Iterator[tuple[str, str, str]]:
    """What can be wrong where there is no value: when, the code, and the reason, each in SQL."""
    column, shown = spec.columns[name], quote(f"column '{name}': ")
    is_number = column.kind is ColumnKind.NUMBER
    gone = missing_sql(f"t{k}", spec.missing_values, number=is_number)
    if column.required:
        yield f"NOT labels_only AND {gone}", "value_missing", f"{shown} || 'no value'"
    if is_number:
        wrong = f"NOT {gone}"
        if form.open:
            reason = f"{shown} || {_both_ways(f't{k}', form.open)}"
            yield f"{wrong} AND {form.open_sql(f't{k}')}", "number_ambiguous", reason
        reason = f"{shown} || '''' || left(t{k}, 60) || ''' is no finite number'"
        yield wrong, "number_invalid", reason


def _both_ways(text: str, sign: str) -> str:
    value = f"trim({text}, {SPACE})"
    bare, point = f"replace({value}, '{sign}', '')", f"replace({value}, '{sign}', '.')"
    return f"'''' || {value} || ''' may be ' || {bare} || ' or ' || {point}"


def _label_problems(spec: DatasetSpec, gone: str, form: Form) -> Iterator[tuple[str, str, str]]:
    reason = f"{quote(spec.label_column)} || ' is ''' || left(label_text, 60) || ''''"
    if spec.is_regression:
        wrong = f"NOT {gone} AND ({form.value_sql('label_text')}) IS NULL"
        if form.open:
            both = f"{quote(spec.label_column + ' ')} || {_both_ways('label_text', form.open)}"
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
        return f"regexp_replace({trimmed}, '{LABEL_WITH_DECIMALS}', '\\1')"
    found = f"list_position($spelled::VARCHAR[], {trimmed})"
    return f"coalesce(list_extract($meant::VARCHAR[], {found}), {trimmed})"


def _classes(
    db: duckdb.DuckDBPyConnection, spec: DatasetSpec, tables: list[_Told]
) -> dict[str, list[str]]:
    """The classes, labels that are spelled otherwise than their class, and what each means."""
    if spec.classes is None:
        return {}
    sources = " UNION ALL ".join(_source_sql(spec, table) for table in tables)
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


# Of several rows of one record: the first with features, and the first labels-only row.
_CHOOSE = (
    """CREATE TEMP TABLE doubled AS
        SELECT record_id FROM judged WHERE code IS NULL GROUP BY record_id HAVING count(*) > 1""",
    """CREATE TEMP TABLE rivals AS
        SELECT * FROM judged SEMI JOIN doubled USING (record_id) WHERE code IS NULL""",
    """CREATE TEMP TABLE firsts AS
        SELECT *, count(*) OVER (PARTITION BY record_id) > 1 AS joined FROM (
            SELECT * FROM rivals QUALIFY row_number() OVER (
                PARTITION BY record_id, labels_only ORDER BY _file, _line) = 1)""",
)
_CHOSEN = """
    CREATE TEMP TABLE chosen AS
    SELECT n, r, _file, _line, labels_only, record_id, label, row_hash
    FROM judged ANTI JOIN doubled USING (record_id) WHERE code IS NULL
    UNION ALL
    SELECT a.n, a.r, a._file, a._line, a.labels_only, a.record_id,
        coalesce(a.label, b.label), a.row_hash
    FROM (SELECT * FROM firsts
          QUALIFY row_number() OVER (PARTITION BY record_id ORDER BY labels_only) = 1) AS a
    LEFT JOIN (SELECT record_id, label FROM firsts WHERE labels_only) AS b
        ON b.record_id = a.record_id AND NOT a.labels_only"""


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


_REJECTS = """
    SELECT refused.code, reason, file, line, record_id, todo FROM (
        SELECT code, reason, _file AS file, _line AS line,
            CASE WHEN code <> 'id_too_long' THEN record_id END AS record_id FROM judged
        WHERE code IS NOT NULL
        UNION ALL
        SELECT 'label_conflict', 'the label is ''' || left(label, 60) || ''' here and '''
            || left(own_label, 60) || ''' in ' || coalesce('line ' || own_line || ' of ', '')
            || own_file,
            _file, _line, record_id
        FROM conflicts
        UNION ALL
        SELECT CASE WHEN j.row_hash = f.row_hash AND j.label IS NOT DISTINCT FROM f.label
                THEN 'duplicate_row' ELSE 'duplicate_id' END,
            'the ID stands first in ' || coalesce('line ' || f._line || ' of ', '') || f._file,
            j._file, j._line, j.record_id
        FROM rivals AS j JOIN firsts AS f USING (record_id, labels_only)
        WHERE (j.n, j.r) <> (f.n, f.r)
    ) AS refused JOIN todo USING (code) ORDER BY file, line"""


def _rejects(db: duckdb.DuckDBPyConnection) -> pa.Table:
    import pyarrow as pa

    db.register("todo", pa.table({"code": list(REFUSALS), "todo": list(REFUSALS.values())}))
    rejects = db.sql(_REJECTS).to_arrow_table().cast(refusals_table([]).schema)
    db.unregister("todo")
    return rejects


def _keep_only(db: duckdb.DuckDBPyConnection, record_ids: pa.Array) -> None:
    import pyarrow as pa

    db.register("wanted", pa.table({"record_id": record_ids.cast(pa.string())}))
    db.execute("DELETE FROM chosen WHERE record_id NOT IN (SELECT record_id FROM wanted)")
    db.unregister("wanted")


def _batches(db: duckdb.DuckDBPyConnection, spec: DatasetSpec, values: str) -> Iterator[pa.Table]:
    import pyarrow as pa

    columns = "".join(f", v{k}" for k in range(len(spec.columns)))
    reader = db.sql(
        f"""
        SELECT chosen.record_id, chosen._file AS row_file, chosen._line AS row_line,
            chosen.labels_only, chosen.label, chosen.row_hash{columns}
        FROM ({values}) AS told JOIN chosen ON told.n = chosen.n AND told.r = chosen.r
        ORDER BY chosen.record_id"""
    ).to_arrow_reader(BATCH_ROWS)
    schema = empty_records(spec).schema
    for batch in reader:
        records = pa.Table.from_batches([batch])
        own = records.select(list(RECORD_COLUMNS))
        values_of = [records[f"v{k}"].combine_chunks() for k in range(len(spec.columns))]
        features = _features(spec, values_of, records.num_rows)
        yield own.append_column("features", features).cast(schema)


def _features(spec: DatasetSpec, values: list[pa.Array], n_rows: int) -> pa.Array:
    import pyarrow as pa

    if not values:
        return pa.nulls(n_rows)
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
         ("features", pa.struct(fields) if fields else pa.null())]
    )  # fmt: skip
    return schema.empty_table()
