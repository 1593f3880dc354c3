"""The table store in one DuckDB file.

One process at a time may hold the file. Every method opens late, does one short transaction and
closes; when another process holds the file it waits, with jitter, for at most `patience` seconds.
All files that a process opens are attached to one database in its memory.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_assets.contract.errors import StoreError
from mm_assets.contract.sql import literal
from mm_assets.tables.merge_rule import BY_UPLOAD, ORDER, ROW_GONE
from mm_assets.tables.named import (
    BY,
    NAMES,
    UNCLEAR,
    Meeting,
    cell_of,
    file_of,
    meet,
    no_names,
    with_named,
)
from mm_assets.tables.newest import Asked
from mm_assets.tables.store import (
    BESIDE,
    COLUMNS,
    WITHDRAWN,
    MergeResult,
    Published,
    Query,
    columns_of,
    no_refusals,
    schema_of,
)

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_OF_A_PREDICTION = """
    dataset VARCHAR NOT NULL, record_id VARCHAR NOT NULL,
    prediction VARCHAR NOT NULL, probabilities VARCHAR, confidence DOUBLE NOT NULL,
    needs_review BOOLEAN NOT NULL, modality VARCHAR NOT NULL, model_version VARCHAR NOT NULL,
    upload VARCHAR NOT NULL, input_hash VARCHAR NOT NULL, run_id VARCHAR NOT NULL,
    predicted_at VARCHAR NOT NULL,
    modality_rank INTEGER NOT NULL, image_upload VARCHAR NOT NULL,
    model_generation INTEGER NOT NULL, spec_generation INTEGER NOT NULL,
    content_hash VARCHAR NOT NULL, reasons VARCHAR,
    lower DOUBLE, upper DOUBLE, doubts VARCHAR, image_order VARCHAR,"""
# The index has no primary key: none of its questions would use it, and a million rows are written
# three times faster without. One row a record and upload is what `publish` sees to. IDs are not
# compressed: that takes as long as all else of writing them.
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS record_index (
    dataset VARCHAR NOT NULL, record_id VARCHAR NOT NULL USING COMPRESSION uncompressed,
    upload VARCHAR NOT NULL, labels_only BOOLEAN NOT NULL, label VARCHAR);
CREATE TABLE IF NOT EXISTS image_index (
    dataset VARCHAR NOT NULL, record_id VARCHAR NOT NULL, upload VARCHAR NOT NULL,
    image_sha256 VARCHAR NOT NULL, image_file VARCHAR NOT NULL);
CREATE TABLE IF NOT EXISTS predictions ({_OF_A_PREDICTION}
    PRIMARY KEY (dataset, record_id));
-- code: NULL where an upload's row, once there, is there no more
CREATE TABLE IF NOT EXISTS refusal_index (
    dataset VARCHAR NOT NULL, record_id VARCHAR NOT NULL, upload VARCHAR NOT NULL, code VARCHAR);
CREATE TABLE IF NOT EXISTS withdrawn_uploads (
    dataset VARCHAR NOT NULL, upload VARCHAR NOT NULL, PRIMARY KEY (dataset, upload));
-- what waits for rows, or images, of other uploads: see named.py
CREATE TABLE IF NOT EXISTS name_index (
    dataset VARCHAR NOT NULL, upload VARCHAR NOT NULL, name VARCHAR NOT NULL,
    record_id VARCHAR NOT NULL, number BIGINT, path VARCHAR NOT NULL, in_table VARCHAR,
    image_sha256 VARCHAR);
-- tables made before these came
ALTER TABLE predictions ADD COLUMN IF NOT EXISTS reasons VARCHAR;
ALTER TABLE predictions ADD COLUMN IF NOT EXISTS lower DOUBLE;
ALTER TABLE predictions ADD COLUMN IF NOT EXISTS upper DOUBLE;
ALTER TABLE predictions ADD COLUMN IF NOT EXISTS doubts VARCHAR;
-- what the table said last of records that it says nothing of now
CREATE TABLE IF NOT EXISTS withdrawn_predictions ({_OF_A_PREDICTION}
    code VARCHAR NOT NULL, withdrawn_by VARCHAR NOT NULL, withdrawn_at VARCHAR NOT NULL);
ALTER TABLE predictions ADD COLUMN IF NOT EXISTS image_order VARCHAR;
ALTER TABLE withdrawn_predictions ADD COLUMN IF NOT EXISTS image_order VARCHAR;
"""

