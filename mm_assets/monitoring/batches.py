"""What people's answers did: each batch beside the model before and the one that came after it.

A batch are the answers that were given to one champion's predictions, from its promotion to the
next one of another model of the same modality. Nothing here is measured anew: figures are those
that trainings and monitoring left in the lake, and what was not measured is None.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.errors import LakeError, ModelError
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import of_dataset
from mm_assets.monitoring.by_model import live_in_words
from mm_assets.monitoring.promises import in_words
from mm_assets.monitoring.report import MONITORING
from mm_assets.registry.store import Champion, ModelStore
from mm_assets.review.one_by_one import Given
from mm_assets.review.settled import is_same
from mm_assets.training.promised import promised
from mm_assets.training.report.page import METRICS, figure
from mm_assets.training.training_set import learnt_ids

MOST_BATCHES = 20  # the newest


@dataclass(frozen=True)
class Side:
    """One model, in words: '' for what is not known.

    held_out: its metric, and of how many held-out records. promise: what goes to review, and what
    the rest reaches, by the YAML as it is now. live: its answers beside labels that it did not
    learn from, when monitoring saw most of them; kept: whether its promise held there.
    """

    version: str
    held_out: str = ""
    promise: str = ""
    live: str = ""
    kept: str = ""


@dataclass(frozen=True)
class Batch:
    """answers: records that people gave a label; right: of these, as the model had said. since,
    until: of the first and last answer. learnt: how many of them are among the records that the
    next model was made of, or None. after: None where no other model was promoted yet; reason: of
    that promotion, with both figures on the same records where a training promoted it."""

    modality: str
    people: tuple[str, ...]
    answers: int
    right: int
    since: str
    until: str
    before: Side
    after: Side | None
    learnt: int | None
    reason: str

    def as_row(self) -> dict[str, Any]:
        """On one level, as `mm review results` shows it."""
        after = self.after or Side("")
        return {
            "modality": self.modality,
            "answers": self.answers,
            "as_the_model": self.right,
            "people": ", ".join(self.people),
            "since": self.since,
            "until": self.until,
            **{f"{name}_before": getattr(self.before, name) or None for name in _NAMES},
            "learnt": self.learnt,
            **{f"{name}_after": getattr(after, name) or None for name in _NAMES},
            "reason": self.reason or None,
        }


_NAMES = ("version", "held_out", "promise", "live", "kept")


def batches(lake: Lake, spec: DatasetSpec, given: Iterable[Given]) -> list[Batch]:
    """The newest first. given: all answers, in any order.

    Raises ModelError for a log of promotions that is damaged.
    """
    models = ModelStore(lake, spec.dataset)
    monitored = lake.read_json(of_dataset(spec.dataset, MONITORING)) or {}
    seen = {(one["modality"], one["version"]): one for one in monitored.get("by_model", [])}
    last: dict[tuple[str, str], Given] = {}
    for one in sorted(given, key=lambda one: one.at):
        last[one.record_id, one.who] = one
    labelled = [one for one in last.values() if not one.is_unsure]
    found = []
    for modality in spec.modalities:
        terms = _terms(models.champions(modality))
        found += [(terms, place, some) for place, some in _by_term(labelled, terms)]
    found.sort(key=lambda one: max(given.at for given in one[-1]), reverse=True)
    facts = _Facts(lake, spec, models, seen)
    return [_batch(facts, *one) for one in found[:MOST_BATCHES]]


def _terms(promotions: Sequence[Champion]) -> list[Champion]:
    """The promotions with which another model began to answer."""
    return [next(own) for _, own in groupby(promotions, key=lambda one: one.version)]


def _by_term(
    given: Iterable[Given], terms: Sequence[Champion]
) -> Iterable[tuple[int, list[Given]]]:
    """Answers by the term of the model that people were shown: its newest that had begun."""
    own: dict[int, list[Given]] = {}
    for one in given:
        places = [i for i, term in enumerate(terms) if term.version == one.model_version]
        at = datetime.fromisoformat(one.at)
        begun = [i for i in places if datetime.fromisoformat(terms[i].promoted_at) <= at]
        if places:
            own.setdefault((begun or places[:1])[-1], []).append(one)
    return own.items()


def _batch(facts: _Facts, terms: Sequence[Champion], place: int, given: Sequence[Given]) -> Batch:
    after = terms[place + 1] if place + 1 < len(terms) else None
    newest = {one.record_id: one for one in sorted(given, key=lambda one: one.at)}
    right = sum(is_same(facts.spec, one.label, one.prediction) for one in newest.values())
    return Batch(
        modality=terms[place].modality.value,
        people=tuple(sorted({one.who for one in given})),
        answers=len(newest),
        right=right,
        since=min(one.at for one in given),
        until=max(one.at for one in given),
        before=facts.side(terms[place]),
        after=facts.side(after) if after else None,
        learnt=facts.learnt(after, set(newest)) if after else None,
        reason=after.reason if after else "",
    )


class _Facts:
    """What the lake knows of models; each manifest is read once."""

    def __init__(
        self, lake: Lake, spec: DatasetSpec, models: ModelStore,
        seen: Mapping[tuple[str, str], Mapping[str, Any]],
    ) -> None:  # fmt: skip
        self.spec, self._lake, self._models, self._seen = spec, lake, models, seen
        self._manifests: dict[str, Mapping[str, Any] | None] = {}

    def side(self, term: Champion) -> Side:
        live = self._seen.get((term.modality.value, term.version))
        kept = (live or {}).get("promise")
        said = {
            "live": live_in_words(live) if live else "",
            "kept": in_words(kept).partition(": ")[2] if kept else "",
        }
        manifest = self._manifest(term)
        if manifest is None:
            return Side(term.version, **said)
        metric = manifest.get("metric")
        if metric in METRICS and metric in manifest["metrics"]:
            value = figure(manifest["metrics"][metric], metric)
            said["held_out"] = f"{METRICS[metric][0]}: {value} of {manifest['n']:,}"
        return Side(term.version, promise=self._promise(manifest), **said)

    def learnt(self, after: Champion, ids: set[str]) -> int | None:
        manifest = self._manifest(after)
        if manifest is None:
            return None
        try:
            known = learnt_ids(self._lake, self.spec, manifest["training_fingerprint"])
        except LakeError:  # that training set is gone
            return None
        return len(ids.intersection(known.to_pylist()))

    def _promise(self, manifest: Mapping[str, Any]) -> str:
        try:
            found = promised(self.spec, manifest)
        except ModelError:  # the page of the models says why
            return ""
        if found is None or found.promise.at_least is None:
            return ""
        one = found.promise
        said = f"{one.share:.1%} in review, of the rest at least {one.at_least:.1%} are right"
        if one.target is None:
            return said
        return f"{said}; {one.target:.1%} {'is' if one.reached else 'cannot be'} promised"

    def _manifest(self, term: Champion) -> Mapping[str, Any] | None:
        if term.version not in self._manifests:
            try:
                found = self._models.stored(term.modality, term.version).manifest
            except ModelError:  # deleted, or damaged: the page of the models says so
                found = None
            self._manifests[term.version] = found
        return self._manifests[term.version]
