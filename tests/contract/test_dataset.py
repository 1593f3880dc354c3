"""A dataset's YAML: each mistake is answered with file, line and what to write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mm_assets.contract.cron import fault_of_cron
from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.errors import SpecError
from mm_assets.contract.spec_file import COMPONENT, load_spec, load_specs
from tests.make import dataset

GOOD = f"""\
type: {COMPONENT}

attributes:
  dataset: pets
  id_column: id
  label_column: label
  problem_type: binary
  classes: [cat, dog]
  columns:
    age: number
    colour: category
    story: {{kind: text, required: true}}
"""


def written(folder: Path, text: str, name: str = "pets") -> Path:
    file = folder / name / "defs.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def mistake(tmp_path: Path, old: str, new: str) -> str:
    """What is said when `old` stands as `new` in a good file; the folder is cut from the paths."""
    assert GOOD.count(old) == 1
    file = written(tmp_path, GOOD.replace(old, new))
    with pytest.raises(SpecError) as caught:
        load_spec(file)
    return str(caught.value).replace(f"{file.parent}/", "")


def test_a_good_file_is_read_whole_with_short_and_long_columns(tmp_path: Path) -> None:
    spec = load_spec(written(tmp_path, GOOD))
    assert spec.kinds == {"age": "number", "colour": "category", "story": "text"}
    assert [column.required for column in spec.columns.values()] == [False, False, True]
    assert spec.features(Modality.WITH_IMAGE) == {**spec.kinds, "image": "image"}
    assert spec.features(Modality.WITHOUT_IMAGE) == spec.kinds


@pytest.mark.parametrize(
    ("old", "new", "line", "answers"),
    [
        # unknown keys
        ("id_column:", "id_colum:", 5, ["`id_colum`", "did you mean `id_column`?"]),
        ("id_column: id", "id_column: id\n  zebra: 1", 6, ["unknown key `zebra`", "take it out"]),
        ("required: true", "requird: true", 12, ["`columns.story.requird`", "`required`?"]),
        (
            "classes: [cat, dog]",
            "limits: {maximum_drif: 1}",
            8,
            ["`limits.maximum_drif`", "did you mean `maximum_drift`?"],
        ),
        (
            "classes: [cat, dog]",
            "model_with_image:\n    sed: 3",
            9,
            ["`model_with_image.sed`", "did you mean `seed`?"],
        ),
        # missing keys
        ("  id_column: id\n", "", 3, ["`id_column` is missing", "write `id_column: …`"]),
        ("  dataset: pets\n", "", 3, ["write `dataset: …`", "letters a-z, digits and _"]),
        ("{kind: text, required: true}", "{required: true}", 12, ["`columns.story.kind`"]),
        # one of several words
        ("problem_type: binary", "problem_type: ternary", 7, ["'ternary'", "'multiclass'"]),
        ("age: number", "age: numbr", 10, ["`columns.age.kind` is 'numbr'", "'number'"]),
        (
            "classes: [cat, dog]",
            "encoding: windows1252x",
            8,
            ["`encoding`", "'windows1252x' is no text encoding that Python knows: write auto"],
        ),
        (
            "classes: [cat, dog]",
            "encoding: base64",
            8,
            ["'base64' is no text encoding"],
        ),
        # types and ranges
        ("id_column: id", "id_column: 5", 5, ['`id_column` as a number; write it in quotes: "5"']),
        ("id_column: id", "id_column: 2024-01-01", 5, ["as a date; write it in quotes"]),
        ("id_column: id", "id_column:", 5, ["`id_column` is empty"]),
        ("id_column: id", "id_column: on", 5, ['truth value; write it in quotes: "on"']),
        ("id_column: id", "id_column: [id]", 5, ['as a list; write it in quotes: "[id]"']),
        ("age: number", "age: 3", 10, ["`columns.age` is 3; write its kind: number, category"]),
        ("age: number", "age:", 10, ["`columns.age` is empty; write its kind"]),
        ("id_column: id", "id_column: id\n  size: number", 6, ["`size`; if it is a column"]),
        ("age: number", "“age”: number", 10, ["the quotes of “age” are letters", 'write "age"']),
        ("[cat, dog]", "[“cat”, dog]", 8, ["the quotes of “cat” are letters", 'write "cat"']),
        ("classes: [cat, dog]", "classes: cat", 8, ["`classes` is 'cat'; write a list: `[cat]`"]),
        ("classes: [cat, dog]", "model_with_image: sklearn", 8, ["as `{engine: sklearn}`"]),
        ("classes: [cat, dog]", "model_with_image: [sklearn]", 8, ["as `{engine: sklearn}`"]),
        ("classes: [cat, dog]", "limits: 5", 8, ["`limits` is 5", "of minimum_image_share"]),
        ("age: number", "7: number", 10, ['7 of `columns.7` as a number; write it in quotes: "7"']),
        ("age: number", "no: number", 10, ['truth value; write it in quotes: "no"']),
        ("[cat, dog]", "\n    - cat\n    - 1", 10, ["`classes.1` as a number", 'in quotes: "1"']),
        ("[cat, dog]", "[cat, 01]", 8, ["01 of `classes.1` as a number", 'in quotes: "01"']),
        ("classes: [cat, dog]", "review_threshold: 60", 8, ["up to 1: 60% is 0.6"]),
        ("classes: [cat, dog]", "review_threshold: 60%", 8, ["'60%'; write a number: 0.6"]),
        ("classes: [cat, dog]", "review_threshold: 0,6", 8, ["'0,6'; write a number: 0.6"]),
        ("classes: [cat, dog]", "image_longest_side: big", 8, ["'big'; write a whole number"]),
        ("classes: [cat, dog]", "limits: {maximum_drift: 0}", 8, ["is 0; write a number above 0"]),
        ("classes: [cat, dog]", "train_schedule: every day", 8, ["a cron line has 5", "0 3 * * *"]),
        ("classes: [cat, dog]", 'train_schedule: "0 25 * * *"', 8, ["'25' in", "is no hour"]),
        ("classes: [cat, dog]", "keep_inbox: perhaps", 8, ["'perhaps'; write true or false"]),
        ("classes: [cat, dog]", "image_name: {id}", 8, ["keys with values", 'in quotes: "{id}"']),
        ("classes: [cat, dog]", "model_with_image:", 8, ["is empty", "`{engine: automatic}`"]),
        (
            "classes: [cat, dog]",
            "model_with_image: {engine: gradient_boosting, max_bin: 3}",
            8,
            ["`model_with_image.max_bin`", "written as `hyperparameters: {max_bin: …}`"],
        ),
        # what does not fit together
        ("label_column: label", "label_column: id", 6, ["name the same column"]),
        ("label_column: label", "label_column: age", 9, ["'age' is the ID or the label"]),
        ("id_column: id", "id_column: colour", 9, ["take it out of `columns`"]),
        ("age: number", "image: text", 9, ["`columns`: 'image' is the image's own column"]),
        ("age: number", "_line: number", 9, ["names that start with _ are reserved: _line"]),
        ("problem_type: binary", "problem_type: regression", 8, ["regression has no `classes`"]),
        ("[cat, dog]", "[cat, dog, cow]", 8, ["exactly two", "these are 3"]),
        ("[cat, dog]", "[cat, cat]", 8, ["two different names"]),
        ("[cat, dog]", '[cat, ""]', 8, ["'', which stands for a missing value"]),
        (
            "[cat, dog]",
            "[cat, dog]\n  missing_values: [dog]",
            8,
            ["'dog', which stands for a missing"],
        ),
        ("[cat, dog]", "[cat, dog]\n  minimum_score: 90", 9, ["accuracy is at most 1"]),
        ("classes: [cat, dog]", 'image_name: "{id}.JPG"', 8, ["without their ending: write {id}"]),
        ("dataset: pets", "dataset: My Pets", 4, ["`dataset`", "use a-z, 0-9 and _"]),
        ("classes: [cat, dog]", "image_name: photo", 8, ["write {id} once"]),
        ("classes: [cat, dog]", 'image_name: "{id}-{id}"', 8, ["write {id} once"]),
        ("classes: [cat, dog]", 'image_name: "{file}-{n}"', 8, ["write {id} once"]),
        ("classes: [cat, dog]", 'image_name: "{id}-{n}-{n}"', 8, ["{n} at most once"]),
    ],
)
def test_a_mistake_is_answered_with_its_line_and_what_to_write(
    tmp_path: Path, old: str, new: str, line: int, answers: list[str]
) -> None:
    said = mistake(tmp_path, old, new)
    assert "[spec_invalid]" in said
    assert f"defs.yaml:{line}: " in said
    for answer in answers:
        assert answer in said
    assert "pydantic" not in said


@pytest.mark.parametrize(
    ("key", "line", "answer"),
    [
        ("positive_class: dgo", 8, "'dgo', which is none of the classes; did you mean 'dog'?"),
        ("costs: {dog: {cow: 3}}", 8, "'cow', which is none of the classes; there are cat, dog"),
        ("class_weights: {cow: 3}", 8, "`class_weights` names 'cow'"),
        ("costs: {dog: {dog: 3}}", 8, "`costs`: 'dog' for 'dog' is no error"),
        ("costs: {dog: {cat: -3}}", 8, "'dog' taken for 'cat' costs -3: write a number"),
        ("costs: {dog: {cat: .inf}}", 8, "costs inf: write a number"),
        ("costs: {dog: 3}", 8, "`dog: {other: 20}`"),
        ("costs: {}", 8, "write true class, predicted class, cost"),
        ("costs: {1: {0: 2}}", 8, 'in quotes: YAML reads 1, `costs` needs "1"'),
        ("costs: {no: {yes: 2}}", 8, "YAML reads yes/no"),
        ("decide_for: auc", 8, "one of accuracy, balanced_accuracy, macro_f1, f1, or the least"),
        ("decide_for: {recall: 95}", 8, "{recall: 0.95}"),
        ("decide_for: [f1]", 8, "{recall: 0.95}"),
        ("decide_for: f1", 8, "`decide_for: f1` needs `positive_class`"),
        ("decide_for: {recall: 0.9}", 8, "`decide_for: {recall: 0.9}` needs `positive_class`"),
        ("decide_for: accuracy\n  costs: {dog: {cat: 2}}", 9, "keep one of them"),
        ("metric: expected_cost", 8, "`metric: expected_cost` needs `costs`"),
        ("metric: average_precision", 8, "needs `positive_class`"),
        ("class_weights: {dog: 0}", 8, "'dog' weighs 0: write a number above 0"),
        ("class_weights: even", 8, "write `balanced`, or a class and its weight"),
        (
            "class_weights: balanced\n  model_with_image: {engine: rules}",
            8,
            "write `costs` instead",
        ),
    ],
)
def test_a_mistake_in_what_is_decided_is_answered_too(
    tmp_path: Path, key: str, line: int, answer: str
) -> None:
    binary = "problem_type: binary"
    said = mistake(tmp_path, binary, f"{binary}\n  {key}")
    assert f"defs.yaml:{line}: " in said
    assert answer in said
    assert "1 mistake:" in said


@pytest.mark.parametrize(
    ("keys", "metric"),
    [
        ({}, None),
        ({"costs": {"dog": {"cat": 20}}}, "expected_cost"),
        ({"decide_for": "macro_f1"}, "macro_f1"),
        ({"decide_for": {"recall": 1}, "positive_class": "dog"}, "average_precision"),
        ({"class_weights": "balanced"}, "balanced_accuracy"),
        ({"class_weights": {"dog": 3}, "decide_for": "accuracy"}, "accuracy"),
        ({"class_weights": {"dog": 3}, "metric": "log_loss"}, "log_loss"),
    ],
)
def test_what_decides_between_models_follows_from_what_the_decision_is_for(
    keys: dict[str, Any], metric: str | None
) -> None:
    assert dataset(**keys).judged_by == metric


def test_a_regression_has_no_decisions() -> None:
    for keys in (
        {"positive_class": "a"}, {"costs": {"a": {"b": 2}}}, {"decide_for": "f1"},
        {"class_weights": "balanced"},
    ):  # fmt: skip
        with pytest.raises(ValueError, match="a regression has no classes"):
            dataset(problem_type="regression", classes=None, **keys)
    with pytest.raises(ValueError, match="is for a binary problem"):
        dataset(problem_type="multiclass", positive_class="dog")


def test_every_mistake_is_listed_not_only_the_first(tmp_path: Path) -> None:
    text = GOOD.replace("id_column", "id_colum").replace("age: number", "age: numbr")
    with pytest.raises(SpecError) as caught:
        load_spec(written(tmp_path, text))
    said = str(caught.value)
    assert "3 mistakes:" in said
    assert all(f"defs.yaml:{line}: " in said for line in (3, 5, 10))
    assert said.index("defs.yaml:5: ") < said.index("defs.yaml:10: ")


def test_keys_that_do_not_fit_together_are_listed_in_one_go_as_well(tmp_path: Path) -> None:
    text = GOOD.replace("age: number", "id: number\n    label: text")
    text += "  id_column: other\n  metric: mean_absolute_error\n  positive_class: cow\n"
    text = text.replace("  id_column: other\n", "") + "  label_column: label\nseed: 3\n"
    with pytest.raises(SpecError) as caught:
        load_spec(written(tmp_path, text))
    said = str(caught.value)
    assert "5 mistakes:" in said
    assert "'id' and 'label' are the ID and the label: take them out of `columns`" in said
    assert "`metric: mean_absolute_error` does not fit a binary problem" in said
    assert "`positive_class` names 'cow'" in said
    assert "`label_column` stands here and in line 6; keep one of them" in said
    assert "`seed` stands outside of `attributes:`" in said


@pytest.mark.parametrize(
    "text", ["", "- a\n- b\n", "just words\n", "attributes:\n", "attributes: 3"]
)
def test_a_file_without_attributes_is_told_what_to_begin_with(tmp_path: Path, text: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(written(tmp_path, text))
    assert "holds no `attributes:`" in caught.value.what
    assert caught.value.where.endswith("defs.yaml:1")
    assert COMPONENT in caught.value.todo


@pytest.mark.parametrize(
    ("text", "line"),
    [("attributes:\n  a: [1,\n", 3), ("attributes:\n  a: 'open\n", 3), ("a: b: c\n", 1),
     ("attributes:\n\tdataset: x\n", 2), ("a: *nothing\n", 1), ("attributes:\n  [a, b]: c\n", 2)],
)  # fmt: skip
def test_what_is_not_yaml_is_answered_with_the_line(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(written(tmp_path, text))
    assert caught.value.code == "spec_not_yaml"
    assert caught.value.where.endswith(f"defs.yaml:{line}")


@pytest.mark.parametrize(
    ("text", "what", "todo"),
    [
        ("a:\n\tb: c\n", "a tab stands where the line is indented", "Write spaces"),
        ("a:\n\u00a0 b: c\n  d: e\n", "another blank than a space stands", "Write spaces"),
        ("a:\n  b: Pets: all\n", "in `b: Pets: all`", "A value with a colon in it"),
        ("a:\n  b: {id}-{n}\n", "in `b: {id}-{n}`", "put all of it in quotes"),
        ("a:\n  b: *_{id}\n", "in `b: *_{id}`", "begins with * or & stands in quotes"),
        ("a:\n  b:c\n  d: e\n", "in `d: e`", "its colon, or the space behind it"),
        ("a:\n  b: c\n   d: e\n", "in `d: e`", "indented"),
        ("a: b\n---\na: b\n", "another document", "one dataset in a file"),
    ],
    ids=["tab", "blank", "colon", "braces", "star", "no space", "indented", "two"],
)
def test_what_is_not_yaml_is_told_what_to_write(
    tmp_path: Path, text: str, what: str, todo: str
) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(written(tmp_path, text))
    assert what in caught.value.what
    assert todo in caught.value.todo


def test_keys_that_are_not_indented_are_told_so(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(written(tmp_path, GOOD.replace("\n  ", "\n")))
    assert "do not stand below `attributes:`" in caught.value.what


def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(tmp_path / "defs.yaml")
    assert caught.value.code == "spec_unreadable"
    assert "mm init" in caught.value.todo


def test_a_file_that_is_not_utf_8_is_answered(tmp_path: Path) -> None:
    file = written(tmp_path, GOOD)
    file.write_bytes(GOOD.replace("colour", "coulör").encode("latin-1"))
    with pytest.raises(SpecError):
        load_spec(file)


def test_a_column_written_twice_is_answered(tmp_path: Path) -> None:
    said = mistake(tmp_path, "    colour: category\n", "    colour: category\n    age: text\n")
    assert "defs.yaml:12" in said


def test_two_files_may_not_describe_one_dataset(tmp_path: Path) -> None:
    written(tmp_path, GOOD, "a")
    written(tmp_path, GOOD, "b")
    with pytest.raises(SpecError) as caught:
        load_specs(tmp_path)
    assert caught.value.code == "spec_twice"
    assert "'pets'" in caught.value.what
    assert caught.value.where.endswith("b/defs.yaml")


def test_a_threshold_alone_is_a_review_that_is_read_again_and_two_may_be_asked(
    tmp_path: Path,
) -> None:
    spec = load_spec(written(tmp_path, GOOD + "  review_threshold: 0.7\n"))
    assert DatasetSpec.model_validate(spec.model_dump()) == spec
    assert (spec.review.threshold, spec.review.answered_twice) == (0.7, 0)
    twice = GOOD + "  review_threshold: 0.7\n  review: {answered_twice: 0.2}\n"
    spec = load_spec(written(tmp_path, twice))
    assert (spec.review.threshold, spec.review.answered_twice) == (0.7, 0.2)


def test_a_key_beside_the_attributes_is_refused_where_it_stands(tmp_path: Path) -> None:
    lines = len(GOOD.strip().splitlines())
    for key, todo in (("model_with_image", "indent it"), ("nonsense", "take it out")):
        with pytest.raises(SpecError) as caught:
            load_spec(written(tmp_path, f"{GOOD.strip()}\n{key}: 1\n", "a"))
        assert caught.value.code == "spec_invalid"
        assert f"`{key}` stands outside" in caught.value.what
        assert f"defs.yaml:{lines + 1}: " in caught.value.what
        assert todo in caught.value.what


def test_all_datasets_of_a_folder_are_read_and_other_components_left_alone(tmp_path: Path) -> None:
    written(tmp_path, GOOD, "a")
    written(tmp_path, GOOD.replace("dataset: pets", "dataset: more"), "b")
    written(tmp_path, "type: other.Component\nattributes: {x: 1}\n", "c")
    assert sorted(load_specs(tmp_path)) == ["more", "pets"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD.replace("DatasetPipeline", "DatasetPipline"), "`type` is 'mm_assets.pipeline.Dat"),
        (GOOD.replace(f"type: {COMPONENT}\n", ""), "`type` is missing"),
    ],
    ids=["misspelt", "missing"],
)
def test_a_dataset_does_not_vanish_for_its_type(tmp_path: Path, text: str, said: str) -> None:
    written(tmp_path, text)
    with pytest.raises(SpecError) as caught:
        load_specs(tmp_path)
    assert said in caught.value.what
    assert caught.value.todo == f"Write `type: {COMPONENT}`."


@pytest.mark.parametrize(
    "line",
    [
        "0 3 * * *", "*/15 0-6 1,15 * mon-fri", "@daily", "0 0 L * *", "0 12 * jan,feb 7",
        "0 9 * * fri#2", "5-55/10 * * * *", "every day", "0 25 * * *", "60 * * * *", "* * * *",
        "0 0 32 * *", "0 0 * 13 *", "0 0 * * 8", "*/0 * * * *", "0 0 * foo *", "", "@dayly",
        "0 3 * * * *", "a * * * *",
    ],
)  # fmt: skip
def test_a_cron_line_is_one_where_dagster_takes_it_for_one(line: str) -> None:
    from dagster._utils.schedules import is_valid_cron_string

    assert (fault_of_cron(line) is None) is is_valid_cron_string(line)


def test_every_bad_file_is_named_not_only_the_first(tmp_path: Path) -> None:
    written(tmp_path, GOOD, "a")
    written(tmp_path, GOOD, "b")
    written(tmp_path, GOOD.replace("binary", "binery"), "c")
    written(tmp_path, GOOD.replace("pets", "d"), "d").write_bytes(GOOD.encode() + b"  # \xe9")
    with pytest.raises(SpecError) as caught:
        load_specs(tmp_path)
    assert caught.value.what.startswith("3 files have mistakes:\n")
    for words in ("two files describe the dataset 'pets'", "'binery'", "not UTF-8"):
        assert words in caught.value.what


@pytest.mark.parametrize(
    ("template", "file", "expected"),
    [
        ("{id}", "7.jpg", ("7", 0)),
        ("{id}", "deep/in/there/007.JPG", ("007", 0)),
        ("{id}", "a.b.jpg", ("a.b", 0)),
        ("{id}", "no-suffix", ("no-suffix", 0)),
        ("{id}", "A-1.jpg", ("A-1", 0)),
        ("{id}-{n}", "A-1.jpg", ("A", 1)),
        ("{id}-{n}", "A-B-12.jpg", ("A-B", 12)),
        ("{id}-{n}", "A-007.jpg", ("A", 7)),
        ("{id}-{n}", "A.jpg", None),
        ("{id}-{n}", "A-x.jpg", None),
        ("{id}-{n}", "A-١.jpg", None),
        ("{id}-{n}", "-1.jpg", None),
        ("*_{id}", "shop_42.png", ("42", 0)),
        ("*_{id}", "42.png", None),
        ("{id}_*", "42_front.png", ("42", 0)),
        ("IMG.{id}", "IMG.5.png", ("5", 0)),
        ("IMG.{id}", "IMGx5.png", None),
        ("({id})[{n}]", "(a)[3].png", ("a", 3)),
        ("{n}.{id}", "2.x.png", ("x", 2)),
        ("{file}", "deep/IMG_1.JPG", ("IMG_1.JPG", 0)),
        ("{file}", "no-suffix", ("no-suffix", 0)),
    ],
)
def test_a_file_name_yields_the_id_that_its_template_says(
    template: str, file: str, expected: tuple[str, int] | None
) -> None:
    named = dataset(image_name=template).named_image(file)
    assert (named and named[:2]) == expected


@pytest.mark.parametrize(
    "change",
    [
        {"id_column": "key"},
        {"label_column": "target"},
        {"problem_type": "multiclass"},
        {"classes": ["dog", "cat"]},
        {"classes": None},
        {"columns": {"colour": "category", "age": "number"}},
        {"columns": {"age": "number", "colour": "text"}},
        {"columns": {"age": {"kind": "number", "required": True}, "colour": "category"}},
        {"missing_values": ["", "NA"]},
        {"encoding": "latin-1"},
        {"image_name": "{id}-{n}"},
        {"image_longest_side": 32},
        {"image_maximum_megapixels": 1},
        {"images": "all"},
    ],
)
def test_the_fingerprint_changes_when_reading_changes(change: dict[str, Any]) -> None:
    assert dataset(**change).fingerprint != dataset().fingerprint


def test_the_fingerprint_stays_when_reading_stays() -> None:
    read_the_same: dict[str, Any] = {
        "dataset": "other",
        "description": "words",
        "model_with_image": {"seed": 5},
        "model_without_image": {"preset": "pretrained"},
        "review_threshold": 0.9,
        "holdout_share": 0.3,
        "promotion_tolerance": 0.5,
        "minimum_training_records": 10,
        "retrain_growth": 1,
        "images": "first",
        "train_schedule": "0 0 * * *",
        "limits": {"maximum_drift": 1},
    }
    assert dataset(**read_the_same).fingerprint == dataset().fingerprint
    said_otherwise = {"age": {"kind": "number"}, "colour": {"kind": "category"}}
    assert dataset(columns=said_otherwise).fingerprint == dataset().fingerprint


def test_every_key_of_the_spec_either_changes_the_fingerprint_or_is_known_not_to() -> None:
    reading = {
        "id_column", "label_column", "problem_type", "classes", "columns", "missing_values",
        "encoding", "records", "image_name", "image_longest_side", "image_maximum_megapixels",
        "image_features", "decimal", "group_column", "time_column", "image_column",
        "image_separator", "images",
    }  # fmt: skip
    using = {
        "dataset", "description", "model_with_image", "model_without_image", "review_threshold",
        "regression_tolerance", "holdout_share", "promotion_tolerance",
        "minimum_training_records", "retrain_growth", "keep_inbox", "upload_tries",
        "retry_pause_seconds", "train_schedule", "limits", "metric", "minimum_score",
        "tolerated_failure_share", "positive_class", "costs", "decide_for", "class_weights",
        "training_minutes", "review", "interval_level", "allow_urls", "owners",
        "training_tags",
    }  # fmt: skip
    assert set(DatasetSpec.model_fields) == reading | using


@pytest.mark.parametrize(
    "name", ["auto", "utf-8", "utf8", "utf-16", "latin-1", "cp1252", "windows-1250", "Shift_JIS"]
)
def test_every_text_encoding_that_python_knows_may_be_named(tmp_path: Path, name: str) -> None:
    spec = load_spec(written(tmp_path, GOOD + f"  encoding: {name}\n"))
    assert spec.encoding == name
    assert spec.written_encoding == ("utf-8" if name == "auto" else name)


def test_encodings_are_found_where_the_yaml_names_none(tmp_path: Path) -> None:
    assert load_spec(written(tmp_path, GOOD)).encoding == "auto"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"image_name": None}, "`images: all` needs images"),
        ({"model_with_image": {"engine": "autogluon"}}, "AutoGluon is given one image"),
        ({"model_with_image": {"preset": "embedded"}}, "AutoGluon is given one image"),
        ({"model_with_image": {"hyperparameters": {"members": ["autogluon"]},
                               "engine": "automatic"}}, "AutoGluon is given one image"),
        ({"images": "some"}, "'first' or 'all'"),
    ],
)  # fmt: skip
def test_all_images_are_asked_for_only_where_models_can_see_them(
    more: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        dataset(**{"images": "all", **more})
    assert dataset(images="all").all_images