_WITHDRAWN = "(SELECT upload FROM withdrawn_uploads WHERE dataset = $1)"
# Of each record, by uploads that are not withdrawn: the newest that refused its row, with the
# code, and all whose row no longer stands.
_REFUSED = f"""
    SELECT record_id, max(upload) FILTER (code IS NOT NULL) AS refused_by,
        arg_max(code, upload) FILTER (code IS NOT NULL) AS refused_for, list(upload) AS fallen
    FROM (FROM refusal_index WHERE dataset = $1) ANTI JOIN {_WITHDRAWN} USING (upload)
    GROUP BY record_id"""
# The upload whose row names a prediction's image from elsewhere, or NULL.
_BY = f"CASE WHEN contains(image_order, '{BY}') THEN split_part(image_order, '{BY}', 1) END"
# The rule of merge_rule.py: whether a prediction no longer counts, joined with `refused`; `unclear`
# is a table (`_unclear`).
_VOID = f"""(upload IN {_WITHDRAWN} OR image_upload IN {_WITHDRAWN}
    OR coalesce(upload <= refused_by OR list_contains(fallen, upload), false)
    OR coalesce({_BY} IN {_WITHDRAWN} OR (record_id, {_BY}) IN (FROM unclear), false))"""


def _told(which: str = "") -> str:
    """The rows that count; a refusal takes back what older rows said, labels without features stay.

    which: of which uploads, if not of all; $1 is the dataset.
    """
    return f"""
    SELECT record_id, upload, labels_only, label
    FROM (FROM record_index WHERE dataset = $1{which}) ANTI JOIN {_WITHDRAWN} USING (upload)
        LEFT JOIN ({_REFUSED}) USING (record_id)
    WHERE labels_only OR refused_by IS NULL OR upload > refused_by"""


_TOLD, _BY_OTHERS = _told(), " AND upload <> $2"
# What uploads that count, but for $2, say of `wanted` records, each by its place there.
_OF_WANTED = (
    f"""CREATE TEMP TABLE told AS
        SELECT place, upload, labels_only, label
        FROM ({_told(_BY_OTHERS)}) JOIN wanted USING (record_id)""",
    f"""CREATE TEMP TABLE seen AS
        SELECT place, upload, image_sha256, image_file
        FROM (FROM image_index WHERE dataset = $1{_BY_OTHERS})
            ANTI JOIN {_WITHDRAWN} USING (upload) JOIN wanted USING (record_id)""",
)
# Uploads are few and their keys long: they travel as numbers, in the order of their keys.
_UPLOADS = """
    CREATE TEMP TABLE uploads AS
    SELECT upload, row_number() OVER (ORDER BY upload) - 1 AS rank
    FROM (SELECT upload FROM told UNION SELECT upload FROM seen)"""
# Whether other uploads than $2 say anything.
_OTHERS = f"""
    SELECT EXISTS (FROM record_index WHERE dataset = $1{_BY_OTHERS})
        OR EXISTS (FROM image_index WHERE dataset = $1{_BY_OTHERS})
        OR EXISTS (FROM name_index WHERE dataset = $1)"""
# The cells, and the files that they may mean, of uploads that count; joined with `wanted`.
_CELLS = f"""
    SELECT * FROM name_index SEMI JOIN wanted USING (record_id)
    WHERE dataset = $1 AND image_sha256 IS NULL AND upload NOT IN {_WITHDRAWN}"""
_FILES = f"""
    SELECT * FROM name_index SEMI JOIN ({_CELLS}) USING (name)
    WHERE dataset = $1 AND image_sha256 IS NOT NULL AND upload NOT IN {_WITHDRAWN}"""
_NAMING = """
    SELECT DISTINCT cells.record_id FROM name_index AS cells SEMI JOIN (
        SELECT name FROM name_index
        WHERE dataset = $1 AND upload = $2 AND image_sha256 IS NOT NULL) USING (name)
    WHERE dataset = $1 AND image_sha256 IS NULL"""

STORED = (*COLUMNS, *(name for name in ORDER if name not in COLUMNS), *BESIDE)
# Of tables made before it came.
_ORDER_OF = {"image_order": "coalesce({0}.image_order, {0}.image_upload)"}

# Threads of one process share the file's instance but must not interleave on it.
_process_lock = threading.RLock()
_numbers = itertools.count()


