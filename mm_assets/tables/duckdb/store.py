"""The table store in one DuckDB file.

One process at a time may hold the file. Every method opens late, does one short transaction and
closes; when another process holds the file it waits, with jitter, for at most `patience` seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_assets.tables.duckdb.file import close, connect, in_words, process_lock
from mm_assets.tables.duckdb.publish import (
    make_unclear,
    meeting_of,
    one_row,
    replace,
    replace_names,
    take_back,
    void_of,
)
from mm_assets.tables.duckdb.sql import (
    NAMING,
    OF_WANTED,
    ORDER_OF,
    OTHERS,
    REFUSED,
    STORED,
    TOLD,
    UPLOADS,
    VOID,
    WITHDRAWN_ONES,
)
from mm_assets.tables.merge_rule import ORDER
from mm_assets.tables.named import Meeting, with_named
from mm_assets.tables.newest import Asked
from mm_assets.tables.store import (
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


class DuckDBStore:
    """The store in the DuckDB file at `path`; created on first use."""

    def __init__(self, path: Path, patience: float = 60.0) -> None:
        self.path = path
        self.patience = patience

    @contextmanager
    def held(self) -> Iterator[None]:
        with process_lock:
            connection = connect(self.path, self.patience)
            try:
                yield
            finally:
                close(self.path, connection)

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
            replace(db, "record_index", dataset, rows, "labels_only, label")
            replace(db, "image_index", dataset, images, "image_sha256, image_file")
            replace(db, "refusal_index", dataset, fallen, "code")
            named = replace_names(db, dataset, {one.upload: one.names for one in published})
            for upload in sorted({*named, *pc.unique(fallen["upload"]).to_pylist()}):
                take_back(db, dataset, upload)
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
                f"WHERE upload NOT IN {WITHDRAWN_ONES} RETURNING upload",
                [dataset],
            ).fetchall()
            if new:
                take_back(db, dataset)

    def naming(self, dataset: str, upload: str) -> pa.Array:
        with self._transaction() as db:
            found = db.sql(f"{NAMING} ORDER BY record_id", params=[dataset, upload])
            return found.to_arrow_table()["record_id"].combine_chunks()

    def stated(self, dataset: str, upload: str) -> pa.Array:
        names = ("record_index", "image_index", "refusal_index", "name_index")
        each = [f"SELECT record_id FROM {n} WHERE dataset = $1 AND upload = $2" for n in names]
        each.append(NAMING)
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
                query = f"SELECT DISTINCT record_id FROM ({TOLD}) WHERE label IS NOT NULL"
                found = db.sql(query, params=[dataset]).to_arrow_table()
                record_ids = found["record_id"].combine_chunks()
            asked = Asked(record_ids, own)
            if own is not None:
                withdrawn, void = void_of(db, dataset, own.upload)
                asked.forget(void, withdrawn=withdrawn)
            if not one_row(db.execute(OTHERS, [dataset, asked.upload]))[0]:
                return with_named(asked.answer(pa.array([], pa.string())), Meeting({}, {}))
            db.register("wanted_ids", asked.wanted())
            try:
                db.execute("CREATE TEMP TABLE wanted AS FROM wanted_ids")
                for statement in OF_WANTED:
                    db.execute(statement, [dataset, asked.upload])
                db.execute(UPLOADS)
                uploads, told, seen = (
                    db.sql(query).to_arrow_table()
                    for query in (
                        "SELECT upload FROM uploads ORDER BY rank",
                        "SELECT * EXCLUDE upload FROM told JOIN uploads USING (upload)",
                        "SELECT * EXCLUDE upload FROM seen JOIN uploads USING (upload)",
                    )
                )
                meeting = meeting_of(db, dataset)
            finally:
                for name in ("wanted", "told", "seen", "uploads"):
                    db.execute(f"DROP TABLE IF EXISTS {name}")
        return with_named(asked.answer(uploads["upload"], told, seen), meeting)

    def count_labelled(self, dataset: str) -> int:
        with self._transaction() as db:
            return one_row(
                db.execute(
                    f"SELECT count(DISTINCT record_id) FROM ({TOLD}) WHERE label IS NOT NULL",
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
            ", ".join(ORDER_OF.get(name, "{0}." + name).format(which) + how for name in ORDER)
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
            make_unclear(db, dataset, "offered")
            # Who wins is judged by the columns of the order alone, and kept by place: a row is
            # read whole once, when it is written. Of one record only one may be written at once.
            db.execute(
                f"""
                CREATE TEMP TABLE winners AS
                WITH refused AS ({REFUSED}),
                best AS (
                    SELECT place, offer, record_id, image_upload, {order}
                    FROM offered LEFT JOIN refused USING (record_id)
                    WHERE NOT {VOID}
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
                f"FROM offered LEFT JOIN ({REFUSED}) USING (record_id) WHERE {VOID}",
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
                FROM ({TOLD.replace("$1", "$dataset")})
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
            row = one_row(
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

        with process_lock:
            connection = connect(self.path, self.patience)
            try:
                connection.begin()
                yield connection
                connection.commit()
            except duckdb.Error as error:
                raise in_words(self.path, error) from error
            finally:
                close(self.path, connection)


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
