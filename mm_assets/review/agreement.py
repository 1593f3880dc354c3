"""What several people said of the same records, and what they said of the model's answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.review.one_by_one import Given
from mm_assets.review.settled import is_asked_twice, is_same, settled


@dataclass(frozen=True)
class Disagreement:
    """said: who to what, in the order of time. stands: the label that most say, or ''."""

    record_id: str
    said: dict[str, str]
    stands: str = ""


@dataclass(frozen=True)
class Person:
    """answers: with a label; agreed: of these, as the model said."""

    who: str
    answers: int
    unsure: int
    agreed: int


@dataclass(frozen=True)
class Agreement:
    """twice: records that two or more gave a label; same: of these, where all said the same.
    planned: of these, which two people were to be asked of; planned_same: where the first two said
    the same. records: with a label; agreed: of these, where whoever answered last said what the
    model said.
    """

    people: list[Person] = field(default_factory=list)
    twice: int = 0
    same: int = 0
    planned: int = 0
    planned_same: int = 0
    disagreements: list[Disagreement] = field(default_factory=list)
    records: int = 0
    agreed: int = 0


def agreement(spec: DatasetSpec, given: Iterable[Given]) -> Agreement:
    """given: all answers, in any order; a person's last one for a record counts."""
    last: dict[tuple[str, str], Given] = {}
    for one in sorted(given, key=lambda one: one.at):
        last[one.record_id, one.who] = one
    of_record: dict[str, dict[str, Given]] = {}
    for one in last.values():
        if not one.is_unsure:
            of_record.setdefault(one.record_id, {})[one.who] = one
    shared = {
        name: {one.who: one.label for one in sorted(said.values(), key=lambda one: one.at)}
        for name, said in of_record.items()
        if len(said) > 1
    }
    apart = [
        Disagreement(name, said, settled(spec, name, list(said.values())) or "")
        for name, said in shared.items()
        if not _all_same(spec, list(said.values()))
    ]
    planned = [list(said.values()) for name, said in shared.items() if is_asked_twice(spec, name)]
    newest = [max(said.values(), key=lambda one: one.at) for said in of_record.values()]
    return Agreement(
        people=[_person(spec, who, last.values()) for who in sorted({who for _, who in last})],
        twice=len(shared),
        same=len(shared) - len(apart),
        planned=len(planned),
        planned_same=sum(_all_same(spec, labels[:2]) for labels in planned),
        disagreements=apart,
        records=len(newest),
        agreed=sum(is_same(spec, one.label, one.prediction) for one in newest),
    )


def _all_same(spec: DatasetSpec, labels: list[str]) -> bool:
    return all(is_same(spec, label, labels[0]) for label in labels[1:])


def _person(spec: DatasetSpec, who: str, answers: Iterable[Given]) -> Person:
    own = [one for one in answers if one.who == who]
    said = [one for one in own if not one.is_unsure]
    agreed = sum(is_same(spec, one.label, one.prediction) for one in said)
    return Person(who, len(said), len(own) - len(said), agreed)
