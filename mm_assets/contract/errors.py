"""One family of errors: code, what was wrong, where, what to do.

`MMError` and its children stop a piece of work. A `Refusal` does not: it records one refused row
(a reject) or one refused file (a quarantine) while its good neighbours go on.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mm_assets.contract.visible import visible

NEW_LINE = "\n"  # some say several things, a line each


class MMError(Exception):
    """An error that a person can act on. `str()` gives all four parts in one readable text."""

    def __init__(self, *, code: str, what: str, where: str = "", todo: str = "") -> None:
        self.code = code
        self.what = what
        self.where = where
        self.todo = todo
        super().__init__(code, what, where, todo)

    def __str__(self) -> str:
        where = f" ({visible(self.where)})" if self.where else ""
        todo = f"\n  What to do: {visible(self.todo)}" if self.todo else ""
        return f"[{self.code}] {visible(self.what, keep=NEW_LINE)}{where}{todo}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.code, self.what, self.where, self.todo))


def _rebuild(kind: type[MMError], code: str, what: str, where: str, todo: str) -> MMError:
    return kind(code=code, what=what, where=where, todo=todo)


class SettingsError(MMError):
    """The environment (MM_LAKE, MM_TABLE, AWS_*) does not describe something usable."""


class SpecError(MMError):
    """A dataset's YAML is wrong."""


class UsageError(MMError):
    """The arguments of a command or a call do not fit together."""


class LakeError(MMError):
    """The lake cannot be reached, read or written."""


class UploadError(MMError):
    """A whole upload is refused."""


class StoreError(MMError):
    """The predictions table or its index cannot be read or written."""


class ModelError(MMError):
    """A model cannot be trained, verified, loaded or asked."""


class ComputeError(MMError):
    """The workers that MM_COMPUTE names cannot be had, or were lost in the middle."""


class ReviewError(MMError):
    """The tool that people review with cannot be reached, or does not do what it is asked."""


