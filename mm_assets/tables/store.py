"""What every table store can do: the index by which rows and images meet, and the predictions.

**How a row meets its image.** Each upload publishes its rows and images in the index first and
looks for the others' after that: of two uploads handled at the same time at least one sees both.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import pyarrow as pa


# What people see, in this order, the same in the table, in JSON and on the command line.
# lower, upper: where the truth of a number lies, at the dataset's `interval_level`; null for
# classes. doubts: what its model never saw of the record, in words; null for nothing.
COLUMNS = (
    "record_id", "prediction", "lower", "upper", "probabilities", "confidence", "needs_review",
    "doubts", "modality", "model_version", "upload", "input_hash", "run_id", "predicted_at",
    "reasons",
)  # fmt: skip
# What is kept of a prediction that was taken back: the last answer, why (`merge_rule.BY_UPLOAD`,
# `ROW_GONE`, or the code of the row's refusal), by which upload, and when.
WITHDRAWN = (*COLUMNS, "code", "withdrawn_by", "withdrawn_at")


@dataclass(frozen=True, slots=True)
class MergeResult:
    """How many of the offered predictions were new, replaced an older one, or changed nothing.

    void: offered, but what they were made from no longer counts (merge_rule.py).
    """

    inserted: int
    updated: int
    unchanged: int
    void: int = 0


@dataclass(frozen=True, slots=True)
class Query:
    """Which predictions to read; every field that is set narrows the answer.

    columns: which of what `read` gives, if not all of it. in_order: or as they come, which of very
    many is cheaper; without a limit only.
    """

    record_ids: Sequence[str] | None = None
    upload: str | None = None
    needs_review: bool | None = None
    changed_since: str | None = None
    limit: int | None = None
    columns: tuple[str, ...] | None = None
    in_order: bool = True


@dataclass(frozen=True, slots=True)
class Published:
    """What one upload says, as `Store.publish` is told it."""

    upload: str
    rows: pa.Table
    images: pa.Table
    refused: pa.Table | None = None
    names: pa.Table | None = None


class Store(Protocol):
    """One dataset-spanning table store. All methods are safe to repeat."""

    def held(self) -> AbstractContextManager[None]:
        """Within it, what opens and closes the table is done once; each method is whole as ever.

        For a second or so: nobody else comes in meanwhile, where a table has one writer.
        """
        ...

    def publish(
        self,
        dataset: str,
        upload: str,
        rows: pa.Table,
        images: pa.Table,
        refused: pa.Table | None = None,
        names: pa.Table | None = None,
    ) -> pa.Array:
        """Make what an upload says findable, replacing what it published before.

        rows: record_id string, labels_only bool, label string or null.
        images: record_id string, image_sha256 string, image_file string.
        refused: record_id string, code string; records whose row was refused, if any.
        names: NAMES (named.py); what waits for rows, or images, of other uploads, if anything.
        Each record at most once in each table. Predictions that no longer count by it are taken
        back, and kept for `read_withdrawn`. Returns the records whose row was refused or is there
        no more: their answers, if any, come from what other uploads say.
        """
        ...

    def withdraw(self, dataset: str, uploads: Collection[str]) -> None:
        """From now on nothing counts of what these uploads said, say, or are named for.

        Their predictions are taken back as by `publish`. There is no way back.
        """
        ...

    def stated(self, dataset: str, upload: str) -> pa.Array:
        """Every record that an upload ever said something of, even if it is withdrawn; sorted.

        With those that `naming` finds.
        """
        ...

    def naming(self, dataset: str, upload: str) -> pa.Array:
        """The records of which a row, in any upload, may name an image of this one; sorted.

        Of images that no row of the upload itself names.
        """
        ...

    def look_up(
        self, dataset: str, record_ids: pa.Array | None, own: Published | None = None
    ) -> pa.Table:
        """The newest of everything that counts about these records (None: all with a label).

        own: what the one who asks has just published, which then need not be asked for; the
        records of its rows and images are asked about, too. Uploads may come as a dictionary.

        Columns: record_id; unlabelled_upload (newest row to predict), labelled_upload (newest row
        that carries features and a label), label, label_upload, image_upload, image_sha256,
        image_file; image_order (named.py); named_files, where the image is named by a row of
        another upload: all that are named there, a list; image_unclear: in words, if what a row
        names could mean several images. Each null where there is none.
        """
        ...

    def count_labelled(self, dataset: str) -> int:
        """How many records carry a label."""
        ...

    def merge(self, dataset: str, offered: pa.Table) -> MergeResult:
        """Merge offered predictions (COLUMNS and ORDER) by the merge rule; void ones are dropped.

        Refuses all (StoreError) if one of them cannot be stored. A merge that was cut short is
        made good by repeating it: DuckDB then holds none of it, DynamoDB some whole records.
        """
        ...

    def read(self, dataset: str, query: Query = Query()) -> pa.Table:
        """COLUMNS, then image_upload and label (null if unknown), by confidence, lowest first."""
        ...

    def counts(self, dataset: str) -> dict[str, Any]:
        """records, needs_review, with_image, without_image."""
        ...

    def read_withdrawn(self, dataset: str, record_ids: Sequence[str] | None = None) -> pa.Table:
        """WITHDRAWN: the last answers of records that have none now, by record_id.

        record_ids: only of these. For all of them (None), DynamoDB may lag by a moment.
        """
        ...


@runtime_checkable
class SeveralAtOnce(Protocol):
    """A store with transactions, in which several uploads cost little more than one.

    All of what is given is done, or none.
    """

    def publish_several(self, dataset: str, published: Sequence[Published]) -> Sequence[pa.Array]:
        """As `Store.publish` of each; the uploads differ."""
        ...

    def merge_several(self, dataset: str, offers: Sequence[pa.Table]) -> Sequence[MergeResult]:
        """As `Store.merge` of each, in whatever order is best: of those that offer the same record
        only one has written, and the others changed nothing."""
        ...

    def read_several(self, dataset: str, uploads: Sequence[str]) -> pa.Table:
        """As `Store.read` of each upload, in one table, each record once."""
        ...


@dataclass(frozen=True, slots=True)
class Changes:
    """What may have changed since a copy of all answers was made (answers.py).

    copy: the name of the newest copy, None where there is none. answers: records whose answer may
    be another one, or gone; labels: whose label may. over: the notes that say so of work that has
    ended. shown: of these, those that are so old that what is read of all answers shows it, too.
    """

    copy: str | None
    answers: frozenset[str]
    labels: frozenset[str]
    over: tuple[str, ...]
    shown: tuple[str, ...]


@runtime_checkable
class NotesChanges(Protocol):
    """A store in which it is dear to read all answers, and which notes what changes of them."""

    def changes(self, dataset: str) -> Changes:
        """What is noted. Whatever changes a record is noted before, until it was settled."""
        ...

    def settle(self, dataset: str, seen: Changes, copy: str, notes: Sequence[str]) -> bool:
        """`copy` holds what these notes tell of: it is the newest from now on, and they are gone.

        False, and nothing was done, if another copy was made meanwhile.
        """
        ...


def with_own(record_ids: pa.Array | None, own: Published | None) -> pa.Array | None:
    """The records that `look_up` is asked about, for a store that asks for `own`, too."""
    import pyarrow as pa

    if record_ids is None or own is None:
        return record_ids
    named = [*own.rows["record_id"].chunks, *own.images["record_id"].chunks]
    return pa.concat_arrays(
        [record_ids.cast(pa.string()), *(one.cast(pa.string()) for one in named)]
    )


# What `look_up` answers.
FOUND = (
    "record_id", "unlabelled_upload", "labelled_upload", "label", "label_upload", "image_upload",
    "image_sha256", "image_file", "image_order", "named_files", "image_unclear",
)  # fmt: skip


def found_schema() -> pa.Schema:
    import pyarrow as pa

    types = {"named_files": pa.list_(pa.string())}
    return pa.schema([(name, types.get(name, pa.string())) for name in FOUND])


def schema_of(columns: Iterable[str]) -> pa.Schema:
    """The types in which predictions are read: of COLUMNS, WITHDRAWN, and what stands beside."""
    import pyarrow as pa

    numbers = dict.fromkeys(("lower", "upper", "confidence"), pa.float64())
    types = {**numbers, "needs_review": pa.bool_()}
    return pa.schema([(name, types.get(name, pa.string())) for name in columns])


def columns_of(query: Query) -> tuple[str, ...]:
    """The columns of what `read` answers."""
    return (*COLUMNS, "image_upload", "label") if query.columns is None else query.columns


# Beside ORDER and COLUMNS, what is stored of a prediction.
BESIDE = ("image_upload",)


def no_refusals() -> pa.Table:
    """No refused records, in the columns that `publish` wants."""
    import pyarrow as pa

    return pa.schema([("record_id", pa.string()), ("code", pa.string())]).empty_table()