@dataclass
class _File:
    """A table's file that this process has open. database: what it is part of, as `name`, or is
    itself, where `name` is None; users: how many connections there are to it."""

    database: duckdb.DuckDBPyConnection
    name: str | None
    users: int = 0


_open: dict[Path, _File] = {}


class DuckDBStore:
    """The store in the DuckDB file at `path`; created on first use."""

    def __init__(self, path: Path, patience: float = 60.0) -> None:
        self.path = path
        self.patience = patience

    @contextmanager
    def held(self) -> Iterator[None]:
        with _process_lock:
            connection = self._connect()
            try:
                yield
            finally:
                self._close(connection)

    # -- the index ----------------------------------------------------------------------------

    def publish(
        self,
        dataset: str,
        upload: str,
        rows: pa.Table,
        images: pa.Table,
        refused: pa.Table | None = None,
        names: pa.Table | None = None,
    ) -> pa.Array:
        own = Published(upload, rows, images, refused, names)
        return self.publish_several(dataset, [own])[0]

    def publish_several(self, dataset: str, published: Sequence[Published]) -> list[pa.Array]:
        import pyarrow as pa
        import pyarrow.compute as pc

        uploads = pa.array([one.upload for one in published], pa.string())
        refused = [no_refusals() if one.refused is None else one.refused for one in published]
        rows = _of_uploads(uploads, [one.rows for one in published])
        images = _of_uploads(uploads, [one.images for one in published])
        with self._transaction() as db:
            db.register("they", pa.table({"upload": uploads}))
            db.register("rows_now", rows)
            db.register("refused_now", _of_uploads(uploads, refused))
            # What it once said, and says no more, has fallen, too.
            fallen = db.sql(
                """
                SELECT upload, record_id, code FROM refused_now
                UNION ALL
                SELECT upload, record_id, NULL FROM (
                    SELECT upload, record_id FROM record_index
                        WHERE dataset = $1 AND upload IN (FROM they)
                    UNION SELECT upload, record_id FROM refusal_index
                        WHERE dataset = $1 AND upload IN (FROM they))
                ANTI JOIN rows_now USING (upload, record_id)
                ANTI JOIN refused_now USING (upload, record_id)""",
                params=[dataset],
            ).to_arrow_table()
            _replace(db, "record_index", dataset, rows, "labels_only, label")
            _replace(db, "image_index", dataset, images, "image_sha256, image_file")
            _replace(db, "refusal_index", dataset, fallen, "code")
            named = _replace_names(db, dataset, {one.upload: one.names for one in published})
            for upload in sorted({*named, *pc.unique(fallen["upload"]).to_pylist()}):
                _take_back(db, dataset, upload)
        ids = fallen["record_id"].combine_chunks()
        if len(published) == 1:
            return [ids]
        by = fallen["upload"].combine_chunks()
        return [ids.filter(pc.equal(by, one.upload)) for one in published]

    def withdraw(self, dataset: str, uploads: Collection[str]) -> None:
        import pyarrow as pa

        if not uploads:
            return
        with self._transaction() as db:
            db.register("they", pa.table({"upload": pa.array(sorted(set(uploads)), pa.string())}))
            new = db.execute(
                "INSERT INTO withdrawn_uploads SELECT $1, upload FROM they "
                f"WHERE upload NOT IN {_WITHDRAWN} RETURNING upload",
                [dataset],
            ).fetchall()
            if new:
                _take_back(db, dataset)

    def naming(self, dataset: str, upload: str) -> pa.Array:
        with self._transaction() as db:
            found = db.sql(f"{_NAMING} ORDER BY record_id", params=[dataset, upload])
            return found.to_arrow_table()["record_id"].combine_chunks()

    def stated(self, dataset: str, upload: str) -> pa.Array:
        names = ("record_index", "image_index", "refusal_index", "name_index")
        each = [f"SELECT record_id FROM {n} WHERE dataset = $1 AND upload = $2" for n in names]
        each.append(_NAMING)
        with self._transaction() as db:
            query = (
                f"SELECT DISTINCT record_id FROM ({' UNION ALL '.join(each)}) ORDER BY record_id"
            )
            found = db.sql(query, params=[dataset, upload]).to_arrow_table()
        return found["record_id"].combine_chunks()

    def look_up(
        self, dataset: str, record_ids: pa.Array | None, own: Published | None = None
    ) -> pa.Table:
        import pyarrow as pa

        with self._transaction() as db:
            if record_ids is None:
                query = f"SELECT DISTINCT record_id FROM ({_TOLD}) WHERE label IS NOT NULL"
                found = db.sql(query, params=[dataset]).to_arrow_table()
                record_ids = found["record_id"].combine_chunks()
            asked = Asked(record_ids, own)
            if own is not None:
                withdrawn, void = _void_of(db, dataset, own.upload)
                asked.forget(void, withdrawn=withdrawn)
            if not _one(db.execute(_OTHERS, [dataset, asked.upload]))[0]:
                return with_named(asked.answer(pa.array([], pa.string())), Meeting({}, {}))
            db.register("wanted_ids", asked.wanted())
            try:
                db.execute("CREATE TEMP TABLE wanted AS FROM wanted_ids")
                for statement in _OF_WANTED:
                    db.execute(statement, [dataset, asked.upload])
                db.execute(_UPLOADS)
                uploads, told, seen = (
                    db.sql(query).to_arrow_table()
                    for query in (
                        "SELECT upload FROM uploads ORDER BY rank",
                        "SELECT * EXCLUDE upload FROM told JOIN uploads USING (upload)",
                        "SELECT * EXCLUDE upload FROM seen JOIN uploads USING (upload)",
                    )
                )
                meeting = _meeting(db, dataset)
            finally:
                for name in ("wanted", "told", "seen", "uploads"):
                    db.execute(f"DROP TABLE IF EXISTS {name}")
        return with_named(asked.answer(uploads["upload"], told, seen), meeting)

    def count_labelled(self, dataset: str) -> int:
        with self._transaction() as db:
            return _one(
                db.execute(
                    f"SELECT count(DISTINCT record_id) FROM ({_TOLD}) WHERE label IS NOT NULL",
                    [dataset],
                )
            )[0]

    # -- predictions --------------------------------------------------------------------------

    def merge(self, dataset: str, offered: pa.Table) -> MergeResult:
        return self.merge_several(dataset, [offered])[0]

    def merge_several(self, dataset: str, offers: Sequence[pa.Table]) -> list[MergeResult]:
        import numpy as np
        import pyarrow as pa

        order = ", ".join(ORDER)
        newer, older, greatest = (
            ", ".join(_ORDER_OF.get(name, "{0}." + name).format(which) + how for name in ORDER)
            for which, how in (("new", ""), ("old", ""), ("offered", " DESC"))
        )
        columns = ", ".join(STORED)
        assignments = ", ".join(f"{name} = excluded.{name}" for name in STORED[1:])
        offered = pa.concat_tables([one.select(list(STORED)) for one in offers])
        of = np.repeat(np.arange(len(offers), dtype=np.int16), [len(one) for one in offers])
        placed = offered.append_column("place", pa.arange(0, len(offered)))
        placed = placed.append_column("offer", pa.array(of))
        with self._transaction() as db:
            db.register("offered", placed)
            _unclear(db, dataset, "offered")
            # Who wins is judged by the columns of the order alone, and kept by place: a row is
            # read whole once, when it is written. Of one record only one may be written at once.
            db.execute(
                f"""
                CREATE TEMP TABLE winners AS
                WITH refused AS ({_REFUSED}),
                best AS (
                    SELECT place, offer, record_id, image_upload, {order}
                    FROM offered LEFT JOIN refused USING (record_id)
                    WHERE NOT {_VOID}
                    QUALIFY row_number() OVER (
                        PARTITION BY record_id ORDER BY {greatest}) = 1)
                SELECT new.place, new.offer, old.record_id IS NULL AS is_new
                FROM best AS new LEFT JOIN predictions AS old
                    ON old.dataset = $1 AND old.record_id = new.record_id
                WHERE old.record_id IS NULL OR ({newer}) > ({older})
                """,
                [dataset],
            )
            new = _counted(db, "FROM winners WHERE is_new")
            replaced = _counted(db, "FROM winners WHERE NOT is_new")
            write = (
                f"INSERT INTO predictions (dataset, {columns}) SELECT $1, {columns} "
                "FROM offered SEMI JOIN (FROM winners WHERE is_new = $2) USING (place) "
            )
            if new:
                db.execute(write, [dataset, True])
            if replaced:
                write += f"ON CONFLICT (dataset, record_id) DO UPDATE SET {assignments}"
                db.execute(write, [dataset, False])
            db.execute("DROP TABLE winners")
            void = _counted(
                db,
                f"FROM offered LEFT JOIN ({_REFUSED}) USING (record_id) WHERE {_VOID}",
                [dataset],
            )
            db.execute("DROP TABLE unclear")
        found = []
        for number, one in enumerate(offers):
            did = [counted.get(number, 0) for counted in (new, replaced, void)]
            found.append(MergeResult(did[0], did[1], one.num_rows - sum(did), did[2]))
        return found

    def read_withdrawn(self, dataset: str, record_ids: Sequence[str] | None = None) -> pa.Table:
        import pyarrow as pa

        if record_ids is not None and not record_ids:
            return schema_of(WITHDRAWN).empty_table()
        wanted = ""
        with self._transaction() as db:
            if record_ids is not None:
                ids = pa.table({"record_id": pa.array(list(record_ids), pa.string())})
                db.register("wanted_ids", ids)
                wanted = "AND record_id IN (SELECT record_id FROM wanted_ids)"
            return db.sql(
                f"SELECT {', '.join(WITHDRAWN)} FROM withdrawn_predictions AS w "
                f"WHERE dataset = $1 {wanted} AND NOT EXISTS (FROM predictions AS p "
                "WHERE p.dataset = $1 AND p.record_id = w.record_id) ORDER BY record_id",
                params=[dataset],
            ).to_arrow_table()

    def read(self, dataset: str, query: Query = Query()) -> pa.Table:  # noqa: B008
        return self._read(dataset, query, {})

    def read_several(self, dataset: str, uploads: Sequence[str]) -> pa.Table:
        import pyarrow as pa

        they = pa.table({"upload": pa.array(list(uploads), pa.string())})
        return self._read(dataset, Query(), {"they": they})

    def _read(self, dataset: str, query: Query, they: dict[str, pa.Table]) -> pa.Table:
        """they: of which uploads, if not of all."""
        import pyarrow as pa

        conditions, values = ["p.dataset = $dataset"], {"dataset": dataset}
        if they:
            conditions.append("(p.upload IN (FROM they) OR p.image_upload IN (FROM they))")
        for condition, name, value in (
            ("(p.upload = $upload OR p.image_upload = $upload)", "upload", query.upload),
            ("p.needs_review = $review", "review", query.needs_review),
            ("p.predicted_at >= $since", "since", query.changed_since),
        ):
            if value is not None:
                conditions.append(condition)
                values[name] = value  # type: ignore[assignment]
        columns, label = columns_of(query), ""
        known = {"image_upload": "nullif(p.image_upload, '') AS image_upload", "label": "l.label"}
        shown = ", ".join(known.get(name, f"p.{name}") for name in columns)
        if "label" in columns:
            label = f"""LEFT JOIN (
                SELECT record_id, arg_max(label, upload) AS label
                FROM ({_TOLD.replace("$1", "$dataset")})
                WHERE label IS NOT NULL GROUP BY record_id) AS l USING (record_id)"""
        with self._transaction() as db:
            for name, table in they.items():
                db.register(name, table)
            if query.record_ids is not None:
                ids = pa.table({"record_id": pa.array(list(query.record_ids), pa.string())})
                db.register("wanted_ids", ids)
                conditions.append("p.record_id IN (SELECT record_id FROM wanted_ids)")
            order = "ORDER BY p.confidence, p.record_id" if query.in_order else ""
            limit = f"LIMIT {int(query.limit)}" if query.limit is not None else ""
            return db.sql(
                f"""
                SELECT {shown} FROM predictions AS p {label}
                WHERE {" AND ".join(conditions)} {order} {limit}
                """,
                params=values,
            ).to_arrow_table()

    def counts(self, dataset: str) -> dict[str, Any]:
        with self._transaction() as db:
            row = _one(
                db.execute(
                    "SELECT count(*), count(*) FILTER (needs_review), "
                    "count(*) FILTER (modality = 'with_image'), "
                    "count(*) FILTER (modality = 'without_image') "
                    "FROM predictions WHERE dataset = $1",
                    [dataset],
                )
            )
        return dict(
            zip(("records", "needs_review", "with_image", "without_image"), row, strict=True)
        )

    def records(self) -> dict[str, int]:
        """How many predictions each dataset has."""
        with self._transaction() as db:
            counted = "SELECT dataset, count(*) FROM predictions GROUP BY dataset ORDER BY dataset"
            return dict(db.execute(counted).fetchall())

    # -- the connection -----------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        import duckdb

        with _process_lock:
            connection = self._connect()
            try:
                connection.begin()
                yield connection
                connection.commit()
            except duckdb.Error as error:
                raise _in_words(self.path, error) from error
            finally:
                self._close(connection)

    def _connect(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own to the file, which is opened unless this process has it open."""
        import duckdb

        file = _open.setdefault(self.path, _open.get(self.path) or self._patiently_opened())
        file.users += 1
        # A cursor is a connection of its own: what it registers goes with it.
        connection = file.database.cursor()
        try:
            if file.name:
                connection.execute(f"USE {file.name}")
            if file.users == 1:
                connection.execute(SCHEMA)
        except duckdb.Error as error:
            self._close(connection)
            raise _in_words(self.path, error) from error
        return connection

    def _close(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Close it, which rolls back what is not committed; the last one lets go of the file."""
        connection.close()
        file = _open[self.path]
        file.users -= 1
        if not file.users:
            del _open[self.path]
            _let_go(file)

    def _patiently_opened(self) -> _File:
        import duckdb
        from tenacity import RetryError, Retrying, retry_if_exception, stop_after_delay
        from tenacity import wait_random_exponential as jitter

        busy = retry_if_exception(lambda error: "set lock on file" in str(error))
        try:
            for attempt in Retrying(
                stop=stop_after_delay(self.patience),
                wait=jitter(multiplier=0.05, max=1.0),
                retry=busy,
            ):
                with attempt:
                    return _opened(self.path)
        except RetryError:
            raise StoreError(
                code="table_busy",
                what=f"another process held the predictions table for {self.patience:.0f} s",
                where=str(self.path),
                todo="Close other programs that have this DuckDB file open, then try again.",
            ) from None
        except duckdb.Error as error:
            raise _in_words(self.path, error) from error
        raise AssertionError  # the last attempt ends in one of these


def _opened(path: Path) -> _File:
    import duckdb

    database = _database(os.getpid())  # a fork has none of the threads of its parent's
    with suppress(duckdb.NotImplementedException):  # it has spilled into another's already
        database.execute(f"SET temp_directory = {literal(f'{path}.tmp')}")
    name = f"table_{next(_numbers)}"
    try:
        database.execute(f"ATTACH {literal(str(path))} AS {name}")
    except duckdb.ResourceInUseException:  # somebody else in this process has it open
        return _File(duckdb.connect(str(path)), None)
    return _File(database, name)


@lru_cache(maxsize=4)
def _database(_process: int) -> duckdb.DuckDBPyConnection:
    """What files are attached to: to make a database takes DuckDB 30 ms of processor time, to
    attach a file two."""
    import duckdb

    return duckdb.connect(":memory:")


def _let_go(file: _File) -> None:
    import duckdb

    try:
        if file.name:
            file.database.execute(f"DETACH {file.name}")
            return
    except duckdb.Error:  # after a fault of its own it does nothing any more
        _database.cache_clear()
    file.database.close()


def _in_words(path: Path, error: duckdb.Error) -> StoreError:
    """What DuckDB says, with what to do about it; a failed transaction has changed nothing."""
    import duckdb

    code, todo = "table_failed", "Nothing was changed. Please report this with all that is said."
    if isinstance(error, duckdb.IOException):
        code = "table_unreachable"
        todo = "Check MM_TABLE, the permissions and the free space; is it a DuckDB file?"
        if "No space left" in str(error):
            code, todo = "disk_full", "Free some space there, then run the same command again."
    elif isinstance(error, duckdb.OutOfMemoryException):
        code, todo = "table_memory", "Nothing was changed. Free some memory and run it again."
    elif isinstance(error, duckdb.IntegrityError | duckdb.DataError):
        code = "table_refused"
        todo = "Nothing was changed: the table does not hold such values. Please report this."
    elif isinstance(error, duckdb.InternalException | duckdb.FatalException):
        code = "table_failed"
        todo = "Stop everything that uses the file, copy it aside, then try again."
    return StoreError(code=code, what=str(error).split("\n")[0], where=str(path), todo=todo)


def _of_uploads(uploads: pa.Array, tables: Sequence[pa.Table]) -> pa.Table:
    """The tables in one, with `upload`; that repeats, and takes no memory."""
    import numpy as np
    import pyarrow as pa

    of = np.repeat(np.arange(len(tables), dtype=np.int32), [len(one) for one in tables])
    named = pa.DictionaryArray.from_arrays(pa.array(of), uploads)
    return pa.concat_tables(tables, promote_options="default").append_column("upload", named)


def _counted(
    db: duckdb.DuckDBPyConnection, which: str, given: Sequence[Any] | None = None
) -> dict[int, int]:
    """How many rows there are of each offer."""
    counted = f"SELECT offer, count(*) {which} GROUP BY offer"
    return dict(db.execute(counted, given).fetchall())


def _replace(
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


def _replace_names(
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


def _void_of(db: duckdb.DuckDBPyConnection, dataset: str, upload: str) -> tuple[bool, pa.Array]:
    """Whether an upload is withdrawn; else the records of which its row no longer counts."""
    gone = f"SELECT coalesce($2 IN {_WITHDRAWN}, false)"
    query = f"SELECT record_id FROM ({_REFUSED}) WHERE refused_by >= $2"
    void = db.sql(query, params=[dataset, upload]).to_arrow_table()
    return _one(db.execute(gone, [dataset, upload]))[0], void["record_id"].combine_chunks()


def _meeting(db: duckdb.DuckDBPyConnection, dataset: str) -> Meeting:
    """What the records in `wanted` name in other uploads."""
    cells = db.sql(_CELLS, params=[dataset]).to_arrow_table()
    if not cells.num_rows:
        return Meeting({}, {})
    files = db.sql(_FILES, params=[dataset]).to_arrow_table()
    return meet(map(cell_of, cells.to_pylist()), map(file_of, files.to_pylist()))


def _unclear(db: duckdb.DuckDBPyConnection, dataset: str, source: str) -> None:
    """Make `unclear`, record_id and upload: of the predictions in `source` whose image is named by
    a row of another upload, where it is not clear any more what that means."""
    import pyarrow as pa

    db.execute(
        f"CREATE TEMP TABLE wanted AS SELECT DISTINCT record_id FROM {source} "
        f"WHERE {_BY} IS NOT NULL"
    )
    meeting = _meeting(db, dataset)
    db.execute("DROP TABLE wanted")
    both = [(record_id, upload) for record_id, own in meeting.unclear.items() for upload in own]
    ids, uploads = zip(*both, strict=True) if both else ((), ())
    said = pa.table({"record_id": pa.array(ids, pa.string()), "by": pa.array(uploads, pa.string())})
    db.register("unclear_now", said)
    db.execute("CREATE TEMP TABLE unclear AS FROM unclear_now")
    db.unregister("unclear_now")


def _take_back(db: duckdb.DuckDBPyConnection, dataset: str, upload: str = "") -> None:
    """Move the predictions that no longer count to where the last answers are kept.

    upload: whose names may have made others unclear.
    """
    db.execute(
        f"CREATE TEMP TABLE near AS SELECT * FROM predictions WHERE dataset = $1 AND record_id IN "
        "(SELECT record_id FROM name_index WHERE dataset = $1 AND upload = $2 "
        f"UNION ALL ({_NAMING}))",
        [dataset, upload],
    )
    _unclear(db, dataset, "near")
    db.execute("DROP TABLE near")
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    db.execute(
        f"""
        CREATE TEMP TABLE void AS
        SELECT p.*,
            CASE WHEN upload IN {_WITHDRAWN} OR image_upload IN {_WITHDRAWN}
                    OR coalesce({_BY} IN {_WITHDRAWN}, false) THEN '{BY_UPLOAD}'
                WHEN upload <= refused_by THEN refused_for
                WHEN list_contains(fallen, upload) THEN '{ROW_GONE}' ELSE '{UNCLEAR}' END AS code,
            CASE WHEN upload IN {_WITHDRAWN} THEN upload
                WHEN image_upload IN {_WITHDRAWN} THEN image_upload
                WHEN {_BY} IN {_WITHDRAWN} THEN {_BY}
                WHEN upload <= refused_by THEN refused_by
                WHEN list_contains(fallen, upload) THEN upload ELSE {_BY} END AS withdrawn_by,
            $2 AS withdrawn_at
        FROM predictions AS p LEFT JOIN ({_REFUSED}) USING (record_id)
        WHERE dataset = $1 AND {_VOID}""",
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


def _one(result: duckdb.DuckDBPyConnection) -> tuple[Any, ...]:
    (row,) = result.fetchall()  # an aggregate always yields one row
    return tuple(row)
