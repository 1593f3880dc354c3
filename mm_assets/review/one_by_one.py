"""Answers that people give one at a time: kept at once, sent together.

Each answer is a document of its own in the lake from the moment it is given, with who and when, so
no crash loses one. What was given is sent as labels through the same door as a file of answers
(answers.py), once people have said enough of a record (settled.py); the document of a sent upload
keeps who said what. Several people at once: whoever is shown a record holds a lease on it for some
minutes, and others are shown the next one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import review_prefix
from mm_assets.review.answers import Answer, Refused, judge, labelled, send_labels
from mm_assets.review.queue import review_classes
from mm_assets.review.settled import settled
from mm_assets.tables.store import Store
from mm_assets.uploads.send import Sent

LEASE_SECONDS = 300
_KEPT, _SENT, _LEASES = "kept/", "sent/", "leases/"


@dataclass(frozen=True, slots=True)
class Given:
    """One answer of one person. label: '' if they can't tell. prediction, model_version: what they
    were shown. at: ISO 8601, UTC."""

    record_id: str
    label: str
    who: str
    at: str
    prediction: str
    model_version: str

    @property
    def is_unsure(self) -> bool:
        return not self.label


@dataclass(slots=True)
class Standing:
    """What people gave. kept: by key, not sent yet. sent: by key of its document, in order."""

    kept: dict[str, Given] = field(default_factory=dict)
    sent: dict[str, list[Given]] = field(default_factory=dict)

    def given(self) -> Iterable[Given]:
        for some in self.sent.values():
            yield from some
        yield from self.kept.values()

    def open_labels(self) -> dict[str, list[Given]]:
        """The labels that are kept and not sent, by record, in the order in which they came."""
        found: dict[str, list[Given]] = {}
        for one in sorted(self.kept.values(), key=lambda one: one.at):
            if not one.is_unsure:
                found.setdefault(one.record_id, []).append(one)
        return found

    def settled(self, spec: DatasetSpec) -> set[str]:
        """The records of which nobody is asked any more: they were sent, or can be."""
        done = {one.record_id for some in self.sent.values() for one in some if not one.is_unsure}
        return done | set(to_send(spec, self))


def to_send(spec: DatasetSpec, standing: Standing) -> dict[str, str]:
    """The label that stands of each record of which enough was said."""
    found = {}
    for record_id, some in standing.open_labels().items():
        label = settled(spec, record_id, [one.label for one in some])
        if label is not None:
            found[record_id] = label
    return found


def now() -> datetime:
    return datetime.now(UTC)


# -- answers --------------------------------------------------------------------------------------


def keep(lake: Lake, dataset: str, given: Given) -> str:
    """Keep an answer; returns its key. A person's later answer for a record replaces theirs."""
    stamp = _stamp(given.at)
    key = f"{_kept_prefix(dataset)}{_name(given.record_id, given.who)}-{stamp}.json"
    lake.write_json(key, asdict(given))
    for other in _of_one(lake, dataset, given.record_id, given.who):
        if other < key:
            lake.delete(other)
    return key


def take_back(lake: Lake, dataset: str, record_id: str, who: str) -> bool:
    """Take one's own answer back; False if it was sent already, or there was none."""
    there = _of_one(lake, dataset, record_id, who)
    for key in there:
        lake.delete(key)
    return bool(there)


def standing(lake: Lake, dataset: str, before: Standing | None = None) -> Standing:
    """What was given so far. before: an earlier look; what is in it is not read again.

    Two listings, and one request for each answer and each sent document that is new.
    """
    before = before or Standing()
    found = Standing()
    newest: dict[tuple[str, str], tuple[str, Given]] = {}
    for item in lake.list(_kept_prefix(dataset)):  # a person's later answer comes later
        one = before.kept.get(item.key) or _read(lake.read_json(item.key))
        if one is not None:
            newest[one.record_id, one.who] = item.key, one
    found.kept = dict(newest.values())
    for item in lake.list(f"{review_prefix(dataset)}{_SENT}"):
        some = before.sent.get(item.key)
        if some is None:
            document = lake.read_json(item.key) or {"answers": []}
            some = [one for entry in document["answers"] if (one := _read(entry)) is not None]
        found.sent[item.key] = some
    return found


