"""The input contract: every kind of bad input meets its code, and its good neighbours go on.

A specimen of each code is sent among good files; a code without a specimen fails here.
"""

from __future__ import annotations

import datetime as dt
import gzip
import stat
import struct
import tempfile
import unicodedata
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from mm_assets.contract.errors import REFUSALS, REFUSED_ADDRESSES
from mm_assets.contract.errors import REFUSED_ARCHIVES as REMEDIES
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.reading.table import ROW_LIMIT
from mm_assets.tables.open import open_store
from tests.make import (
    csv_table,
    dataset,
    draw_image,
    drop_folder,
    drop_zip,
    processed,
    received,
    rows_of,
    table,
)

SPEC = dataset(
    columns={"age": {"kind": "number", "required": True}, "colour": "category"},
    image_name="{id}-{n}",
)
HEADER = "id,age,colour,label"
GOOD = {
    "good.csv": table(HEADER, "good1,1,red,", "good2,2,,cat"),
    "good1-1.png": draw_image(1),
    "good2-1.jpg": draw_image(2, "JPEG"),
}

# -- files and rows: each code, among good neighbours ---------------------------------------------


def workbook(*rows: list[Any], parts: int = 0) -> bytes:
    """A sheet of these rows; `parts` is how many empty parts lie beside it."""
    import openpyxl

    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    buffer = BytesIO()
    book.save(buffer)
    with zipfile.ZipFile(buffer, "a") as archive:
        for number in range(parts):
            archive.writestr(f"xl/media/{number}", b"")
    return buffer.getvalue()


def parquet(**columns: list[Any]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


BAD_FILES: dict[str, tuple[str, bytes]] = {
    "image_unreadable": ("cut-1.jpg", draw_image(3, "JPEG")[:-40]),
    "image_empty": ("empty-1.jpg", b""),
    "image_too_large": (
        "bomb-1.png",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">IIBBBBB", 13_000, 13_000, 8, 2, 0, 0, 0)
        + bytes(20),
    ),
    "image_type": ("photo-1.jpg", b"\0\0\0\x18ftypcrx \0\0\0\1crx isom"),
    "image_name": ("cover.png", draw_image(4)),
    "file_type": ("letter.csv", b"%PDF-1.7\n"),
    "system_file": (".DS_Store", b"\0\0\0\1Bud1"),
    "table_encoding": ("cut.csv", f"{HEADER}\nx,1,grün,\ny,1,gr".encode() + b"\xc3"),
    "table_header": ("twice.csv", table("id,age,age,colour,label", "x,1,1,red,")),
    "table_quotes": ("quote.csv", table(HEADER, 'x,1,"red,')),
    "table_no_id": ("spaces.csv", table("id age colour label", "x 1 red ")),
    "table_columns": ("no-age.csv", table("id,colour,label", "x,red,cat")),
    "table_width": ("long.csv", table(HEADER, "x,1,red,,9", "y,1,red,,9")),
    "table_nul": ("nul.csv", table(HEADER, "x,1,re\0d,")),
    "table_row_too_long": ("endless.csv", table(HEADER, "x" * ROW_LIMIT)),
    "table_compressed": ("cut.csv.gz", gzip.compress(table(HEADER, "x,1,red,"))[:-9]),
    "table_damaged": ("cut.parquet", parquet(id=["x"], age=[1.0], colour=["red"])[:-9]),
    "table_too_large": ("parts.xlsx", workbook(HEADER.split(","), parts=10_001)),
    "table_images": (
        "masks.parquet",
        parquet(
            id=["x"], age=[1.0], colour=["red"], photo=[draw_image(5)], mask=[draw_image(6)]
        ),
    ),
    "table_json": ("columns.json", b'{"id": {"0": "x"}, "age": {"0": 1}, "colour": {"0": "red"}}'),
}  # fmt: skip
ONLY_IN_FOLDERS = {"unsafe_name", "not_announced", "checksum_differs"}

