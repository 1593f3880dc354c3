"""The tables of the file, and what is asked of them: which rows, images and answers count."""

from __future__ import annotations

from mm_assets.tables.merge_rule import ORDER
from mm_assets.tables.named import BY
from mm_assets.tables.store import BESIDE, COLUMNS

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

WITHDRAWN_ONES = "(SELECT upload FROM withdrawn_uploads WHERE dataset = $1)"
# Of each record, by uploads that are not withdrawn: the newest that refused its row, with the
# code, and all whose row no longer stands.
REFUSED = f"""
    SELECT record_id, max(upload) FILTER (code IS NOT NULL) AS refused_by,
        arg_max(code, upload) FILTER (code IS NOT NULL) AS refused_for, list(upload) AS fallen
    FROM (FROM refusal_index WHERE dataset = $1) ANTI JOIN {WITHDRAWN_ONES} USING (upload)
    GROUP BY record_id"""
# The upload whose row names a prediction's image from elsewhere, or NULL.
NAMED_BY = f"CASE WHEN contains(image_order, '{BY}') THEN split_part(image_order, '{BY}', 1) END"
# The rule of merge_rule.py: whether a prediction no longer counts, joined with `refused`; `unclear`
# is a table (`make_unclear`).
VOID = f"""(upload IN {WITHDRAWN_ONES} OR image_upload IN {WITHDRAWN_ONES}
    OR coalesce(upload <= refused_by OR list_contains(fallen, upload), false)
    OR coalesce(
        {NAMED_BY} IN {WITHDRAWN_ONES} OR (record_id, {NAMED_BY}) IN (FROM unclear), false))"""


def _told(which: str = "") -> str:
    """The rows that count; a refusal takes back what older rows said, labels without features stay.

    which: of which uploads, if not of all; $1 is the dataset.
    """
    return f"""
    SELECT record_id, upload, labels_only, label
    FROM (FROM record_index WHERE dataset = $1{which}) ANTI JOIN {WITHDRAWN_ONES} USING (upload)
        LEFT JOIN ({REFUSED}) USING (record_id)
    WHERE labels_only OR refused_by IS NULL OR upload > refused_by"""


TOLD, _BY_OTHERS = _told(), " AND upload <> $2"
# What uploads that count, but for $2, say of `wanted` records, each by its place there.
OF_WANTED = (
    f"""CREATE TEMP TABLE told AS
        SELECT place, upload, labels_only, label
        FROM ({_told(_BY_OTHERS)}) JOIN wanted USING (record_id)""",
    f"""CREATE TEMP TABLE seen AS
        SELECT place, upload, image_sha256, image_file
        FROM (FROM image_index WHERE dataset = $1{_BY_OTHERS})
            ANTI JOIN {WITHDRAWN_ONES} USING (upload) JOIN wanted USING (record_id)""",
)
# Uploads are few and their keys long: they travel as numbers, in the order of their keys.
UPLOADS = """
    CREATE TEMP TABLE uploads AS
    SELECT upload, row_number() OVER (ORDER BY upload) - 1 AS rank
    FROM (SELECT upload FROM told UNION SELECT upload FROM seen)"""
# Whether other uploads than $2 say anything.
OTHERS = f"""
    SELECT EXISTS (FROM record_index WHERE dataset = $1{_BY_OTHERS})
        OR EXISTS (FROM image_index WHERE dataset = $1{_BY_OTHERS})
        OR EXISTS (FROM name_index WHERE dataset = $1)"""
# The cells, and the files that they may mean, of uploads that count; joined with `wanted`.
CELLS = f"""
    SELECT * FROM name_index SEMI JOIN wanted USING (record_id)
    WHERE dataset = $1 AND image_sha256 IS NULL AND upload NOT IN {WITHDRAWN_ONES}"""
FILES = f"""
    SELECT * FROM name_index SEMI JOIN ({CELLS}) USING (name)
    WHERE dataset = $1 AND image_sha256 IS NOT NULL AND upload NOT IN {WITHDRAWN_ONES}"""
NAMING = """
    SELECT DISTINCT cells.record_id FROM name_index AS cells SEMI JOIN (
        SELECT name FROM name_index
        WHERE dataset = $1 AND upload = $2 AND image_sha256 IS NOT NULL) USING (name)
    WHERE dataset = $1 AND image_sha256 IS NULL"""

STORED = (*COLUMNS, *(name for name in ORDER if name not in COLUMNS), *BESIDE)
# Of tables made before it came.
ORDER_OF = {"image_order": "coalesce({0}.image_order, {0}.image_upload)"}
