"""The gradient boosting engine on made-up records, with every kind of column."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_assets.contract import packages
from mm_assets.engines.gradient_boosting import GradientBoostingEngine
from mm_assets.engines.shared import backbones, encoding
from mm_assets.engines.shared.eyes import Eyes
from tests.engines.frames import COLUMNS, imaged, imports, learn, records, refused
from tests.engines.threads import assert_same_for_threads, told
from tests.make import draw_image

QUICK = {"n_estimators": 40, "learning_rate": 0.3}


def train(folder, frame, *, columns=COLUMNS, problem_type="binary", label="label", **engine):
    said = engine.pop("said", None)
    made = GradientBoostingEngine(**{"hyperparameters": QUICK, **engine})
    return learn(made, folder, frame, said, columns=columns, problem_type=problem_type, label=label)


def load(folder):
    return GradientBoostingEngine().load(folder)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder that a model was moved to, and what it predicted before."""
    here = tmp_path_factory.mktemp("trained") / "here"
    here.mkdir()
    train(here, records(200))
    before = load(here).predict(features())
    return shutil.move(here, here.parent / "elsewhere"), before


@pytest.fixture(scope="module")
def model(trained):
    return load(trained[0])


def features(count: int = 60) -> pd.DataFrame:
    return records(count, seed=1)[[*COLUMNS]]


def test_importing_the_engine_imports_nothing_heavy():
    module = "mm_assets.engines.gradient_boosting"
    assert imports(module, "torch", "xgboost", "sklearn", "scipy") == []


@pytest.mark.parametrize(("problem_type", "kinds"), [("binary", 2), ("multiclass", 3)])
def test_classes_are_learnt(tmp_path, problem_type, kinds):
    train(tmp_path, records(240, kinds=kinds), problem_type=problem_type)
    asked = records(120, seed=1, kinds=kinds)
    predicted = load(tmp_path).predict(asked[[*COLUMNS]])
    assert list(predicted.columns) == [f"k{n}" for n in range(kinds)]
    assert predicted.index.equals(asked.index)
    np.testing.assert_allclose(predicted.sum(axis=1), 1)
    assert (predicted.idxmax(axis=1) == asked["label"]).mean() > 0.9


def test_numbers_are_learnt(tmp_path):
    train(tmp_path, records(240), problem_type="regression", label="amount")
    asked = records(120, seed=1)
    predicted = load(tmp_path).predict(asked[[*COLUMNS]])
    error = (predicted["value"] - asked["amount"]).abs().mean()
    assert error < 0.2 * (asked["amount"] - asked["amount"].mean()).abs().mean()


@pytest.mark.parametrize("column", [*COLUMNS])
def test_each_kind_of_column_is_enough(tmp_path, column):
    train(tmp_path, records(200), columns={column: COLUMNS[column]})
    asked = records(120, seed=1)
    predicted = load(tmp_path).predict(asked[[column]])
    assert (predicted.idxmax(axis=1) == asked["label"]).mean() > 0.75


def test_a_moved_model_predicts_the_same_bit_for_bit(trained, model):
    pd.testing.assert_frame_equal(model.predict(features()), trained[1], check_exact=True)
    for path in trained[0].rglob("*"):
        assert str(trained[0].parent).encode() not in path.read_bytes()


def test_training_is_repeatable_for_a_seed(tmp_path):
    wild = {**QUICK, "subsample": 0.5, "colsample_bytree": 0.5}
    predicted = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        train(tmp_path / name, records(200), hyperparameters=wild, seed=seed)
        predicted.append(load(tmp_path / name).predict(features()))
    pd.testing.assert_frame_equal(predicted[0], predicted[1], check_exact=True)
    assert not predicted[0].equals(predicted[2])