BAD_ROWS: dict[str, list[str]] = {
    "row_width": ["short", "1"],
    "field_too_long": ["long", "1", "x" * 131_073, ""],
    "id_blank": [" ", "1", "", ""],
    "id_unsafe": ["../x", "1", "", ""],
    "id_too_long": ["x" * 1025, "1", "", ""],
    "duplicate_row": ["good1", "1.0", " red ", ""],
    "duplicate_id": ["good1", "9", "red", ""],
    "number_invalid": ["unit", "5 kg", "", ""],
    "value_missing": ["missing", "", "red", ""],
    "label_invalid": ["cow", "1", "", "cow"],
}
# Rows that only another format, or a table of its own, can hold; each is the table's last.
BAD_TABLES: dict[str, tuple[str, bytes]] = {
    "number_ambiguous": ("open.csv", table(HEADER, 'open,"1,234",,')),
    "id_number_lost": ("float.parquet", parquet(id=[1.5], age=[1.0], colour=["red"])),
    "id_is_date": (
        "date.xlsx", workbook(["id", "age", "colour"], [dt.date(2026, 3, 1), 1, "red"])
    ),
    "value_nested": ("list.jsonl", b'{"id": "list", "age": 1, "colour": ["red"]}\n'),
    "value_nul": ("nul.jsonl", b'{"id": "nul", "age": 1, "colour": "re\\u0000d"}\n'),
    "row_json": (
        "comma.json",
        b'[{"id": "good1", "age": 1, "colour": "red"},\n{"id": "comma", "age": 1 "colour": "red"}]',
    ),
}  # fmt: skip


def test_every_code_of_a_refusal_has_a_specimen() -> None:
    here = {*BAD_FILES, *ONLY_IN_FOLDERS, *BAD_ROWS, *BAD_TABLES, "label_conflict"}
    # tests/training/test_training.py, tests/predictions/test_failures.py and
    # tests/manifest/test_images_by_column.py have the others.
    elsewhere = {
        "image_unexpected", "prediction_failed", "image_not_named", "image_ambiguous",
    }  # fmt: skip
    # Addresses: tests/manifest/test_images_by_address.py and tests/reading/.
    assert here | elsewhere | REMEDIES.keys() | REFUSED_ADDRESSES.keys() == REFUSALS.keys()
    assert all(todo.endswith(".") for todo in [*REFUSALS.values(), *REMEDIES.values()])


def check_good_records(lake: Lake, store: Any, document: dict[str, Any]) -> None:
    """The good neighbours are there, whole, each with its image."""
    rows = {row["record_id"]: row for row in rows_of(lake, document, "manifest.parquet")}
    assert rows.keys() == {"good1", "good2"}
    assert rows["good1"]["features"] == {"age": 1.0, "colour": "red"}
    assert rows["good2"]["features"] == {"age": 2.0, "colour": None}
    assert [rows[f"good{n}"]["image_file"] for n in (1, 2)] == ["good1-1.png", "good2-1.jpg"]
    assert [rows[f"good{n}"]["label"] for n in (1, 2)] == [None, "cat"]
    counts = document["counts"]
    assert counts["rows"] == counts["records"] + counts["labels_joined"] + counts["rejected"]


@pytest.mark.parametrize("drop", [drop_zip, drop_folder])
def test_each_bad_file_is_quarantined_with_its_code_and_the_others_are_taken(
    folder_settings: Settings, drop: Any
) -> None:
    lake, store = Lake(folder_settings), open_store(folder_settings)
    drop(lake, "u.zip", {**dict(BAD_FILES.values()), **GOOD})
    document = processed(lake, store, SPEC, "u.zip")
    receipt = received(lake, SPEC, "u.zip")
    files = {file["file"]: file for file in rows_of(lake, receipt, "files.parquet")}
    assert {files[name]["code"] for name in GOOD} == {None}
    assert {code: files[name]["code"] for code, (name, _) in BAD_FILES.items()} == {
        code: code for code in BAD_FILES
    }
    assert all(files[name]["reason"] for name, _ in BAD_FILES.values())
    check_good_records(lake, store, document)


