"""How a demo's uploads are written: the same bytes each time, whatever the clock says."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

Files = dict[str, bytes]  # of one upload, by name


def as_csv(header: Sequence[str] | None, rows: Sequence[Sequence[str]]) -> bytes:
    """A table as UTF-8; without a header, rows to append to one."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    if header:
        writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue().encode()


def write_folder(folder: Path, files: Files) -> None:
    """The upload as a folder."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def write_zip(path: Path, files: Files) -> None:
    """The upload as a zip; every entry has the same date."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(files.items()):
            entry = zipfile.ZipInfo(name, date_time=(2026, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, data)
