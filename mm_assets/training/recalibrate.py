"""Recalibration: a champion learns from live labels how sure it may be; what it says stays.

Labels that came after its training take the place of its answers out of fold: from them come a new
sureness, a new curve for the promise of the review queue and, for numbers, new intervals. The model
itself is not trained: the new version has the same files. A third of the labels is held back, by a
hash of the group that a record stays with (groups.py), and the gate judges by them alone.

People label doubtful answers first. So of the labelled records in review only as many count as make
their share what it is among all of the model's answers. What a model never saw (`doubts`) is in
review for another reason and does not count.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.errors import ModelError
from mm_assets.contract.review import Tolerance
from mm_assets.display.cells import written_out
from mm_assets.doubt.calibration import Calibration
from mm_assets.doubt.confidence import VALUE, as_sure, confidence_of
from mm_assets.doubt.promise import Bools, upper_bound
from mm_assets.engines.protocol import Progress
from mm_assets.lake.layout import of_dataset
from mm_assets.lake.local import working_folder
from mm_assets.registry.store import Champion, ModelStore, StoredModel
from mm_assets.tables.store import Store
from mm_assets.training.answered import (
    RECALIBRATION,
    RECORDS,
    answered,
    with_labels_as_predicted,
)
from mm_assets.training.calibrate import as_sure_as_right, calibrated, kept_promise
from mm_assets.training.decide import Unseen
from mm_assets.training.decision import DIGITS, chosen, rule_of
from mm_assets.training.evaluation import calibration_error, reliability
from mm_assets.training.gate import Decision
from mm_assets.training.splits import split_of
from mm_assets.training.training_set import grouped_rows

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

FEWEST_LABELS = 150
MOST_LABELS = 5000  # the newest
JUDGED_SHARE = 1 / 3
SOURCE = "labels that came later"
RISK = 0.05  # that the gate refuses a promise, or intervals, that just hold
SMALLEST = 0.5 * 10**-DIGITS  # a probability that the table shows as 0
# What the model store adds to a manifest by itself.
_OF_THE_STORE = ("format", "version", "dataset", "modality", "libraries", "created_at", "files")


@dataclass(frozen=True)
class Recalibration:
    """A stored version of a champion, and whether it may take its place.

    before, after: of the labels held back, `log_loss` and `calibration_error`, or for numbers
    `interval_score` and `coverage`. learned, judged: how many labels. promise: of kept_promise.
    """

    stored: StoredModel
    recalibrated_from: Champion
    decision: Decision
    before: dict[str, float]
    after: dict[str, float]
    learned: int
    judged: int
    promise: dict[str, Any]


@dataclass(frozen=True)
class _Labels:
    """Live answers, to learn from or to judge by. said: as `Predictor.predict` gives it."""

    said: pd.DataFrame
    truth: pd.Series

    def as_sure(self, power: float) -> _Labels:
        return replace(self, said=as_sure(self.said, power))


def recalibrate_model(
    models: ModelStore,
    store: Store,
    spec: DatasetSpec,
    modality: Modality,
    *,
    since: str = "",
    progress: Progress = lambda _: None,
) -> Recalibration:
    """Learn from live labels how sure the champion may be; store that as a version of its own.

    since: only records of this upload and later ones. Promotes nothing. Raises ModelError:
    no_champion, recalibration_too_few.
    """
    champion = _champion(models, spec, modality)
    manifest = models.manifest(modality, champion.version, manifest_sha256=champion.manifest_sha256)
    table = _live(models, store, spec, champion, since)
    is_judged = _held_back(models, store, spec, table)
    judged = _labels(spec, table.filter(is_judged))
    learned = _labels(spec, table.filter(~is_judged))
    progress(f"{modality}: {len(learned.truth)} labels to learn from, {len(judged.truth)} to judge")
    before = Calibration.of_manifest(spec, manifest)
    power, after, new = _relearnt(spec, manifest, before, learned)
    new["promise"] = promise = kept_promise(
        spec, after, judged.as_sure(power).said, judged.truth, rule_of(spec, new)
    )
    if not spec.is_regression:
        said = judged.as_sure(power).said
        new["reliability"] = reliability(judged.truth, said, rule_of(spec, new))
    figures = (
        _figures(spec, before, manifest, judged),
        _figures(spec, after, new, judged.as_sure(power)),
    )
    decision = _gate(spec, *figures, promise, champion.version)
    progress(f"{modality}: {decision.reason}")
    new |= {
        "recalibrated_from": champion.version,
        RECALIBRATION: {
            **_published(models, spec, table),
            "since": since,
            "learned": len(learned.truth),
            "judged": len(judged.truth),
            "before": figures[0],
            "after": figures[1],
            "reason": decision.reason,
        },
    }
    folder = models.fetch(modality, champion.version, manifest_sha256=champion.manifest_sha256)
    stored = models.save(modality, folder, new)
    return Recalibration(
        stored, champion, decision, *figures, len(learned.truth), len(judged.truth), promise
    )


def _champion(models: ModelStore, spec: DatasetSpec, modality: Modality) -> Champion:
    champion = models.champion(modality)
    if champion is None:
        raise ModelError(
            code="no_champion",
            what=f"there is no champion {modality} to recalibrate",
            where=spec.dataset,
            todo="Send labelled records and run `mm train`.",
        )
    return champion


# -- labels ---------------------------------------------------------------------------------------


def _live(
    models: ModelStore, store: Store, spec: DatasetSpec, champion: Champion, since: str
) -> pa.Table:
    """The champion's answers to learn from, newest rows first."""
    import pyarrow.compute as pc

    said = with_labels_as_predicted(store.read(spec.dataset), spec)
    own = pc.and_(
        pc.equal(said["model_version"], champion.version),
        pc.equal(said["modality"], champion.modality.value),
    )
    said = said.filter(pc.and_(own, pc.is_null(said["doubts"])))
    reviewed = pc.mean(said["needs_review"]).as_py() or 0.0
    found = answered(models, spec, said, recalibrated_too=True)
    table = found[0].table if found else said.slice(0, 0)
    if since:
        table = table.filter(pc.greater_equal(table["upload"], since))
    labelled = table.num_rows
    table = _as_in_all(table, reviewed).slice(0, MOST_LABELS)
    if table.num_rows < FEWEST_LABELS:
        told = f"; of {labelled} too many were in review" if labelled > table.num_rows else ""
        raise ModelError(
            code="recalibration_too_few",
            what=f"{table.num_rows} labels came after the training of {champion.version} that can "
            f"be learnt from{told}; {FEWEST_LABELS} are needed",
            where=f"{spec.dataset}/model_{champion.modality}",
            todo="Send labels of more predicted records, also of some that are not in review.",
        )
    return table