@given(chosen=st.lists(st.integers(0, 59), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_neighbours_and_order_do_not_matter(model, chosen):
    together = model.predict(features())
    some = model.predict(features().iloc[chosen])
    pd.testing.assert_frame_equal(some, together.iloc[chosen], check_exact=True)


def test_a_record_among_thousands_gets_the_same_prediction(model):
    alone = model.predict(features())
    among = model.predict(pd.concat([features(), records(5000, seed=2)[[*COLUMNS]]]))
    pd.testing.assert_frame_equal(among.iloc[:60], alone, check_exact=True)


def test_many_threads_get_the_answers_that_one_gets(model):
    many = records(1200, seed=3)[[*COLUMNS]]  # which other threads than those of few answer
    assert_same_for_threads(model, many, within=0)
    for answer, expected in told(model.reasons, many.iloc[:20]):
        assert answer == expected


def test_missing_unseen_and_huge_values_still_get_a_probability(model):
    strange = features(4)
    strange["price"] = [np.nan, 1e300, -1e300, 15.0]
    strange["brand"] = [None, "never seen", "brand 1", ""]
    strange["title"] = [None, "", "words nobody wrote", "red " * 5000]
    assert np.isfinite(model.predict(strange).to_numpy()).all()
    assert len(model.reasons(strange)) == 4
    unseen = features(2).assign(brand=["never seen", "another"])
    pd.testing.assert_frame_equal(model.predict(unseen), model.predict(unseen.assign(brand="x")))


def test_no_records_give_no_predictions(model):
    assert model.predict(features().iloc[:0]).shape == (0, 2)
    assert model.reasons(features().iloc[:0]) == []


def test_huge_numbers_can_be_learnt_from(tmp_path):
    train(tmp_path, records(200).assign(price=lambda f: f["price"] * 1e300))
    assert np.isfinite(load(tmp_path).predict(features()).to_numpy()).all()


def test_ten_thousand_categories_are_cut_to_the_most_frequent(tmp_path):
    names = [f"c{n % 10_000}" for n in range(12_000)] + ["often"] * 3000
    truth = ["yes" if name == "often" else "no" for name in names]
    frame = pd.DataFrame({"name": names, "label": truth}).sample(frac=1, random_state=0)
    train(tmp_path, frame, columns={"name": "category"}, hyperparameters={"n_estimators": 5})
    levels = json.loads((tmp_path / "engine.json").read_text())["encoding"]["levels"]["name"]
    assert len(levels) == encoding.LEVELS
    assert levels[0] == "often"
    asked = pd.DataFrame({"name": ["often", "c1", "never seen"]})
    assert load(tmp_path).predict(asked).idxmax(axis=1).tolist() == ["yes", "no", "no"]


def test_reasons_name_the_values_that_speak_loudest(model):
    frame = features(2)
    frame["price"], frame["brand"], frame["title"] = [880.8, np.nan], "brand 1", "blue thing a"
    for text in model.reasons(frame):
        assert 1 <= text.count(" (") <= 3
        assert "(+" in text  # something speaks for the answer
    assert "price 880.8 (+" in model.reasons(frame)[0]
    frame["title"] = "red thing"
    assert any(said in " ".join(model.reasons(frame)) for said in ('"red"', 'without "blue"'))


def test_reasons_of_a_regression_are_in_units_of_the_label(tmp_path):
    frame = records(240).assign(amount=lambda f: f["price"].fillna(0) * 1000)
    train(tmp_path, frame, problem_type="regression", label="amount")
    asked = features(2).assign(price=[-2.0, 15.0])
    low, high = load(tmp_path).reasons(asked)
    assert low.startswith("price -2 (-")
    assert high.startswith("price 15 (+")
    assert float(high.split("(")[1].split(")")[0]) > 1000


def test_reasons_of_many_classes_speak_of_the_predicted_one(tmp_path):
    train(tmp_path, records(240, kinds=3), problem_type="multiclass")
    asked = records(30, seed=1, kinds=3)[[*COLUMNS]]
    assert all("(+" in text for text in load(tmp_path).reasons(asked))


def test_progress_says_how_the_rounds_go_and_stops_early(tmp_path):
    said: list[str] = []
    train(tmp_path, records(200), hyperparameters={"n_estimators": 5000}, said=said)
    assert said[0] == "training on 160 records, tuning on 40"
    assert said[1].startswith("round 50, tuning logloss 0.")
    assert 0 < json.loads((tmp_path / "engine.json").read_text())["rounds"] < 5000


def test_a_time_limit_ends_the_rounds(tmp_path):
    said: list[str] = []
    train(tmp_path, records(200), time_limit=1e-9, said=said)
    assert "time is over after round 1" in said
    assert load(tmp_path).predict(features(3)).shape == (3, 2)


# -- images -------------------------------------------------------------------------------------

WITH_IMAGE = {"price": "number", "image_brightness": "number", "image": "image"}


def with_numbers(count: int) -> pd.DataFrame:
    """Records with images, and the brightness measured on them; the price tells nothing."""
    frame = imaged(records(count), every_fifth_without=True)
    brightness = np.where(frame["label"] == "k0", 0.2, 0.4)
    frame["image_brightness"] = np.where(frame["image"].notna(), brightness, np.nan)
    return frame.assign(price=1.0 * np.arange(count))


def test_records_without_an_image_are_left_out_and_images_count_by_their_numbers(tmp_path):
    said: list[str] = []
    frame = with_numbers(100)
    train(tmp_path, frame, columns=WITH_IMAGE, said=said)
    assert said[0] == "training on 64 records, tuning on 16"
    model = load(tmp_path)
    seen = frame[frame["image"].notna()]
    assert (model.predict(seen[[*WITH_IMAGE]]).idxmax(axis=1) == seen["label"]).all()
    assert refused(lambda: model.predict(frame[[*WITH_IMAGE]])).code == "image_missing"


@pytest.fixture(scope="module")
def small_backbone(tmp_path_factory):
    folder = backbones.build_image_backbone(tmp_path_factory.mktemp("backbone") / "small")
    config = json.loads((folder / "config.json").read_text())
    config["pretrained_cfg"]["input_size"] = [3, 32, 32]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_frozen_backbone_sees_the_image_and_travels_with_the_model(tmp_path, small_backbone):
    copy, here = tmp_path / "backbone", tmp_path / "here"
    shutil.copytree(small_backbone, copy)
    here.mkdir()
    columns = {"image": "image"}
    frame = with_numbers(60)
    train(here, frame, columns=columns, image_backbone=str(copy))
    shutil.rmtree(copy)
    moved = shutil.move(here, tmp_path / "elsewhere")
    model = load(moved)
    seen = frame[frame["image"].notna()]
    together = model.predict(seen[["image"]])
    assert (together.idxmax(axis=1) == seen["label"]).all()
    alone = pd.concat([model.predict(seen[["image"]].iloc[[n]]) for n in range(0, 48, 9)])
    pd.testing.assert_frame_equal(alone, together.loc[alone.index], check_exact=True)
    assert model.reasons(seen[["image"]].iloc[:1])[0].startswith("image (+")


def test_an_embedding_does_not_depend_on_neighbours_or_on_random_numbers(small_backbone):
    import torch

    torch.manual_seed(7)
    expected = torch.random.get_rng_state()
    frozen = Eyes(small_backbone)
    images = [draw_image(n, side=20 + n) for n in range(6)]
    together = frozen.embed(images)
    assert torch.equal(torch.random.get_rng_state(), expected)
    assert together.shape == (6, frozen.width)
    assert together.dtype == np.float32
    differences = np.abs(together[:, None] - together[None]).max(axis=2)
    largest = np.abs(together).max()  # the weights are by chance, and say little
    assert (differences + largest * np.eye(6) > 0.01 * largest).all()
    np.testing.assert_array_equal(Eyes(small_backbone).embed(images[::-1]), together[::-1])
    assert frozen.embed([]).shape == (0, frozen.width)


def test_a_backbone_with_other_weights_is_refused(tmp_path, small_backbone):
    shutil.copytree(small_backbone, tmp_path / "damaged")
    (tmp_path / "damaged" / "pytorch_model.bin").write_bytes(b"nothing")
    (tmp_path / "model").mkdir()
    error = refused(
        lambda: train(
            tmp_path / "model",
            with_numbers(60),
            columns={"image": "image"},
            image_backbone=str(tmp_path / "damaged"),
        )
    )
    assert error.code == "backbone_incomplete"
    assert not any((tmp_path / "model").iterdir())


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hyperparameters", "code", "said"),
    [
        ({"max_dept": 3}, "hyperparameter_unknown", "'max_depth'"),
        ({"n_rounds": 3}, "hyperparameter_unknown", "known"),
        ({"seed": 3}, "hyperparameter_unknown", "known"),
        ({"max_depth": "deep"}, "hyperparameter_invalid", "max_depth"),
        ({"max_depth": [3]}, "hyperparameter_invalid", "max_depth"),
        ({"subsample": 2}, "hyperparameter_invalid", "subsample"),
        ({"eval_metric": "wrong"}, "hyperparameter_invalid", "Unknown metric function wrong"),
        ({"eta": 0.1, "learning_rate": 0.2}, "hyperparameter_invalid", "both"),
        ({"n_estimators": 0}, "hyperparameter_invalid", "above 0"),
        ({"n_estimators": 2.5}, "hyperparameter_invalid", "whole"),
        ({"objective": "reg:gamma"}, "hyperparameter_invalid", "classes"),
    ],
)
def test_wrong_hyperparameters_are_refused_in_words(tmp_path, hyperparameters, code, said):
    error = refused(lambda: train(tmp_path, records(60), hyperparameters=hyperparameters))
    assert error.code == code
    assert said in error.what
    assert "/" not in error.what
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["reg:absoluteerror", "reg:gamma", "count:poisson"])
def test_a_regression_may_have_another_objective(tmp_path, name):
    frame = records(60).assign(amount=lambda f: f["amount"].fillna(1).abs() + 1)
    chosen = {**QUICK, "objective": name}
    train(tmp_path, frame, problem_type="regression", label="amount", hyperparameters=chosen)
    assert load(tmp_path).predict(features(3)).shape == (3, 1)