def test_each_bad_row_is_rejected_with_its_code_and_its_line_and_the_others_are_taken(
    folder_settings: Settings,
) -> None:
    lake, store = Lake(folder_settings), open_store(folder_settings)
    bad = csv_table(HEADER.split(","), BAD_ROWS.values())
    conflict = table("id,label", "good2,dog")
    drop_zip(lake, "u.zip", {**GOOD, "later.csv": bad, "labels.csv": conflict})
    document = processed(lake, store, SPEC, "u.zip")
    rejects = rows_of(lake, document, "rejects.parquet")
    assert {(r["file"], r["line"], r["code"]) for r in rejects} == {
        ("labels.csv", 2, "label_conflict"),
        *(("later.csv", line, code) for line, code in enumerate(BAD_ROWS, 2)),
    }
    for reject in rejects:
        assert reject["reason"]
        assert reject["todo"] == REFUSALS[reject["code"]]
    check_good_records(lake, store, document)


def test_each_bad_row_of_other_formats_is_rejected_with_its_code_too(
    folder_settings: Settings,
) -> None:
    lake, store = Lake(folder_settings), open_store(folder_settings)
    drop_zip(lake, "u.zip", {**{f"z/{n}": data for n, data in BAD_TABLES.values()}, **GOOD})
    document = processed(lake, store, SPEC, "u.zip")
    rejects = rows_of(lake, document, "rejects.parquet")
    assert {(r["file"], r["code"]) for r in rejects} == {
        *((f"z/{name}", code) for code, (name, _) in BAD_TABLES.items()),
        ("z/comma.json", "duplicate_row"),  # the good record once more
    }
    assert all(reject["reason"] and reject["line"] for reject in rejects)
    assert all(reject["todo"] == REFUSALS[reject["code"]] for reject in rejects)
    check_good_records(lake, store, document)


def test_files_that_only_a_folder_can_hold_are_quarantined_alone(folder_settings: Settings) -> None:
    lake, store = Lake(folder_settings), open_store(folder_settings)
    changed = {"changed-1.png": draw_image(5)}
    drop_folder(lake, "u", {**GOOD, **changed})
    inbox = folder_settings.lake_folder / "inbox" / "pets" / "u"
    (inbox / "changed-1.png").write_bytes(draw_image(5)[:-1] + b"?")
    (inbox / "new-1.png").write_bytes(draw_image(6))
    (inbox / "tab\t-1.png").write_bytes(draw_image(7))
    document = processed(lake, store, SPEC, "u")
    files = rows_of(lake, received(lake, SPEC, "u"), "files.parquet")
    assert {file["file"]: file["code"] for file in files if file["code"]} == {
        "changed-1.png": "checksum_differs",
        "new-1.png": "not_announced",
        "tab\t-1.png": "unsafe_name",
    }
    check_good_records(lake, store, document)


# -- archives: each code, the whole upload, nothing left behind -----------------------------------