def _as_in_all(table: pa.Table, share: float) -> pa.Table:
    """Of the records in review no more than make up `share`; which of them, the ID's hash says."""
    asked = table["needs_review"].to_numpy()
    rest = int((~asked).sum())
    most = round(rest * share / (1 - share)) if share < 1 else len(asked)
    if asked.sum() <= most:
        return table
    ids = table["record_id"].to_pylist()
    order = sorted(np.flatnonzero(asked), key=lambda place: _hash(ids[place]))
    kept = ~asked
    kept[order[:most]] = True
    return table.filter(kept)


def _hash(record_id: str) -> bytes:
    return hashlib.sha256(f"review {record_id}".encode("utf-8", "surrogatepass")).digest()


def _held_back(models: ModelStore, store: Store, spec: DatasetSpec, table: pa.Table) -> Bools:
    """Which records judge: like the split, never one of those that belong together without all."""
    ids = table["record_id"].combine_chunks()
    rows, groups = grouped_rows(models.lake, store, spec, ids)
    group_of = dict(zip(rows["record_id"].to_pylist(), groups.names, strict=True))
    return np.array([_is_judged(group_of.get(one, one)) for one in ids.to_pylist()], bool)


def _is_judged(group: str) -> bool:
    # By another hash than the split's: by the same one most of the groups that were held out of
    # the training would judge, and those that the model has met would be learnt from.
    return split_of(f"recalibration {group}", JUDGED_SHARE) == "holdout"


def _labels(spec: DatasetSpec, table: pa.Table) -> _Labels:
    import pandas as pd

    truth = pd.Series(table["label"].to_pylist(), dtype=object)
    if spec.is_regression:
        said = {VALUE: [float(value) for value in table["prediction"].to_pylist()]}
        return _Labels(pd.DataFrame(said), truth.astype(float))
    rows = [json.loads(said) for said in table["probabilities"].to_pylist()]
    return _Labels(pd.DataFrame(rows, dtype=float).fillna(0.0).clip(lower=SMALLEST), truth)


# -- learning -------------------------------------------------------------------------------------


