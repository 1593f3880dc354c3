"""From rows of text to typed records, or rejects with a code, all in DuckDB SQL.

Columns travel by position (`c0`, `t0`, `v0` …), because SQL does not tell `Name` from `name`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_assets.contract.dataset import ColumnKind, DatasetSpec
from mm_assets.contract.errors import REFUSALS
from mm_assets.contract.ids import MAXIMUM_BYTES
from mm_assets.contract.spellings import LABEL_WITH_DECIMALS, Known
from mm_assets.lake.lake import Lake
from mm_assets.lake.local import working_folder
from mm_assets.uploads.receive import refusals_table

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
SPACE = "E' \\t\\r\\n'"
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


@dataclass(frozen=True, slots=True)
class TypedRows:
    """records: RECORD_COLUMNS and `features`, a struct of float64 or string, by record_id;
    rejects: as refusals_table.

    labels_joined counts rows of labels-only tables that were joined to a row with features.
    """

    records: pa.Table
    rejects: pa.Table
    labels_joined: int


def type_rows(
    lake: Lake, spec: DatasetSpec, receipt: dict[str, Any], record_ids: pa.Array | None = None
) -> TypedRows:
    """Type the rows of one received upload; with `record_ids`, hand out only those records."""
    import duckdb
    import pyarrow as pa

    with working_folder("rows") as folder, duckdb.connect() as db:
        db.execute("SET preserve_insertion_order = false")
        sources = []
        for table in receipt["tables"]:
            path = folder / table["rows_file"]
            lake.fetch_published(receipt, table["rows_file"], path)
            sources.append(_source_sql(spec, table, path))
        if not sources:
            return TypedRows(empty_records(spec), refusals_table([]), 0)
        parameters = {**_parameters(spec), **_meant_labels(db, spec, sources)}
        db.execute(f"CREATE TEMP TABLE judged AS {_judge_sql(spec, sources)}", parameters)
        db.execute(_first_of_each_sql())
        db.execute(_conflicts_sql(spec))
        todo = pa.table({"code": list(REFUSALS), "todo": list(REFUSALS.values())})
        db.register("todo", todo)
        rejects = db.sql(_REJECTS).to_arrow_table().cast(refusals_table([]).schema)
        if record_ids is not None:
            db.register("wanted", pa.table({"record_id": record_ids.cast(pa.string())}))
            semi = "SEMI JOIN wanted USING (record_id)"
        else:
            semi = ""
        records = _records(db, spec, semi)
        joined = db.execute(_LABELS_JOINED).fetchone()
        return TypedRows(records, rejects, joined[0] if joined else 0)


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _source_sql(spec: DatasetSpec, table: dict[str, Any], path: Path) -> str:
    position = {name: f"c{i}" for i, name in enumerate(table["columns"])}
    texts = [
        f"{position.get(name, 'NULL::VARCHAR')} AS t{k}" for k, name in enumerate(spec.columns)
    ]
    label = position.get(spec.label_column, "NULL::VARCHAR")
    return (
        f"SELECT _file, _line, {bool(table['labels_only'])} AS labels_only, "
        f"nfc_normalize({position[spec.id_column]}) AS record_id, {label} AS label_text"
        f"{''.join(', ' + text for text in texts)} FROM read_parquet({_quote(str(path))})"
    )


def _parameters(spec: DatasetSpec) -> dict[str, Any]:
    parameters: dict[str, Any] = {"missing": list(spec.missing_values)}
    if spec.is_regression or ColumnKind.NUMBER in (c.kind for c in spec.columns.values()):
        parameters["number"] = NUMBER
    if spec.classes is not None:
        parameters["classes"] = list(spec.classes)
    return parameters


def _judge_sql(spec: DatasetSpec, sources: list[str]) -> str:
    """Every row with its typed values (v0 …), its hash, and the first thing wrong with it."""
    flags, values, problems = [], [], []
    for k, (name, column) in enumerate(spec.columns.items()):
        flags.append(f"(t{k} IS NULL OR list_contains($missing, trim(t{k}, {SPACE}))) AS m{k}")
        value, problem = _value_sql(f"t{k}", f"m{k}", column.kind is ColumnKind.NUMBER)
        if column.kind is ColumnKind.TEXT:
            value = f"CASE WHEN NOT m{k} THEN t{k} END"
        values.append(f"{value} AS v{k}")
        shown = _quote(f"column '{name}': ")
        if column.required:
            problems.append(
                (f"m{k} AND NOT labels_only", "value_missing", f"{shown} || 'no value'")
            )
        if problem:
            reason = f"{shown} || '''' || left(t{k}, 60) || ''' is no finite number'"
            problems.append((problem, "number_invalid", reason))
    flags.append(
        f"(label_text IS NULL OR list_contains($missing, trim(label_text, {SPACE}))) AS no_label"
    )
    _, label_problem = _value_sql("label_text", "no_label", spec.is_regression)
    label = f"CASE WHEN NOT no_label THEN {_label_sql(spec)} END"
    reason = f"{_quote(spec.label_column)} || ' is ''' || left(label_text, 60) || ''''"
    if spec.is_regression:
        problems.append((label_problem, "label_invalid", f"{reason} || ', no finite number'"))
    elif spec.classes is not None:
        outside = f"NOT no_label AND NOT list_contains($classes, {_label_sql(spec)})"
        problems.append((outside, "label_invalid", f"{reason} || ', not one of the classes'"))
    problems.append(("labels_only AND no_label", "value_missing", "'no label in a label table'"))
    cases = _ID_PROBLEMS + problems
    code = "".join(f" WHEN {when} THEN '{code}'" for when, code, _ in cases)
    why = "".join(f" WHEN {when} THEN {reason}" for when, _, reason in cases)
    # With their lengths, so that no value can look like two, or like a missing one.
    hashed = " || ".join(
        f"coalesce(strlen(v{k}::VARCHAR) || ':' || v{k}::VARCHAR, '-')"
        for k in range(len(spec.columns))
    ) or "''"  # fmt: skip
    comma = ", " if values else ""
    return f"""
        WITH told AS ({" UNION ALL ".join(sources)}),
        flagged AS (SELECT *, {", ".join(flags)} FROM told),
        valued AS (SELECT *, {label} AS label{comma}{", ".join(values)} FROM flagged)
        SELECT _file, _line, labels_only, record_id, label{comma}
            {", ".join(f"v{k}" for k in range(len(values)))},
            md5({hashed}) AS row_hash,
            CASE{code} END AS code, CASE{why} END AS reason
        FROM valued"""


def _label_sql(spec: DatasetSpec) -> str:
    """A label as it is kept: the class that it is, or where none are listed `1` for `1.0`."""
    trimmed = f"trim(label_text, {SPACE})"
    if spec.is_regression:
        return trimmed
    if spec.classes is None:
        return f"regexp_replace({trimmed}, '{LABEL_WITH_DECIMALS}', '\\1')"
    found = f"list_position($spelled::VARCHAR[], {trimmed})"
    return f"coalesce(list_extract($meant::VARCHAR[], {found}), {trimmed})"


def _meant_labels(
    db: duckdb.DuckDBPyConnection, spec: DatasetSpec, sources: list[str]
) -> dict[str, list[str]]:
    """Labels that are spelled otherwise than their class, and the class that each means."""
    if spec.classes is None:
        return {}
    found = db.execute(
        f"SELECT DISTINCT trim(label_text, {SPACE}) AS told FROM ({' UNION ALL '.join(sources)}) "
        "WHERE told IS NOT NULL AND NOT list_contains($classes, told)",
        {"classes": list(spec.classes)},
    ).fetchall()
    known = Known(spec.classes)
    meant = {told: known.meant(told) for (told,) in found if known.knows(told)}
    return {"spelled": list(meant), "meant": list(meant.values())}


def _value_sql(text: str, missing: str, is_number: bool) -> tuple[str, str]:
    """The typed value of a column, and the condition under which it is wrong ('' if never)."""
    trimmed = f"trim({text}, {SPACE})"
    if not is_number:
        return f"CASE WHEN NOT {missing} THEN {trimmed} END", ""
    good = f"regexp_full_match({trimmed}, $number) AND isfinite(try_cast({trimmed} AS DOUBLE))"
    value = f"CASE WHEN NOT {missing} AND {good} THEN try_cast({trimmed} AS DOUBLE) END"
    return value, f"NOT {missing} AND NOT coalesce({good}, false)"


def _first_of_each_sql() -> str:
    """For each ID the first row with features and the first labels-only row."""
    return """
        CREATE TEMP TABLE firsts AS
        SELECT *, count(*) OVER (PARTITION BY record_id) > 1 AS joined FROM (
            SELECT *, row_number() OVER (
                PARTITION BY record_id, labels_only ORDER BY _file, _line) AS place
            FROM judged WHERE code IS NULL)
        WHERE place = 1"""


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
        FROM judged AS j JOIN firsts AS f USING (record_id, labels_only)
        WHERE j.code IS NULL AND (j._file, j._line) <> (f._file, f._line)
    ) AS refused JOIN todo USING (code) ORDER BY file, line"""