# Each code by which a file is refused (quarantine): what a person does about it.
REFUSED_FILES: dict[str, str] = {
    "image_unreadable": "Send the image again; this file is damaged, cut short or no image.",
    "image_empty": "Send the image again; the file has no content.",
    "image_too_large": "Scale the image down below the pixel limit and send it again.",
    "image_type": "Save the image as JPEG, PNG or TIFF and send that; the reason says more.",
    "image_name": "Name the file so that it fits `image_name` in the dataset's YAML.",
    "image_not_named": "Give the image's row an ID.",
    "image_unexpected": "Leave images out, or set `image_name` in the dataset's YAML.",
    "file_type": "Send only tables (CSV, Excel, Parquet, JSON …) and images (JPEG, PNG, HEIC …).",
    "system_file": "Nothing; an operating system or a program made this file for itself.",
    "not_announced": "Name the file in upload.json, or send it in an upload of its own.",
    "checksum_differs": "Send the file again; it is not the one that upload.json announces.",
    "unsafe_name": "Rename the file: no '..', empty parts, backslashes or control characters.",
    "table_encoding": "Save the table as UTF-8, or set `encoding` in the dataset's YAML.",
    "table_header": "Give the table one header row with each column named once.",
    "table_quotes": "Close the quote; write a quote inside a quoted field twice.",
    "table_no_id": "Add the ID column to the table, or fix `id_column` in the YAML.",
    "table_columns": "Add the missing columns, or leave out all but the ID and the label.",
    "table_width": "Check the delimiter; no row fits the header.",
    "table_nul": "Save the table as plain text; it holds NUL bytes.",
    "table_compressed": "Compress the table again, once, and send it whole; or send it unpacked.",
    "table_row_too_long": "Start each row on a new line; a row holds up to 4 million characters.",
    "table_damaged": "Save the file again with the program that made it, without a password.",
    "table_too_large": "Save the table as CSV or Parquet, or in several files.",
    "table_images": "Name the column to use as `image_column` in the dataset's YAML.",
    "table_json": "Write JSON Lines (one object on each line) or one array of objects.",
}
# And each code by which a row is (reject).
REFUSED_ROWS: dict[str, str] = {
    "row_width": "Give the row as many fields as the header, or quote fields with delimiters.",
    "field_too_long": "Shorten the field below 131,072 characters.",
    "id_blank": "Fill in the ID.",
    "id_unsafe": "Use an ID without control characters, and not '.', '..' or a path.",
    "id_too_long": "Use an ID of at most 1,024 bytes, in the row and in the image's name.",
    "id_number_lost": "Write IDs as text (in a spreadsheet: format the column as text first).",
    "id_is_date": "Format the column of the IDs as text, and type the ID in again.",
    "value_nested": "Write one plain value; the field holds a list, an object or bytes.",
    "value_nul": "Leave the NUL character out of the field.",
    "row_json": "Write one JSON object, with each key once, and commas between objects.",
    "image_ambiguous": "Write more of the image's path, so that it can only mean one file, or "
    "send row and image in one upload.",
    "duplicate_row": "Nothing; the same row stands in this upload already.",
    "duplicate_id": "Keep one row for each ID; the first one in the upload was used.",
    "label_conflict": "Keep one label for each ID; the one in the row with features was used.",
    "number_invalid": "Write a finite number without unit, currency or percent sign.",
    "number_ambiguous": "Set `decimal` in the dataset's YAML to '.' or ','.",
    "value_missing": "Fill in the value; the YAML says that this column is required.",
    "prediction_failed": "Look at the reason; the record is asked again with the next champion.",
    "label_invalid": "Use one of the classes (or a number, for regression) or leave it blank.",
}
# And each code by which an archive is: all of an upload, or one file in it.
REFUSED_ARCHIVES: dict[str, str] = {
    "archive_unreadable": "Make the archive again, as one file, and send it whole.",
    "archive_corrupt": "Make the archive again and send it whole.",
    "archive_unsafe_name": "Rename the file: a plain relative path, parts up to 255 bytes, "
    "no '..', no backslashes, no control characters.",
    "archive_special_file": "Put the files themselves into the archive, not links or devices.",
    "archive_encrypted": "Make the archive without a password.",
    "archive_nested": "Unpack the inner archive and send its files directly.",
    "archive_name_collision": "Give the files names that differ in more than case or accents.",
    "archive_overlap": "Make the archive again with an ordinary program.",
    "archive_too_large": "Send several smaller uploads.",
    "archive_bomb": "Send the file outside of an archive, in a folder, if its content is really "
    "meant.",
    "archive_compression": "Make a zip with ordinary compression (deflate), or a .tar.gz.",
}
# And each code by which an address in an `image_column` is; it counts as a file.
REFUSED_ADDRESSES: dict[str, str] = {
    "url_invalid": "Write http:// or https://, a host and a path; no user name or password.",
    "url_not_allowed": "Name the host in `allow_urls` of the dataset's YAML, then `mm retry`; or "
    "send the image.",
    "url_address": "Send the image; or let whoever runs this name the host in MM_PRIVATE_HOSTS.",
    "url_redirect": "Write the address at which the image itself is.",
    "url_failed": "Check the address. `mm retry UPLOAD` asks again.",
    "url_too_large": "Send the image itself, or a smaller one.",
    "url_timeout": "`mm retry UPLOAD` asks again; or send the image.",
    "bucket_not_allowed": "Let whoever runs this name the bucket in MM_ALLOW_BUCKETS, then "
    "`mm retry`; or send the image.",
    "object_missing": "Check the bucket and the key; the key stands as it is, not escaped.",
    "object_too_large": "Send a smaller image.",
    "object_failed": "Look at the reason. `mm retry UPLOAD` asks again.",
}
REFUSALS = {**REFUSED_FILES, **REFUSED_ROWS, **REFUSED_ARCHIVES, **REFUSED_ADDRESSES}


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refused row or file. `line` is the 1-based physical line where the row starts."""

    code: str
    reason: str
    file: str
    line: int | None = None
    record_id: str | None = None

    @property
    def todo(self) -> str:
        return REFUSALS[self.code]

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "todo": self.todo}
