"""What can be said of an upload before it is sent, on the sender's own machine.

A folder, an archive or a single file is judged with the very code that receives it, and nothing is
kept. What belongs here: looking at the local disk. What does not: the lake, which
`send.py` talks to.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_assets.contract.dataset import DatasetSpec, NamedImage
from mm_assets.contract.ends import PLACES, End, Ended, LeftOut, end_of_upload, place_of
from mm_assets.contract.errors import Refusal, UploadError
from mm_assets.lake.layout import MARKER, SIZE_MARKER
from mm_assets.reading.images import NormalisedImage
from mm_assets.uploads.archives.opening import SUFFIXES, open_archive, suffix_of, without_suffix
from mm_assets.uploads.archives.rules import Archive
from mm_assets.uploads.clutter import is_clutter_name
from mm_assets.uploads.delivered import IN_MEMORY, Delivered, take_member
from mm_assets.uploads.find import UNSAFE, printable
from mm_assets.uploads.image_file import ImageFile
from mm_assets.uploads.inside import archives_opened
from mm_assets.uploads.read_as import firsts_in_words
from mm_assets.uploads.receive import Packer
from mm_assets.uploads.received import refused_by_code
from mm_assets.uploads.webdataset import samples_gathered

if TYPE_CHECKING:
    import pyarrow as pa

LONGEST_NAME = 900  # bytes; S3 takes keys of 1,024
LISTED = 1000  # rows of one code that are listed one by one
_SHOWN = 5
# (bytes done, bytes in all, the file that is done or under way)
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class LocalFile:
    """One file of a folder; `name` is its path from the folder, with '/'."""

    name: str
    path: Path
    size: int


@dataclass(slots=True)
class Report:
    """What the receiving side would say. `refused` is set when nothing of it would be taken.

    problems: each refused file and row; of those that only typing finds the first LISTED of each
    code, while `unlisted` counts the others. left_out: hidden and system files.
    ended: how it would end if it were all that ever came. first_of_several: in words, of which
    files only the first image would be used. nearly: in words, which images miss their row here by
    how the ID is written.
    """

    kind: str
    counts: dict[str, int] = field(default_factory=dict)
    tables: list[dict[str, Any]] = field(default_factory=list)
    problems: list[Refusal] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    refused: UploadError | None = None
    unlisted: dict[str, int] = field(default_factory=dict)
    ended: Ended = field(default_factory=lambda: Ended(End.USED))
    first_of_several: list[str] = field(default_factory=list)
    nearly: list[str] = field(default_factory=list)

    @property
    def problems_by_code(self) -> dict[str, int]:
        counted = Counter(problem.code for problem in self.problems) + Counter(self.unlisted)
        return dict(counted.most_common())

    def as_dict(self) -> dict[str, Any]:
        refused = _in_parts(self.refused)
        return {
            "kind": self.kind,
            "counts": self.counts,
            "tables": self.tables,
            "problems": [problem.as_dict() for problem in self.problems],
            "problems_by_code": self.problems_by_code,
            "left_out": self.left_out,
            "first_of_several": self.first_of_several,
            "nearly": self.nearly,
            "refused": refused,
            **{name: self.ended.as_document()[name] for name in ("end", "end_words")},
        }


@dataclass(frozen=True, slots=True)
class Judged:
    """What typing makes of an upload's rows. rejects: as refusals_table. nearly: in words, which
    images miss their row by how the ID is written."""

    records: int
    labels_joined: int
    rejects: pa.Table
    nearly: list[str]


# What a room above makes of the packed rows: `manifest.before.judge_rows`.
JudgeRows = Callable[[DatasetSpec, Packer, Path], Judged]


def no_progress(_done: int, _total: int, _file: str) -> None:
    """For callers that show no progress."""


def refuse_to_send(report: Report, where: str) -> None:
    """Raises UploadError for an upload of which nothing would be used."""
    if report.refused:
        raise report.refused
    if report.ended.end is End.NOTHING:
        remedies = " ".join(dict.fromkeys(one.remedy for one in report.ended.left_out))
        raise UploadError(
            code="nothing_used",
            what=f"not sent: {report.ended.words}",
            where=where,
            todo=f"{remedies or report.ended.todo} To send it all the same: --anyway "
            "(anyway=True).",
        )


# -- looking at what is to be sent ----------------------------------------------------------------


def kind_of(path: Path) -> str:
    """`zip`, `tar` or `7z`; else `folder`: any other file is sent as a folder that holds it.

    Raises UploadError when there is no such file or folder.
    """
    if path.is_dir():
        return "folder"
    if path.is_file():
        suffix = archive_suffix(path)
        return {"": "folder", ".zip": "zip", ".7z": "7z"}.get(suffix, "tar")
    if path.exists():
        raise UploadError(
            code="upload_kind",
            what="this is neither a file nor a folder",
            where=str(path),
            todo="Give a folder, an archive (zip, tar, 7z) or a table.",
        )
    raise UploadError(
        code="upload_missing", what="there is no such file or folder", where=str(path),
        todo="Check the path.",
    )  # fmt: skip


def archive_suffix(path: Path) -> str:
    """What a local archive is to be called in the inbox: its ending by its bytes, or ''.

    What only calls itself one has the ending that it gives itself; reading says what is wrong.
    """
    with reading(path):
        if found := suffix_of(path, path.name):
            return found
    return next((one for one in SUFFIXES if path.name.lower().endswith(one)), "")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Say in words that a local file cannot be read."""
    try:
        yield
    except OSError as error:
        raise UploadError(
            code="upload_unreadable",
            what=error.strerror or str(error),
            where=error.filename or str(path),
            todo="Check that it is still there and that you may read it.",
        ) from None