def _records(db: duckdb.DuckDBPyConnection, spec: DatasetSpec, semi: str) -> pa.Table:
    columns = "".join(f", a.v{k}" for k in range(len(spec.columns)))
    records = db.sql(
        f"""
        SELECT a.record_id, a._file AS row_file, a._line AS row_line, a.labels_only,
            coalesce(a.label, b.label) AS label, a.row_hash{columns}
        FROM (SELECT * FROM firsts {semi}
              QUALIFY row_number() OVER (PARTITION BY record_id ORDER BY labels_only) = 1) AS a
        LEFT JOIN (SELECT record_id, label FROM firsts WHERE labels_only) AS b
            ON b.record_id = a.record_id AND NOT a.labels_only
        ORDER BY a.record_id"""
    ).to_arrow_table()
    own = records.select(list(RECORD_COLUMNS))
    values = [records[f"v{k}"].combine_chunks() for k in range(len(spec.columns))]
    features = _features(spec, values, records.num_rows)
    return own.append_column("features", features).cast(empty_records(spec).schema)


def _features(spec: DatasetSpec, values: list[pa.Array], n_rows: int) -> pa.Array:
    import pyarrow as pa

    if not values:
        return pa.nulls(n_rows)
    return pa.StructArray.from_arrays(values, names=list(spec.columns))


def empty_records(spec: DatasetSpec) -> pa.Table:
    """No records, in the columns that `TypedRows.records` has."""
    import pyarrow as pa

    kinds = {ColumnKind.NUMBER: pa.float64()}
    fields = [(name, kinds.get(c.kind, pa.string())) for name, c in spec.columns.items()]
    schema = pa.schema(
        [("record_id", pa.string()), ("row_file", pa.string()), ("row_line", pa.int64()),
         ("labels_only", pa.bool_()), ("label", pa.string()), ("row_hash", pa.string()),
         ("features", pa.struct(fields) if fields else pa.null())]
    )  # fmt: skip
    return schema.empty_table()
