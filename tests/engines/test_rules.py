"""The rules engine: formulas people wrote decide, and the records say how often they are right."""

import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_assets.engines.rules.engine import RulesEngine
from tests.engines.frames import imports, learn, refused
from tests.engines.threads import assert_same_for_threads, told
from tests.make import draw_image

SHARPNESS = "image_laplacian_variance"
COLUMNS = {SHARPNESS: "number", "Age": "number", "age": "number", "place": "category"}
SHARP = {
    "rules": [{"when": f"{SHARPNESS} < threshold", "then": "blurred"}],
    "otherwise": "sharp",
    "threshold": 87.3,
}
THREE = {
    "rules": [
        {"when": f"{SHARPNESS} < low", "then": "blurred"},
        {"when": f"{SHARPNESS} < high AND place LIKE 'in%'", "then": "soft"},
    ],
    "otherwise": "sharp",
    "low": 30,
    "high": 60,
}


def records(count: int) -> pd.DataFrame:
    """Sharpness from 0 to 99; below 50 the image is blurred, save for every tenth record."""
    sharpness = np.arange(count) * 37 % 100
    blurred = (sharpness < 50) ^ (np.arange(count) % 10 == 3)
    return pd.DataFrame(
        {
            SHARPNESS: sharpness.astype(float),
            "Age": np.arange(count) * 1.0,
            "age": np.arange(count) * -1.0,
            "place": np.where(sharpness % 2 == 0, "inside", "outside"),
            "label": np.where(blurred, "blurred", "sharp"),
            "amount": sharpness * 2.0 + 5,
        },
        index=[f"r{n}" for n in range(count)],
    )


def train(
    folder, hyperparameters, frame=None, *, columns=COLUMNS, problem_type="binary", said=None
):
    label = "amount" if problem_type == "regression" else "label"
    engine = RulesEngine(hyperparameters=hyperparameters)
    frame = records(200) if frame is None else frame
    return learn(
        engine, folder, frame, said, columns=columns, problem_type=problem_type, label=label
    )


def load(folder):
    return RulesEngine().load(folder)


def features(count: int = 100) -> pd.DataFrame:
    return records(count)[[*COLUMNS]]


def with_rule(formula: str, **parameters) -> dict:
    rules = [{"when": formula, "then": "blurred"}]
    return {"rules": rules, "otherwise": "sharp", **parameters}


def holds(folder, formula: str, frame=None, **parameters) -> list[bool]:
    """For which records the formula holds."""
    model = load(train(folder, with_rule(formula, **parameters)))
    frame = features() if frame is None else frame
    return (model.predict(frame).idxmax(axis=1) == "blurred").tolist()


def test_importing_the_engine_imports_nothing_heavy():
    assert imports("mm_assets.engines.rules.engine", "torch", "duckdb", "sklearn") == []


def test_a_rule_decides_and_its_record_is_its_probability(tmp_path):
    said: list[str] = []
    model = load(train(tmp_path, {**SHARP, "threshold": 50}, said=said))
    asked = records(100)
    predicted = model.predict(asked[[*COLUMNS]])
    assert list(predicted.columns) == ["blurred", "sharp"]
    assert predicted.index.equals(asked.index)
    answer = predicted.idxmax(axis=1)
    assert ((answer == "blurred") == (asked[SHARPNESS] < 50)).all()
    assert (answer == asked["label"]).mean() == pytest.approx(0.9)
    trained = records(200).iloc[:160]
    fired = trained[trained[SHARPNESS] < 50]
    right = (fired["label"] == "blurred").sum()
    expected = (right + 1) / (len(fired) + 2)
    assert predicted["blurred"][answer == "blurred"].unique() == pytest.approx([expected])
    assert said[0] == f"rule 1: blurred, right in {right} of {len(fired)} records"
    assert said[1].startswith("otherwise: sharp, right in ")


def test_the_first_of_several_rules_that_holds_decides(tmp_path):
    frame = records(300)
    frame["label"] = np.select(
        [frame[SHARPNESS] < 30, (frame[SHARPNESS] < 60) & (frame["place"] == "inside")],
        ["blurred", "soft"],
        "sharp",
    )
    model = load(train(tmp_path, THREE, frame, problem_type="multiclass"))
    predicted = model.predict(frame[[*COLUMNS]])
    assert list(predicted.columns) == ["blurred", "sharp", "soft"]
    np.testing.assert_allclose(predicted.sum(axis=1), 1)
    assert (predicted.idxmax(axis=1) == frame["label"]).all()


