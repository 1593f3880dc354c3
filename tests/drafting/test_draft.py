"""`mm init`: the drafted YAML fits the person's data, loads, and says why."""

from __future__ import annotations

import csv
import io
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.errors import MMError, SpecError
from mm_assets.contract.review import Review
from mm_assets.contract.spec_file import load_spec
from mm_assets.drafting.draft import draft_spec
from mm_assets.reading.header import clean

N = 60
Columns = dict[str, list[str]]
Write = Callable[..., tuple[Path, Path]]


def base(n: int = N) -> Columns:
    chance = random.Random(0)
    return {
        "id": [f"P{i:03d}" for i in range(n)],
        "label": [chance.choice(["yes", "no"]) for _ in range(n)],
    }


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a table and empty images with the given names; returns both paths."""

    def write(
        columns: Columns, names: list[str] | None = None, *, encoding: str = "utf-8",
        delimiter: str = ",",
    ) -> tuple[Path, Path]:  # fmt: skip
        text = io.StringIO(newline="")
        writer = csv.writer(text, delimiter=delimiter)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
        table, images = tmp_path / "My Table.csv", tmp_path / "images"
        table.write_bytes(text.getvalue().encode(encoding))
        (images / "more").mkdir(parents=True)
        if names is None:
            names = [f"{i}.jpg" for i in columns["id"]]
        for name in names:
            (images / "more" / name).write_bytes(b"")
        return table, images

    return write


def loaded(text: str) -> DatasetSpec:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "defs.yaml")
        path.write_text(text, encoding="utf-8")
        return load_spec(path)


def drafted(write: Write, **columns: list[str]) -> tuple[DatasetSpec, str]:
    table, images = write({**base(), **columns})
    text = draft_spec(table, images, "id", "label").text
    return loaded(text), text


def line_about(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if line.strip(" #").startswith(f"{name}:"))


# -- columns --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("number", [str(i * 1.5) for i in range(N)]),
        ("number", [str(i % 40) for i in range(N)]),
        ("number", ["0.5", "1.5"] * (N // 2)),
        ("number", [str(i) for i in range(N - 1)] + ["1,5"]),
        ("category", ["a", "b", "c"] * (N // 3)),
        ("category", [str(2001 + i % 15) for i in range(N)]),
        ("category", [str(1 + i % 5) for i in range(N)]),
        ("category", [f"{i % 30:05d}" for i in range(N)]),
        ("text", [f"a friendly animal from house {i}" for i in range(N)]),
        ("text", [f"Rex {i}" for i in range(N - 1)] + ["Rex 0"]),
        (None, [f"key-{i}" for i in range(N)]),
        (None, [str(1000 + i) for i in range(N)]),
        (None, [f"photos/{i}.JPG" for i in range(N)]),
        (None, [f"2026-01-{i % 28 + 1:02d}" for i in range(N)]),
        (None, ["same"] * N),
        (None, ["NA"] * N),
    ],
)
def test_a_column_gets_the_kind_that_its_values_have(
    kind: str | None, values: list[str], write: Write
) -> None:
    spec, text = drafted(write, thing=values)
    assert spec.kinds.get("thing") == kind
    if kind is None:
        assert "left out;" in line_about(text, "thing")


def test_small_codes_and_years_say_that_they_may_be_quantities(write: Write) -> None:
    _, text = drafted(
        write, legs=[str(i % 5) for i in range(N)], year=[str(2015 + i % 9) for i in range(N)]
    )
    assert "write number" in line_about(text, "legs")
    assert "years" in line_about(text, "year")


def test_values_that_are_no_numbers_are_named_in_the_comment(write: Write) -> None:
    spec, text = drafted(write, age=[str(i % 40) for i in range(N - 1)] + ["5 kg"])
    assert spec.kinds == {"age": "number"}
    assert "'5 kg'; rows with them will be rejected" in line_about(text, "age")


def test_a_column_with_more_of_them_is_no_number_so_that_no_row_is_lost(write: Write) -> None:
    values = [str(i % 40) for i in range(N - 3)] + ["5 kg", "7 kg", "9 lb"]
    table, images = write({**base(), "weight": values})
    made = draft_spec(table, images, "id", "label")
    assert loaded(made.text).kinds == {"weight": "category"}
    assert "3 of 60 values are no numbers, such as '5 kg', '7 kg'" in made.doubts[0]
    assert made.ended is not None
    assert not [one for one in made.ended.left_out if one.what == "row"]


def test_missing_values_are_found_and_do_not_change_a_columns_kind(write: Write) -> None:
    ages = [str(i * 1.1) for i in range(N)]
    ages[:4] = ["", "NA", "?", " null "]
    coats = ["short", "long", "NA", "n/a", "-", "?"] * (N // 6)
    spec, _ = drafted(write, age=ages, coat=coats)
    assert spec.kinds == {"age": "number", "coat": "category"}
    assert set(spec.missing_values) == {"", "NA", "n/a", "-", "?"}


def test_what_stands_for_a_missing_number_need_not_be_named(write: Write) -> None:
    spec, _ = drafted(write, age=["", "NA", "?", "-", *(str(i * 1.1) for i in range(N - 4))])
    assert spec.missing_values == ("",)


def test_a_word_in_a_column_of_numbers_is_no_value_unless_it_is_one_elsewhere(write: Write) -> None:
    ages = ["unknown"] * 6 + [str(i) for i in range(N - 6)]
    spec, text = drafted(write, age=ages)
    assert (spec.kinds["age"], spec.missing_values) == ("number", ("", "unknown"))
    assert "'unknown' (6) stands for no value" in line_about(text, "age")


def test_a_word_that_is_a_category_elsewhere_does_not_become_a_missing_value(write: Write) -> None:
    ages = ["unknown"] * 6 + [str(i) for i in range(N - 6)]
    spec, _ = drafted(write, age=ages, coat=["unknown", "short"] * (N // 2))
    assert spec.missing_values == ("",)
    assert spec.kinds["age"] != "number"


def test_a_minus_beside_a_plus_is_a_value(write: Write) -> None:
    spec, _ = drafted(write, test=["+", "-"] * (N // 2))
    assert (spec.kinds, spec.missing_values) == ({"test": "category"}, ("",))


def test_reserved_and_awkward_names_still_give_a_yaml_that_loads(write: Write) -> None:
    names = ["image", "_file_", "yes", "12", "a: b # c", "x" * 200, "ä\u2028b", "'\"", "- q", "~"]
    spec, text = drafted(write, **{name: ["1.5", "2.5"] * (N // 2) for name in names})
    assert list(spec.kinds) == [clean(name) for name in names[2:]]
    assert "reserved" in line_about(text, "image")


# -- the label ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("problem_type", "labels"),
    [
        ("binary", ["yes", "no"]),
        ("binary", ["0", "1", ""]),
        ("multiclass", ["a", "b", "c"]),
        ("multiclass", ["1", "2", "3", "4", "5"]),
        ("regression", ["1.5", "2", "3.25"]),
        ("regression", [str(i) for i in range(30)]),
    ],
)
def test_the_problem_type_follows_from_the_label(
    problem_type: str, labels: list[str], write: Write
) -> None:
    spec, text = drafted(write, label=(labels * N)[:N])
    assert spec.problem_type == problem_type
    assert spec.label_column == "label"
    assert ("# classes: [" in text) == (problem_type != "regression")
    assert spec.review == Review.usual()  # written out, so that people see what they may wish for
    assert "review: {target_accuracy: 0.95, largest_share: 0.2}" in text
    assert (spec.tolerance is not None) == (problem_type == "regression")


@pytest.mark.parametrize(
    ("code", "words", "labels"),
    [
        ("init_one_class", "'yes' in every row", ["yes"] * N),
        ("init_one_class", "no value", [""] * N),
        ("init_label", "60 different values", [f"name {i}" for i in range(N)]),
    ],
)
def test_a_label_that_teaches_nothing_is_refused(
    code: str, words: str, labels: list[str], write: Write
) -> None:
    with pytest.raises(SpecError, match=words) as error:
        drafted(write, label=labels)
    assert error.value.code == code


@pytest.mark.parametrize(("label", "words"), [("", "no value"), ("yes", "one value")])
def test_a_column_that_is_called_label_and_teaches_nothing_is_named_before_others(
    label: str, words: str, write: Write
) -> None:
    table, images = write({**base(), "label": [label] * N})
    with pytest.raises(SpecError, match="which column is the label") as error:
        draft_spec(table, images, "id", None)
    assert f"It could be 'label' (its name says so, but it has {words})" in error.value.what
    assert "--label label" in error.value.todo


@pytest.mark.parametrize(
    ("last", "doubted"), [("2200", False), ("999999999", True), ("-70000", True)]
)
def test_a_number_far_from_all_other_labels_is_doubted(
    last: str, doubted: bool, write: Write
) -> None:
    prices = [str(1000 + 17 * n) for n in range(N)]
    table, images = write({**base(), "label": [*prices[:-1], last]})
    notes = draft_spec(table, images, "id", "label").notes
    assert any("far from all others" in note for note in notes) is doubted


def test_rows_without_label_and_rare_classes_are_in_the_notes(write: Write) -> None:
    labels = ["a", "b"] * 25 + ["c"] * 2 + [""] * 8
    table, images = write({**base(), "label": labels})
    notes = draft_spec(table, images, "id", "label").notes
    assert any("without a label" in note and note.endswith(" 8") for note in notes)
    assert any("fewer than 5 rows: c" in note for note in notes)


# -- columns that are not there -------------------------------------------------------------------


@pytest.mark.parametrize(("id_column", "label"), [("idd", "label"), ("id", "lable")])
def test_a_column_that_is_not_there_is_answered_with_the_one_that_was_meant(
    id_column: str, label: str, write: Write
) -> None:
    table, images = write(base())
    with pytest.raises(SpecError, match="did you mean '(id|label)'") as error:
        draft_spec(table, images, id_column, label)
    assert error.value.todo


def test_a_name_in_another_case_is_the_one_in_the_table(write: Write) -> None:
    table, images = write(base())
    spec = loaded(draft_spec(table, images, "ID", " Label").text)
    assert (spec.id_column, spec.label_column) == ("id", "label")


def test_the_id_cannot_be_the_label(write: Write) -> None:
    table, images = write(base())
    with pytest.raises(SpecError) as error:
        draft_spec(table, images, "id", "id")
    assert error.value.code == "init_same_column"


def test_a_table_that_is_not_there_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as error:
        draft_spec(tmp_path / "nothing.csv", tmp_path, "id", "label")
    assert error.value.code == "init_unreadable"


# -- images -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "name"),
    [
        ("{id}", "P{:03d}.jpg"),
        ("{id}", "P{:03d}.JPEG"),
        ("{id}-{n}", "P{:03d}-1.jpg"),
        ("{id}_{n}", "P{:03d}_2.png"),
        ("{id} ({n})", "P{:03d} (1).webp"),
        ("*_{id}", "shop_7_P{:03d}.jpg"),
        ("IMG{id}", "IMGP{:03d}.jpg"),
        ("pet {id}-{n}", "pet P{:03d}-3.jpg"),
        ("{id}_*", "P{:03d}_front.jpg"),
    ],
)
def test_the_shape_of_image_names_is_found(shape: str, name: str, write: Write) -> None:
    names = [name.format(i) for i in range(30)]
    table, images = write(base(), names)
    drafted = draft_spec(table, images, "id", "label")
    spec, notes = loaded(drafted.text), drafted.notes
    assert {found[0] for p in names if (found := spec.named_image(p))} == set(base()["id"][:30])
    if shape != "*_{id}":  # several shapes say the same there
        assert spec.image_name == shape
    assert any("30 of 30 images (100%)" in note and "(50%)" in note for note in notes)


@pytest.mark.parametrize(
    ("several", "said"), [(0, ""), (14, "the first of each"), (15, "all`, so")]
)
def test_many_records_with_several_images_let_models_see_all(
    several: int, said: str, write: Write
) -> None:
    names = [f"P{i:03d}-{n}.jpg" for i in range(30) for n in range(1 + (i < several))]
    drafted = draft_spec(*write(base(), names), "id", "label")
    assert loaded(drafted.text).all_images == (several == 15)
    notes = [note for note in drafted.notes if "have several" in note]
    assert len(notes) == bool(several)
    assert all(note.startswith(f"{several} of 30 records") and said in note for note in notes)


def test_the_notes_show_images_that_belong_to_no_row(write: Write) -> None:
    table, images = write(base(), ["P001.jpg", "P002.jpg", "cover.jpg"])
    notes = draft_spec(table, images, "id", "label").notes
    assert any("2 of 3 images (67%)" in note for note in notes)
    assert any("cover.jpg" in note for note in notes)


def test_images_that_fit_no_id_are_refused_with_examples_of_both(write: Write) -> None:
    table, images = write(base(), ["p001.jpg", "kitten.png"])
    with pytest.raises(SpecError, match=r"(?s)kitten\.png.*P000.*lower case") as error:
        draft_spec(table, images, "id", "label")
    assert error.value.code == "init_no_match"


def test_a_folder_without_images_is_refused(write: Write) -> None:
    table, images = write(base(), ["notes.txt"])
    for folder in (images, images / "nowhere"):
        with pytest.raises(SpecError) as error:
            draft_spec(table, folder, "id", "label")
        assert error.value.code == "init_no_images"


def test_without_a_folder_the_dataset_has_no_images_and_learns_from_its_columns(
    write: Write,
) -> None:
    table, _ = write({**base(), "age": [str(i % 7) for i in range(len(base()["id"]))]})
    made = draft_spec(table, None, "id", "label")
    spec, notes = loaded(made.text), made.notes
    assert spec.image_name is None
    assert [one.engine for one in spec.model_without_image] == ["automatic"]
    assert any("no images were given" in note for note in notes)


def test_without_a_folder_or_any_column_images_are_all_there_can_be(write: Write) -> None:
    table, _ = write(base())
    made = draft_spec(table, None, "id", "label")
    notes = made.notes
    assert loaded(made.text).image_name == "{id}"
    assert any("correct `image_name` yourself" in note for note in notes)


# -- how the table is written ---------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_delimiters_and_encodings_are_found(delimiter: str, encoding: str, write: Write) -> None:
    columns = {**base(), "größe": ["klein", "groß"] * (N // 2)}
    table, images = write(columns, encoding=encoding, delimiter=delimiter)
    drafted = draft_spec(table, images, "id", "label")
    spec, notes = loaded(drafted.text), drafted.notes
    assert spec.kinds == {"größe": "category"}
    assert spec.encoding == "auto"
    assert any("not UTF-8" in note for note in notes) == (not encoding.startswith("utf-8"))


def test_the_dataset_is_named_after_the_table_unless_told_otherwise(write: Write) -> None:
    table, images = write(base())
    for asked, expected in ((None, "my_table"), ("cats", "cats")):
        made = draft_spec(table, images, "id", "label", asked)
        assert loaded(made.text).dataset == made.dataset == expected
    with pytest.raises(SpecError, match="letter first"):
        draft_spec(table, images, "id", "label", "Cats & dogs")


def test_blank_and_repeated_ids_and_odd_rows_are_in_the_notes(write: Write) -> None:
    ids = base()["id"]
    ids[5], ids[6] = "", ids[7]
    table, images = write({**base(), "id": ids})
    with table.open("a") as file:
        file.write("P999\n")
    notes = draft_spec(table, images, "id", "label").notes
    assert "60 rows, 58 different IDs" in notes
    assert any("without an ID" in note for note in notes)
    assert any("repeat an ID" in note for note in notes)
    assert any("line 62" in note for note in notes)


def test_the_draft_is_a_component_with_attributes(write: Write) -> None:
    _, text = drafted(write)
    document: Any = yaml.safe_load(text)
    assert document["type"] == "mm_assets.pipeline.DatasetPipeline"
    assert document["attributes"]["columns"] == {}


cells = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["", "NA", "yes", "no", "1", "2.5", "-3e4", "1,5", "a b c d", "2020", "x.jpg"]),
    st.text(alphabet='"\n\r,;:#{}[]&*!|>%@`\x07\x1b\u2028\x85\ufeff', max_size=8),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_table_gives_a_yaml_that_loads_or_an_error_in_words(data: st.DataObject) -> None:
    names = data.draw(st.lists(cells, max_size=4), label="columns")
    header = ["id", "label", *names]
    row = st.tuples(st.sampled_from(["a", "b", "c", ""]), *([cells] * (len(header) - 1)))
    rows = data.draw(st.lists(row, max_size=12), label="rows")
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(rows)
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder, "table.csv")
        table.write_bytes(text.getvalue().encode("utf-8", "surrogatepass"))
        Path(folder, "a-1.jpg").touch()
        Path(folder, "b.jpg").touch()
        try:
            made = draft_spec(table, Path(folder), "id", "label")
            draft, notes = made.text, made.notes
            assert made.ended is not None
            # With 12 rows a single one is more than may be lost to a number.
            assert "number_invalid" not in [one.code for one in made.ended.left_out]
        except MMError as error:
            draft, notes = "", [error.code, error.todo]
    assert all(notes)
    if not draft:
        return
    spec = loaded(draft)
    assert (spec.id_column, spec.label_column) == ("id", "label")
    assert set(spec.kinds) <= {clean(name) for name in names}