def send_kept(lake: Lake, store: Store, spec: DatasetSpec) -> tuple[Sent | None, list[Refused]]:
    """Send what was kept as one upload of labels; returns it, and what was refused and is kept.

    What somebody else is still to be asked of is kept; if its label came another way meanwhile, it
    is noted. "Can't tell" is kept, and never sent. Dying in the middle costs nothing: the upload's
    name is a hash of what it says, so the next call sends the same one.
    """
    stood = standing(lake, spec.dataset)
    labels, given = to_send(spec, stood), stood.open_labels()
    known = labelled(store, spec, [name for name in given if name not in labels])
    said = {
        key: one
        for key, one in stood.kept.items()
        if not one.is_unsure and (one.record_id in labels or one.record_id in known)
    }
    if not said:
        return None, []
    answers = [
        Answer(name, " and ".join(one.who for one in given[name]), label)
        for name, label in labels.items()
    ]
    judged = judge(answers, store, spec, review_classes(lake, spec))
    sent = send_labels(lake, spec, judged)
    refused = {one.record_id for one in judged.refused}
    through = {key: one for key, one in said.items() if one.record_id not in refused}
    if through:
        note_sent(lake, spec.dataset, sent, through.values())
        for key, one in through.items():
            for other in _of_one(lake, spec.dataset, one.record_id, one.who):
                if other <= key:  # who has changed their mind meanwhile has said something new
                    lake.delete(other)
    return sent, judged.refused


def note_sent(lake: Lake, dataset: str, sent: Sent | None, given: Iterable[Given]) -> None:
    """Keep who answered what, in a document beside what was sent of it; twice is once.

    sent: None where all labels were known already: they have no upload of theirs, and are told.
    """
    said = sorted(given, key=lambda one: (one.at, one.record_id, one.who))
    name = _hash("".join(f"{one.record_id}\x1f{one.who}\x1f{one.at}\x1e" for one in said))
    document = {"upload": sent.key if sent else None, "answers": [asdict(one) for one in said]}
    key = f"{review_prefix(dataset)}{_SENT}{_stamp(said[-1].at)}-{name}.json"
    lake.create_json(key, document)


def _of_one(lake: Lake, dataset: str, record_id: str, who: str) -> list[str]:
    """The keys of what this person answered for this record, in order."""
    name = _name(record_id, who)
    return [item.key for item in lake.list(_kept_prefix(dataset), f"{name}-")]


def _kept_prefix(dataset: str) -> str:
    return f"{review_prefix(dataset)}{_KEPT}"


def _stamp(at: str) -> str:
    """A moment in a key: in the order of time."""
    return at.replace(":", "").replace("+0000", "Z")


def _read(entry: Mapping[str, Any] | None) -> Given | None:
    try:
        return Given(**entry) if entry is not None else None
    except TypeError:  # of another version
        return None


# -- leases ---------------------------------------------------------------------------------------


def leased(lake: Lake, dataset: str, record_ids: Sequence[str], who: str) -> str | None:
    """Lease the first of the records that nobody else holds; None if others hold them all.

    A lease is one object for a record and a span of time, created once: of two who ask at the same
    moment one gets it. It ends with the next span but one, and nobody has to give it back.
    """
    span = int(now().timestamp() // LEASE_SECONDS)
    prefix = f"{review_prefix(dataset)}{_LEASES}"
    for record_id in record_ids:
        name = _hash(record_id)
        held = lake.read_json(f"{prefix}{span - 1}/{name}.json")
        if held is not None and held.get("who") != who:
            continue
        if lake.create_json(f"{prefix}{span}/{name}.json", {"record_id": record_id, "who": who}):
            _forget_old(lake, prefix, span)
            return record_id
    return None


def let_go(lake: Lake, dataset: str, record_id: str, people: Collection[str]) -> None:
    """End the lease of these people, who answered, so that the next one need not wait."""
    span = int(now().timestamp() // LEASE_SECONDS)
    for one in (span - 1, span):
        key = f"{review_prefix(dataset)}{_LEASES}{one}/{_hash(record_id)}.json"
        if (lake.read_json(key) or {}).get("who") in people:
            lake.delete(key)


def _forget_old(lake: Lake, prefix: str, span: int) -> None:
    _, folders = lake.top(prefix)
    for folder in folders:
        number = folder.rstrip("/").rpartition("/")[2]
        if number.isdecimal() and int(number) < span - 1:
            for item in list(lake.list(f"{prefix}{number}/")):
                lake.delete(item.key)


def _name(record_id: str, who: str) -> str:
    return _hash(f"{record_id}\x1f{who}")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]
