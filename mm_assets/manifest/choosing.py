"""Of several rows of one record the one that counts, in SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.errors import REFUSALS
from mm_assets.manifest.judging import Judged
from mm_assets.manifest.numbers import Form
from mm_assets.manifest.texts import Told, values_sql
from mm_assets.uploads.received import refusals_table

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_GOOD = (
    "CREATE TEMP VIEW good AS FROM judged ANTI JOIN problems USING (n, r)",
    """CREATE TEMP TABLE doubled AS
        SELECT record_id FROM good GROUP BY record_id HAVING count(*) > 1""",
)
_ALL_CHOSEN = "SELECT n, r, labels_only, record_id, label FROM good"
_RIVALS = (
    "CREATE TEMP TABLE rivals AS FROM good SEMI JOIN doubled USING (record_id)",
    "CREATE TEMP TABLE compared (n INTEGER, r BIGINT, told VARCHAR)",
)
_CHOSEN = """
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


def _compared_sql(spec: DatasetSpec, table: Told, forms: Mapping[str, Form]) -> str:
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
    values = values_sql(spec, table, forms, only)
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


def choose(
    db: duckdb.DuckDBPyConnection, spec: DatasetSpec, tables: list[Judged]
) -> tuple[pa.Table, pa.Table, int]:
    """One row for each record, the rejects, and how many labels joined; of `judged` and `problems`.

    The rows that count: n and r, by which they come; labels_only, record_id, label.
    """
    for statement in _GOOD:
        db.execute(statement)
    if not _one(db, "SELECT count(*) FROM doubled")[0]:
        return db.sql(_ALL_CHOSEN).to_arrow_table(), _rejects(db, _WRONG), 0
    for statement in _RIVALS:
        db.execute(statement)
    for judged in tables:
        db.execute(_compared_sql(spec, judged.looked.table, judged.forms))
    told = [judged.looked.table for judged in tables]
    copies = [str(table.number) for table in told if table.entry.get("copy_of")]
    for statement in (_firsts_sql(copies), _conflicts_sql(spec)):
        db.execute(statement)
    joined = int(_one(db, _LABELS_JOINED)[0])
    return (
        db.sql(_CHOSEN).to_arrow_table(), _rejects(db, f"{_WRONG} UNION ALL {_BEATEN}"), joined
    )  # fmt: skip


def _one(db: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    """The one row that a query has."""
    (row,) = db.execute(query).fetchall()
    return tuple(row)


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
