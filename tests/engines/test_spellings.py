"""A category in another spelling is the same category: for every engine, from upload to answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mm_assets.contract.dataset import DatasetSpec, Modality
from mm_assets.contract.errors import ModelError
from mm_assets.contract.settings import Settings
from mm_assets.contract.spellings import MOST_VALUES
from mm_assets.engines.rules.engine import RulesEngine
from mm_assets.engines.shared.spellings import Spelled, Spellings
from mm_assets.lake.lake import Lake
from mm_assets.manifest.split import split_records
from mm_assets.predictions.predict import predict_records
from mm_assets.predictions.receipt import build_receipt
from mm_assets.predictions.unlike import in_words
from mm_assets.registry.loading import load_model
from mm_assets.registry.store import ModelStore
from mm_assets.tables.open import open_store
from mm_assets.training.splits import split_of
from mm_assets.training.train import TrainingResult, train_model
from mm_assets.training.training_set import build_training_set
from mm_assets.uploads.received import read_parquet
from tests.engines.frames import learn
from tests.make import csv_table, dataset, drop_zip, processed

WITHOUT = Modality.WITHOUT_IMAGE
ENGINES: dict[str, dict[str, Any]] = {
    "gradient_boosting": {"engine": "gradient_boosting", "hyperparameters": {"n_estimators": 20}},
    "sklearn": {
        "engine": "sklearn",
        "hyperparameters": {"steps": ["sklearn.linear_model.LogisticRegression"]},
    },
    "rules": {
        "engine": "rules",
        "hyperparameters": {"rules": [{"when": "grade IN ('1', '3.0')", "then": "odd"}],
                            "otherwise": "even"},
    },
}  # fmt: skip
Row = tuple[str, ...]


class World:
    """A dataset of one category that decides the label, in a lake of its own."""

    def __init__(self, settings: Settings, engine: str = "gradient_boosting", **keys: Any) -> None:
        kept = {"classes": ["odd", "even"], "model_without_image": ENGINES[engine], **keys}
        columns = {"grade": "category", "size": "number"}
        self.spec: DatasetSpec = dataset(columns=columns, image_name=None, **kept)
        self.lake, self.store = Lake(settings), open_store(settings)
        self.models = ModelStore(self.lake, "pets")

    def upload(self, name: str, header: Iterable[str], rows: Iterable[Row]) -> str:
        drop_zip(self.lake, f"{name}.zip", {"t.csv": csv_table(header, rows)})
        document = processed(self.lake, self.store, self.spec, f"{name}.zip")
        assert not document["rejected_by_code"]
        return document["upload"]

    def labelled(self, name: str, rows: Iterable[Row]) -> None:
        self.upload(name, ("id", "grade", "size", "label"), rows)

    def train(self) -> TrainingResult:
        build_training_set(self.lake, self.store, self.spec, run_id="run")
        return train_model(
            self.lake, self.models, self.spec, WITHOUT, run_id="run", progress=lambda _: None
        )

    def predict(self, name: str, grades: Iterable[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Upload these grades, one record each; the document, and the answer to each by number."""
        rows = [(f"{name}{n}", grade, str(n % 7)) for n, grade in enumerate(grades)]
        upload = self.upload(name, ("id", "grade", "size"), rows)
        split_records(self.lake, self.spec, upload, WITHOUT)
        document = predict_records(
            self.lake, self.models, self.spec, upload, WITHOUT,
            champions={Modality.WITH_IMAGE: None, WITHOUT: self.models.champion(WITHOUT)},
            run_id="run", progress=lambda _: None,
        )  # fmt: skip
        said = read_parquet(self.lake, document, f"predictions_{WITHOUT.value}.parquet")
        names = ("prediction", "probabilities", "confidence", "reasons")
        return document, {
            row["record_id"].removeprefix(name): tuple(row[one] for one in names)
            for row in said.to_pylist()
        }


def unseen(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in document["unlike"]["found"] if one["code"] == "unseen_category"]


def grade_of(number: int) -> int:
    return number * 7 % 4 + 1


