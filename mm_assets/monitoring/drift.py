"""How far recent records have moved from the training set: the population stability index (PSI).

PSI sums (q - p) * ln(q / p) over bins, p and q being the shares of the reference and of the
current records: the symmetric divergence of Jeffreys (1946), known in credit scoring since Lewis
(1994, "An Introduction to Credit Scoring"). The usual reading (Siddiqi 2006, "Credit Risk
Scorecards"): below 0.1 no change, up to 0.25 some change, above 0.25 a large one.

**Small samples.** Those thresholds were made for many thousands of records. Without any change
PSI / (1/n + 1/m) follows roughly a chi-square distribution with B - 1 degrees of freedom (Yurdakul
and Naranjo 2020, "Statistical properties of the population stability index", Journal of Risk Model
Validation), so that 50 records in 10 bins have a PSI of 0.18 for nothing. Therefore every drift
here is 0 unless chance would reach it in fewer than one of 1,000 comparisons, and otherwise the
PSI less what is expected by chance, (B - 1) * (1/n + 1/m). Small samples get fewer bins, and
samples of fewer than 30 records no answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mm_assets.contract.dataset import ColumnKind, DatasetSpec
from mm_assets.contract.spellings import MOST_VALUES, Known

if TYPE_CHECKING:
    import pyarrow as pa

FEWEST_RECORDS = 30
MOST_BINS = 10
MOST_LEVELS = 20
RECORDS_A_BIN = 10  # that the smaller sample is expected to have in a bin of numbers
RECORDS_A_LEVEL = 5  # the same for a category of its own; rarer ones share the bin "other"
SMOOTHING = 0.5  # records added to every bin, so that an empty bin has a logarithm
_ONE_IN_1000 = 3.0902  # the normal quantile of 0.999

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]


def feature_drift(reference: pa.Table, current: pa.Table, spec: DatasetSpec) -> dict[str, float]:
    """The drift of each feature, in the order of the spec: its columns, then its image features.

    Columns are fields of the struct column `features`, numbers about images of `image_features`,
    where records without an image are null and count for nothing. Left out: features that one of
    the tables lacks or types otherwise (the YAML was changed after training), and those that one
    table has for fewer than 30 records.
    """
    drifts = {}
    for name, kind in spec.kinds.items():
        before, now = (_field(table, "features", name) for table in (reference, current))
        drifts[name] = _drift_of(before, now, kind)
    for feature in spec.image_features:
        before, now = (_measured(table, feature.column) for table in (reference, current))
        drifts[feature.column] = _drift_of(before, now, ColumnKind.NUMBER)
    return {name: drift for name, drift in drifts.items() if drift is not None}


def _drift_of(reference: pa.Array | None, current: pa.Array | None, kind: str) -> float | None:
    if reference is None or current is None or reference.type != current.type:
        return None
    if kind == ColumnKind.CATEGORY:
        reference, current = _as_one_spelling(reference, current)
    return psi(reference, current, kind)


def _as_one_spelling(reference: pa.Array, current: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Both as a model of the reference would see them: `1.0` after `1` is no drift."""
    import pyarrow as pa
    import pyarrow.compute as pc

    counts = {one["values"]: one["counts"] for one in pc.value_counts(reference).to_pylist()}
    counts.pop(None, None)
    if len(counts) > MOST_VALUES:
        return reference, current
    known = Known.learn(counts)
    told = [column.dictionary_encode() for column in (reference, current)]
    meant = [[known.meant(value) for value in one.dictionary.to_pylist()] for one in told]
    before, now = (
        pa.array(words, pa.string()).take(one.indices)
        for words, one in zip(meant, told, strict=True)
    )
    return before, now


def label_drift(
    reference_labels: Sequence[str], current: Sequence[str], problem_type: str
) -> float | None:
    """The drift of predictions (or of newer labels) against the training labels.

    Labels are text as in the table of predictions. A model that errs on one side, or that predicts
    values nearer to the middle than the truth, drifts by this measure without any change in the
    data: compare with what it was after training. None for fewer than 30 records.
    """
    import pyarrow as pa

    if problem_type == "regression":
        before, now = (
            pa.array([float(label) for label in labels], pa.float64())
            for labels in (reference_labels, current)
        )
        return psi(before, now, ColumnKind.NUMBER)
    before, now = (pa.array(labels, pa.string()) for labels in (reference_labels, current))
    return psi(before, now, ColumnKind.CATEGORY)