def test_a_formula_gives_the_number_of_a_regression(tmp_path):
    chosen = {"value": f"factor * {SHARPNESS} + 5", "factor": 2}
    model = load(train(tmp_path, chosen, problem_type="regression"))
    asked = records(50)
    np.testing.assert_allclose(model.predict(asked[[*COLUMNS]])["value"], asked["amount"])
    strange = features(3)
    strange[SHARPNESS] = [np.nan, 1e300, 10.0]
    median = records(200).iloc[:160]["amount"].median()
    assert model.predict(strange)["value"].tolist() == [median, 2e300, 25.0]
    assert model.reasons(strange)[2] == f"factor 2 * {SHARPNESS} 10 + 5"


@pytest.mark.parametrize("classes", [2, 3, 5, 40])
@pytest.mark.parametrize("named", [0, 1])
def test_the_class_that_a_rule_names_wins_however_wrong_it_is(tmp_path, classes, named):
    """All records are of class k1, save for one of each other; rounded as they are stored."""
    frame = records(60 * classes).assign(label="k1")
    frame.iloc[:classes, frame.columns.get_loc("label")] = [f"k{n}" for n in range(classes)]
    rules = [
        {"when": f"{SHARPNESS} < 50", "then": f"k{named}"},
        {"when": f"{SHARPNESS} > 500", "then": f"k{named}"},  # never
    ]
    chosen = {"rules": rules, "otherwise": "k0"}
    problem = "binary" if classes == 2 else "multiclass"
    model = load(train(tmp_path, chosen, frame, problem_type=problem))
    asked = features(3)
    asked[SHARPNESS] = [10.0, 1000.0, 60.0]
    predicted = model.predict(asked).round(6)
    assert (predicted.to_numpy() > 0).all()
    for row, name in zip(predicted.to_numpy(), [f"k{named}", f"k{named}", "k0"], strict=True):
        place = predicted.columns.get_loc(name)
        assert (row[place] > np.delete(row, place)).all()


def test_a_moved_model_predicts_the_same_and_is_one_json_file(tmp_path):
    (tmp_path / "here").mkdir()
    before = load(train(tmp_path / "here", SHARP))
    moved = shutil.move(tmp_path / "here", tmp_path / "elsewhere")
    assert [path.name for path in moved.iterdir()] == ["engine.json"]
    after = RulesEngine(hyperparameters={"rules": "another"}).load(moved)
    pd.testing.assert_frame_equal(before.predict(features()), after.predict(features()))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load(train(tmp_path_factory.mktemp("model"), with_rule(f"{SHARPNESS} < 50 OR age = -7")))


@given(chosen=st.lists(st.integers(0, 99), min_size=1, max_size=100))
@settings(max_examples=40, deadline=None)
def test_neighbours_and_order_do_not_matter(model, chosen):
    together = model.predict(features())
    some = model.predict(features().iloc[chosen])
    pd.testing.assert_frame_equal(some, together.iloc[chosen], check_exact=True)
    assert model.reasons(features().iloc[chosen[:1]]) == [model.reasons(features())[chosen[0]]]


def test_many_threads_get_the_answers_that_one_gets(model):
    assert_same_for_threads(model, features(), within=0)
    for answer, expected in told(model.reasons, features(20)):
        assert answer == expected


def test_many_records_keep_their_order(model):
    frame = records(300_000)
    answer = model.predict(frame[[*COLUMNS]]).idxmax(axis=1)
    expected = (frame[SHARPNESS] < 50) | (frame["age"] == -7)
    assert ((answer == "blurred") == expected).all()


