"""Whether what was promised of the answers that nobody reviews still holds, by later labels.

A promise is one model's: of its answers outside the review queue so many are right; of numbers
also: so many lie from `lower` to `upper`. Judged are records that the model did not learn from,
whose label came later, and that were not in review: labels from review say nothing of the rest.

*Broken* is a promise if so few are right that it would be less than one time in 200, were it kept
(Clopper and Pearson 1934). *Since when*: of all uploads, the one from which on the answers speak
most against the promise, by their likelihood ratio; all before it fit the promise better. *Where*:
of all slices (a value of a category, a predicted class, a table, an upload) the one with the most
errors beyond those of the other records, if Fisher's exact test, corrected by Bonferroni for the
slices looked at, finds it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mm_assets.contract.dataset import ColumnKind, DatasetSpec
from mm_assets.contract.errors import ModelError
from mm_assets.doubt.calibration import Calibration
from mm_assets.doubt.promise import Promise, lower_bound, upper_bound
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import MANIFEST, of_upload
from mm_assets.monitoring.charts import as_floats
from mm_assets.training.answered import Answered

if TYPE_CHECKING:
    import pyarrow as pa

FEWEST_LABELS = 30
# Of saying broken at one look of a promise that is just kept; over 100 looks it is 4%, as measured.
RISK = 0.005
COVERAGE_RISK = 0.03  # that intervals of few records hold less than they were shown to
SLICE_RISK = 0.05  # of naming any slice where none is worse
FEWEST_IN_SLICE = 10
MOST_UPLOADS = 500  # whose columns are read to find the slice
TABLE = "the table"

Bools = npt.NDArray[np.bool_]
Slice = tuple[str, str, Bools]  # of what, which one, its records


@dataclass(frozen=True)
class Kept:
    """The live answers of one model outside its review queue, beside what was promised of them.

    right: as `promised` has it; inside: whether the truth lay in the interval, as `coverage` has
    it, both None for classes.
    """

    modality: str
    version: str
    table: pa.Table
    right: Bools
    promised: float
    inside: Bools | None = None
    coverage: float | None = None


def kept_of(spec: DatasetSpec, answers: Answered) -> Kept | None:
    """None where nothing was promised: the model was stored without a calibration."""
    try:
        calibration = Calibration.of_manifest(spec, answers.manifest)
    except ModelError:  # the run that predicts says so
        return None
    promise = calibration.promise(spec.review)
    promised = _promised(promise)
    if promised is None:
        return None
    table = answers.table
    outside = ~table["needs_review"].to_numpy() & ~_to_review(calibration, promise, table)
    table = table.filter(outside)
    named = answers.modality.value, answers.version, table
    if calibration.intervals is None:
        said, true = (table[name].to_numpy() for name in ("prediction", "label"))
        return Kept(*named, said == true, promised)
    values = as_floats(table["prediction"])
    off = np.abs(as_floats(table["label"]) - values)
    right = off <= calibration.intervals.tolerance.reach(values)
    if table["lower"].null_count:  # answers from before there were intervals
        return Kept(*named, right, promised)
    truth, lower, upper = (as_floats(table[name]) for name in ("label", "lower", "upper"))
    inside = (lower <= truth) & (truth <= upper)
    return Kept(*named, right, promised, inside, _coverage(calibration, promise))


def _promised(promise: Promise) -> float | None:
    """The accuracy that was promised: the target, or what was shown where none was reached."""
    return promise.target if promise.reached and promise.target else promise.at_least


def _to_review(calibration: Calibration, promise: Promise, table: pa.Table) -> Bools:
    """Which answers the YAML as it is now sends to review; the table may be of a wording before."""
    width = None
    if calibration.intervals is not None:
        said, lower, upper = (as_floats(table[n]) for n in ("prediction", "lower", "upper"))
        width = calibration.intervals.width(said, lower, upper)
    return promise.to_review(as_floats(table["confidence"]), width)


def _coverage(calibration: Calibration, promise: Promise) -> float:
    """The least share of intervals outside review that is to hold the truth.

    As many as of the records that they were learnt from, at most the level, less their noise.
    """
    intervals, document = calibration.intervals, calibration.document
    assert intervals is not None  # noqa: S101  it is of numbers
    said, true = (np.asarray(document[name], np.float64) for name in ("predicted", "truth"))
    lower, upper = intervals.of(said, intervals.others)
    rest = ~promise.to_review(calibration.curve.confidence, calibration.curve.width)
    n, inside = int(rest.sum()), int(((lower <= true) & (true <= upper))[rest].sum())
    shown = min(inside, int(np.floor(intervals.level * n)))
    return lower_bound(shown, n, COVERAGE_RISK) if n else 0.0


# -- judging --------------------------------------------------------------------------------------


def judged(lake: Lake, spec: DatasetSpec, kept: Kept) -> dict[str, Any]:
    """What `monitoring.json` holds of one model's promise.

    `modality`, `version`, `n` labels; `accuracy`, and for numbers `coverage`, each with `promised`,
    `n`, `right`, `broken`; where broken also `since` (an upload), `after` and `before` it (`n`,
    `right`), and `slice`: `of`, `value`, `n`, `right`, `others` (`n`, `right`), or None.
    """
    document: dict[str, Any] = {
        "modality": kept.modality,
        "version": kept.version,
        "n": len(kept.right),
        "accuracy": _verdict(lake, spec, kept, kept.right, kept.promised),
    }
    if kept.inside is not None and kept.coverage is not None:
        document["coverage"] = _verdict(lake, spec, kept, kept.inside, kept.coverage)
    return document


def is_broken(document: Mapping[str, Any]) -> bool:
    return any(document.get(name, {}).get("broken") for name in ("accuracy", "coverage"))


def _verdict(
    lake: Lake, spec: DatasetSpec, kept: Kept, good: Bools, promised: float
) -> dict[str, Any]:
    n, right = len(good), int(good.sum())
    broken = n >= FEWEST_LABELS and upper_bound(right, n, RISK) < promised
    found: dict[str, Any] = {"promised": promised, "n": n, "right": right, "broken": broken}
    if broken:
        uploads = kept.table["upload"].to_numpy(zero_copy_only=False)
        start = since(uploads, good, promised)
        after = uploads >= start
        found |= {
            "since": start,
            "after": _counted(good[after]),
            "before": _counted(good[~after]),
            "slice": worst_slice(good, list(_slices(lake, spec, kept)), promised),
        }
    return found


def since(uploads: npt.NDArray[Any], good: Bools, promised: float) -> str:
    """The upload from which on the answers speak most against the promise."""
    from scipy.special import rel_entr

    names, places = np.unique(uploads, return_inverse=True)
    count = np.bincount(places)[::-1].cumsum()[::-1]  # from each upload on
    wrong = np.bincount(places, weights=~good)[::-1].cumsum()[::-1]
    share, allowed = wrong / count, 1 - promised
    ratio = count * (rel_entr(share, allowed) + rel_entr(1 - share, promised))
    return str(names[np.argmax(np.where(share > allowed, ratio, -1.0))])


def worst_slice(good: Bools, slices: Sequence[Slice], promised: float) -> dict[str, Any] | None:
    """The slice with the most errors beyond those of all others, if that is no chance."""
    from scipy.stats import hypergeom

    total, wrong = len(good), int((~good).sum())
    able = [s for s in slices if FEWEST_IN_SLICE <= s[2].sum() <= total - FEWEST_IN_SLICE]
    best, most = None, 0.0
    for of, value, own in able:
        n, errors = int(own.sum()), int((~good[own]).sum())
        chance = hypergeom.sf(errors - 1, total, wrong, n) * len(able)
        excess = errors - n * (wrong - errors) / (total - n)
        if chance < SLICE_RISK and errors > n * (1 - promised) and excess > most:
            others = _counted(good[~own])
            best, most = {"of": of, "value": value, **_counted(good[own]), "others": others}, excess
    return best


def _counted(good: Bools) -> dict[str, int]:
    return {"n": len(good), "right": int(good.sum())}


# -- slices ---------------------------------------------------------------------------------------


def _slices(lake: Lake, spec: DatasetSpec, kept: Kept) -> Iterator[Slice]:
    """Values of categories first: of slices that are the same records the first is named."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns, is_known = _columns(lake, spec, kept.table)
    of_table = columns.pop(TABLE, None)
    if not spec.is_regression:
        columns["the predicted class"] = kept.table["prediction"].combine_chunks()
    if of_table is not None:
        columns[TABLE] = of_table
    columns["the upload"] = kept.table["upload"].combine_chunks()
    for of, values in columns.items():
        for value, count in (one.values() for one in pc.value_counts(values).to_pylist()):
            if count < FEWEST_IN_SLICE:  # as many values as records, in the worst case
                continue
            own = pc.is_in(values, pa.array([value], values.type)).to_numpy(zero_copy_only=False)
            yield of, "" if value is None else str(value), own & is_known if value is None else own