def safe_name(path: Path) -> str:
    """The name under which an upload arrives unless another is given: [A-Za-z0-9._-] only."""
    path = path.resolve()
    stem = without_suffix(path.name) if path.is_file() else path.name
    return re.sub(r"[^A-Za-z0-9._-]", "", re.sub(r"\s+", "_", stem)).strip(".")[:100] or "upload"


def list_folder(folder: Path) -> tuple[list[LocalFile], list[str], list[Refusal]]:
    """What would be sent, what is left out (hidden and system files), what cannot be sent.

    `folder` may be a file: it is all that would be sent.
    """
    files: list[LocalFile] = []
    left_out: list[str] = []
    faults: list[Refusal] = []
    pending = [(folder, "")] if folder.is_dir() else []
    if not pending:
        with reading(folder):
            files.append(LocalFile(folder.name, folder, folder.stat().st_size))
        if fault := _name_fault(folder.name):
            return [], [], [Refusal("unsafe_name", fault, printable(folder.name))]
    while pending:
        at, prefix = pending.pop()
        with reading(at), os.scandir(at) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            name = prefix + entry.name
            folder_like = entry.is_dir(follow_symlinks=False)
            if _left_out(entry.name) or name in (MARKER, SIZE_MARKER):
                left_out.append(printable(name) + "/" * folder_like)
            elif fault := _fault(entry, name):
                faults.append(Refusal("unsafe_name", fault, printable(name)))
            elif folder_like:
                pending.append((Path(entry.path), name + "/"))
            else:
                files.append(LocalFile(name, Path(entry.path), entry.stat().st_size))
    files.sort(key=lambda file: file.name)
    return files, sorted(left_out), faults


def _left_out(name: str) -> bool:
    return name.startswith(".") or is_clutter_name(name)


def _fault(entry: os.DirEntry[str], name: str) -> str | None:
    """Why this cannot be sent, in words, or None."""
    if entry.is_symlink():
        return "a symbolic link; put the file itself here"
    mode = entry.stat(follow_symlinks=False).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        return "neither a file nor a folder"
    return _name_fault(name)


