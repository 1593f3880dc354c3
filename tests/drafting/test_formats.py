"""`mm init` on tables of every format: what is guessed, said, doubted, and tried."""

from __future__ import annotations

import bz2
import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from mm_assets.contract.ends import End
from mm_assets.contract.errors import SpecError
from mm_assets.drafting.draft import draft_spec
from mm_assets.drafting.drafted import Drafted
from mm_assets.drafting.sources import source_of
from mm_assets.drafting.yaml_text import load_draft
from tests.make import draw_image, zipped

N = 60
Rows = list[dict[str, str]]


def patients(n: int = N) -> Rows:
    """Plain records: an ID, a number, a category and a label that follows from none alone."""
    chance = random.Random(1)
    rows = []
    for number in range(n):
        age = round(chance.uniform(20, 80), 1)
        ward = chance.choice(["north", "south", "west"])
        ill = chance.random() < (0.8 if age > 50 else 0.3)
        label = "yes" if ill else "no"
        rows.append({"patient_id": f"P{number:03}", "age": str(age), "ward": ward, "label": label})
    return rows


def text_of(rows: Rows, delimiter: str = ",") -> str:
    lines = [delimiter.join(rows[0]), *(delimiter.join(row.values()) for row in rows)]
    return "\n".join(lines) + "\n"


def drafted(tmp_path: Path, rows: Rows, delimiter: str = ",", images: bool = False) -> Drafted:
    path = tmp_path / "t.csv"
    path.write_text(text_of(rows, delimiter))
    return draft_spec(path, tmp_path if images else None)


def row_about(made: Drafted, column: str) -> dict[str, str]:
    return next(row for row in made.columns if row["column"] == column)


# -- formats --------------------------------------------------------------------------------------


def _workbook(path: Path, rows: Rows) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(list(rows[0]))
    for row in rows:
        sheet.append([row["patient_id"], float(row["age"]), row["ward"], row["label"]])
    book.save(path)


def test_sheets_with_the_same_columns_are_read_as_one_table(tmp_path: Path) -> None:
    rows, path = patients(), tmp_path / "year.xlsx"
    names = list(rows[0])
    book = openpyxl.Workbook()
    book.remove(book.active)  # type: ignore[arg-type]
    for at, columns in enumerate((names, names[::-1], names)):
        sheet = book.create_sheet(f"month {at}")
        sheet.append(columns)
        for row in rows[at::3]:
            sheet.append([row[name] for name in columns])
    book.create_sheet("legend").append(["column", "meaning"])
    book["legend"].append(["age", "in years"])
    book.save(path)
    made = draft_spec(path, None)
    assert "60 rows, 60 different IDs" in made.notes
    assert (
        "the sheets 'month 0', 'month 1', 'month 2' have the same columns and were read as one "
        "table; an upload takes others too, if they hold the ID and a column of the YAML: 'legend'"
    ) in made.notes
    assert made.tried == "tried on the first 60 rows"


def _arrow(rows: Rows) -> pa.Table:
    return pa.Table.from_pylist([{**row, "age": float(row["age"])} for row in rows])


def _json(rows: Rows) -> Rows:
    return [{**row, "age": float(row["age"])} for row in rows]  # type: ignore[dict-item]


