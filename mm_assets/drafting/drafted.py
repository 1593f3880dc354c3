"""What `mm init` hands out: a YAML, and all that a person should know of how it came about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mm_assets.contract.ends import End, Ended
from mm_assets.contract.errors import UploadError
from mm_assets.drafting.yaml_text import load_draft
from mm_assets.manifest.before import judge_rows
from mm_assets.uploads.check import LocalFile, Report, check_sample

COLUMNS = ("column", "taken_for", "because", "doubt")
ROWS_TRIED = 5_000
IMAGES_TRIED = 300


@dataclass(frozen=True, slots=True)
class Drafted:
    """A drafted dataset.

    text: of its defs.yaml. notes: for the person who asked for it. columns: what each column was
    taken for, why, and what is doubted (COLUMNS). ended: how the sample ended that was received
    with this YAML, None for a template; tried: that sample in words.
    """

    text: str
    notes: list[str]
    dataset: str
    columns: list[dict[str, Any]] = field(default_factory=list)
    ended: Ended | None = None
    tried: str = ""

    @property
    def doubts(self) -> list[str]:
        """What is doubted, a line for each column."""
        return [f"{row['column']}: {row['doubt']}" for row in self.columns if row["doubt"]]


def try_draft(text: str, files: Sequence[LocalFile]) -> Report:
    """Receive and type a sample with the code that receives uploads; nothing is kept."""
    return check_sample(files, load_draft(text), judge_rows, ROWS_TRIED)


def tried_on(report: Report) -> str:
    """The sample in words: `tried on the first 80 rows and 37 images`."""
    rows, files = report.counts["rows"], report.counts["files"] - len(report.tables)
    said = [f"the first {rows:,} row{'' if rows == 1 else 's'}"] if report.tables else []
    if report.kind == "images" or files:
        images = report.counts["images"]
        said.append(f"{images:,} image{'' if images == 1 else 's'}")
    return f"tried on {' and '.join(said) or 'the files'}"


def refuse_useless(drafted: Drafted, where: str) -> None:
    """Raises UploadError for a draft with which nothing of its own files would be used."""
    if drafted.ended is None or drafted.ended.end is not End.NOTHING:
        return
    remedies = " ".join(dict.fromkeys(one.remedy for one in drafted.ended.left_out))
    raise UploadError(
        code="init_nothing_used",
        what=f"no YAML was written: with it, {drafted.ended.words}",
        where=where,
        todo=remedies or drafted.ended.todo,
    )


def by_column(report: Report, code: str, columns: Sequence[str]) -> Counter[str]:
    """How many rows were refused with this code for the sake of each column."""
    found = Counter[str]()
    for problem in report.problems:
        if problem.code == code:
            names = [name for name in columns if problem.reason.startswith(f"column '{name}': ")]
            found.update(names[:1])
    return found