def test_what_cannot_be_computed_for_a_record_does_not_hold_for_it_alone(tmp_path):
    """Twice the same cast: an optimizer would take it out of what may fail."""
    frame = features(6).assign(place=["7", "inside", None, "-3", "", "1e"])
    formula = "CAST(place AS INT) > 1 OR CAST(place AS INT) < 0"
    assert holds(tmp_path, formula, frame) == [True, False, False, True, False, False]


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        (f"{SHARPNESS} < 50", [False, True, False, False]),
        (f"NOT {SHARPNESS} < 50", [False, False, True, True]),
        (f"{SHARPNESS} IS NULL", [True, False, False, False]),
        (f"coalesce({SHARPNESS}, 0) < 50", [True, True, False, False]),
        ("place = 'in side'", [False, False, True, False]),
        ("place NOT IN ('in side', word)", [False, False, False, True]),
        ("Age / Age > 0", [False, False, True, True]),  # 0 / 0 is nothing
        ("sqrt(age) >= 0", [True, True, False, False]),  # nor is the root of -2
        ("CASE WHEN flag THEN Age > 2 ELSE age > 2 END", [False, False, False, True]),
        ("true", [True] * 4),
        ("limit_1 > 2", [False] * 4),
    ],
)
def test_missing_values_and_formulas_of_many_kinds(tmp_path, formula, expected):
    frame = features(4).assign(Age=[0.0, 0.0, 2.0, 3.0], age=[0.0, 0.0, -2.0, -3.0])
    frame[SHARPNESS] = [np.nan, 1.0, 60.0, 70.0]
    frame["place"] = [None, "x", "in side", "y"]
    given = {"word": "x", "flag": True, "limit_1": 1.5}
    used = {name: value for name, value in given.items() if name in formula}
    assert holds(tmp_path, formula, frame, **used) == expected


def test_names_are_told_apart_by_case_and_may_hold_any_characters(tmp_path):
    columns = {'w"ird, é; --': "number", "Age": "number", "age": "number"}
    frame = records(100).assign(**{'w"ird, é; --': np.arange(100.0)})
    formula = '"w""ird, é; --" < 50 AND Age >= 10 AND age > -20'
    model = load(train(tmp_path, with_rule(formula), frame, columns=columns))
    answer = model.predict(frame[[*columns]]).idxmax(axis=1)
    assert np.flatnonzero(answer == "blurred").tolist() == list(range(10, 20))
    said = model.reasons(frame[[*columns]].iloc[12:13])
    assert said == ['"w""ird, é; --" 12 < 50 AND Age 12 >= 10 AND age -12 > -20']


def test_reasons_show_the_formula_with_its_values(tmp_path):
    model = load(train(tmp_path, SHARP))
    asked = features(3)
    asked[SHARPNESS] = [41.2, 123.456, np.nan]
    assert model.reasons(asked) == [
        f"{SHARPNESS} 41.2 < threshold 87.3",
        f"not: {SHARPNESS} 123.5 < threshold 87.3",
        f"not: {SHARPNESS} (missing) < threshold 87.3",
    ]


def test_reasons_of_several_rules(tmp_path):
    frame = records(100)
    frame.iloc[:5, frame.columns.get_loc("label")] = "soft"
    model = load(train(tmp_path, THREE, frame, problem_type="multiclass"))
    asked = features(2).assign(place="inside")
    asked[SHARPNESS] = [50.0, 90.0]
    assert model.reasons(asked) == [
        f"{SHARPNESS} 50 < high 60 AND place 'inside' LIKE 'in%'",
        "none of the 2 rules holds",
    ]


def test_no_records_give_no_predictions(model):
    assert model.predict(features().iloc[:0]).shape == (0, 2)
    assert model.reasons(features().iloc[:0]) == []


