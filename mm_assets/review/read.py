"""Reading what people answered, from whatever file they bring."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.errors import UploadError
from mm_assets.reading.table import LINE_COLUMN, TableRefused, Wanted
from mm_assets.reading.tables import Table, open_table
from mm_assets.review.answers import Answer
from mm_assets.review.label_studio import (
    CONTROL,
    CSV_COLUMNS,
    UNSURE,
    answer_of_cell,
    answers_of_json,
)
from mm_assets.review.sheet import own_name, unguard
from mm_assets.uploads.check import reading


def read_answers(path: Path, spec: DatasetSpec) -> list[Answer]:
    """The answers in Label Studio's JSON, JSON-MIN or CSV, or in a filled-in tasks.csv.

    What the file holds decides, not its name. Raises UploadError for any other file.
    """
    if not path.is_file():
        raise UploadError(
            code="upload_missing", what="there is no such file", where=str(path),
            todo="Check the path.",
        )  # fmt: skip
    with reading(path), path.open("rb") as file:
        head = file.read(4096)
    if not head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith((b"[", b"{")):
        return list(_of_table(path, spec))
    try:
        with reading(path):
            document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise _unreadable(path, f"it begins as JSON but is none: {error}") from None
    return list(answers_of_json(document if isinstance(document, list) else [document]))


def _unreadable(path: Path, what: str) -> UploadError:
    return UploadError(
        code="answers_unreadable",
        what=what,
        where=str(path),
        todo="Bring Label Studio's export (JSON, JSON-MIN or CSV), or the tasks.csv that "
        "`mm review export` wrote, filled in and saved as CSV in UTF-8.",
    )


def _of_table(path: Path, spec: DatasetSpec) -> Iterator[Answer]:
    try:
        with tempfile.TemporaryDirectory(prefix="mm-review-") as folder:
            table, id_column = _open(path, spec, Path(folder))
            yield from _answers(path, spec, table, id_column)
    except TableRefused as refused:
        where = f" (line {refused.line})" if refused.line else ""
        raise _unreadable(path, f"{refused.reason}{where}") from None


def _answers(path: Path, spec: DatasetSpec, table: Table, id_column: str) -> Iterator[Answer]:
    is_label_studio = CSV_COLUMNS - set(spec.columns) <= set(table.header)
    label_column = CONTROL if is_label_studio else spec.label_column
    if label_column not in table.header and not is_label_studio:
        raise _unreadable(path, f"it has no column '{label_column}'")
    for record_id, cell, unsure, line in _cells(table, id_column, label_column):
        if is_label_studio:
            yield answer_of_cell(record_id, f"line {line}", cell, unsure)
        else:
            yield Answer(unguard(record_id), f"line {line}", unguard(cell))
    for reject in table.rejects:
        yield Answer(reject.record_id or "", f"line {reject.line}", problem=reject.reason)


def _open(path: Path, spec: DatasetSpec, scratch: Path) -> tuple[Table, str]:
    """The table and the name of its ID column: that of tasks.csv, else that of our tasks."""
    ours = own_name(spec, "record_id")
    for name in dict.fromkeys((ours, "record_id")):
        try:
            return open_table(path, file=path.name, wanted=Wanted(name), scratch=scratch), name
        except TableRefused as refused:
            first = refused
            if refused.code != "table_no_id":
                break
    raise first


def _cells(table: Table, id_column: str, label_column: str) -> Iterator[tuple[str, str, str, int]]:
    """IDs, labels, what says that somebody can't tell, lines; an export may lack such a column."""
    for batch in table.batches():
        ids, lines = batch[id_column].fill_null("").to_pylist(), batch[LINE_COLUMN].to_pylist()
        labels, unsure = (
            batch[name].fill_null("").to_pylist() if name in table.header else [""] * len(ids)
            for name in (label_column, UNSURE)
        )
        yield from zip(ids, labels, unsure, lines, strict=True)