def test_labels_that_an_objective_cannot_have_are_refused(tmp_path):
    frame = records(60).assign(amount=-5.0)
    chosen = {**QUICK, "objective": "count:poisson"}
    error = refused(
        lambda: train(
            tmp_path, frame, problem_type="regression", label="amount", hyperparameters=chosen
        )
    )
    assert error.code == "hyperparameter_invalid"
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "columns", "code"),
    [
        ({"label": "k0"}, COLUMNS, "classes_differ"),
        ({"label": None}, COLUMNS, "label_missing"),
        ({"price": 1.0}, {"price": "number"}, "nothing_to_learn_from"),
        ({"price": np.inf}, COLUMNS, "number_not_finite"),
        ({"title": "!!"}, {"title": "text"}, "nothing_to_learn_from"),
        ({"brand": [f"b{n}" for n in range(60)]}, {"brand": "category"}, "nothing_to_learn_from"),
        ({"title": [f"t{n}" for n in range(60)]}, {"title": "text"}, "nothing_to_learn_from"),
        ({"image": None}, {"price": "number", "image": "image"}, "records_missing"),
        ({"image": draw_image(1)}, {"image": "image"}, "nothing_to_learn_from"),
        ({"label": [f"k{n}" for n in range(60)]}, COLUMNS, "classes_differ"),
    ],
)
def test_records_that_nothing_can_be_learnt_from_are_refused(tmp_path, change, columns, code):
    frame = records(60).assign(**change)
    assert refused(lambda: train(tmp_path, frame, columns=columns)).code == code
    assert not any(tmp_path.iterdir())


