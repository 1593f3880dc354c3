"""The sklearn engine: pipelines as the YAML names them, on made-up records."""

import shutil
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_assets.engines.sklearn_pipeline import SklearnEngine
from tests.engines.frames import COLUMNS, imaged, imports, learn, records, refused
from tests.engines.threads import assert_same_for_threads

LOGISTIC = "sklearn.linear_model.LogisticRegression"
FOREST = "sklearn.ensemble.RandomForestClassifier"
SMALL_FOREST = {"class": FOREST, "n_estimators": 20}


def train(
    folder, frame, *steps, columns=COLUMNS, problem_type="binary", label="label", seed=0, **more
):
    said = more.pop("said", None)
    engine = SklearnEngine(hyperparameters={"steps": list(steps), **more}, seed=seed)
    return learn(
        engine, folder, frame, said, columns=columns, problem_type=problem_type, label=label
    )


def load(folder):
    return SklearnEngine().load(folder)


def features(count: int = 40) -> pd.DataFrame:
    return records(count, seed=1)[[*COLUMNS]]


def folder_in(folder, name):
    (folder / name).mkdir()
    return folder / name


def test_importing_the_engine_imports_nothing_heavy():
    module = "mm_assets.engines.sklearn_pipeline"
    assert imports(module, "torch", "sklearn", "scipy", "joblib") == []


@pytest.mark.parametrize(("problem_type", "kinds"), [("binary", 2), ("multiclass", 3)])
@pytest.mark.parametrize(
    "steps",
    [
        (LOGISTIC,),
        ("sklearn.preprocessing.StandardScaler", SMALL_FOREST),
        ("sklearn.naive_bayes.GaussianNB",),  # takes no sparse matrix
        ("sklearn.neighbors.KNeighborsClassifier",),
    ],
)
def test_classes_are_learnt_by_any_classifier(tmp_path, problem_type, kinds, steps):
    train(tmp_path, records(150, kinds=kinds), *steps, problem_type=problem_type)
    asked = records(90, seed=1, kinds=kinds)
    predicted = load(tmp_path).predict(asked[[*COLUMNS]])
    assert list(predicted.columns) == [f"k{n}" for n in range(kinds)]
    assert predicted.index.equals(asked.index)
    np.testing.assert_allclose(predicted.sum(axis=1), 1)
    assert (predicted.idxmax(axis=1) == asked["label"]).mean() > 0.9


@pytest.mark.parametrize(
    "step", ["sklearn.linear_model.Ridge", "sklearn.ensemble.RandomForestRegressor"]
)
def test_numbers_are_learnt(tmp_path, step):
    train(tmp_path, records(150), step, problem_type="regression", label="amount")
    asked = records(90, seed=1)
    predicted = load(tmp_path).predict(asked[[*COLUMNS]])
    error = (predicted["value"] - asked["amount"]).abs().mean()
    assert error < 0.25 * (asked["amount"] - asked["amount"].mean()).abs().mean()


@pytest.mark.parametrize("column", [*COLUMNS])
def test_each_kind_of_column_is_enough(tmp_path, column):
    train(tmp_path, records(150), LOGISTIC, columns={column: COLUMNS[column]})
    asked = records(90, seed=1)
    predicted = load(tmp_path).predict(asked[[column]])
    assert (predicted.idxmax(axis=1) == asked["label"]).mean() > 0.8


def test_parameters_reach_their_step_whichever_way_they_are_given(tmp_path):
    train(tmp_path, records(100), SMALL_FOREST, randomforestclassifier__max_depth=1)
    forest = load(tmp_path)._steps[-1]
    assert len(forest.estimators_) == 20
    assert max(tree.get_depth() for tree in forest.estimators_) == 1