def zipped(*more: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    """A zip of the good files and more."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in [*GOOD.items(), *more]:
            archive.writestr(name, data)
    return buffer.getvalue()


def patched(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


def link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("link.csv")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info


WHOLE = zipped()
LAST = WHOLE.rindex(b"PK\1\2")  # the last entry's line in the directory
END = WHOLE.rindex(b"PK\5\6")
BAD_ARCHIVES: dict[str, bytes] = {
    "archive_unreadable": WHOLE[:-30],
    "archive_corrupt": patched(WHOLE, 60, bytes([WHOLE[60] ^ 1])),
    "archive_unsafe_name": zipped(("../evil.csv", b"id\n")),
    "archive_special_file": zipped((link(), b"/etc/passwd")),
    "archive_encrypted": patched(WHOLE, LAST + 8, bytes([WHOLE[LAST + 8] | 1])),
    "archive_name_collision": zipped(("GOOD.csv", b"id\n")),
    "archive_overlap": patched(WHOLE, LAST + 42, struct.pack("<I", 10)),
    "archive_too_large": patched(WHOLE, LAST + 24, struct.pack("<I", 0xF000_0000)),
    "archive_bomb": zipped(("zeros.csv", bytes(8 << 20))),
    "archive_compression": patched(WHOLE, LAST + 10, struct.pack("<H", 97)),
}


IN_ARCHIVES = {**BAD_ARCHIVES, "archive_nested": zipped(("photo.jpg", WHOLE))}


def test_every_code_of_an_archive_has_a_specimen() -> None:
    assert IN_ARCHIVES.keys() == REMEDIES.keys()


@pytest.mark.parametrize("drop", [drop_zip, drop_folder])
def test_a_hostile_archive_among_the_files_is_one_refused_file(
    folder_settings: Settings, drop: Any
) -> None:
    lake, store = Lake(folder_settings), open_store(folder_settings)
    deeper = {"archive_nested": zipped_alone("b.zip", zipped_alone("photo.jpg", WHOLE))}
    bad = IN_ARCHIVES if drop is drop_zip else IN_ARCHIVES | deeper
    drop(lake, "u.zip", {**{f"{code}.bin": data for code, data in bad.items()}, **GOOD})
    document = processed(lake, store, SPEC, "u.zip")
    receipt = received(lake, SPEC, "u.zip")
    files = {file["file"]: file for file in rows_of(lake, receipt, "files.parquet")}
    refused = {name: file["code"] for name, file in files.items() if file["code"]}
    last = "archive_nested.bin" + ("" if drop is drop_zip else "/b.zip")
    expected = {f"{code}.bin": code for code in bad if code != "archive_nested"}
    assert refused == expected | {last: "archive_nested"}
    assert all(files[name]["reason"] for name in refused)
    check_good_records(lake, store, document)


def zipped_alone(name: str, data: bytes) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, data)
    return buffer.getvalue()


def everything_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("code", BAD_ARCHIVES)
def test_a_hostile_archive_is_refused_whole_and_leaves_nothing_behind(
    folder_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    lake, store = Lake(folder_settings), open_store(folder_settings)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    lake.write("inbox/pets/bad.zip", BAD_ARCHIVES[code])
    outside = everything_below(tmp_path)
    document = processed(lake, store, SPEC, "bad.zip")
    receipt = received(lake, SPEC, "bad.zip")
    assert receipt["refused"]["code"] == code
    assert receipt["refused"]["todo"] == REMEDIES[code]
    assert receipt["refused"]["what"]
    assert set(receipt["counts"].values()) | set(document["counts"].values()) == {0}
    for name in ("files.parquet", "images.parquet", "rejects.parquet"):
        assert rows_of(lake, receipt, name) == []
    known = store.look_up("pets", rows_of_ids("good1", "good2"))
    assert all(row["image_upload"] is None and row["unlabelled_upload"] is None
               for row in known.to_pylist())  # fmt: skip
    assert list(temporary.iterdir()) == []
    upload = f"datasets/pets/uploads/{receipt['upload']}/"
    new = {name for name in everything_below(tmp_path) - outside if "/lake/" in name}
    assert new
    note = f"datasets/pets/joined/{receipt['upload']}"  # for monitoring, which takes it away
    assert all(upload in name or note in name for name in new)
    # The next upload is none the worse for it.
    lake.write("inbox/pets/good.zip", WHOLE)
    check_good_records(lake, store, processed(lake, store, SPEC, "good.zip"))


def rows_of_ids(*ids: str) -> Any:
    import pyarrow as pa

    return pa.array(ids, pa.string())


# -- IDs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drop", [drop_zip, drop_folder])
def test_an_image_named_by_macos_meets_its_row(folder_settings: Settings, drop: Any) -> None:
    """macOS hands out file names decomposed (NFD); tables are usually written composed (NFC)."""
    lake, store = Lake(folder_settings), open_store(folder_settings)
    row, name = "Zoë-Ångström", unicodedata.normalize("NFD", "Zoë-Ångström-1.png")
    assert row not in name
    files = {"rows.csv": table(HEADER, f"{row},1,red,"), name: draw_image(1)}
    drop(lake, "u.zip", files)
    document = processed(lake, store, SPEC, "u.zip")
    (record,) = rows_of(lake, document, "manifest.parquet")
    assert record["record_id"] == row
    assert record["image_file"] == name
    assert document["counts"]["images_used"] == 1


def test_a_row_written_decomposed_meets_the_image_of_another_upload(
    folder_settings: Settings,
) -> None:
    lake, store = Lake(folder_settings), open_store(folder_settings)
    row = unicodedata.normalize("NFD", "Zoë")
    drop_zip(lake, "images.zip", {"Zoë-1.png": draw_image(1)})
    drop_zip(lake, "rows.zip", {"rows.csv": table(HEADER, f"{row},1,red,")})
    for name in ("images.zip", "rows.zip"):
        document = processed(lake, store, SPEC, name)
    (record,) = rows_of(lake, document, "manifest.parquet")
    assert (record["record_id"], record["image_file"]) == ("Zoë", "Zoë-1.png")


def test_ids_and_values_that_look_like_something_else_stay_exact_text(
    folder_settings: Settings,
) -> None:
    lake, store = Lake(folder_settings), open_store(folder_settings)
    ids = ["007", "7", "1E5", "NA", "12345678901234567890", "=1+1", "@SUM(A1)", "-1", "+1", " x"]
    rows = [[i, "1", "=cmd|' /C calc'!A0", ""] for i in ids]
    drop_zip(lake, "u.zip", {"t.csv": csv_table(HEADER.split(","), rows)})
    document = processed(lake, store, SPEC, "u.zip")
    records = rows_of(lake, document, "manifest.parquet")
    assert {row["record_id"] for row in records} == set(ids)
    assert {row["features"]["colour"] for row in records} == {"=cmd|' /C calc'!A0"}


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_declared_encoding_and_line_ending_is_read(
    folder_settings: Settings, codec: str, end: str
) -> None:
    lake, store = Lake(folder_settings), open_store(folder_settings)
    declared = {"utf-8-sig": "utf-8"}.get(codec, codec)
    spec = SPEC.model_copy(update={"encoding": declared})
    text = end.join([HEADER, 'ü1,1,"two' + end + 'lines",', "ü2,2,grün,", ""])
    drop_zip(lake, "u.zip", {"t.csv": text.encode(codec)})
    document = processed(lake, store, spec, "u.zip")
    records = rows_of(lake, document, "manifest.parquet")
    assert {row["record_id"]: row["features"]["colour"] for row in records} == {
        "ü1": f"two{end}lines", "ü2": "grün",
    }  # fmt: skip
    assert document["counts"]["rejected"] == 0


def test_an_encoding_that_was_not_declared_is_found_and_a_wrong_one_is_answered(
    folder_settings: Settings,
) -> None:
    lake, store = Lake(folder_settings), open_store(folder_settings)
    codecs = ["latin-1", "cp1252", "utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"]
    tables = {f"{codec}.csv": f"{HEADER}\n{codec},1,grün,\n".encode(codec) for codec in codecs}
    drop_zip(lake, "u.zip", tables)
    document = processed(lake, store, SPEC, "u.zip")
    rows = rows_of(lake, document, "manifest.parquet")
    assert {row["record_id"]: row["features"]["colour"] for row in rows} == dict.fromkeys(
        codecs, "grün"
    )
    strict = SPEC.model_copy(update={"encoding": "utf-8"})
    drop_zip(lake, "v.zip", {**tables, "utf-8-sig.csv": b"\xff"})
    files = rows_of(lake, received(lake, strict, "v.zip"), "files.parquet")
    assert {file["code"] for file in files} == {"table_encoding"}
    assert "`encoding`" in REFUSALS["table_encoding"]
    reasons = {file["file"]: file["reason"] for file in files}
    assert "is not utf-8" in reasons["latin-1.csv"]
    assert all("UTF-16" in reasons[f"{codec}.csv"] for codec in codecs if "16" in codec)