def _name_fault(name: str) -> str | None:
    if UNSAFE.search(name):
        return "the name holds a backslash, a control character or what is not Unicode"
    if len(name.encode()) > LONGEST_NAME:
        return f"the name is longer than {LONGEST_NAME} bytes"
    if re.search(r"#[0-9]+$", name):
        return "the name ends in # and digits, as half-written files do"
    return None


def cannot_be_sent(folder: Path, faults: list[Refusal]) -> UploadError:
    shown = "; ".join(f"{fault.file!a}: {fault.reason}" for fault in faults[:_SHOWN])
    more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    return UploadError(
        code="unsafe_name",
        what=f"{len(faults)} of the files cannot be sent: {shown}{more}",
        where=str(folder),
        todo="Rename these files or take them out of the folder.",
    )


def empty_folder(folder: Path, left_out: list[str]) -> UploadError:
    besides = f" but hidden and system files ({', '.join(left_out[:_SHOWN])})" if left_out else ""
    return UploadError(
        code="upload_empty",
        what=f"the folder holds no file{besides}",
        where=str(folder),
        todo="Check the path; put tables and images into the folder.",
    )


# -- check ----------------------------------------------------------------------------------------


class _NotKept(ImageFile):
    """Takes verified images and keeps none."""

    def add(self, file: Delivered, named: NamedImage, image: NormalisedImage) -> None:
        pass


def check(
    path: Path,
    spec: DatasetSpec,
    progress: Progress = no_progress,
    judge_rows: JudgeRows | None = None,
) -> Report:
    """Receive a folder, an archive or a file, send and keep nothing; problems are listed by file.

    Images are decoded on all cores; memory does not depend on the size. With `judge_rows` the rows
    are typed as well, as the manifest will; without it a row that can be read counts as used.
    Raises UploadError when there is no `path`.
    """
    report = Report(kind_of(path))
    with tempfile.TemporaryDirectory(prefix="mm-check-") as folder:
        if report.kind == "folder":
            files, size = _from_folder(path, report, progress), None
        else:
            files, size = _from_archive(path, Path(folder), progress), path.stat().st_size
        opened = archives_opened(files, Path(folder), archive_size=size)
        with closing(files):
            _judge(opened, spec, report, Path(folder), judge_rows)
    return report


def files_of(path: Path, workdir: Path) -> Generator[Delivered]:
    """The files of a folder or an archive, archives in it opened, as they would be received.

    Raises UploadError when it would be refused whole.
    """
    report = Report(kind_of(path))
    if report.kind == "folder":
        files, size = _from_folder(path, report, no_progress), None
    else:
        files, size = _from_archive(path, workdir, no_progress), path.stat().st_size
    with closing(files):
        yield from archives_opened(files, workdir, archive_size=size)


def check_sample(
    files: Iterable[LocalFile], spec: DatasetSpec, judge_rows: JudgeRows, most_rows: int
) -> Report:
    """The same for single files, of whose tables only about the first `most_rows` rows are read."""
    report = Report("folder")
    with tempfile.TemporaryDirectory(prefix="mm-check-") as folder:
        delivered = (_delivered(file) for file in files)
        _judge(delivered, spec, report, Path(folder), judge_rows, most_rows)
    return report


def _judge(
    files: Iterable[Delivered],
    spec: DatasetSpec,
    report: Report,
    workdir: Path,
    judge_rows: JudgeRows | None,
    most_rows: int | None = None,
) -> None:
    """Receive the files, keep nothing, and fill the report."""
    judged = None
    packer = Packer(spec, workdir, most_rows)
    packer.images.close()
    packer.images = _NotKept(workdir / "not-kept.parquet")
    try:
        packer.pack(files, lambda _text: None)
        if judge_rows is not None:
            judged = judge_rows(spec, packer, workdir)
    except UploadError as error:
        report.refused = error
    packer.images.close()
    _fill(report, packer, judged)


