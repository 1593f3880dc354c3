"""What a model never saw, from training to the table: predicted, marked, in review, with words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.orchestration.checks.predictions import unlike_or_not
from mm_assets.predictions.at_once import AtOnce, predict_at_once
from mm_assets.predictions.unlike import in_words, share_of
from mm_assets.registry.store import ModelStore
from mm_assets.tables.open import open_store
from mm_assets.training.train import TrainingResult, train_model
from mm_assets.training.training_set import build_training_set
from tests.make import dataset, drop_zip, processed, table

WITHOUT = Modality.WITHOUT_IMAGE
COLOURS = ("black", "white", "red")
LEARNS = {
    "engine": "sklearn",
    "hyperparameters": {"steps": ["sklearn.linear_model.LogisticRegression"]},
}


def pets(engine: dict[str, Any], **keys: Any) -> DatasetSpec:
    columns = {"age": "number", "colour": "category", "note": "text"}
    return dataset(columns=columns, image_name=None, model_without_image=engine, **keys)


def rows(count: int) -> list[str]:
    """Old ones are dogs, which is easy to learn."""
    return [
        f"r{n},{n % 15},{COLOURS[n % 3]},it likes {'fish' if n % 2 else 'bones'},"
        f"{'dog' if n % 15 > 7 else 'cat'}"
        for n in range(count)
    ]


def trained(settings: Settings, spec: DatasetSpec) -> tuple[Lake, TrainingResult, list[str]]:
    lake, store = Lake(settings), open_store(settings)
    drop_zip(lake, "labelled.zip", {"t.csv": table("id,age,colour,note,label", *rows(400))})
    processed(lake, store, spec, "labelled.zip")
    build_training_set(lake, store, spec, run_id="run")
    said: list[str] = []
    models = ModelStore(lake, "pets")
    result = train_model(lake, models, spec, WITHOUT, run_id="run", progress=said.append)
    return lake, result, said


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return trained(_settings(tmp_path_factory.mktemp("pets")), pets(LEARNS))[0]


def _settings(folder: Path) -> Settings:
    return Settings(
        root=folder, data=Path("data"), lake=str(folder / "lake"),
        table=f"duckdb:///{folder / 'table.duckdb'}", events="",
    )  # fmt: skip


def asked(lake: Lake, *lines: str, spec: DatasetSpec | None = None) -> AtOnce:
    files = [("t.csv", table("id,age,colour,note", *lines))]
    return predict_at_once(ModelStore(lake, "pets"), spec or pets(LEARNS), files)


def told(lake: Lake, *lines: str, spec: DatasetSpec | None = None) -> dict[str, dict[str, Any]]:
    return {row["record_id"]: row for row in asked(lake, *lines, spec=spec).predictions.to_pylist()}


def test_a_doubt_goes_to_review_whatever_the_confidence_and_says_why(lake: Lake) -> None:
    spec = pets(LEARNS, review={"threshold": 0.0})  # nothing else is in review
    found = told(
        lake,
        "plain,14,BLACK,it likes fish", "new,14,pink,it likes fish", "old,1400,black,it likes fish",
        "other,14,black,она любит рыбу", "gone,,black,it likes fish", "empty,,,",
        "two,-900,pink,it likes fish",
        spec=spec,
    )  # fmt: skip
    assert {key: row["doubts"] for key, row in found.items()} == {
        "plain": None,
        "new": "unseen_category (colour): 'pink'; training has 'black', 'red', 'white'",
        "old": "far_number (age): 1400; training has 0 to 14",
        "other": "other_script (note): CYRILLIC letters; training has LATIN",
        "gone": "missing_value (age): missing; training has it in every record",
        "empty": "empty_record: 3 of 3 values are missing",
        "two": "far_number (age): -900; training has 0 to 14; "
        "unseen_category (colour): 'pink'; training has 'black', 'red', 'white'",
    }
    assert {key for key, row in found.items() if row["needs_review"]} == {*found} - {"plain"}
    assert found["old"]["confidence"] > 0.99
    assert all(row["prediction"] in ("cat", "dog") for row in found.values())


def test_a_record_has_the_same_doubts_alone_and_in_any_batch(lake: Lake) -> None:
    lines = ("a,14,pink,x y", "b,3,black,x y", "c,900,red,x y", "d,,,")
    together = {key: row["doubts"] for key, row in told(lake, *lines).items()}
    apart = {line[0]: told(lake, line)[line[0]]["doubts"] for line in lines}
    backwards = {key: row["doubts"] for key, row in told(lake, *lines[::-1]).items()}
    assert together == apart == backwards
    assert together["b"] is None


def test_they_are_counted_by_kind_and_column_beside_what_training_had(lake: Lake) -> None:
    lines = [f"p{n},5,pink,x y" for n in range(3)]
    colour, age = asked(lake, *lines, "q,5,blue,x y", "f,800,red,x y", "n,5,red,x y").unlike
    assert colour == (
        "column colour: 4 of 6 records have values that the model never saw: 'pink' (3), 'blue' "
        "(1); it knows 'black', 'red', 'white'"
    )
    assert age == (
        "column age: 1 of 6 records have numbers far outside of what the model learnt from: '800' "
        "(1); it knows 0 to 14"
    )
    assert asked(lake, "n,5,Red,x y").unlike == []


def test_an_engine_whose_rules_a_person_wrote_doubts_nothing(folder_settings: Settings) -> None:
    rules = {
        "engine": "rules",
        "hyperparameters": {"rules": [{"when": "age > 7", "then": "dog"}], "otherwise": "cat"},
    }
    lake, result, _ = trained(folder_settings, pets(rules))
    assert ModelStore(lake, "pets").manifest(WITHOUT, result.version)["familiar"] is None
    answers = asked(lake, "a,900,pink,x", spec=pets(rules))
    assert answers.predictions["doubts"].to_pylist() == [None]
    [words] = answers.unlike  # nevertheless, as before
    assert words.startswith("column colour: 1 of 1 records have values that the model never saw")


def test_a_model_from_before_doubts_were_noted_raises_none(folder_settings: Settings) -> None:
    lake, result, _ = trained(folder_settings, pets(LEARNS))
    models = ModelStore(lake, "pets")
    own = ("familiar", "version", "dataset", "modality", "libraries", "created_at", "files")
    manifest = models.manifest(WITHOUT, result.version)
    older = {name: value for name, value in manifest.items() if name not in own}
    stored = models.save(WITHOUT, models.fetch(WITHOUT, result.version), older)
    models.promote(WITHOUT, stored.version, "older")
    assert told(lake, "a,900,pink,x")["a"]["doubts"] is None


def test_a_column_of_names_is_told_as_open_and_floods_nothing(folder_settings: Settings) -> None:
    spec = dataset(columns={"age": "number", "name": "category"}, image_name=None,
                   model_without_image=LEARNS)  # fmt: skip
    lake, store = Lake(folder_settings), open_store(folder_settings)
    lines = [f"r{n},{n % 15},name{n},{'dog' if n % 15 > 7 else 'cat'}" for n in range(200)]
    drop_zip(lake, "labelled.zip", {"t.csv": table("id,age,name,label", *lines)})
    processed(lake, store, spec, "labelled.zip")
    build_training_set(lake, store, spec, run_id="run")
    said: list[str] = []
    models = ModelStore(lake, "pets")
    train_model(lake, models, spec, WITHOUT, run_id="run", progress=said.append)
    assert any("send no record to review, in name (100.0% of the records" in one for one in said)
    answers = predict_at_once(models, spec, [("t.csv", table("id,age,name", "a,5,somebody else"))])
    assert answers.predictions["doubts"].to_pylist() == [None]
    assert answers.unlike == []


def document(unlike: int, records: int) -> dict[str, Any]:
    found = {"code": "unseen_category", "column": "colour", "records": unlike,
             "values": [["pink", unlike]], "more_values": 0, "known": "'red'"}  # fmt: skip
    return {
        "counts": {"records": records},
        "unlike": {"records": unlike, "found": [found] if unlike else []},
    }


@pytest.mark.parametrize(
    ("unlike", "records", "passed", "severity"),
    [(0, 9, True, "WARN"), (4, 4, False, "WARN"), (5, 10, False, "WARN"), (6, 10, False, "ERROR"),
     (0, 0, True, "WARN")],
)  # fmt: skip
def test_the_check_warns_of_some_and_fails_where_most_are_unlike(
    unlike: int, records: int, passed: bool, severity: str
) -> None:
    documents = [document(unlike, records), {"counts": {"records": 0}}]  # the other is older
    assert share_of(documents) == (unlike, records)
    result = unlike_or_not(documents, 0.5)
    assert (result.passed, result.severity.value) == (passed, severity)
    [*said] = in_words(documents)
    assert all(line in str(result.description) for line in said)
    if severity == "ERROR":
        assert str(result.description).startswith("6 of 10 records (60.0%) are unlike all that ")
