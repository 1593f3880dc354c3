"""What each refusal means and when it comes up: docs/input-contract.md shows it beside its remedy.

The codes and what to do about them are in errors.py; a test holds the
two together. `python -m tests.contract_page` writes the page.
"""

from __future__ import annotations

# Each with examples where they help. Written for Markdown.
CAUSES: dict[str, str] = {
    "image_unreadable": "The image is cut short, damaged, or no image at all although its name "
    "(or the row that names its address) says so; or its decoder breaks down over it, or takes "
    "more than a minute.",
    "image_empty": "The file is named as an image and has no content.",
    "image_too_large": "More pixels than `image_maximum_megapixels` (default 50 megapixels), a "
    "side over 65,535, or a file over 64 MiB, judged from the header before anything is "
    "decoded; or one that takes far more memory to decode than its pixels do.",
    "image_type": "A camera raw, DICOM, SVG, Photoshop, JPEG 2000, JPEG XL, icon … by its bytes. "
    "The name's ending does not matter.",
    "image_name": "The name does not fit `image_name`, or no record can have the ID in it (blank, "
    "or with control characters).",
    "image_not_named": "An image inside a Parquet or Arrow file whose row has no ID of use.",
    "image_unexpected": "An image was sent to a dataset without images (`image_name: null`).",
    "file_type": "Neither a table nor an image, by its bytes: a PDF, a film, a text document, a "
    "web page that calls itself `.xls`, an empty file.",
    "system_file": "Made by an operating system or a program for itself: `.DS_Store`, `._*`, a "
    "folder's `Icon\\r`, `Thumbs.db`, `desktop.ini`, the locks of office programs (`~$x.xlsx`, "
    "`.~lock.x#`), and all that lies in a hidden folder (`.git`, `.ipynb_checkpoints`, "
    "`.idea`), `__MACOSX` or `@eaDir`.",
    "not_announced": "A folder with `upload.json` holds a file that it does not name.",
    "checksum_differs": "Size or sha256 is not what `upload.json` announces, or the file is gone.",
    "unsafe_name": "A file in a folder is named with `..`, an empty part, a backslash, a control "
    "character or what is not Unicode.",
    "table_encoding": "The bytes are not in the `encoding` of the YAML (the reason names the byte "
    "and the line), the file mixes two encodings, or it can be read in two ways that give other "
    "text (the reason shows both).",
    "table_header": "No header row, a name of the YAML twice (`id,id`), two columns that may be "
    "one of them (`ID`, `Id`), or the names `_file`, `_line`. Or the header is not in the first "
    "line and cannot be told for sure; the reason names the line that looks like it.",
    "table_quotes": "A quote is never closed, or text follows a closing quote. The reason names "
    "the line.",
    "table_no_id": "No column is named as `id_column` says, under any delimiter. The reason lists "
    "the columns that were found.",
    "table_columns": "Some columns of the YAML are missing. A table without any of them, but with "
    "the label, is a table of labels.",
    "table_width": "Not one row has as many fields as the header: another delimiter below than "
    "above, delimiters in fields without quotes, decimal commas between commas, or a column "
    "without its name. Or more than 500,000 rows have not.",
    "table_nul": "A NUL byte: the file is damaged, or no text. The reason names the line.",
    "table_compressed": "A compressed table (gzip, bzip2, xz, Zstandard, told by its bytes) is cut "
    "short, damaged, compressed twice, a tar, or a bomb: more than 2 GiB unpacked, or more than "
    "200 times its size.",
    "table_row_too_long": "A line of more than 4 million characters.",
    "table_damaged": "A workbook, Parquet or Arrow file that its library cannot read: cut short, "
    "damaged, or protected with a password.",
    "table_too_large": "Reading the file takes more than 1.5 GiB of memory or 20 minutes. Of a "
    "workbook all cells are held at once: about 15 million fit. Or more than 500,000 of its rows "
    "cannot be used.",
    "table_images": "Several columns of a Parquet or Arrow file hold images, and the YAML has no "
    "`image_column` that is one of them; the reason names them.",
    "table_json": "The JSON is neither JSON Lines nor one array of objects: one object with a "
    "column under each key (as pandas writes unless it is told `orient='records'`), an array of "
    "arrays, several values.",
    "row_width": "Fewer or more fields than the header.",
    "field_too_long": "A field of more than 131,072 characters.",
    "id_blank": "The ID is empty or only space.",
    "id_unsafe": "The ID holds a control character, `/` or a backslash, or is `.` or `..`: it "
    "would be a path.",
    "id_too_long": "The ID has more than 1,024 bytes in UTF-8. (An image whose name holds such an "
    "ID is quarantined.)",
    "id_number_lost": "The ID is a number of which digits may be lost: in text `1.23457E+11`, as "
    "spreadsheets save a long one; in a workbook more than 15 "
    "digits or not whole; in Parquet or Arrow a float that is not whole or too large to be "
    "exact.",
    "id_is_date": "A spreadsheet made a date, a time or a truth value of the ID. What was typed "
    "cannot be known.",
    "value_nested": "In a column that the YAML names stands a list, an object or bytes that are no "
    "text.",
    "value_nul": "A field of a workbook, Parquet, Arrow or JSON file holds a NUL character.",
    "row_json": "A line of JSON Lines (or an element of the array) is no JSON object, or has a key "
    "twice.",
    "image_ambiguous": "With `image_column`: the cell could mean several files of the upload, or "
    "images that wait in several other uploads; the reason names them.",
    "url_invalid": "With `image_column`: no URL, another scheme, no host, or one with a user name "
    "or password in it.",
    "url_not_allowed": "No entry of `allow_urls` has the host and port; also where a redirect "
    "leads there.",
    "url_address": "The host's name stands for an address of this machine, of an internal network, "
    "or at which a cloud keeps credentials. Every address that a name stands for is judged, and "
    "the connection goes to one of these.",
    "url_redirect": "More than 3 redirects, one to what is no URL, or one from https:// to http://.",
    "url_failed": "The host cannot be looked up or reached, cuts the connection, or answers "
    "something other than 200. What may pass (no answer, 408, 425, 429, 5xx) is tried three "
    "times; a host that fails for 8 addresses in a row is not asked for the others.",
    "url_too_large": "More than 32 MiB.",
    "url_timeout": "Not whole after 30 seconds, redirects included, three times.",
    "bucket_not_allowed": "`MM_ALLOW_BUCKETS` does not name the bucket of the `s3://` address.",
    "object_missing": "There is no such object or bucket, or the address holds no key.",
    "object_too_large": "More than 32 MiB.",
    "object_failed": "The store refuses or does not answer; the reason says it in its words.",
    "duplicate_row": "The same ID with the same values and label stands earlier in this upload.",
    "duplicate_id": "The same ID with other values stands earlier in this upload. Files go by "
    "name, rows by line.",
    "label_conflict": "A table of labels says one label for this ID, and the row with the features "
    "another.",
    "number_invalid": "`5 kg`, `€45`, `12%`, `(1.5)`, `inf`, `1e999`, `0x10`, `1,23.5`.",
    "number_ambiguous": "`1,234` where nothing in the table tells whether it is 1234 or 1.234; "
    "`1.234` beside columns with decimal commas.",
    "value_missing": "A column that the YAML calls `required` has no value, or a row of a table of "
    "labels has no label.",
    "prediction_failed": "The engine fails on this record, and the YAML's "
    "`tolerated_failure_share` lets it wait. The reason holds the engine's words.",
    "label_invalid": "The label is none of `classes`; for a regression, no finite number.",
    "archive_unreadable": "No archive that is read here (RAR, for one), cut short, one part of "
    "several, or a zip with two directories.",
    "archive_corrupt": "A checksum or size is wrong, a local header says other than the directory, "
    "bytes lie behind an entry or behind the end of the archive.",
    "archive_unsafe_name": "`..`, an absolute path, a drive (`C:`), a backslash (but of Windows "
    "in a zip), a NUL or another control character, an empty part, a part over 255 bytes, "
    "over 4,096 in all, no valid UTF-8.",
    "archive_special_file": "A symbolic or hard link, a device, a pipe, a sparse file, a folder "
    "with content.",
    "archive_encrypted": "It needs a password, or an entry does.",
    "archive_nested": "An archive in an archive that itself lies in an archive, by its name or by "
    "its bytes.",
    "archive_name_collision": "The same name twice, names that differ only in case or Unicode "
    "form, or one name for a file and a folder.",
    "archive_overlap": "Two entries share bytes, or an entry lies outside of the file.",
    "archive_too_large": "More than 200,000 entries, an entry over 2 GiB, or more than 200 GiB in "
    "all.",
    "archive_bomb": "An entry over 1 MiB, or all entries together over 64 MiB, that unpack into "
    "more than 200 times their packed size. What is packed together (`.tar.gz`, 7z) is judged from "
    "64 MiB on; archives inside count with the one around them.",
    "archive_compression": "A compression other than stored, deflate, bzip2, LZMA or LZMA2 (PPMd "
    "and BCJ2 in 7z, for two), or a dictionary over 64 MiB.",
}