def test_as_many_classes_as_records_are_refused(tmp_path):
    frame = records(20).assign(label=[f"k{n}" for n in range(20)])
    error = refused(lambda: train(tmp_path, frame, problem_type="multiclass"))
    assert error.code == "records_missing"
    assert not any(tmp_path.iterdir())


def test_a_class_that_only_the_tuning_part_knows_is_learnt_all_the_same(tmp_path):
    frame = records(80)
    frame.iloc[-1, frame.columns.get_loc("label")] = "k9"
    train(tmp_path, frame, problem_type="multiclass")
    assert load(tmp_path).classes == ["k0", "k1", "k9"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda frame: frame.drop(columns="brand"), "model_columns_differ"),
        (lambda frame: frame.assign(colour="red"), "model_columns_differ"),
        (lambda frame: frame.assign(price=np.inf), "number_not_finite"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(model, change, code):
    assert refused(lambda: model.predict(change(features()))).code == code


def test_a_damaged_model_is_refused_with_its_place(trained, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(trained[0], damaged)
    (damaged / "model.ubj").write_bytes(b"nothing")
    error = refused(lambda: load(damaged))
    assert error.code == "model_unreadable"
    assert error.where == str(damaged)
    assert refused(lambda: load(tmp_path)).code == "model_unreadable"


def test_a_missing_xgboost_is_said_in_words(tmp_path, monkeypatch):
    def missing(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(packages.importlib, "import_module", missing)
    error = refused(lambda: train(tmp_path, records(20)))
    assert error.code == "package_missing"
    assert "mm-assets[gradient-boosting]" in error.todo