FORMATS: dict[str, Callable[[Path, Rows], object]] = {
    "t.csv": lambda path, rows: path.write_text(text_of(rows)),
    "t.tsv": lambda path, rows: path.write_text(text_of(rows, "\t")),
    "utf16.txt": lambda path, rows: path.write_bytes(text_of(rows, "\t").encode("utf-16")),
    "t.csv.gz": lambda path, rows: path.write_bytes(gzip.compress(text_of(rows).encode())),
    "t.csv.bz2": lambda path, rows: path.write_bytes(bz2.compress(text_of(rows).encode())),
    "german.csv": lambda path, rows: path.write_text(text_of(rows, ";").replace(".", ",")),
    "t.xlsx": _workbook,
    "t.parquet": lambda path, rows: pyarrow.parquet.write_table(_arrow(rows), path),
    "t.feather": lambda path, rows: pyarrow.feather.write_feather(_arrow(rows), str(path)),
    "t.jsonl": lambda path, rows: path.write_text("\n".join(map(json.dumps, _json(rows)))),
    "t.json": lambda path, rows: path.write_text(json.dumps(_json(rows))),
}


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_records_give_the_same_draft_in_every_format(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    FORMATS[name](path, patients())
    made = draft_spec(path, None)
    spec = load_draft(made.text)
    assert (spec.id_column, spec.label_column, spec.problem_type) == (
        "patient_id", "label", "binary"
    )  # fmt: skip
    assert spec.kinds == {"age": "number", "ward": "category"}
    assert made.dataset == name.partition(".")[0]
    assert made.ended is not None
    assert made.ended.end is End.USED
    assert made.tried == "tried on the first 60 rows"


def test_a_table_whose_encoding_is_unclear_is_drafted_with_the_one_that_is_named(
    tmp_path: Path,
) -> None:
    rows = patients()
    for row in rows:
        row["ward"] = {"north": "Łódź", "south": "Kraków", "west": "Gdańsk"}[row["ward"]]
    path = tmp_path / "t.csv"
    path.write_bytes(text_of(rows).encode("cp1250"))
    made = draft_spec(path, None, encoding="cp1250")
    assert load_draft(made.text).encoding == "cp1250"
    assert made.ended is not None
    assert made.ended.end is End.USED


# -- ID and label ---------------------------------------------------------------------------------


def test_id_and_label_are_guessed_and_the_table_says_why(tmp_path: Path) -> None:
    made = drafted(tmp_path, patients())
    assert row_about(made, "patient_id")["taken_for"] == "ID"
    assert "no value stands twice" in row_about(made, "patient_id")["because"]
    assert row_about(made, "label")["taken_for"] == "label, binary"


@pytest.mark.parametrize(
    ("change", "said", "command"),
    [
        ({"patient_id": "person"}, "'person' (no value stands twice", "--id person --label label"),
        ({"label": "verdict"}, "'verdict' (2 different values)", "--id patient_id --label"),
        ({"ward": "target"}, "'target' (its name says so), 'label' (its name", "--label target"),
    ],
)
def test_where_there_is_a_doubt_the_candidates_and_the_command_are_told(
    change: dict[str, str], said: str, command: str, tmp_path: Path
) -> None:
    rows = [{change.get(k, k): v for k, v in row.items()} for row in patients()]
    with pytest.raises(SpecError) as caught:
        drafted(tmp_path, rows)
    assert caught.value.code == "init_unclear"
    assert said in caught.value.what
    assert command in caught.value.todo


def test_an_id_that_repeats_or_has_gaps_is_no_guess_and_a_doubt_if_it_is_named(
    tmp_path: Path,
) -> None:
    rows = patients()
    rows[4]["patient_id"], rows[9]["patient_id"] = "P003", ""
    with pytest.raises(SpecError, match="1 rows repeat a value, 1 rows have none") as caught:
        drafted(tmp_path, rows)
    assert caught.value.code == "init_unclear"
    made = draft_spec(tmp_path / "t.csv", None, "patient_id", "label")
    doubt = row_about(made, "patient_id")["doubt"]
    assert doubt.startswith("1 rows have none and will be rejected; 1 rows repeat one")
    assert made.ended is not None
    assert made.ended.end is End.IN_PART
    assert {one.code for one in made.ended.left_out} == {"id_blank", "duplicate_id"}
    assert "t.csv:11" in made.ended.words


@pytest.mark.parametrize("column", ["id", "customerId", "Customer ID", "uid", "file_name"])
def test_names_of_ids_are_known_in_many_spellings(column: str, tmp_path: Path) -> None:
    rows = [{column if k == "patient_id" else k: v for k, v in row.items()} for row in patients()]
    assert load_draft(drafted(tmp_path, rows).text).id_column == column


def test_labels_in_several_spellings_become_one_class_each_and_are_all_used(
    tmp_path: Path,
) -> None:
    rows = patients()
    for number, row in enumerate(rows):
        row["label"] = [str.upper, str.title, lambda s: f" {s} "][number % 3](row["label"])
    made = drafted(tmp_path, rows)
    spec = load_draft(made.text)
    assert spec.problem_type == "binary"
    assert spec.classes is not None
    assert {name.casefold() for name in spec.classes} == {"yes", "no"}
    assert "are one class" in row_about(made, "label")["doubt"]
    assert made.ended is not None
    assert made.ended.end is End.USED


def test_a_class_of_one_record_is_doubted(tmp_path: Path) -> None:
    rows = patients()
    rows[7]["label"] = "perhaps"
    assert "only one row: 'perhaps'" in row_about(drafted(tmp_path, rows), "label")["doubt"]


def test_a_word_that_counts_as_no_label_is_doubted(tmp_path: Path) -> None:
    rows = patients()
    for row in rows[::3]:
        row["label"] = "none"
    assert "'none' (20) counts as no label" in row_about(drafted(tmp_path, rows), "label")["doubt"]


def test_a_table_without_rows_is_answered_in_words(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,label\n")
    with pytest.raises(SpecError) as caught:
        draft_spec(tmp_path / "t.csv", None)
    assert caught.value.code == "init_no_rows"


def test_a_zip_is_to_be_unpacked_first(tmp_path: Path) -> None:
    path = tmp_path / "t.zip"
    path.write_bytes(zipped({"t.csv": text_of(patients()).encode()}))
    with pytest.raises(SpecError) as caught:
        draft_spec(path, None)
    assert "Unpack the archive" in caught.value.todo


def test_an_id_that_repeats_only_far_down_is_no_guess(tmp_path: Path) -> None:
    rows = patients(8_000)
    rows[7_900]["patient_id"] = "P003"
    with pytest.raises(SpecError, match="1 rows repeat one") as caught:
        drafted(tmp_path, rows)
    assert "--id patient_id --label label" in caught.value.todo


# -- leaks ----------------------------------------------------------------------------------------


def test_a_column_that_decides_the_label_alone_is_doubted_and_no_other_is(tmp_path: Path) -> None:
    rows = [{**row, "outcome_code": {"yes": "7", "no": "3"}[row["label"]]} for row in patients()]
    made = drafted(tmp_path, rows)
    assert "it decides the label alone" in row_about(made, "outcome_code")["doubt"]
    assert [d for d in made.doubts if "leak" in d] == [d for d in made.doubts if "outcome_c" in d]
    assert "outcome_code" in load_draft(made.text).columns  # it is a warning
    assert "a leak?" in next(x for x in made.text.splitlines() if "outcome_code:" in x)


def test_a_number_that_follows_from_the_label_is_doubted(tmp_path: Path) -> None:
    chance = random.Random(2)
    prices = [chance.uniform(1, 9) for _ in range(N)]
    rows = [
        {"id": f"P{n}", "gross": f"{1.19 * price + 2:.4f}", "size": f"{chance.uniform(1, 9):.2f}",
         "price": f"{price:.4f}"}
        for n, price in enumerate(prices)
    ]  # fmt: skip
    made = drafted(tmp_path, rows)
    assert load_draft(made.text).problem_type == "regression"
    assert row_about(made, "gross")["doubt"].startswith("it follows from the label")
    assert row_about(made, "size")["doubt"] == ""


# -- numbers --------------------------------------------------------------------------------------


def test_decimal_commas_and_thousands_are_told_and_decide_by_themselves(tmp_path: Path) -> None:
    rows = [
        {**row, "age": row["age"].replace(".", ","), "income": f"1.{n:03},50"}
        for n, row in enumerate(patients())
    ]
    made = drafted(tmp_path, rows, ";")
    spec = load_draft(made.text)
    assert (spec.decimal, spec.kinds["age"], spec.kinds["income"]) == (None, "number", "number")
    assert row_about(made, "age")["because"] == "numbers with decimal commas"
    assert "with decimal commas and with thousands" in row_about(made, "income")["because"]
    assert made.ended is not None
    assert made.ended.end is End.USED


@pytest.mark.parametrize(("delimiter", "sign"), [(";", ","), ("\t", ".")])
def test_numbers_that_can_be_read_in_two_ways_get_a_decimal_sign_in_the_yaml(
    delimiter: str, sign: str, tmp_path: Path
) -> None:
    rows = [{**row, "age": str(n), "mass": f"{n + 1},{n * 7 % 1000:03}"}
            for n, row in enumerate(patients())]  # fmt: skip
    made = drafted(tmp_path, rows, delimiter)
    spec = load_draft(made.text)
    assert (spec.decimal, spec.kinds["mass"]) == (sign, "number")
    assert any("can be read in two ways" in note for note in made.notes)
    assert made.ended is not None
    assert made.ended.end is End.USED


def test_in_a_file_with_types_a_comma_is_text(tmp_path: Path) -> None:
    rows = [{**row, "age": row["age"].replace(".", ",")} for row in patients()]
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    made = draft_spec(path, None)
    assert load_draft(made.text).kinds["age"] != "number"
    assert made.ended is not None
    assert made.ended.end is End.USED


def test_codes_dates_truths_and_gaps_are_what_they_are(tmp_path: Path) -> None:
    rows = [
        {**row, "flag": str(n % 2 == 0), "visit": f"{n % 28 + 1:02}.01.2026", "code": f"{n % 7:03}",
         "sparse": str(n) if n % 3 == 0 else "-", "year": str(2010 + n % 9), "same": "x",
         "link": f"https://example.org/{n}.jpg?w=2", "empty": ""}
        for n, row in enumerate(patients())
    ]  # fmt: skip
    made = drafted(tmp_path, rows)
    kinds = {row["column"]: row["taken_for"] for row in made.columns}
    assert kinds == {
        "patient_id": "ID", "label": "label, binary", "age": "number", "ward": "category",
        "flag": "category", "visit": "left out", "code": "category", "sparse": "number",
        "year": "category", "same": "left out", "link": "left out", "empty": "left out",
    }  # fmt: skip
    assert "'-' is no value" in row_about(made, "sparse")["because"]
    assert load_draft(made.text).missing_values == ("",)
    assert any("nothing is fetched" in note for note in made.notes)
    assert made.ended is not None
    assert made.ended.end is End.USED


@pytest.mark.parametrize(
    ("write", "beside"),
    [
        ("{}%", "%"), ("{} %", "%"), ("€{}.50", "€"), ("{},50 €", "€"), ("$ {}", "$"),
        ("{}kg", "kg"), ("{} mg/dl", "mg/dl"), ("USD {}", "USD"), ("-{} °C", "°C"),
        ("A{}", ""), ("ward {}", ""), ("{}-x-{}", ""), ("{}", ""),
    ],
)  # fmt: skip
def test_numbers_with_a_unit_are_doubted_and_codes_are_not(
    tmp_path: Path, write: str, beside: str
) -> None:
    rows = patients()
    for at, row in enumerate(rows):
        row["dose"] = write.format(at % 45, at % 7)
    doubt = row_about(drafted(tmp_path, rows, ";"), "dose")["doubt"]
    said = f"numbers with '{beside}' beside them are words here"
    assert (said in doubt) if beside else ("numbers with" not in doubt)


def test_blanks_that_do_not_break_are_no_part_of_a_number(tmp_path: Path) -> None:
    rows = patients()
    for row in rows:
        row["age"] = f"\u00a0{row['age']}\u200b"
    assert row_about(drafted(tmp_path, rows), "age")["taken_for"] == "number"


def test_thousands_of_categories_are_doubted(tmp_path: Path) -> None:
    rows = patients(24_000)
    for number, row in enumerate(rows):
        row["street"] = f"s{number % 1200}"
    assert "1,200 categories, 20 rows each" in row_about(drafted(tmp_path, rows), "street")["doubt"]


# -- images ---------------------------------------------------------------------------------------


def _photos(folder: Path, names: list[str]) -> None:
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        (folder / name).write_bytes(draw_image(number, "JPEG"))


def test_an_id_that_is_the_whole_name_of_an_image_finds_it(tmp_path: Path) -> None:
    rows = [{**row, "patient_id": f"IMG_{n}.jpg"} for n, row in enumerate(patients())]
    _photos(tmp_path / "photos", [row["patient_id"] for row in rows[:30]])
    made = drafted(tmp_path, rows, images=True)
    spec = load_draft(made.text)
    assert spec.image_name == "{file}"
    named = spec.named_image("photos/IMG_7.jpg")
    assert named is not None
    assert named.record_id == "IMG_7.jpg"
    assert made.tried == "tried on the first 60 rows and 30 images"
    assert made.ended is not None
    assert made.ended.end is End.USED


def _with_photos(separator: str) -> list[dict[str, Any]]:
    return [{**row, "photo": f"photos/IMG_{n}.jpg" + (f"{separator}photos/IMG_{n + 1}.jpg"
             if separator else "")} for n, row in enumerate(patients())]  # fmt: skip


@pytest.mark.parametrize("separator", ["", ";"])
def test_a_column_that_names_the_images_is_found_by_counting(
    separator: str, tmp_path: Path
) -> None:
    _photos(tmp_path / "photos", [f"IMG_{n}.jpg" for n in range(60)])
    made = drafted(tmp_path, _with_photos(separator), images=True)
    spec = load_draft(made.text)
    assert (spec.image_column, spec.image_separator) == ("photo", separator or None)
    assert (spec.image_name, "photo" in spec.columns) == (None, False)
    assert spec.all_images == bool(separator)
    words = "image_column 'photo': 60 of 60 rows name one of 60 images; by the IDs in the images'"
    assert any(note.startswith(words) for note in made.notes)
    assert made.ended is not None
    assert made.ended.end is End.USED


def test_names_without_ending_and_in_other_case_name_images_too(tmp_path: Path) -> None:
    rows = [{**row, "scan": f"img_{n}"} for n, row in enumerate(patients())]
    _photos(tmp_path / "photos", [f"IMG_{n}.JPG" for n in range(60)])
    assert load_draft(drafted(tmp_path, rows, images=True).text).image_column == "scan"


def test_a_column_of_small_numbers_names_no_images(tmp_path: Path) -> None:
    rows = [{**row, "visits": str(n % 4)} for n, row in enumerate(patients())]
    _photos(tmp_path / "photos", [*(f"{row['patient_id']}.jpg" for row in rows), "1.jpg", "2.jpg"])
    spec = load_draft(drafted(tmp_path, rows, images=True).text)
    assert (spec.image_name, spec.image_column) == ("{id}", None)


@pytest.mark.parametrize("separator", ["", ";"])
def test_a_column_of_images_that_are_not_there_says_what_to_do(
    separator: str, tmp_path: Path
) -> None:
    rows = _with_photos(separator)
    _photos(tmp_path / "photos", [f"other_{n}.jpg" for n in range(5)])
    path = tmp_path / "t.csv"
    path.write_text(text_of(rows))
    made = draft_spec(path, tmp_path, images_asked=False)
    assert load_draft(made.text).image_name is None
    assert row_about(made, "photo")["taken_for"] == "left out"
    note = next(note for note in made.notes if "column 'photo'" in note)
    assert "give the folder that holds them (--images DIR)" in note
    assert ("cell.split(';')" in note) == bool(separator)
    with pytest.raises(SpecError, match="give the folder that holds them") as caught:
        draft_spec(path, tmp_path)
    assert caught.value.code == "init_no_match"


def test_a_damaged_image_shows_when_the_draft_is_tried(tmp_path: Path) -> None:
    rows = patients()
    _photos(tmp_path / "photos", [f"{row['patient_id']}.jpg" for row in rows])
    (tmp_path / "photos" / "P007.jpg").write_bytes(draw_image(1, "JPEG")[:200])
    made = drafted(tmp_path, rows, images=True)
    assert made.ended is not None
    assert made.ended.end is End.IN_PART
    assert "1 of 61 files left out: image_unreadable 1 (photos/P007.jpg)" in made.ended.words


# -- what a path stands for -----------------------------------------------------------------------


def test_a_folder_with_one_table_and_images_is_both(tmp_path: Path) -> None:
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(text_of(patients()).encode()))
    (tmp_path / "notes.txt").write_text("taken on a rainy day\n")
    assert source_of(tmp_path) == (tmp_path / "t.csv.gz", None)
    _photos(tmp_path / "photos", ["P001.jpg"])
    assert source_of(tmp_path) == (tmp_path / "t.csv.gz", tmp_path)


def test_notes_beside_images_are_no_table(tmp_path: Path) -> None:
    _photos(tmp_path / "cats", ["1.jpg"])
    for name in ("README.txt", "settings.json"):
        (tmp_path / name).write_text("{}")
    assert source_of(tmp_path) == (None, tmp_path)


def test_a_folder_with_several_tables_says_which_to_name(tmp_path: Path) -> None:
    for name in ("a.csv", "b.parquet"):
        (tmp_path / name).write_text("x")
    with pytest.raises(SpecError, match=r"a\.csv, b\.parquet") as caught:
        source_of(tmp_path)
    assert caught.value.todo.endswith(f"mm init {tmp_path / 'a.csv'}")
    _photos(tmp_path / "photos", ["P001.jpg"])
    with pytest.raises(SpecError, match=r"a\.csv, b\.parquet") as caught:
        source_of(tmp_path)
    assert f"mm init {tmp_path / 'a.csv'} --images {tmp_path}" in caught.value.todo


def test_images_beside_a_table_are_found_and_hidden_ones_are_not(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("x")
    _photos(tmp_path / ".cache", ["P001.jpg"])
    assert source_of(table) == (table, None)
    _photos(tmp_path / "photos", ["P001.jpg"])
    assert source_of(table) == (table, tmp_path)


def _with_images_inside(path: Path, images: Any, **columns: list[Any]) -> Path:
    labels = ["cat", "dog"] * (len(images) // 2)
    table = pa.table({"image": images, "label": labels, **columns})
    pyarrow.parquet.write_table(table, path)
    return path


def test_images_inside_a_table_are_its_images_and_their_paths_its_ids(tmp_path: Path) -> None:
    images = [{"bytes": draw_image(n), "path": f"{n}.png"} for n in range(60)]
    made = draft_spec(_with_images_inside(tmp_path / "t.parquet", images), None)
    spec = load_draft(made.text)
    assert (spec.id_column, spec.label_column, spec.image_column) == (
        "image.path",
        "label",
        "image",
    )
    assert not spec.columns
    assert made.ended is not None
    assert made.ended.end is End.USED
    assert made.tried == "tried on the first 60 rows and 60 images"
    assert "the images lie in the table, in 'image': 60 of 60 rows" in made.notes


@pytest.mark.parametrize("paths", [["1.png"] * 60, [f"cats/{n}.png" for n in range(60)]])
def test_where_the_paths_are_no_ids_the_bytes_are(tmp_path: Path, paths: list[str]) -> None:
    images = [{"bytes": draw_image(n), "path": path} for n, path in enumerate(paths)]
    made = draft_spec(_with_images_inside(tmp_path / "t.parquet", images), None)
    assert load_draft(made.text).id_column == "image.sha256"
    ids = [f"r{n}" for n in range(60)]
    with_id = _with_images_inside(tmp_path / "i.parquet", images, id=ids)
    assert load_draft(draft_spec(with_id, None).text).id_column == "id"


def test_a_table_of_paths_alone_has_their_files_names_as_ids(tmp_path: Path) -> None:
    """As `to_parquet` of Hugging Face leaves an imagefolder."""
    listed = [{"bytes": None, "path": f"/home/ada/cats/{n}.png"} for n in range(60)]
    images = pa.array(listed, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    weights = [n * 1.5 for n in range(60)]
    made = draft_spec(_with_images_inside(tmp_path / "t.parquet", images, weight=weights), None)
    spec = load_draft(made.text)
    assert (spec.id_column, spec.image_column) == ("image.name", "image")
    assert "the column 'image' holds paths and no image: send the files along" in made.notes


def test_a_column_that_may_be_the_id_is_named_before_the_bytes_that_are_none(
    tmp_path: Path,
) -> None:
    images = [{"bytes": draw_image(n % 59), "path": None} for n in range(60)]
    codes = [f"r{n}" for n in range(60)]
    with pytest.raises(SpecError, match=r"could be 'code' .*'image\.sha256'") as caught:
        draft_spec(_with_images_inside(tmp_path / "t.parquet", images, code=codes), None)
    assert "--id code" in caught.value.todo


def test_two_images_alike_and_no_id_is_asked_about(tmp_path: Path) -> None:
    images = [{"bytes": draw_image(n % 59), "path": None} for n in range(60)]
    with pytest.raises(SpecError, match=r"'image\.sha256' \(1 rows repeat a value\)") as caught:
        draft_spec(_with_images_inside(tmp_path / "t.parquet", images), None)
    assert "--id image.sha256 --label label" in caught.value.todo


def test_of_two_columns_of_images_one_is_taken_and_both_are_told(tmp_path: Path) -> None:
    images = [draw_image(n) for n in range(60)]
    table = _with_images_inside(
        tmp_path / "t.parquet", images, id=[f"r{n}" for n in range(60)], mask=images
    )
    made = draft_spec(table, None)
    assert load_draft(made.text).image_column == "image"
    assert any(note.startswith("columns with images: 'image', 'mask'") for note in made.notes)


# -- whose a record is ----------------------------------------------------------------------------


def test_a_column_of_owners_is_named_as_a_group_and_left_to_the_person(tmp_path: Path) -> None:
    rows = [{**row, "owner_id": f"O{n % 25}"} for n, row in enumerate(patients())]
    made = drafted(tmp_path, rows)
    assert "  # group_column: owner_id\n" in made.text
    assert load_draft(made.text).group_column is None
    assert load_draft(made.text.replace("# group_column", "group_column")).group_column
    (note,) = [note for note in made.notes if "group_column" in note]
    assert note.startswith("column 'owner_id' has 25 values for 60 rows")


@pytest.mark.parametrize("column", ["owner", "town"])
def test_where_nothing_is_shared_or_said_no_group_is_named(column: str, tmp_path: Path) -> None:
    values = range(60) if column == "owner" else [n % 25 for n in range(60)]
    rows = [{**row, column: f"O{n}"} for n, row in zip(values, patients(), strict=True)]
    assert "group_column" not in drafted(tmp_path, rows).text