def rows(count: int, spelled: Callable[[int], str], start: int = 0) -> list[Row]:
    return [
        (f"r{n}", spelled(grade_of(n)), str(n % 7), "odd" if grade_of(n) % 2 else "even")
        for n in range(start, start + count)
    ]


@pytest.fixture(params=ENGINES)
def world(request: pytest.FixtureRequest, folder_settings: Settings) -> World:
    return World(folder_settings, request.param)


def test_a_gap_that_makes_floats_of_integers_changes_no_answer(world: World) -> None:
    world.labelled("u", rows(120, str))
    result = world.train()
    assert result.champion is not None
    assert result.evaluation.metrics["accuracy"] == 1.0
    numbers = range(24)
    _, plain = world.predict("a", [str(grade_of(n)) for n in numbers])
    floats = [f"{grade_of(n)}.0" if n else "" for n in numbers]
    document, floated = world.predict("b", floats)
    assert [plain[str(n)][0] for n in numbers] == [
        "odd" if grade_of(n) % 2 else "even" for n in numbers
    ]
    assert {n: floated[n] for n in floated if n != "0"} == {n: plain[n] for n in plain if n != "0"}
    assert not unseen(document)


def test_training_uploads_in_two_spellings_are_one_category(world: World) -> None:
    world.labelled("u", rows(60, str))
    world.labelled("v", rows(60, "{}.0".format, start=60))
    result = world.train()
    assert result.champion is not None
    assert result.evaluation.metrics["accuracy"] == 1.0
    assert result.warnings == ()
    manifest = world.models.manifest(WITHOUT, result.version)
    assert manifest["spellings"] == {"grade": ["1", "2", "3", "4"]}
    _, plain = world.predict("a", ["1", "2", "3", "4"])
    _, floated = world.predict("b", ["1.0", "+2", "03", " 4 "])
    assert plain == floated
    assert [answer[0] for answer in plain.values()] == ["odd", "even", "odd", "even"]


def test_only_records_that_the_model_learned_from_teach_spellings(
    folder_settings: Settings,
) -> None:
    world = World(folder_settings)
    held_out = next(n for n in range(120) if split_of(f"r{n}", 0.2) == "holdout")
    table = rows(120, str)
    table[held_out] = (f"r{held_out}", "9", "1", "odd")
    world.labelled("u", table)
    manifest = world.models.manifest(WITHOUT, world.train().version)
    assert manifest["spellings"] == {"grade": ["1", "2", "3", "4"]}


def test_values_that_the_model_never_saw_are_counted_and_named(folder_settings: Settings) -> None:
    world = World(folder_settings)
    world.labelled("u", rows(120, str))
    world.train()
    document, _ = world.predict("a", ["5"] * 8 + ["6"] * 4 + ["1.000", "x"] + ["1.0"] * 7)
    words = (
        "column grade: 14 of 21 records have values that the model never saw: '5' (8), '6' (4), "
        "'1.000' (1) and 1 more; it knows '1', '2', '3', '4'"
    )
    assert in_words([document]) == [words]
    receipt = build_receipt(world.lake, world.store, world.spec, document["upload"])
    assert receipt["unlike"] == [words]
    clean, _ = world.predict("b", ["1", "01"])
    assert in_words([clean]) == []


def test_a_model_from_before_there_were_spellings_is_asked_as_it_was(
    folder_settings: Settings,
) -> None:
    world = World(folder_settings)
    world.labelled("u", rows(120, str))
    result = world.train()
    folder = world.models.fetch(WITHOUT, result.version)
    manifest = world.models.manifest(WITHOUT, result.version)
    own = ("spellings", "version", "dataset", "modality", "libraries", "created_at", "files")
    older = {name: value for name, value in manifest.items() if name not in own}
    stored = world.models.save(WITHOUT, folder, {**older, "training_fingerprint": "older"})
    promoted = world.models.promote(WITHOUT, stored.version, "older")
    assert not isinstance(load_model(world.models, world.spec, WITHOUT, promoted), Spelled)
    document, answers = world.predict("a", ["1", "1.0", "5"])
    assert not unseen(document)
    assert answers["1"] != answers["0"]
    assert answers["1"][:3] == answers["2"][:3]