def _columns(lake: Lake, spec: DatasetSpec, table: pa.Table) -> tuple[dict[str, pa.Array], Bools]:
    """Each record's categories and the table that it came in; and of which records that is known:
    of those in the newest uploads."""
    import pyarrow as pa
    import pyarrow.compute as pc

    names = [name for name, kind in spec.kinds.items() if kind == ColumnKind.CATEGORY]
    parts = []
    for upload in sorted(pc.unique(table["upload"]).to_pylist(), reverse=True)[:MOST_UPLOADS]:
        own = table.filter(pc.equal(table["upload"], upload))["record_id"]
        if (part := _of_manifest(lake, spec, upload, own, names)) is not None:
            parts.append(part)
    if not parts:
        return {}, np.zeros(table.num_rows, bool)
    known = pa.concat_tables(parts)
    places = pc.index_in(table["record_id"].combine_chunks(), known["record_id"].combine_chunks())
    columns = {name: known[name].combine_chunks().take(places) for name in [*names, TABLE]}
    return columns, places.is_valid().to_numpy(zero_copy_only=False)


def _of_manifest(
    lake: Lake, spec: DatasetSpec, upload: str, wanted: Any, names: Sequence[str]
) -> pa.Table | None:
    """record_id, the categories and TABLE of wanted records; None if it is not there or was
    read by another wording of the YAML."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    document = lake.read_json(of_upload(spec.dataset, upload, MANIFEST))
    if document is None or document["fingerprint"] != spec.fingerprint:
        return None
    with lake.open_published(document, "manifest.parquet") as file:
        rows = pq.read_table(file, columns=["record_id", "row_file", *(["features"] * bool(names))])
    rows = rows.filter(pc.is_in(rows["record_id"], wanted.combine_chunks()))
    columns = {"record_id": rows["record_id"], TABLE: rows["row_file"]}
    for name in names:
        columns[name] = pc.struct_field(rows["features"].combine_chunks(), name)
    return pa.table({name: column.cast(pa.string()) for name, column in columns.items()})


# -- in words -------------------------------------------------------------------------------------


def in_words(document: Mapping[str, Any]) -> str:
    """One model's promise, and whether it holds, for people."""
    parts = [_in_words(document["accuracy"], "right")]
    if "coverage" in document:
        parts.append(_in_words(document["coverage"], "in their interval"))
    return f"{document['modality']}: {'; '.join(parts)}"


def _in_words(verdict: Mapping[str, Any], good: str) -> str:
    n, promised = verdict["n"], f"{verdict['promised']:.1%}"
    if n < FEWEST_LABELS:
        return (
            f"too few labels to tell ({n} of records outside review; {FEWEST_LABELS} are needed) "
            f"whether {promised} are {good}"
        )
    said = f"{_share(verdict)} outside review are {good}, promised were {promised}"
    if not verdict["broken"]:
        return said
    missing = 100 * (verdict["promised"] - verdict["right"] / n)
    said += f": BROKEN by {missing:.1f} points, since {verdict['since']}"
    said += f" ({_share(verdict['after'])} from then on"
    said += f", {_share(verdict['before'])} before)" if verdict["before"]["n"] else ")"
    if (worst := verdict["slice"]) is None:
        return f"{said}; no slice stands out"
    return (
        f"{said}; where {worst['of']} is {worst['value']!r} {_share(worst)} are, "
        f"elsewhere {_share(worst['others'])}"
    )


def _share(counts: Mapping[str, int]) -> str:
    return f"{counts['right'] / counts['n']:.1%} of {counts['n']:,}"
