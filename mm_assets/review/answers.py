"""What people answered: judged against what is known, and sent as an upload."""

from __future__ import annotations

import csv
import hashlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.errors import UploadError
from mm_assets.contract.ids import normalised
from mm_assets.contract.spellings import label_meant
from mm_assets.lake.lake import Lake
from mm_assets.lake.local import working_folder
from mm_assets.manifest.numbers import PLAIN
from mm_assets.tables.store import Store
from mm_assets.uploads.send import Sent, send

# Each code by which an answer is refused: what a person does about it.
REFUSED: dict[str, str] = {
    "answer_unreadable": "Correct this entry, or leave it out.",
    "answers_disagree": "Let one answer stand for this record, then import the file again.",
    "label_invalid": "Answer with one of the classes, or for a regression with a number.",
    "record_unknown": "Check the ID; spreadsheets change some (007, 1E5): import IDs as text.",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of one person. `label` is '' if there is none: `blank` says why.

    where: which task or line of the file. problem: why it cannot be read, or ''.
    """

    record_id: str
    where: str
    label: str = ""
    blank: str = "not answered"
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """An answer that is not sent, with its reason."""

    record_id: str
    where: str
    code: str
    reason: str

    def as_dict(self) -> dict[str, str]:
        return {**asdict(self), "todo": REFUSED[self.code]}


@dataclass(slots=True)
class Judged:
    """labels: what is new, by record. left_out: how many answers, by reason.

    before: the upload that brought each record's present label, None where there is none.
    """

    labels: dict[str, str] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    refused: list[Refused] = field(default_factory=list)
    before: dict[str, str | None] = field(default_factory=dict)

    @property
    def is_all_known(self) -> bool:
        """Whether there was nothing new, but some that was known already."""
        return not self.labels and bool(self.left_out[KNOWN])


KNOWN = "known already"


# -- judging --------------------------------------------------------------------------------------


def judge(
    answers: Iterable[Answer], store: Store, spec: DatasetSpec, classes: Sequence[str]
) -> Judged:
    """Which answers are new labels, which are left out, and which are refused and why."""
    judged = Judged()
    said: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        record_id, label = normalised(answer.record_id), answer.label.strip(" \t\r\n")
        label = label if spec.is_regression else label_meant(label, tuple(classes))
        if answer.problem:
            judged.refused.append(
                Refused(record_id, answer.where, "answer_unreadable", answer.problem)
            )
        elif not label or label in spec.missing_values:
            judged.left_out[answer.blank] += 1
        elif fault := label_fault(label, spec, classes):
            judged.refused.append(Refused(record_id, answer.where, "label_invalid", fault))
        else:
            said[record_id].append(Answer(record_id, answer.where, label))
    _agree(said, store, spec, judged)
    return judged


def label_fault(label: str, spec: DatasetSpec, classes: Sequence[str]) -> str:
    """Why this is no label, or ''."""
    if spec.is_regression:
        good = re.fullmatch(PLAIN, label, re.ASCII) and math.isfinite(float(label))
        return "" if good else f"'{label[:60]}' is no finite number"
    if label in classes:
        return ""
    shown = ", ".join(classes[:20]) + (" …" if len(classes) > 20 else "")
    return f"'{label[:60]}' is not one of the classes: {shown}"


def _agree(
    said: Mapping[str, Sequence[Answer]], store: Store, spec: DatasetSpec, judged: Judged
) -> None:
    """Compare what was said of each record with each other and with what is known of it."""
    known = _known(store, spec, list(said))
    for record_id, answers in said.items():
        where = answers[0].where
        labels = {_value(spec, answer.label): answer for answer in answers}
        row = known.get(record_id, {})
        if len(labels) > 1:
            told = "; ".join(f"'{one.label}' in {one.where}" for one in labels.values())
            judged.refused.append(Refused(record_id, where, "answers_disagree", told))
        elif not any(value for name, value in row.items() if name != "record_id"):
            reason = "no upload ever held this record"
            judged.refused.append(Refused(record_id, where, "record_unknown", reason))
        elif row["label"] is not None and _value(spec, row["label"]) in labels:
            judged.left_out[KNOWN] += 1
        else:
            judged.labels[record_id] = answers[0].label
            judged.before[record_id] = row["label_upload"]


def _value(spec: DatasetSpec, label: str) -> str | float:
    """What makes two labels the same: 5 and 5.0 are one number."""
    return float(label) if spec.is_regression else label


def labelled(store: Store, spec: DatasetSpec, record_ids: list[str]) -> set[str]:
    """Those whose label is known."""
    known = _known(store, spec, record_ids)
    return {name for name, row in known.items() if row["label"] is not None}


def _known(store: Store, spec: DatasetSpec, record_ids: list[str]) -> dict[str, dict[str, Any]]:
    import pyarrow as pa

    if not record_ids:
        return {}
    found = store.look_up(spec.dataset, pa.array(record_ids, pa.string()))
    return {row["record_id"]: row for row in found.to_pylist()}


# -- sending --------------------------------------------------------------------------------------


def send_labels(lake: Lake, spec: DatasetSpec, judged: Judged) -> Sent | None:
    """Send the new labels as an upload with one table; None if there are none.

    Its name is a hash of the labels and of the uploads whose labels they replace: the same import
    twice is one upload, and a label that is changed and changed back is three.
    """
    records = sorted(judged.labels)
    text = "".join(f"{r}\x1f{judged.labels[r]}\x1f{judged.before.get(r)}\x1e" for r in records)
    name = f"review-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"
    if not records:
        return None
    with working_folder("review") as folder:
        _write_labels(folder / "labels.csv", spec, [(r, judged.labels[r]) for r in records])
        return send(lake, folder, spec.dataset, name)


def _write_labels(path: Path, spec: DatasetSpec, rows: Sequence[tuple[str, str]]) -> None:
    try:
        with path.open("w", encoding=spec.written_encoding, newline="") as file:
            writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
            writer.writerow([spec.id_column, spec.label_column])
            writer.writerows(rows)
    except UnicodeEncodeError as error:
        raise UploadError(
            code="label_encoding",
            what=f"{error.object[error.start : error.end]!r} cannot be written in "
            f"{spec.written_encoding}",
            where="`encoding` in the dataset's YAML",
            todo="Set `encoding: utf-8` there, if your tables are UTF-8.",
        ) from None