def test_words_that_differ_only_in_case_stay_two_categories_and_are_named(
    folder_settings: Settings,
) -> None:
    world = World(folder_settings)
    table = rows(120, lambda grade: ["Red", "blue", "red", "green"][grade - 1])
    world.labelled("u", table)
    result = world.train()
    manifest = world.models.manifest(WITHOUT, result.version)
    assert manifest["spellings"] == {"grade": ["Red", "blue", "green", "red"]}
    [warning] = result.warnings
    seen = [row for row in table if split_of(row[0], 0.2) != "holdout"]
    counts = [sum(row[1] == value for row in seen) for value in ("Red", "red")]
    assert f"column grade: 'Red' ({counts[0]}), 'red' ({counts[1]}) differ only in" in warning
    document, answers = world.predict("a", ["BLUE", "RED", "blue"])
    assert unseen(document)[0]["values"] == [("RED", 1)]
    assert answers["0"][:2] == world.predict("b", ["blue"])[1]["0"][:2]


# -- labels ---------------------------------------------------------------------------------------


def labels(told: dict[int, str], count: int = 120) -> list[Row]:
    return [(f"r{n}", str(grade_of(n)), "1", told[grade_of(n)]) for n in range(count)]


def test_labels_in_two_spellings_train_no_model_until_a_person_decides(
    folder_settings: Settings,
) -> None:
    told = {1: "Yes", 2: "no", 3: "yes", 4: "no"}
    world = World(folder_settings, classes=None)
    world.labelled("u", labels(told))
    with pytest.raises(ModelError) as caught:
        world.train()
    assert caught.value.code == "label_spelling"
    assert "'Yes' (30), 'yes' (30)" in caught.value.what
    assert "classes" in caught.value.todo


@pytest.mark.parametrize(
    ("classes", "problem_type", "expected"),
    [(["Yes", "no"], "binary", ["Yes", "no"]), (["Yes", "yes", "no"], "multiclass",
                                               ["Yes", "no", "yes"])],
)  # fmt: skip
def test_classes_make_labels_the_same_or_keep_them_apart(
    folder_settings: Settings, classes: list[str], problem_type: str, expected: list[str]
) -> None:
    world = World(folder_settings, classes=classes, problem_type=problem_type)
    world.labelled("u", labels({1: "Yes", 2: "no", 3: "yes", 4: "no"}))
    assert sorted(world.train().evaluation.classes or []) == expected


def test_labels_that_pandas_made_floats_are_the_integers_that_they_were(
    folder_settings: Settings,
) -> None:
    world = World(folder_settings, classes=None)
    world.labelled("u", labels({1: "1", 2: "0", 3: "1.0", 4: "0.0"}))
    result = world.train()
    assert result.evaluation.classes == ["0", "1"]
    assert result.evaluation.metrics["accuracy"] == 1.0


# -- the pieces -----------------------------------------------------------------------------------


class Echo:
    """A predictor that says what it was shown."""

    classes = ("a",)

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        return frame

    def reasons(self, frame: pd.DataFrame) -> list[str]:
        return frame["grade"].tolist()


class Silent:
    """A predictor without reasons."""

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        return frame


def test_a_loaded_model_is_shown_what_it_knows_and_the_callers_frame_stays() -> None:
    training = pd.DataFrame({"grade": ["1", "2", None], "free": ["1", "2", "3"]})
    known, _ = Spellings.learn([training], {"grade": "category", "free": "text"})
    asked = pd.DataFrame({"grade": ["1.0", None, "9"], "free": ["1.0", "", ""]}, index=[4, 2, 9])
    before = asked.copy()
    model = Spelled(Echo(), known)
    shown = model.predict(asked)
    assert shown["grade"].tolist() == ["1", None, "9"]
    assert shown["free"].tolist() == ["1.0", "", ""]
    assert shown.index.equals(asked.index)
    assert model.reasons(asked) == ["1", None, "9"]
    assert model.classes == ("a",)
    assert not hasattr(Spelled(Silent(), known), "reasons")
    pd.testing.assert_frame_equal(asked, before)
    assert known.unseen(asked) == {"grade": {"9": 1}}