def _relearnt(
    spec: DatasetSpec, manifest: Mapping[str, Any], before: Calibration, learned: _Labels
) -> tuple[float, Calibration, dict[str, Any]]:
    """The power of the stored probabilities, the new calibration, and the manifest with it."""
    unseen = Unseen(learned.truth, learned.said, out_of_fold=False)
    power, unseen = as_sure_as_right(spec, manifest["engine"]["engine"], unseen)
    new = {name: value for name, value in manifest.items() if name not in _OF_THE_STORE}
    new["decision"] = _same_decision(manifest.get("decision"), power)
    tolerance = spec.tolerance or Tolerance(0.0)
    if before.intervals is not None:
        tolerance = before.intervals.tolerance
    # What the table holds is to the power of the sureness so far.
    sureness = before.sureness * power
    found = calibrated(spec, unseen, rule_of(spec, new), sureness, tolerance)
    document = {**found.to_json(), "source": SOURCE}
    after = Calibration.from_json(document, spec.interval_level, spec.tolerance)
    return power, after, {**new, "calibration": document}


def _same_decision(decision: Mapping[str, Any] | None, power: float) -> Any:
    """Learnt factors for probabilities to that power, by which each answer stays what it is.

    Factors that stand for costs stay: of more honest probabilities they decide better.
    """
    if not decision or decision.get("why") == "class weights":
        return decision
    factors = {name: factor**power for name, factor in decision["factors"].items()}
    return {**decision, "factors": factors}


# -- the gate -------------------------------------------------------------------------------------


def _figures(
    spec: DatasetSpec, calibration: Calibration, manifest: Mapping[str, Any], labels: _Labels
) -> dict[str, float]:
    if spec.is_regression:
        sure = calibration.sure(labels.said, None)
        assert sure.lower is not None  # noqa: S101  numbers have intervals
        assert sure.upper is not None  # noqa: S101
        true = labels.truth.to_numpy(dtype=np.float64)
        below, above = np.maximum(sure.lower - true, 0), np.maximum(true - sure.upper, 0)
        # Gneiting and Raftery (2007): the width, and a fine for each truth outside.
        score = sure.upper - sure.lower + 2 / (1 - spec.interval_level) * (below + above)
        return {
            "interval_score": float(score.mean()),
            "coverage": float((below + above == 0).mean()),
        }
    names = [str(name) for name in labels.said.columns]
    places = chosen(labels.said, rule_of(spec, manifest))
    truth = labels.truth.astype(str).to_numpy()
    own = [
        row.get(label, SMALLEST)
        for row, label in zip(labels.said.to_dict("records"), truth, strict=True)
    ]
    right = np.array(names, dtype=object)[places] == truth
    return {
        "log_loss": float(-np.log(np.maximum(own, SMALLEST)).mean()),
        "calibration_error": calibration_error(confidence_of(labels.said, places), right),
    }


def _gate(
    spec: DatasetSpec,
    before: Mapping[str, float],
    after: Mapping[str, float],
    promise: Mapping[str, Any],
    version: str,
) -> Decision:
    """Promote what is not worse, by the labels held back, and whose promise they do not refute."""
    held = promise["held_out"]
    told = ", ".join(
        f"{name.replace('_', ' ')} {written_out(before[name])} -> {written_out(after[name])}"
        for name in before
    )
    told = f"{told} on {held['n']} labels held back"
    score = next(iter(before))
    if after[score] > before[score] * (1 + 1e-9):
        return Decision(False, f"Not promoted: {told} is worse than {version}.")
    off = "calibration_error"
    # Of few labels it is mostly chance: a share's standard error is up to 0.5 / sqrt(n).
    allowed = max(spec.promotion_tolerance, 0.5 / held["n"] ** 0.5)
    if off in after and after[off] > before[off] + allowed:
        return Decision(False, f"Not promoted: {told}: confidence is further off than before.")
    if "coverage" in after:
        inside = round(after["coverage"] * held["n"])
        if upper_bound(inside, held["n"], RISK) < spec.interval_level:
            return Decision(False, f"Not promoted: {told}: intervals are too narrow.")
    rest = round((1 - held["share"]) * held["n"])
    promised = (
        promise["target"] if promise["reached"] and promise["target"] else promise["at_least"]
    )
    if rest and promised and upper_bound(round(held["accuracy"] * rest), rest, RISK) < promised:
        return Decision(
            False,
            f"Not promoted: {told}; but of the rest {held['accuracy']:.1%} of {rest} are right, "
            f"and {promised:.1%} would be promised.",
        )
    return Decision(True, f"Recalibrated from {version}: {told}.")


def _published(models: ModelStore, spec: DatasetSpec, table: pa.Table) -> dict[str, Any]:
    """The records that were learnt from and judged by: they say nothing of the new promise."""
    import pyarrow.parquet as pq

    with working_folder("recalibration") as folder:
        pq.write_table(table.select(["record_id"]), folder / RECORDS, compression="zstd")
        pointer = of_dataset(spec.dataset, RECALIBRATION)
        return models.lake.publish(pointer, {RECORDS: folder / RECORDS}, {"dataset": spec.dataset})