def test_records_without_an_image_are_left_out_in_training_and_refused_later(tmp_path):
    columns = {SHARPNESS: "number", "image": "image"}
    frame = records(100)
    frame["image"] = [None if n % 4 == 0 else draw_image(n) for n in range(100)]
    said: list[str] = []
    model = load(train(tmp_path, SHARP, frame, columns=columns, said=said))
    assert said[-1].startswith("judged on 60 records")
    assert refused(lambda: model.predict(frame[[*columns]])).code == "image_missing"
    assert model.predict(frame[[*columns]].iloc[1:4]).shape == (3, 2)


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "formula",
    [
        "",
        "Age >",
        "Age > 1; DROP TABLE frame",
        "Age > 1, age > 1",
        "Age > 1 FROM frame",
        "Age > 1 WHERE true",
        "Age > 1 ORDER BY 1",
        "Age > 1 LIMIT 1",
        "DISTINCT Age > 1",
        "Age > 1 GROUP BY ALL",
        "Age > 1 UNION SELECT true",
        "Age > 1 AS x",
        "Age > 1) OR (true",
        "*",
        "COLUMNS(*) > 1",
        "(SELECT true)",
        "EXISTS (SELECT 1)",
        "Age IN (SELECT 1)",
        "Age > (SELECT avg(Age) FROM frame)",
        "avg(Age) > 1",
        "count(*) > 1",
        "sum(Age) OVER () > 1",
        "random() > 0.5",
        "now() > DATE '2020-01-01'",
        "getenv('HOME') = 'x'",
        "current_setting('threads') = 1",
        "read_text('engine.json') = 'x'",
        "nextval('x') > 1",
        "? > 1",
        "$x > 1",
        "Age",
        "NULL",
        "place",
        "place > 3",
        "Age = 'x'",
        "Age > CAST('x' AS INT)",
        "nosuchfunction(Age) > 1",
    ],
)
def test_only_one_expression_about_one_record_that_is_true_or_false_is_let_through(
    tmp_path, formula
):
    error = refused(lambda: train(tmp_path, with_rule(formula)))
    assert error.code == "rule_invalid"
    assert repr(formula) in error.what
    assert "mm_" not in error.what
    assert error.where == "the engine rules, rule 1"
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("formula", "nearest"),
    [
        ("image_laplacian_varance < 3", SHARPNESS),
        ("AGE < 3", "Age"),
        ("image > 3", "image"),
        ("frame.Age < 3", "Age"),
        ("place = inside", "known are"),  # meant: 'inside'
        ("label = 'sharp'", "no column or parameter 'label'"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_one(tmp_path, formula, nearest):
    error = refused(lambda: train(tmp_path, with_rule(formula)))
    assert error.code == "rule_column_unknown"
    assert nearest in error.what
    assert "'single quotes'" in error.todo


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"treshold": 3}, "hyperparameter_unknown", "'threshold'"),
        ({"threshold": [3]}, "hyperparameter_invalid", "threshold"),
        ({"threshold": None}, "hyperparameter_invalid", "threshold"),
        ({"rules": []}, "hyperparameter_invalid", "rules"),
        ({"rules": "a < b"}, "hyperparameter_invalid", "rules"),
        ({"rules": [{"when": "Age > 3"}]}, "hyperparameter_invalid", "rule 1"),
        ({"rules": [{"when": "true", "then": True}]}, "hyperparameter_invalid", "quote it"),
        ({"rules": [{"when": "true", "then": "shrp"}]}, "hyperparameter_unknown", "threshold"),
        ({"otherwise": None}, "hyperparameter_invalid", "None"),
        ({"otherwise": "shrp"}, "rule_class_unknown", "'sharp'"),
        ({"value": "Age"}, "hyperparameter_invalid", "`rules` and `otherwise`"),
        ({"Age": 3}, "hyperparameter_invalid", "'Age' is a column and a parameter"),
    ],
)
def test_wrong_hyperparameters_are_refused_in_words(tmp_path, change, code, said):
    error = refused(lambda: train(tmp_path, {**SHARP, **change}))
    assert error.code == code
    assert said in error.what
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("missing", ["rules", "otherwise"])
def test_rules_need_an_otherwise_and_the_reverse(tmp_path, missing):
    chosen = {name: value for name, value in SHARP.items() if name != missing}
    assert refused(lambda: train(tmp_path, chosen)).code == "hyperparameter_invalid"


@pytest.mark.parametrize(
    ("chosen", "code"),
    [
        (SHARP, "hyperparameter_invalid"),
        ({}, "hyperparameter_invalid"),
        ({"value": "Age > 3"}, "rule_invalid"),
        ({"value": "place"}, "rule_invalid"),
        ({"value": "avg(Age)"}, "rule_invalid"),
    ],
)
def test_a_regression_needs_a_formula_of_a_number(tmp_path, chosen, code):
    error = refused(lambda: train(tmp_path, chosen, problem_type="regression"))
    assert error.code == code


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"label": "sharp"}, "classes_differ"),
        ({"label": None}, "label_missing"),
        ({"Age": np.inf}, "number_not_finite"),
        ({"label": "other"}, "classes_differ"),
    ],
)
def test_records_that_do_not_fit_are_refused(tmp_path, change, code):
    assert refused(lambda: train(tmp_path, SHARP, records(60).assign(**change))).code == code
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda frame: frame.drop(columns="age"), "model_columns_differ"),
        (lambda frame: frame.assign(colour="red"), "model_columns_differ"),
        (lambda frame: frame.assign(Age=-np.inf), "number_not_finite"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(model, change, code):
    assert refused(lambda: model.predict(change(features()))).code == code


def test_a_damaged_model_is_refused_with_its_place(tmp_path):
    (tmp_path / "engine.json").write_text("{}")
    error = refused(lambda: load(tmp_path))
    assert (error.code, error.where) == ("model_unreadable", str(tmp_path))
