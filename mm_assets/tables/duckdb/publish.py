"""What an upload says becomes what the index says, and answers that no longer count are taken back.

All within a transaction of the store's.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mm_assets.tables.duckdb.sql import (
    CELLS,
    FILES,
    NAMED_BY,
    NAMING,
    REFUSED,
    VOID,
    WITHDRAWN_ONES,
)
from mm_assets.tables.merge_rule import BY_UPLOAD, ROW_GONE
from mm_assets.tables.named import NAMES, UNCLEAR, Meeting, cell_of, file_of, meet, no_names

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa


def replace(
    db: duckdb.DuckDBPyConnection, table: str, dataset: str, published: pa.Table, columns: str
) -> None:
    """Make the part of an index that is of the uploads in `they` what is published.

    Only what differs is written.
    """
    db.register("published", published)
    own = "old.dataset = $1 AND old.upload IN (FROM they)"
    same = "old.upload = new.upload AND old.record_id = new.record_id"
    [(there,)] = db.execute(
        f"SELECT count(*) FROM {table} AS old WHERE {own}", [dataset]
    ).fetchall()
    if there:
        db.execute(
            f"DELETE FROM {table} AS old WHERE {own} AND NOT EXISTS "
            f"(SELECT 1 FROM published AS new WHERE {same})",
            [dataset],
        )
        values = columns.split(", ")
        assignments = ", ".join(f"{name} = new.{name}" for name in values)
        differs = " OR ".join(f"old.{n} IS DISTINCT FROM new.{n}" for n in values)
        db.execute(
            f"UPDATE {table} AS old SET {assignments} FROM published AS new "
            f"WHERE {own} AND {same} AND ({differs})",
            [dataset],
        )
    if published.num_rows:
        known = f"ANTI JOIN (SELECT upload, record_id FROM {table} AS old WHERE {own})"
        db.execute(
            f"INSERT INTO {table} (dataset, upload, record_id, {columns}) "
            f"SELECT $1, upload, record_id, {columns} FROM published AS new "
            f"{f'{known} USING (upload, record_id)' if there else ''}",
            [dataset],
        )
    db.unregister("published")


def replace_names(
    db: duckdb.DuckDBPyConnection, dataset: str, names: Mapping[str, pa.Table | None]
) -> list[str]:
    """Make the names of each upload what it publishes; returns those that have or had any."""
    counted = (
        "SELECT upload, count(*) FROM name_index "
        "WHERE dataset = $1 AND upload IN (FROM they) GROUP BY upload"
    )
    there = dict(db.execute(counted, [dataset]).fetchall())
    found = []
    for upload, own in names.items():
        if upload in there or (own is not None and own.num_rows):
            found.append(upload)
            now = no_names() if own is None else own
            _replace_names_of(db, dataset, upload, now, there.get(upload, 0))
    return found


def _replace_names_of(
    db: duckdb.DuckDBPyConnection, dataset: str, upload: str, names: pa.Table, there: int
) -> None:
    own = "FROM name_index WHERE dataset = $1 AND upload = $2"
    columns = ", ".join(NAMES)
    db.register("names_now", names.select(list(NAMES)))
    changed = "SELECT count(*) FROM ((FROM {0}) EXCEPT ALL (FROM {1}))"
    stands = f"(SELECT {columns} {own})"
    [(changes,)] = db.execute(changed.format(stands, "names_now"), [dataset, upload]).fetchall()
    if changes or names.num_rows != there:
        db.execute(f"DELETE {own}", [dataset, upload])
        db.execute(
            f"INSERT INTO name_index (dataset, upload, {columns}) "
            f"SELECT $1, $2, {columns} FROM names_now",
            [dataset, upload],
        )
    db.unregister("names_now")


def void_of(db: duckdb.DuckDBPyConnection, dataset: str, upload: str) -> tuple[bool, pa.Array]:
    """Whether an upload is withdrawn; else the records of which its row no longer counts."""
    gone = f"SELECT coalesce($2 IN {WITHDRAWN_ONES}, false)"
    query = f"SELECT record_id FROM ({REFUSED}) WHERE refused_by >= $2"
    void = db.sql(query, params=[dataset, upload]).to_arrow_table()
    return one_row(db.execute(gone, [dataset, upload]))[0], void["record_id"].combine_chunks()


def meeting_of(db: duckdb.DuckDBPyConnection, dataset: str) -> Meeting:
    """What the records in `wanted` name in other uploads."""
    cells = db.sql(CELLS, params=[dataset]).to_arrow_table()
    if not cells.num_rows:
        return Meeting({}, {})
    files = db.sql(FILES, params=[dataset]).to_arrow_table()
    return meet(map(cell_of, cells.to_pylist()), map(file_of, files.to_pylist()))


def make_unclear(db: duckdb.DuckDBPyConnection, dataset: str, source: str) -> None:
    """Make `unclear`, record_id and upload: of the predictions in `source` whose image is named by
    a row of another upload, where it is not clear any more what that means."""
    import pyarrow as pa

    db.execute(
        f"CREATE TEMP TABLE wanted AS SELECT DISTINCT record_id FROM {source} "
        f"WHERE {NAMED_BY} IS NOT NULL"
    )
    meeting = meeting_of(db, dataset)
    db.execute("DROP TABLE wanted")
    both = [(record_id, upload) for record_id, own in meeting.unclear.items() for upload in own]
    ids, uploads = zip(*both, strict=True) if both else ((), ())
    said = pa.table({"record_id": pa.array(ids, pa.string()), "by": pa.array(uploads, pa.string())})
    db.register("unclear_now", said)
    db.execute("CREATE TEMP TABLE unclear AS FROM unclear_now")
    db.unregister("unclear_now")


def take_back(db: duckdb.DuckDBPyConnection, dataset: str, upload: str = "") -> None:
    """Move the predictions that no longer count to where the last answers are kept.

    upload: whose names may have made others unclear.
    """
    db.execute(
        f"CREATE TEMP TABLE near AS SELECT * FROM predictions WHERE dataset = $1 AND record_id IN "
        "(SELECT record_id FROM name_index WHERE dataset = $1 AND upload = $2 "
        f"UNION ALL ({NAMING}))",
        [dataset, upload],
    )
    make_unclear(db, dataset, "near")
    db.execute("DROP TABLE near")
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    db.execute(
        f"""
        CREATE TEMP TABLE void AS
        SELECT p.*,
            CASE WHEN upload IN {WITHDRAWN_ONES} OR image_upload IN {WITHDRAWN_ONES}
                    OR coalesce({NAMED_BY} IN {WITHDRAWN_ONES}, false) THEN '{BY_UPLOAD}'
                WHEN upload <= refused_by THEN refused_for
                WHEN list_contains(fallen, upload) THEN '{ROW_GONE}' ELSE '{UNCLEAR}' END AS code,
            CASE WHEN upload IN {WITHDRAWN_ONES} THEN upload
                WHEN image_upload IN {WITHDRAWN_ONES} THEN image_upload
                WHEN {NAMED_BY} IN {WITHDRAWN_ONES} THEN {NAMED_BY}
                WHEN upload <= refused_by THEN refused_by
                WHEN list_contains(fallen, upload) THEN upload ELSE {NAMED_BY} END AS withdrawn_by,
            $2 AS withdrawn_at
        FROM predictions AS p LEFT JOIN ({REFUSED}) USING (record_id)
        WHERE dataset = $1 AND {VOID}""",
        [dataset, now],
    )
    for table in ("withdrawn_predictions", "predictions"):
        db.execute(
            f"DELETE FROM {table} WHERE dataset = $1 AND record_id IN (SELECT record_id FROM void)",
            [dataset],
        )
    db.execute("INSERT INTO withdrawn_predictions BY NAME SELECT * FROM void")
    db.execute("DROP TABLE void")
    db.execute("DROP TABLE unclear")


def one_row(result: duckdb.DuckDBPyConnection) -> tuple[Any, ...]:
    (row,) = result.fetchall()  # an aggregate always yields one row
    return tuple(row)