def test_what_is_random_follows_the_seed_unless_it_has_one(tmp_path):
    def predicted(name, seed, **options):
        step = {"class": FOREST, "n_estimators": 5, "max_features": 1, **options}
        place = folder_in(tmp_path, name)
        return load(train(place, records(100), step, seed=seed)).predict(features())

    pd.testing.assert_frame_equal(predicted("a", 1), predicted("b", 1), check_exact=True)
    assert not predicted("c", 2).equals(predicted("d", 1))
    fixed = predicted("e", 1, random_state=7), predicted("f", 2, random_state=7)
    pd.testing.assert_frame_equal(*fixed, check_exact=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder that a model of many threads was moved to, and what it predicted before."""
    here = tmp_path_factory.mktemp("trained") / "here"
    here.mkdir()
    train(here, records(150), {**SMALL_FOREST, "n_jobs": -1})
    before = load(here).predict(features())
    return shutil.move(here, here.parent / "elsewhere"), before


@pytest.fixture(scope="module")
def logistic(tmp_path_factory):
    return load(train(tmp_path_factory.mktemp("logistic"), records(150), LOGISTIC))


def test_a_moved_model_predicts_the_same_bit_for_bit(trained):
    for _ in range(5):
        again = load(trained[0]).predict(features())
        pd.testing.assert_frame_equal(again, trained[1], check_exact=True)
    for path in trained[0].rglob("*"):
        assert str(trained[0].parent).encode() not in path.read_bytes()


@given(chosen=st.lists(st.integers(0, 39), min_size=1, max_size=40))
@settings(max_examples=30, deadline=None)
def test_neighbours_and_order_do_not_matter(trained, logistic, chosen):
    for model in (load(trained[0]), logistic):
        together = model.predict(features())
        some = model.predict(features().iloc[chosen])
        pd.testing.assert_frame_equal(some, together.iloc[chosen], rtol=0, atol=1e-9)


def test_many_threads_get_the_answers_that_one_gets_and_leave_the_process_as_it_was(
    trained, logistic
):
    from threadpoolctl import threadpool_info

    before = threadpool_info(), list(warnings.filters)
    for model in (load(trained[0]), logistic):
        assert_same_for_threads(model, features())
    assert (threadpool_info(), list(warnings.filters)) == before


def test_missing_unseen_and_huge_values_still_get_a_probability(logistic):
    strange = features(4)
    strange["price"] = [np.nan, 1e300, -1e300, 15.0]
    strange["brand"] = [None, "never seen", "brand 1", ""]
    strange["title"] = [None, "", "words nobody wrote", "red " * 5000]
    assert np.isfinite(logistic.predict(strange).to_numpy()).all()


def test_columns_that_are_empty_in_training_are_taken_but_not_used(tmp_path):
    frame = records(100).assign(price=np.nan)
    model = load(train(tmp_path, frame, LOGISTIC))
    some = features(5)
    pd.testing.assert_frame_equal(model.predict(some), model.predict(some.assign(price=3.0)))


def test_no_records_give_no_predictions(logistic):
    assert logistic.predict(features().iloc[:0]).shape == (0, 2)


def test_ten_thousand_categories_are_no_trouble(tmp_path):
    names = [f"c{n % 10_000}" for n in range(11_000)] + ["often"] * 3000
    truth = ["yes" if name == "often" else "no" for name in names]
    frame = pd.DataFrame({"name": names, "label": truth}).sample(frac=1, random_state=0)
    model = load(train(tmp_path, frame, LOGISTIC, columns={"name": "category"}))
    asked = pd.DataFrame({"name": ["often", "c1", "never seen"]})
    assert model.predict(asked).idxmax(axis=1).tolist() == ["yes", "no", "no"]


def test_warnings_of_the_steps_are_passed_on(tmp_path):
    said: list[str] = []
    train(tmp_path, records(100), {"class": LOGISTIC, "max_iter": 1}, said=said)
    assert said[0] == "training LogisticRegression on 80 records"
    assert any(line.startswith("warning: lbfgs failed to converge") for line in said)


# -- images -------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [{}, {"price": "number"}])
def test_pixels_are_looked_at_where_the_yaml_asks_for_them(tmp_path, more):
    said: list[str] = []
    frame = imaged(records(100), every_fifth_without=True).assign(price=np.arange(100.0))
    columns = {"image": "image", **more}
    train(tmp_path, frame, LOGISTIC, columns=columns, image_pixels=4, said=said)
    assert said[0] == "training LogisticRegression on 64 records"
    model = load(tmp_path)
    assert model._steps.n_features_in_ == 4 * 4 * 3 + len(more)
    seen = frame[frame["image"].notna()]
    assert (model.predict(seen[[*columns]]).idxmax(axis=1) == seen["label"]).all()
    assert refused(lambda: model.predict(frame[[*columns]])).code == "image_missing"


def test_images_are_not_looked_at_otherwise(tmp_path):
    frame = imaged(records(60), every_fifth_without=True)
    columns = {"price": "number", "image": "image"}
    model = load(train(tmp_path, frame, LOGISTIC, columns=columns))
    assert model._steps.n_features_in_ == 1
    only = {"image": "image"}
    empty = folder_in(tmp_path, "empty")
    error = refused(lambda: train(empty, frame, LOGISTIC, columns=only))
    assert error.code == "nothing_to_learn_from"


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "more", "code", "said"),
    [
        (["sklearn.ensemble.RandomForst"], {}, "engine_step_missing", "RandomForst"),
        (["no.such.module.Step"], {}, "engine_step_missing", "no.such.module.Step"),
        (["LogisticRegression"], {}, "engine_step_missing", "LogisticRegression"),
        ([{"n_estimators": 3}], {}, "engine_step_missing", "None"),
        ([3], {}, "engine_step_missing", "3"),
        ([], {}, "hyperparameter_invalid", "steps"),
        ([{"class": FOREST, "n_estimator": 3}], {}, "hyperparameter_unknown", "n_estimators'"),
        ([LOGISTIC], {"logisticregression__c": 3}, "hyperparameter_unknown", "regression__C'"),
        ([LOGISTIC], {"max_depth": 3}, "hyperparameter_unknown", "'max_depth'"),
        ([LOGISTIC], {"image_pixel": 3}, "hyperparameter_unknown", "'image_pixels'"),
        ([LOGISTIC], {"image_pixels": 0}, "hyperparameter_invalid", "image_pixels"),
        ([LOGISTIC], {"image_pixels": "8"}, "hyperparameter_invalid", "image_pixels"),
        (["sklearn.svm.LinearSVC"], {}, "engine_step_unfit", "predict_proba"),
        (["sklearn.linear_model.Ridge"], {}, "engine_step_unfit", "predict_proba"),
        (["sklearn.preprocessing.StandardScaler"], {}, "engine_step_unfit", "predict_proba"),
        ([LOGISTIC, FOREST], {}, "engine_step_unfit", "logisticregression"),
        (["fractions.Fraction"], {}, "engine_step_unfit", "get_params"),
        ([{"class": FOREST, "max_depth": "deep"}], {}, "engine_step_failed", "max_depth"),
        (["sklearn.naive_bayes.MultinomialNB"], {}, "engine_step_failed", "Negative values"),
    ],
)
def test_steps_that_do_not_work_are_refused_in_words(tmp_path, steps, more, code, said):
    error = refused(lambda: train(tmp_path, records(60), *steps, **more))
    assert error.code == code
    assert said in error.what
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("step", [LOGISTIC, "sklearn.preprocessing.StandardScaler"])
def test_a_regression_needs_a_regressor(tmp_path, step):
    error = refused(
        lambda: train(tmp_path, records(60), step, problem_type="regression", label="amount")
    )
    assert error.code == "engine_step_unfit"


@pytest.mark.parametrize(
    ("change", "columns", "code"),
    [
        ({"label": "k0"}, COLUMNS, "classes_differ"),
        ({"label": None}, COLUMNS, "label_missing"),
        ({"price": 1.0}, {"price": "number"}, "nothing_to_learn_from"),
        ({"price": np.inf}, COLUMNS, "number_not_finite"),
        ({"title": "!!"}, {"title": "text"}, "nothing_to_learn_from"),
        ({"image": None}, {"price": "number", "image": "image"}, "records_missing"),
        ({"label": [f"k{n}" for n in range(60)]}, COLUMNS, "classes_differ"),
    ],
)
def test_records_that_nothing_can_be_learnt_from_are_refused(tmp_path, change, columns, code):
    frame = records(60).assign(**change)
    assert refused(lambda: train(tmp_path, frame, LOGISTIC, columns=columns)).code == code
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda frame: frame.drop(columns="brand"), "model_columns_differ"),
        (lambda frame: frame.assign(colour="red"), "model_columns_differ"),
        (lambda frame: frame.assign(price=np.inf), "number_not_finite"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(logistic, change, code):
    assert refused(lambda: logistic.predict(change(features()))).code == code


def test_a_damaged_model_is_refused_with_its_place(trained, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(trained[0], damaged)
    (damaged / "model.joblib").write_bytes(b"nothing")
    error = refused(lambda: load(damaged))
    assert error.code == "model_unreadable"
    assert error.where == str(damaged)
