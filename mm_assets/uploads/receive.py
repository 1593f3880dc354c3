"""From an upload to verified files in the lake: images packed, rows as text, a receipt.

What comes out, published in one step under `raw_uploads.json`:
`files.parquet` has one row for each file and its fate; `images.parquet` has the normalised
images; `rows-NNNN.parquet` has one table's rows exactly as text; `rejects.parquet` has the rows
that could not be read; `missing_images.parquet` what rows name and is not there, if anything.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mm_assets.contract.dataset import DatasetSpec, NamedImage
from mm_assets.contract.errors import REFUSED_ARCHIVES, Refusal, UploadError
from mm_assets.contract.ids import fault_of
from mm_assets.lake.lake import Lake
from mm_assets.lake.layout import of_upload
from mm_assets.lake.local import working_folder
from mm_assets.reading.header import without_columns
from mm_assets.reading.images import ImageRefused, NormalisedImage, is_image
from mm_assets.reading.images.formats import SUFFIXES as IMAGE_SUFFIXES
from mm_assets.reading.other_content import neither, no_image, what_it_is
from mm_assets.reading.table import TableRefused, Wanted
from mm_assets.reading.tables import Table, may_be_table, open_table
from mm_assets.tables.named import file_id
from mm_assets.uploads.clutter import clutter
from mm_assets.uploads.copies import note_copies
from mm_assets.uploads.deliver import delivery
from mm_assets.uploads.delivered import IN_MEMORY, Delivered
from mm_assets.uploads.fetched import Fetching, not_fetched, refusing
from mm_assets.uploads.find import Source
from mm_assets.uploads.image_file import ImageFile
from mm_assets.uploads.images_inside import ImagesInside, check_chosen
from mm_assets.uploads.normalising import normalising
from mm_assets.uploads.packed import files_table, write_missing, write_rows
from mm_assets.uploads.received import MISSING_IMAGES, RAW, refusals_table
from mm_assets.uploads.references import Missing, References, read_references, without_lines

Progress = Callable[[str], None]
Sort = Callable[[Delivered], bytes | None]  # the bytes of what has to be normalised


def receive(
    lake: Lake, spec: DatasetSpec, source: Source, *, run_id: str, progress: Progress
) -> dict[str, Any]:
    """Verify and store one upload; returns its receipt, the document at `raw_uploads.json`.

    An upload that is refused whole gets a receipt too: no files, and `refused` says why. When the
    inbox no longer holds the upload but it was received before, the earlier receipt stands.
    """
    pointer = of_upload(spec.dataset, source.upload, RAW)
    with working_folder("receive") as folder:
        fetch = _fetching(lake, spec, source.upload)
        packer = Packer(spec, folder, fetch=fetch)
        refused: dict[str, str] | None = None
        try:
            with delivery(lake, source, folder) as files:
                packer.pack(files, progress)
        except UploadError as error:
            before = lake.read_json(pointer)
            if error.code == "upload_superseded" and before and not before.get("refused"):
                return before
            refused = {
                "code": error.code, "what": error.what, "where": error.where, "todo": error.todo
            }  # fmt: skip
            packer.images.close()  # or it would write on into the file of its successor
            packer = Packer(spec, folder, fetch=fetch)
        return publish_receipt(lake, spec, source, packer, refused=refused, run_id=run_id)


def _fetching(lake: Lake, spec: DatasetSpec, upload: str) -> Fetching | None:
    if spec.image_column is None:
        return None
    return Fetching(spec, lake.settings, (lake, upload))


def publish_receipt(
    lake: Lake,
    spec: DatasetSpec,
    source: Source,
    packer: Packer,
    *,
    refused: dict[str, str] | None,
    run_id: str,
) -> dict[str, Any]:
    """Publish what was packed; returns the receipt."""
    return lake.publish(
        of_upload(spec.dataset, source.upload, RAW),
        packer.finish(),
        {
            "dataset": spec.dataset,
            "upload": source.upload,
            "source": source.as_dict(),
            "refused": refused,
            "fingerprint": spec.fingerprint,
            "run_id": run_id,
            **packer.summary(),
        },
    )


class Packer:
    """Sorts the files of one upload into images and tables and writes the Parquet files.

    most_rows: of each table, about so many rows are read, and no more; to try a draft. fetch: gets
    what rows name by address; without it nothing is fetched.
    """

    def __init__(
        self,
        spec: DatasetSpec,
        folder: Path,
        most_rows: int | None = None,
        fetch: Fetching | None = None,
    ) -> None:
        self.spec = spec
        self.folder = folder
        self.most_rows = most_rows
        self.fetch = fetch
        self.wanted = wanted_of(spec)
        self.files: list[dict[str, Any]] = []
        self.archives: list[dict[str, Any]] = []
        self.tables: list[dict[str, Any]] = []
        self.inside: list[dict[str, Any]] = []  # of images inside tables, which are found already
        self.rejects: list[Refusal] = []
        self.waiting_tables: list[tuple[Delivered, Path]] = []
        self.on_disk = 0
        self.row_files: dict[str, Path] = {}
        self.named_by_files: list[tuple[NamedImage, str]] = []
        self.images = ImageFile(folder / "images.parquet")
        # Where rows name the images: they wait here until the tables have been read.
        self.missing: list[Missing] = []
        self.unnamed = ImageFile(folder / "unnamed.parquet") if spec.image_column else None

    def pack(self, files: Iterable[Delivered], progress: Progress) -> None:
        """Take every file: images are normalised side by side, tables are read at the end."""
        self._take_files(files, self._sort, progress)
        for file, path in sorted(self.waiting_tables, key=lambda item: item[0].name):
            self._add_table(file, path)
            progress(f"table {file.name}: read")
        note_copies(self.tables, self.folder)
        self._add_rows_of_files()
        if self.unnamed is not None:
            self._name_images(self.unnamed, progress)
        self.files += self.inside

    def _take_files(self, files: Iterable[Delivered], sort: Sort, progress: Progress) -> None:
        """Sort each file; its image, if it is one, is normalised meanwhile."""
        spoken = time.monotonic()
        with normalising(self.spec) as work:
            for count, file in enumerate(files, 1):
                if (data := sort(file)) is not None:
                    # What is under way holds its bytes; the name waits here without them.
                    about = replace(file, content=b"") if file.sha256 else file
                    for done in work.put(about, data):
                        self._add_image(*done)
                if time.monotonic() - spoken > 5:
                    spoken = time.monotonic()
                    progress(f"{count:,} files received")
            for done in work.rest():
                self._add_image(*done)

    def _sort(self, file: Delivered) -> bytes | None:
        if file.problem is not None:
            kind = "archive" if file.problem in REFUSED_ARCHIVES else "unknown"
            self._quarantine(file, kind, file.problem, file.reason)
        elif file.holds is not None:
            self.archives.append({"file": file.name, "bytes": file.size, "files": file.holds})
        elif reason := clutter(file.name, file.head):
            self._quarantine(file, "system", "system_file", reason)
        elif file.size == 0:
            named_image = file.name.lower().endswith(IMAGE_SUFFIXES)
            code = "image_empty" if named_image else "file_type"
            self._quarantine(file, "unknown", code, "the file has no content")
        elif is_image(file.head):
            if file.size > IN_MEMORY or not isinstance(file.content, bytes):
                reason = f"{file.size:,} bytes are more than {IN_MEMORY:,}"
                self._quarantine(file, "image", "image_too_large", reason)
            elif fault := self._name_fault(file.name):
                self._quarantine(file, "image", *fault)
            else:
                return file.content
        else:
            head, path = file.head, self._on_disk(file)
            if may_be_table(path, head, file.name):
                kept = Delivered(file.name, file.size, file.sha256, path)
                self.waiting_tables.append((kept, path))
                return None
            path.unlink()
            if file.name.lower().endswith(IMAGE_SUFFIXES):
                self._quarantine(file, "image", "image_unreadable", no_image(head))
            else:
                self._quarantine(file, "unknown", "file_type", neither(head))
        return None

    def _sort_fetched(self, file: Delivered) -> bytes | None:
        """What is at an address is an image or nothing."""
        if file.problem is not None:
            self._quarantine(file, "image", file.problem, file.reason)
        elif not is_image(file.head):
            known = what_it_is(file.head)
            reason = "what is at this address is no image" if file.size else "nothing is there"
            reason = f"{reason}: {known}" if known else reason
            self._quarantine(file, "image", "image_unreadable", reason)
        elif isinstance(file.content, bytes):
            return file.content
        return None

    def _on_disk(self, file: Delivered) -> Path:
        """A file of the folder that is ours, with the content."""
        self.on_disk += 1
        path = self.folder / f"table-{self.on_disk:06d}"
        if isinstance(file.content, Path):
            if file.keep:
                path.symlink_to(file.content.absolute())
                return path
            return file.content.rename(path)
        path.write_bytes(file.content)
        return path

    def _name_fault(self, file: str) -> tuple[str, str] | None:
        """Why no record can have the ID in this image's name, or None."""
        if not self.spec.has_images:
            return "image_unexpected", "this dataset has no images (image_name: null)"
        if self.spec.image_column is not None:  # its name says no ID
            return None
        named = self.spec.named_image(file, "content")
        if named is None:
            return "image_name", f"the name does not fit image_name: {self.spec.image_name}"
        fault = fault_of(named.record_id)
        if fault is None or fault[0] == "id_too_long":
            return fault
        return "image_name", f"no record can have the ID in this name: {fault[1]}"

    def _add_image(self, file: Delivered, image: NormalisedImage | ImageRefused) -> None:
        named = self.spec.named_image(file.name, file.sha256 or _sha256(file.content))
        assert named is not None or self.unnamed is not None  # noqa: S101  _sort has seen to it
        record_id = named.record_id if named else None
        if isinstance(image, ImageRefused):
            self._quarantine(file, "image", image.code, image.reason, record_id)
            return
        if self.unnamed is not None:
            self.unnamed.add(file, named or NamedImage("", 0, None), image)
            self._note(file, "image", width=image.width, height=image.height)
            return
        assert named is not None  # noqa: S101
        self.images.add(file, named, image)
        if self.spec.records == "images":
            self.named_by_files.append((named, file.name))
        size = {"width": image.width, "height": image.height, "frames": image.frames}
        self._note(file, "image", record_id=named.record_id, **size)

    def _add_table(self, file: Delivered, path: Path, sheet: str | None = None) -> None:
        """sheet: of a workbook that holds several tables, this one; else what is found first."""
        name = f"rows-{len(self.tables):04d}.parquet"
        wanted = replace(self.wanted, sheet=sheet)
        more: list[str] = []
        try:
            table = open_table(path, file=file.name, wanted=wanted, scratch=self.folder)
            more = table.facts.pop("more_sheets", [])
            brings = self._judge_columns(table)
            check_chosen(table, self.spec.image_column)
            with ImagesInside(self.spec, table, self.folder / f"{name}.images") as inside:
                write_rows(table, self.folder / name, self.spec, inside, self.most_rows)
        except TableRefused as error:
            if file.name.lower().endswith(IMAGE_SUFFIXES):  # a web page saved as an image
                self._quarantine(file, "image", "image_unreadable", no_image(file.head))
                return
            where = f" (line {error.line})" if error.line else ""
            self._quarantine(file, "table", error.code, error.reason + where)
            self._add_sheets(file, path, more)
            return
        if inside.file is not None:
            self.images.take(inside.file.path)
        self.inside += inside.notes
        self.rejects += table.rejects
        self.row_files[name] = self.folder / name
        self.tables.append(
            {
                "file": file.name,
                "rows_file": name,
                "columns": table.header,
                "labels_only": brings == "labels",
                **({"images_only": True} if brings == "images" else {}),
                "rows": table.n_rows,
                "rejected": len(table.rejects),
                "blank_rows": table.n_blank,
                "typed": table.typed,
                "read_as": table.facts,
            }
        )
        self._note(file, "table")
        self._add_sheets(file, path, more)

    def _add_sheets(self, file: Delivered, path: Path, sheets: Iterable[str]) -> None:
        """Take what else a workbook holds of tables, each under a name of its own."""
        for sheet in sheets:
            self._add_table(replace(file, name=f"{file.name}, sheet {sheet}"), path, sheet)

    def _add_rows_of_files(self) -> None:
        """Where each image is a record: its row, as if a table had brought ID and label.

        Of several images of one record with one label, the best one's file stands in the row.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self.named_by_files:
            return
        files: dict[tuple[str, str], str] = {}
        for named, file in sorted(self.named_by_files, key=lambda one: (one[0].number, one[1])):
            files.setdefault((named.record_id, named.label or ""), file)
        name = f"rows-{len(self.tables):04d}.parquet"
        ids, labels = zip(*files, strict=True)
        rows = pa.table({"_file": list(files.values()), "_line": pa.nulls(len(files), pa.int64()),
                         "c0": list(ids), "c1": list(labels)})  # fmt: skip
        pq.write_table(rows, self.folder / name, compression="zstd", compression_level=1)
        self.row_files[name] = self.folder / name
        self.tables.append(
            {
                "file": "the images' names",
                "rows_file": name,
                "columns": [self.spec.id_column, self.spec.label_column],
                "labels_only": False,
                "rows": len(files),
                "rejected": 0,
                "blank_rows": 0,
                "typed": False,
                "read_as": {"format": "names"},
            }
        )

    def _judge_columns(self, table: Table) -> str:
        """What the table brings: rows, or only labels, or only which image is whose.

        Raises TableRefused when columns are missing.
        """
        missing = [name for name in self.spec.columns if name not in table.header]
        split = [name for name in self.spec.split_columns.values() if name not in table.header]
        has_label = self.spec.label_column in table.header
        has_nothing = len(missing) == len(self.spec.columns)
        if has_label and has_nothing and (missing or split):
            return "labels"
        if has_nothing and missing and self.spec.image_column in table.header:
            return "images"
        if has_label:  # rows to learn from say how they are split; others need not
            missing += [name for name in split if name not in missing]
        if not missing:
            return "rows"
        raise without_columns(table.header, missing)

    def _name_images(self, unnamed: ImageFile, progress: Progress) -> None:
        """Give each image that waits, or lies at an address, the records whose rows name it."""
        notes = {note["file"]: note for note in self.files if note["kind"] == "image"}
        judge = refusing(self.spec, self.fetch)
        named = read_references(
            self.spec, self.tables, self.row_files, notes, lambda one: judge(one) is None
        )
        if named.addresses:
            notes |= self._fetch_images(named, progress)
        unnamed.close()
        self.rejects += named.refused
        for name, refused in named.lines_refused.items():
            without_lines(self.row_files[name], refused)
        for entry in self.tables:
            entry["rejected"] += len(named.lines_refused.get(entry["rows_file"], ()))
            if missed := named.not_found.get(entry["rows_file"]):
                entry["read_as"] = {**entry["read_as"], "images_not_found": missed}
            if number := named.as_text.get(entry["rows_file"]):
                entry["read_as"] = {**entry["read_as"], "images_as_text": number}
        for file, note in notes.items():
            owners = named.owners.get(file) or self._owner_by_name(note)
            if owners:
                named.owners[file] = owners
                note["record_id"] = owners[0][0]
            elif not note.get("code"):  # it waits for a row of another upload
                named.owners[file] = [(file_id(file), 0)]
        self.missing = named.missing
        self.images.take(unnamed.path, named.owners)

    def _fetch_images(self, named: References, progress: Progress) -> dict[str, dict[str, Any]]:
        """Take what lies at the addresses that rows name; returns the notes of it."""
        before = len(self.files)
        wanted = [one for some in named.addresses.values() for one in some]
        if self.fetch is not None:
            self._take_files(
                self.fetch.take(wanted, self.folder, progress), self._sort_fetched, progress
            )
        else:
            self._take_files(not_fetched(self.spec, wanted), self._sort_fetched, progress)
        notes = {note["file"]: note for note in self.files[before:]}
        for entry in self.tables:
            if own := named.addresses.get(entry["rows_file"]):
                bad = sum(bool(notes[one].get("code")) for one in own if one in notes)
                came = len(own) - bad if self.fetch is not None else None
                said = {"addresses": len(own), "refused": bad, "fetched": came}
                entry["read_as"] = {**entry["read_as"], "images_at": said}
        return notes

    def _owner_by_name(self, note: dict[str, Any]) -> list[tuple[str, int]]:
        """Where the YAML has an `image_name` as well: whose an image is that no row names."""
        named = self.spec.named_image(note["file"], note["sha256"] or "")
        if named is None or fault_of(named.record_id) is not None:
            return []
        return [(named.record_id, named.number)]

    def _quarantine(
        self, file: Delivered, kind: str, code: str, reason: str, record_id: str | None = None
    ) -> None:
        self._note(file, kind, code=code, reason=reason, record_id=record_id)

    def _note(self, file: Delivered, kind: str, **more: Any) -> None:
        note = {"file": file.name, "kind": kind, "bytes": file.size, "sha256": file.sha256}
        self.files.append({**note, **more})

    def finish(self) -> dict[str, Path]:
        """Close and write everything; returns name to local file."""
        import pyarrow.parquet as pq

        self.images.close()
        files, rejects = self.folder / "files.parquet", self.folder / "rejects.parquet"
        # By name: when an image was ready depends on the number of cores.
        by_name = sorted(self.files, key=lambda file: file["file"])
        pq.write_table(files_table(by_name), files, compression="zstd")
        pq.write_table(refusals_table(self.rejects), rejects, compression="zstd")
        found = {
            "files.parquet": files,
            "images.parquet": self.images.path,
            "rejects.parquet": rejects,
            **self.row_files,
        }
        if self.missing:
            found[MISSING_IMAGES] = self.folder / MISSING_IMAGES
            write_missing(self.missing, found[MISSING_IMAGES])
        return found

    def summary(self) -> dict[str, Any]:
        refused: dict[str, int] = {}
        for file in self.files:
            if code := file.get("code"):
                refused[code] = refused.get(code, 0) + 1
        good = [file for file in self.files if not file.get("code")]
        return {
            "archives": self.archives,
            "tables": self.tables,
            "counts": {
                "files": len(self.files),
                "images": sum(file["kind"] == "image" for file in good),
                "tables": sum(file["kind"] == "table" for file in good),
                "quarantined": len(self.files) - len(good),
                "rows": sum(table["rows"] for table in self.tables),
                "rejected": len(self.rejects),
            },
            "quarantined_by_code": refused,
        }


def wanted_of(spec: DatasetSpec) -> Wanted:
    """What the dataset's YAML looks for in a table."""
    named = [spec.image_column] if spec.image_column is not None else []
    columns = dict.fromkeys(
        (*spec.columns, spec.label_column, *spec.split_columns.values(), *named)
    )
    return Wanted(
        spec.id_column, tuple(columns), spec.encoding,
        images=spec.has_images, image_column=spec.image_column, all_images=spec.all_images,
    )  # fmt: skip


def _sha256(content: bytes | Path | None) -> str:
    """Of an image that was not sent yet; those that were have their checksum."""
    return hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else ""