def _from_archive(path: Path, workdir: Path, progress: Progress) -> Generator[Delivered]:
    with open_archive(path, where=path.name) as archive:
        if not archive.names:
            raise UploadError(
                code="upload_empty", what="the archive holds no file", where=str(path),
                todo="Check the path; put tables and images into the archive.",
            )  # fmt: skip
        members = _members(archive, workdir, progress)
        with closing(members):
            yield from samples_gathered(archive, members, workdir)


def _members(archive: Archive, workdir: Path, progress: Progress) -> Generator[Delivered]:
    done, total = 0, sum(size for _, size in archive.names)
    for name, stream in archive.entries():
        file = take_member(name, stream, workdir)
        yield file
        done += file.size
        progress(done, total, name)


def _from_folder(path: Path, report: Report, progress: Progress) -> Generator[Delivered]:
    files, report.left_out, faults = list_folder(path)
    if faults:
        report.problems += faults
        report.refused = cannot_be_sent(path, faults)
    elif not files:
        raise empty_folder(path, report.left_out)
    done, total = 0, sum(file.size for file in files)
    for file in files:
        yield _delivered(file)
        done += file.size
        progress(done, total, file.name)


def _delivered(file: LocalFile) -> Delivered:
    with reading(file.path):
        content = file.path if file.size > IN_MEMORY else file.path.read_bytes()
    return Delivered(file.name, file.size, "", content, keep=True)


def _fill(report: Report, packer: Packer, judged: Judged | None) -> None:
    """From what the receiving code noted to a report; system files are no problem."""
    summary = packer.summary()
    report.counts, report.tables = summary["counts"], summary["tables"]
    files: list[Refusal] = []
    report.first_of_several = firsts_in_words(sorted(packer.files, key=lambda one: one["file"]))
    system = 0
    for file in packer.files:
        code = file.get("code")
        if code == "system_file":
            report.left_out.append(file["file"])
            system += 1
        elif code:
            files.append(Refusal(code, file["reason"], file["file"], None, file.get("record_id")))
    rows = list(packer.rejects)
    out = [*_by_code(files, "file"), *_by_code(rows, "row")]
    used = report.counts["rows"] - report.counts["rejected"]
    if judged is not None:
        used = judged.records + judged.labels_joined
        report.nearly = judged.nearly
        report.counts |= {"records": judged.records, "labels_joined": judged.labels_joined}
        report.counts["rejected"] += judged.rejects.num_rows
        out += refused_by_code(judged.rejects, "row")
        rows += _listed(judged.rejects, report)
    report.problems += [*files, *rows]
    report.problems.sort(key=lambda problem: (problem.file, problem.line or 0))
    report.ended = end_of_upload(
        rows=report.counts["rows"],
        files=report.counts["files"] - system,
        used=used + report.counts["images"],
        left_out=out,
        refused=_in_parts(report.refused),
    )


def _by_code(refusals: list[Refusal], what: str) -> list[LeftOut]:
    found: dict[str, list[Refusal]] = {}
    for one in refusals:
        found.setdefault(one.code, []).append(one)
    return [
        LeftOut(
            code, what, len(some), tuple(place_of(one.file, one.line) for one in some[:PLACES]),
            some[0].reason, some[0].todo,
        )
        for code, some in found.items()
    ]  # fmt: skip


def _listed(rejects: pa.Table, report: Report) -> list[Refusal]:
    """The first rejects of each code; the others are counted in the report."""
    import pyarrow.compute as pc

    names = ["code", "reason", "file", "line", "record_id"]
    listed: list[Refusal] = []
    for code in pc.unique(rejects["code"]).to_pylist():
        some = rejects.filter(pc.equal(rejects["code"], code)).select(names)
        listed += [Refusal(**row) for row in some.slice(0, LISTED).to_pylist()]
        if some.num_rows > LISTED:
            report.unlisted[code] = some.num_rows - LISTED
    return listed


def _in_parts(error: UploadError | None) -> dict[str, str] | None:
    if error is None:
        return None
    return {
        "code": error.code, "what": error.what, "where": error.where, "todo": error.todo
    }  # fmt: skip