def psi(reference: pa.Array, current: pa.Array, kind: str) -> float | None:
    """The drift of one column beyond chance, 0 or more; None for fewer than 30 records.

    number: bins by the quantiles of the reference; a value that makes up a bin's worth of the
        reference is a bin of its own; missing values have their own bin.
    category: the most frequent levels of the reference, all others together, missing ones.
    text: the greater drift of two numbers, the length in words (split at white space) and the
        share of words that no other text of the reference has.
    """
    if min(len(reference), len(current)) < FEWEST_RECORDS:
        return None
    if kind == ColumnKind.NUMBER:
        return _number_drift(_floats(reference), _floats(current))
    if kind == ColumnKind.TEXT:
        return _text_drift(reference, current)
    smaller = min(len(reference), len(current))
    return beyond_chance(*_category_counts(reference, current, smaller))


def plain_psi(reference: Floats, current: Floats) -> float:
    """The index itself, from the number of records in each bin of both samples.

    Bins that are empty in both count for nothing; half a record is added to the others.
    """
    used = (reference + current) > 0
    p, q = reference[used] + SMOOTHING, current[used] + SMOOTHING
    p, q = p / p.sum(), q / q.sum()
    return float(((q - p) * np.log(q / p)).sum())


def beyond_chance(reference: Floats, current: Floats) -> float:
    """PSI less what chance explains: 0 unless chance reaches it less than once in 1,000 times."""
    freedom = int(((reference + current) > 0).sum()) - 1
    if freedom < 1:
        return 0.0
    index = plain_psi(reference, current)
    unit = 1 / float(reference.sum()) + 1 / float(current.sum())
    if index <= _chi_square_quantile(freedom) * unit:
        return 0.0
    return max(0.0, index - freedom * unit)


def _chi_square_quantile(freedom: int) -> float:
    """The 0.999 quantile by the approximation of Wilson and Hilferty (1931)."""
    spread = 2 / (9 * freedom)
    return float(freedom * (1 - spread + _ONE_IN_1000 * spread**0.5) ** 3)


# -- numbers --------------------------------------------------------------------------------------