def test_what_a_manifest_keeps_is_all_there_is() -> None:
    frame = pd.DataFrame({"grade": ["1.0", "2", "x", "ÄÖ", "true"]})
    known, _ = Spellings.learn([frame], {"grade": "category"})
    assert Spellings.from_json(json.loads(json.dumps(known.to_json()))) == known
    assert Spellings.from_json(None).columns == {}


def test_a_column_with_too_many_values_is_left_alone() -> None:
    frame = pd.DataFrame({"grade": [str(n) for n in range(MOST_VALUES + 1)]})
    known, warnings = Spellings.learn([frame], {"grade": "category"})
    assert (known.columns, warnings) == ({}, [])
    asked = pd.DataFrame({"grade": ["1.0"]})
    assert known.applied(asked) is asked
    assert known.unseen(asked) == {}


# -- formulas -------------------------------------------------------------------------------------

FORMULAS: list[tuple[str, dict[str, str]]] = [
    ("grade = '1' OR grade = '3'", {}),
    ("grade = '1.0' OR '+3' = grade", {}),
    ("grade IN ('01', '3.00')", {}),
    ("grade NOT IN ('2.0', four)", {"four": "4.0"}),
    ("grade = one OR grade IS NOT DISTINCT FROM '3.0'", {"one": "1.0"}),
    ("grade <> '2.0' AND grade IS DISTINCT FROM '4.0'", {}),
    ("CASE grade WHEN '1.0' THEN true WHEN '3' THEN true ELSE false END", {}),
    ("grade = 1 OR CAST(grade AS INTEGER) = 3", {}),
    ("grade IN ('1', '3') AND colour = 'RED'", {}),
]


@pytest.mark.parametrize(("formula", "parameters"), FORMULAS)
def test_a_formula_compares_categories_by_the_same_rule(
    tmp_path: Path, formula: str, parameters: dict[str, str]
) -> None:
    frame = pd.DataFrame({"grade": [str(grade_of(n)) for n in range(80)], "colour": "Red"})
    frame["label"] = ["odd" if int(grade) % 2 else "even" for grade in frame["grade"]]
    rules = {"rules": [{"when": formula, "then": "odd"}], "otherwise": "even", **parameters}
    columns = {"grade": "category", "colour": "category"}
    model = RulesEngine().load(
        learn(RulesEngine(hyperparameters=rules), tmp_path, frame, columns=columns)
    )
    asked = frame[[*columns]]
    assert model.predict(asked).idxmax(axis=1).tolist() == frame["label"].tolist()
    assert f"grade '{asked['grade'][0]}'" in model.reasons(asked)[0]


def test_a_formula_tells_words_apart_where_training_does(tmp_path: Path) -> None:
    frame = pd.DataFrame({"colour": ["Red", "red", "blue", "green"] * 20})
    frame["label"] = ["odd" if colour == "red" else "even" for colour in frame["colour"]]
    rules = {"rules": [{"when": "colour = 'red'", "then": "odd"}], "otherwise": "even"}
    columns = {"colour": "category"}
    model = RulesEngine().load(
        learn(RulesEngine(hyperparameters=rules), tmp_path, frame, columns=columns)
    )
    assert model.predict(frame[["colour"]]).idxmax(axis=1).tolist() == frame["label"].tolist()


def test_members_are_asked_in_the_spelling_that_the_model_knows() -> None:
    class Ensemble:
        def said_by_members(self, frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
            return {"trees": frame}

        def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
            return frame

    frame = pd.DataFrame({"colour": ["red", "Blue"]})
    spellings, _ = Spellings.learn([frame], {"colour": "category"})
    asked = Spelled(Ensemble(), spellings).said_by_members(pd.DataFrame({"colour": ["RED"]}))
    assert asked["trees"]["colour"].tolist() == ["red"]
    assert not hasattr(Spelled(object(), spellings), "said_by_members")  # type: ignore[arg-type]