def _number_drift(reference: Floats, current: Floats) -> float:
    known = reference[~np.isnan(reference)]
    bins = int(np.clip(min(len(reference), len(current)) // RECORDS_A_BIN, 2, MOST_BINS))
    edges, heavy = _edges(known, bins)
    counts = [
        np.bincount(_binned(values, edges, heavy), minlength=2 * len(edges) + 2).astype(float)
        for values in (reference, current)
    ]
    return beyond_chance(*counts)


def _edges(known: Floats, bins: int) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Quantiles of the reference, each once, and which of them hold a bin's worth of records."""
    if not len(known):
        return np.array([0.0]), np.array([False])
    shares = np.arange(1, bins) / bins
    edges = np.unique(np.quantile(known, shares, method="inverted_cdf"))
    ordered = np.sort(known)
    equal = np.searchsorted(ordered, edges, "right") - np.searchsorted(ordered, edges, "left")
    return edges, equal >= len(known) / bins


def _binned(values: Floats, edges: Floats, heavy: npt.NDArray[np.bool_]) -> Codes:
    """The bin of each value: 2i up to edge i, 2i + 1 on a heavy edge i, the last one if missing."""
    place = np.searchsorted(edges, values, "left")
    at = np.minimum(place, len(edges) - 1)
    on_edge = (values == edges[at]) & heavy[at]
    codes = np.where(np.isnan(values), 2 * len(edges) + 1, 2 * place + on_edge)
    return codes.astype(np.int64)


def _floats(column: pa.Array) -> Floats:
    """The column as numbers; missing ones are NaN."""
    import pyarrow as pa

    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)


# -- categories and texts -------------------------------------------------------------------------


def _category_counts(reference: pa.Array, current: pa.Array, smaller: int) -> list[Floats]:
    """Records of each top level of the reference, of all other levels, and without a value."""
    import pyarrow as pa
    import pyarrow.compute as pc

    counted = {item["values"]: item["counts"] for item in pc.value_counts(reference).to_pylist()}
    counted.pop(None, None)
    enough = RECORDS_A_LEVEL * len(reference) / smaller
    ranked = sorted(counted, key=lambda level: (-counted[level], level))[:MOST_LEVELS]
    levels = [level for level in ranked if counted[level] >= enough]
    counts = []
    for column in (reference, current):
        place = pc.index_in(column, pa.array(levels, column.type))
        place = pc.if_else(pc.is_valid(column), pc.fill_null(place, len(levels)), len(levels) + 1)
        codes = place.to_numpy(zero_copy_only=False).astype(np.int64)
        counts.append(np.bincount(codes, minlength=len(levels) + 2).astype(float))
    return counts


def _text_drift(reference: pa.Array, current: pa.Array) -> float:
    """A text of the reference is no witness for its own words: without this rule every new text
    would hold more unknown words than the reference, which knows all its words by definition."""
    known_texts, words_seen = _vocabulary(reference)
    before = _text_numbers(reference, known_texts, words_seen)
    now = _text_numbers(current, known_texts, words_seen)
    return max(_number_drift(before[0], now[0]), _number_drift(before[1], now[1]))


def _vocabulary(reference: pa.Array) -> tuple[pa.Array, tuple[pa.Array, pa.Array]]:
    """The different texts; the words of one or more texts and the words of two or more texts."""
    import pyarrow as pa
    import pyarrow.compute as pc

    words = pc.utf8_split_whitespace(pc.utf8_lower(pc.utf8_trim_whitespace(reference)))
    pairs = pa.table({"text": pc.list_parent_indices(words), "word": pc.list_flatten(words)})
    once_a_text = pairs.group_by(["text", "word"]).aggregate([])
    counted = once_a_text.group_by("word").aggregate([([], "count_all")])
    of_two = counted.filter(pc.greater(counted["count_all"], 1))
    known = tuple(table["word"].combine_chunks() for table in (counted, of_two))
    return pc.unique(reference), (known[0], known[1])


def _text_numbers(
    texts: pa.Array, known_texts: pa.Array, words_seen: tuple[pa.Array, pa.Array]
) -> tuple[Floats, Floats]:
    """Words in each text, and the share of them that no other text of the reference has.

    Both are NaN where the text is missing, the share also where it holds no word.
    """
    import pyarrow.compute as pc

    words = pc.utf8_split_whitespace(pc.utf8_lower(pc.utf8_trim_whitespace(texts)))
    empty = _true(pc.equal(pc.utf8_trim_whitespace(texts), ""))
    lengths = np.where(empty, 0.0, _floats(pc.list_value_length(words)))
    owner = pc.list_parent_indices(words).to_numpy(zero_copy_only=False).astype(np.int64)
    flat = pc.list_flatten(words)
    own = _true(pc.is_in(texts, known_texts))[owner]
    in_one, in_two = (_true(pc.is_in(flat, seen)) for seen in words_seen)
    unknown = ~np.where(own, in_two, in_one)
    per_text = np.bincount(owner, weights=unknown, minlength=len(texts)).astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        return lengths, np.where(lengths > 0, per_text / lengths, np.nan)


def _true(column: pa.Array) -> npt.NDArray[np.bool_]:
    import pyarrow.compute as pc

    return np.asarray(pc.fill_null(column, False).to_numpy(zero_copy_only=False), dtype=np.bool_)


def _field(table: pa.Table, column: str, name: str) -> Any:
    """One field of a struct column as an array, or None if there is none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if column not in table.column_names:
        return None
    whole = table[column].combine_chunks()
    if not pa.types.is_struct(whole.type) or whole.type.get_field_index(name) < 0:
        return None
    return pc.struct_field(whole, name)


def _measured(table: pa.Table, name: str) -> Any:
    """An image feature of the records that have an image, or None if there is no such feature."""
    found = _field(table, "image_features", name)
    return None if found is None else found.drop_null()


# -- the picture ----------------------------------------------------------------------------------


def drift_picture(drifts: dict[str, float], limit: float) -> bytes | None:
    """The drift of each feature, greatest first, with the limit (PNG); None if there are none."""
    if not drifts:
        return None
    from mm_assets.monitoring.charts import ranked_bars

    over = sum(value > limit for value in drifts.values())
    title = f"Drift against training: {over} of {len(drifts)} features above {limit:g}"
    meaning = "population stability index beyond chance"
    return ranked_bars(drifts, title, meaning, "{:.2f}".format, limit)
