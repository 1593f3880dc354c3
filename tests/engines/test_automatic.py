"""The automatic engine: what is learnt, what is stored, what is said, and what happens halfway."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mm_assets.contract.errors import ModelError
from mm_assets.engines.automatic import engine as automatic
from mm_assets.engines.automatic import members, session
from mm_assets.engines.automatic.engine import AutomaticEngine
from mm_assets.engines.automatic.members import Learnt, Lesson
from mm_assets.engines.automatic.predictor import AutomaticPredictor, as_sure
from mm_assets.engines.shared import eyes
from mm_assets.engines.shared.guards import prepared_columns
from mm_assets.engines.shared.stopping import Stopped
from tests.engines import frames
from tests.engines.frames import COLUMNS, imports, refused, task_of
from tests.engines.threads import assert_same_for_threads
from tests.engines.toy_engine import Toy
from tests.make import images_looked_at, plain_image

TABLE = ["linear", "trees"]
SEEING = ["linear with image", "trees with image"]
IMAGED = {**COLUMNS, "image": "image"}
NUMBER = {"label": "amount", "problem_type": "regression"}


class Shelf:
    """Vectors of images that any test of this file had looked at."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], np.ndarray] = {}

    def read(self, backbone: str, images: Sequence[str]) -> dict[str, np.ndarray]:
        return {n: self.kept[backbone, n] for n in images if (backbone, n) in self.kept}

    def write(self, backbone: str, vectors: Mapping[str, np.ndarray]) -> None:
        self.kept.update({(backbone, name): vector for name, vector in vectors.items()})


SHELF = Shelf()


def engine(members: Sequence[str] = TABLE, **options: Any) -> AutomaticEngine:
    own = {key: options.pop(key) for key in ("folds", "autogluon") if key in options}
    hyperparameters = {"members": list(members), "folds": 3, **own}
    return AutomaticEngine(hyperparameters=hyperparameters, vectors=SHELF, **options)


def train(
    folder: Path,
    frame: pd.DataFrame,
    made: AutomaticEngine | None = None,
    said: list[str] | None = None,
    **task: Any,
) -> AutomaticPredictor:
    """What is loaded from where the model was moved to after its training."""
    made = made or engine()
    here, there = folder / "here", folder / "there"
    here.mkdir(parents=True)
    frames.learn(made, here, frame, said, **task)
    shutil.move(here, there)
    return made.load(there)


def imaged(frame: pd.DataFrame, colour_of: Callable[[int], int]) -> pd.DataFrame:
    """Each record with one of a few images of 16 pixels."""
    images = [plain_image((40 * colour_of(n), 90, 90), 16, 16) for n in range(len(frame))]
    return frame.assign(image=pd.Series(images, index=frame.index, dtype=object))


def telling(frame: pd.DataFrame) -> pd.DataFrame:
    """The colour of a record's image tells its class; the table tells no more than that."""
    kinds = [int(label[1:]) for label in frame["label"]]
    return imaged(frame, lambda n: 3 * kinds[n] + n % 2)


def board(model: AutomaticPredictor) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in model.leaderboard}


def record_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "there" / "engine.json").read_text())
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("automatic")


@pytest.fixture(scope="module")
def plain(folder: Path) -> AutomaticPredictor:
    return train(folder / "plain", frames.records(90))


@pytest.fixture(scope="module")
def looking(folder: Path) -> AutomaticPredictor:
    """A model of which a member sees the image: nothing else tells much."""
    frame = telling(frames.records(90, kinds=3))
    frame["price"] = np.random.default_rng(0).normal(size=len(frame))
    frame["brand"], frame["title"] = frame["brand"].where(frame["brand"].isna(), "same"), "same"
    return train(
        folder / "looking", frame, engine(["linear", *SEEING]), columns=IMAGED,
        problem_type="multiclass",
    )  # fmt: skip


@pytest.fixture(scope="module")
def number(folder: Path) -> AutomaticPredictor:
    return train(folder / "number", frames.records(90), **NUMBER)


@pytest.fixture
def asked_for_images(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """The images that the network was run on."""
    return images_looked_at(monkeypatch)


# -- what is said ---------------------------------------------------------------------------------


def asked(model: AutomaticPredictor, count: int = 40) -> pd.DataFrame:
    """Other records than those of training, as this model wants them."""
    frame = telling(frames.records(count, seed=1, kinds=3))
    return frame[list(model.columns)]


@pytest.fixture(params=["plain", "looking", "number"])
def model(request: pytest.FixtureRequest) -> AutomaticPredictor:
    found: AutomaticPredictor = request.getfixturevalue(request.param)
    return found


def test_each_model_of_a_member_says_what_its_library_says(model: AutomaticPredictor) -> None:
    frame = asked(model, 12)
    columns = prepared_columns(frame, model.columns, model._ranges)
    for count in (1, 12):
        seen = model._seen({name: values[:count] for name, values in columns.items()})
        for name, member in model._members.items():
            matrix = members.matrix_of(name, seen)
            for one in member.models:
                theirs = one.predict(matrix) if model.classes is None else one.predict_proba(matrix)
                ours = members._said(one, matrix)
                np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_many_threads_get_the_answers_that_one_gets(model: AutomaticPredictor) -> None:
    assert_same_for_threads(model, asked(model, 12))


def test_a_record_alone_is_answered_as_among_others_in_any_order(model: AutomaticPredictor) -> None:
    frame = asked(model)
    together = model.predict(frame)
    scale = max(1.0, float(together.to_numpy().max()))
    alone = pd.concat([model.predict(frame.iloc[[n]]) for n in range(len(frame))])
    shuffled = model.predict(frame.iloc[::-1, ::-1]).loc[frame.index]
    pd.testing.assert_index_equal(together.index, frame.index)
    assert np.abs(alone.to_numpy() - together.to_numpy()).max() < 1e-6 * scale
    assert np.abs(shuffled.to_numpy() - together.to_numpy()).max() < 1e-6 * scale
    assert model.predict(frame.iloc[:0]).shape == (0, together.shape[1])


def test_the_answers_are_right_and_probabilities_add_up_to_1(
    plain: AutomaticPredictor, looking: AutomaticPredictor, number: AutomaticPredictor
) -> None:
    frame = telling(frames.records(60, seed=1))
    said = plain.predict(frame[[*COLUMNS]])
    assert said.sum(axis=1).to_numpy() == pytest.approx(1)
    assert (said.idxmax(axis=1) == frame["label"]).mean() > 0.9
    three = telling(frames.records(60, seed=1, kinds=3))
    assert (looking.predict(three[[*IMAGED]]).idxmax(axis=1) == three["label"]).mean() > 0.9
    errors = number.predict(frame[[*COLUMNS]])["value"] - frame["amount"]
    assert errors.abs().median() < 10  # of a label that deviates by 50


def test_what_was_never_seen_and_what_is_missing_is_answered(model: AutomaticPredictor) -> None:
    frame = asked(model, 6)
    frame["price"] = [1e12, -1e12, np.nan, 1e-300, 0.0, np.nan]
    frame["brand"] = ["never seen", "", None, "brand 0", "(missing)", None]
    frame["title"] = ["words unseen", "", None, "!?", "x" * 5000, None]
    said = model.predict(frame)
    assert np.isfinite(said.to_numpy()).all()
    for kind, empty in (("price", np.nan), ("brand", None), ("title", None)):
        frame[kind] = pd.Series([empty] * 6, index=frame.index, dtype=frame[kind].dtype)
    said = model.predict(frame)
    assert np.isfinite(said.to_numpy()).all()


def test_what_a_model_cannot_look_at_is_refused(looking: AutomaticPredictor) -> None:
    frame = asked(looking, 4)
    assert refused(lambda: looking.predict(frame.drop(columns="price"))).code == (
        "model_columns_differ"
    )
    assert refused(lambda: looking.predict(frame.assign(image=None))).code == "image_missing"
    assert refused(lambda: looking.predict(frame.assign(price=np.inf))).code == "number_not_finite"


def test_members_weighted_and_as_sure_as_they_may_be_are_the_answer(
    model: AutomaticPredictor, folder: Path, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.params["model"]
    record = record_of(folder / name)
    assert sum(record["weights"].values()) == pytest.approx(1)
    frame = asked(model)
    said = model.said_by_members(frame)
    assert set(said) == set(record["weights"])
    mean = sum(record["weights"][one] * said[one].to_numpy() for one in said)
    found = as_sure(np.asarray(mean), record["sureness"], record["classes"])
    np.testing.assert_allclose(found, model.predict(frame), rtol=1e-12)


def test_equal_trainings_say_the_same(plain: AutomaticPredictor, tmp_path: Path) -> None:
    again = train(tmp_path, frames.records(90))
    pd.testing.assert_frame_equal(again.predict(asked(again)), plain.predict(asked(plain)))


# -- who counts -----------------------------------------------------------------------------------


def test_the_leaderboard_says_who_counts_and_only_those_are_stored(
    model: AutomaticPredictor, folder: Path, request: pytest.FixtureRequest
) -> None:
    import joblib

    place = folder / request.node.callspec.params["model"]
    record, rows = record_of(place), model.leaderboard
    assert rows[0]["name"] == "ensemble"
    assert rows[0]["weight"] == 1
    stored = {row["name"] for row in rows[1:] if row["stored"]}
    assert stored == set(record["weights"]) == {row["name"] for row in rows[1:] if row["weight"]}
    assert set(joblib.load(place / "there" / "members.joblib")) == stored
    figures = [row["out_of_fold"] for row in rows[1:]]
    assert figures == sorted(figures)
    # The ensemble's is as sure as it is right on the same records, which may cost it a hair.
    assert rows[0]["out_of_fold"] <= figures[0] * 1.05 + 1e-9
    json.dumps(record, allow_nan=False)


def test_what_the_image_adds_is_told(looking: AutomaticPredictor) -> None:
    gain = looking.image_gain
    assert gain is not None
    assert gain["n"] == 90
    assert gain["with_image"] < 0.5 * gain["without_image"]
    found = board(looking)
    assert found["linear"]["sees_image"] is False
    assert found["ensemble"]["sees_image"]
    assert found["trees with image"]["sees_image"]


def test_an_image_that_tells_nothing_counts_nothing_and_is_not_looked_at(
    tmp_path: Path, asked_for_images: list[bytes]
) -> None:
    draw = np.random.default_rng(3)
    frame = frames.records(100)
    frame["price"] = np.where(frame["label"] == "k1", 10.0, 0.0) + draw.normal(size=100)
    random = imaged(frame, lambda _: int(draw.integers(6)))
    model = train(tmp_path, random, engine([*TABLE, *SEEING]), columns=IMAGED)
    assert record_of(tmp_path)["eyes"] is None
    assert not {row["name"] for row in model.leaderboard if row["stored"]} & set(SEEING)
    asked_for_images.clear()
    new = random.assign(image=plain_image((1, 2, 3), 16, 16))[[*IMAGED]]
    said = model.predict(new)
    assert not asked_for_images
    assert (said.idxmax(axis=1) == frame["label"]).mean() > 0.9


def test_nothing_is_looked_at_twice(tmp_path: Path, asked_for_images: list[bytes]) -> None:
    frame = telling(frames.records(80))
    made = engine(SEEING)
    model = train(tmp_path / "first", frame, made, columns=IMAGED)
    asked_for_images.clear()
    train(tmp_path / "second", frame, made, columns=IMAGED)
    model.predict(frame[[*IMAGED]])
    assert not asked_for_images


def test_records_without_an_image_teach_the_table_and_are_no_judges(tmp_path: Path) -> None:
    frame = telling(frames.records(100))
    frame.loc[frame.index[::4], "image"] = None
    made = engine(["linear", "linear with image"])
    model = train(tmp_path, frame, made, columns=IMAGED)
    assert model.image_gain is not None
    assert model.image_gain["n"] == 75
    assert made.out_of_fold is not None
    assert len(made.out_of_fold) == 100
    assert np.isfinite(made.out_of_fold[frame["image"].notna().to_numpy()].to_numpy()).all()


def test_too_few_images_leave_the_table(tmp_path: Path) -> None:
    frame = telling(frames.records(80))
    frame.loc[frame.index[1:], "image"] = None
    model = train(tmp_path, frame, engine(["linear", *SEEING]), columns=IMAGED)
    assert "too few" in board(model)["linear with image"]["note"]
    assert list(record_of(tmp_path)["weights"]) == ["linear"]


# -- out of fold ----------------------------------------------------------------------------------


def test_out_of_fold_has_a_row_for_each_record_in_the_order_given(tmp_path: Path) -> None:
    frame = frames.records(100)
    made = engine()
    train(tmp_path, frame, made)
    found = made.out_of_fold
    assert found is not None
    assert list(found.columns) == ["k0", "k1"]
    assert len(found) == 100
    assert (found.idxmax(axis=1).to_numpy() == frame["label"].to_numpy()).mean() > 0.9


def noise(count: int = 120) -> pd.DataFrame:
    """Nothing tells anything of the label, and a column is another word for each pair."""
    draw = np.random.default_rng(5)
    return pd.DataFrame(
        {
            "price": draw.normal(size=count),
            "brand": [f"id {n // 2}" for n in range(count)],
            "title": [f"word{n} word{n // 2}" for n in range(count)],
            "label": np.where(draw.random(count) < 0.7, "usual", "rare"),
            "amount": draw.normal(size=count),
        }
    )


def test_what_nothing_explains_is_said_to_be_as_frequent_as_it_is(tmp_path: Path) -> None:
    frame = noise()
    made = engine()
    model = train(tmp_path, frame, made)
    share = (frame["label"] == "rare").mean()
    entropy = -share * np.log(share) - (1 - share) * np.log(1 - share)
    assert board(model)["ensemble"]["out_of_fold"] > entropy - 0.05
    said = model.predict(frame[[*COLUMNS]].assign(brand="new", title="new", price=0.0))
    assert said["rare"].to_numpy() == pytest.approx(share, abs=0.15)
    found = made.out_of_fold
    assert found is not None
    right = found.idxmax(axis=1).to_numpy() == frame["label"].to_numpy()
    assert right.mean() < 0.8


def test_a_number_that_nothing_explains_is_said_to_be_ordinary(tmp_path: Path) -> None:
    frame = noise()
    model = train(tmp_path, frame, **NUMBER)
    said = model.predict(frame[[*COLUMNS]])["value"]
    assert said.std() < 0.6 * frame["amount"].std()
    ensemble = board(model)["ensemble"]
    assert ensemble["metric"] == "mean_absolute_error"
    assert ensemble["out_of_fold"] > 0.6


# -- classes --------------------------------------------------------------------------------------


def test_a_class_of_one_record_is_known(tmp_path: Path) -> None:
    frame = frames.records(80)
    frame.iloc[7, frame.columns.get_loc("label")] = "alone"
    made = engine()
    model = train(tmp_path, frame, made, problem_type="multiclass")
    assert model.classes == ["alone", "k0", "k1"]
    assert model.predict(frame[[*COLUMNS]]).columns.tolist() == model.classes
    assert made.out_of_fold is not None
    nobody = made.out_of_fold.isna().all(axis=1).to_numpy()
    assert nobody.tolist() == [n == 7 for n in range(80)]


@pytest.mark.parametrize("names", [("0", "1"), ("ja, {nein}", "ä\n\"'"), (" ", "nan")])
def test_classes_may_have_any_name(tmp_path: Path, names: tuple[str, str]) -> None:
    frame = frames.records(80)
    frame["label"] = frame["label"].map(dict(zip(("k0", "k1"), names, strict=True)))
    model = train(tmp_path, frame)
    assert model.classes == sorted(names)
    said = model.predict(frame[[*COLUMNS]])
    assert (said.idxmax(axis=1) == frame["label"]).mean() > 0.9


def test_class_weights_change_what_is_learnt_and_not_what_a_probability_means(
    tmp_path: Path,
) -> None:
    draw = np.random.default_rng(0)
    rare = draw.random(150) < 0.15
    frame = pd.DataFrame(
        {"price": draw.normal(size=150) + 1.5 * rare, "label": np.where(rare, "rare", "usual")}
    )
    task = task_of(frame, columns={"price": "number"})
    weights = {"rare": 1 / (2 * rare.mean()), "usual": 1 / (2 * (1 - rare.mean()))}
    said = []
    for name, weighted in (("without", task), ("with", replace(task, class_weights=weights))):
        (tmp_path / name).mkdir()
        engine(["linear"]).train(weighted, tmp_path / name, lambda _: None)
        said.append(engine().load(tmp_path / name).predict(frame[["price"]])["rare"])
    assert said[1].mean() == pytest.approx(rare.mean(), abs=0.05)
    assert (said[0] - said[1]).abs().max() > 1e-3
    assert np.corrcoef(*said)[0, 1] > 0.95


# -- numbers --------------------------------------------------------------------------------------


def prices(count: int = 120) -> pd.DataFrame:
    """A skewed label that nearly doubles with each step of one column."""
    draw = np.random.default_rng(2)
    size = draw.normal(size=count)
    price = 1000 * np.exp(0.6 * size + 0.2 * draw.normal(size=count))
    return pd.DataFrame({"size": size, "noise": draw.normal(size=count), "amount": price})


SIZES = {"columns": {"size": "number", "noise": "number"}, **NUMBER}


def test_a_skewed_number_is_learnt_on_the_scale_that_suits_it(tmp_path: Path) -> None:
    frame = prices()
    model = train(tmp_path, frame, **SIZES)
    scales = {one["kind"] for one in record_of(tmp_path)["members"].values()}
    assert scales & {"log", "yeo_johnson"}
    said = model.predict(frame[["size", "noise"]])["value"]
    assert (said / frame["amount"] - 1).abs().median() < 0.25
    assert (said > 0).all()


def test_labels_that_somebody_mistyped_do_not_move_the_fit(tmp_path: Path) -> None:
    frame = prices()
    clean = train(tmp_path / "clean", frame, engine(), **SIZES)
    wrong = frame.copy()
    wrong.loc[[3, 50, 77, 110], "amount"] *= [1000, 1000, 0.001, 1000]
    made = engine()
    model = train(tmp_path / "wrong", wrong, made, **SIZES)
    one, other = (m.predict(frame[["size", "noise"]])["value"] for m in (clean, model))
    assert (one / other - 1).abs().median() < 0.08
    assert (other / frame["amount"] - 1).abs().median() < 0.25
    assert other.max() < 3 * frame["amount"].max()
    figures = [board(m)["ensemble"]["out_of_fold"] for m in (clean, model)]
    assert figures[1] == pytest.approx(figures[0], rel=0.15)
    assert made.out_of_fold is not None
    assert len(made.out_of_fold) == len(frame)


@pytest.mark.parametrize(
    "label",
    [
        pytest.param(lambda size: -100 + size, id="negative"),
        pytest.param(lambda size: np.where(size > 1.5, 1.0, 0.0), id="nearly always the same"),
        pytest.param(lambda size: size * 0 + 7.0, id="the same"),
        pytest.param(lambda size: np.exp(3 * size) - 1, id="around zero, with a long tail"),
        pytest.param(lambda size: 1e12 * size, id="huge"),
        pytest.param(lambda size: 1e-12 * size, id="tiny"),
    ],
)
def test_any_number_can_be_learnt(tmp_path: Path, label: Callable[[Any], Any]) -> None:
    frame = prices()
    frame["amount"] = label(frame["size"].to_numpy())
    model = train(tmp_path, frame, engine(time_limit=20), **SIZES)
    far = frame[["size", "noise"]] * 100
    for given in (frame[["size", "noise"]], far):
        said = model.predict(given)["value"]
        low, high = frame["amount"].min(), frame["amount"].max()
        assert np.isfinite(said).all()
        assert said.min() >= low - 50 * (high - low) - 1e-9
        assert said.max() <= high + 50 * (high - low) + 1e-9
    if frame["amount"].nunique() > 2:
        near = model.predict(frame[["size", "noise"]])["value"]
        assert near.corr(frame["amount"], method="spearman") > 0.9


def test_the_metric_decides_what_is_told(tmp_path: Path) -> None:
    task = replace(task_of(prices(), **SIZES), metric="root_mean_squared_error")
    engine().train(task, tmp_path, lambda _: None)
    rows = engine().load(tmp_path).leaderboard
    assert {row["metric"] for row in rows} == {"root_mean_squared_error"}
    assert rows[0]["out_of_fold"] <= min(row["out_of_fold"] for row in rows[1:]) + 1e-9


# -- columns --------------------------------------------------------------------------------------


def test_columns_that_tell_nothing_are_asked_for_and_not_learnt_from(tmp_path: Path) -> None:
    frame = frames.records(80)
    frame["empty"], frame["same"], frame["blank"] = np.nan, "x", None
    columns = {"empty": "number", **COLUMNS, "same": "category", "blank": "text"}
    model = train(tmp_path, frame, columns=columns)
    asked = frame[list(columns)].assign(empty=3.0, same="y", blank="words at last")
    pd.testing.assert_frame_equal(model.predict(asked), model.predict(frame[list(columns)]))


@pytest.mark.parametrize("columns", [{"image": "image"}, {"title": "text", "image": "image"}])
def test_an_image_alone_and_an_image_with_words_are_enough(
    tmp_path: Path, columns: dict[str, str]
) -> None:
    frame = telling(frames.records(80)).assign(title="words of all")
    frame.loc[frame.index[::3], "title"] = "other words"
    model = train(tmp_path, frame, engine([*TABLE, *SEEING]), columns=columns)
    assert set(record_of(tmp_path)["weights"]) & set(SEEING)
    said = model.predict(frame[list(columns)])
    assert (said.idxmax(axis=1) == frame["label"]).mean() > 0.9
    alone = model.predict(frame[list(columns)].iloc[[9]])
    assert alone.to_numpy() == pytest.approx(said.iloc[[9]].to_numpy(), abs=1e-6)


@pytest.mark.parametrize("columns", [{"title": "text"}, {"brand": "category"}, {"price": "number"}])
def test_one_column_of_any_kind_is_enough(tmp_path: Path, columns: dict[str, str]) -> None:
    frame = frames.records(80)
    model = train(tmp_path, frame, columns=columns)
    said = model.predict(frame[list(columns)])
    assert (said.idxmax(axis=1) == frame["label"]).mean() > 0.75


def test_where_nothing_tells_records_apart_nothing_is_learnt(tmp_path: Path) -> None:
    frame = frames.records(80).assign(price=1.0, brand="x", title="same words")
    found = refused(lambda: train(tmp_path, frame))
    assert found.code == "nothing_to_learn_from"


# -- halfway --------------------------------------------------------------------------------------


def test_a_tiny_budget_still_leaves_a_model_and_says_who_was_not_tried(tmp_path: Path) -> None:
    frame = telling(frames.records(80))
    made = engine([*TABLE, *SEEING, "autogluon"], time_limit=2.0)
    model = train(tmp_path, frame, made, columns=IMAGED)
    notes = {name: row["note"] for name, row in board(model).items()}
    assert all("not tried" in notes[name] for name in ("trees", *SEEING, "autogluon"))
    assert list(record_of(tmp_path)["weights"]) == ["linear"]
    assert (model.predict(frame[[*IMAGED]]).idxmax(axis=1) == frame["label"]).mean() > 0.9


def fails_at(monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException) -> None:
    real = session.learn

    def learn(member: str, lesson: Lesson) -> Learnt:
        if member == name:
            raise error
        return real(member, lesson)

    monkeypatch.setattr(session, "learn", learn)


def test_who_stops_it_keeps_the_best_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame, said = telling(frames.records(80)), list[str]()
    fails_at(monkeypatch, "linear with image", Stopped())
    model = train(tmp_path, frame, engine([*TABLE, *SEEING]), said, columns=IMAGED)
    assert any("stopped" in line for line in said)
    notes = {name: row["note"] for name, row in board(model).items()}
    assert all("stopped" in notes[name] for name in SEEING)
    assert not any("stopped" in notes[name] for name in TABLE)
    assert set(record_of(tmp_path)["weights"]) <= set(TABLE)
    assert (model.predict(frame[[*IMAGED]]).idxmax(axis=1) == frame["label"]).mean() > 0.9


def test_who_stops_it_while_it_looks_at_images_keeps_what_the_table_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any) -> np.ndarray:
        raise Stopped

    monkeypatch.setattr(eyes, "look_at", stop)
    frame = telling(frames.records(80)).assign(image=plain_image((200, 1, 1), 16, 16))
    frame.iloc[0, frame.columns.get_loc("image")] = plain_image((200, 1, 2), 16, 16)
    model = train(tmp_path, frame, engine([*TABLE, *SEEING]), columns=IMAGED)
    assert set(record_of(tmp_path)["weights"]) <= set(TABLE)
    assert record_of(tmp_path)["eyes"] is None
    assert len(model.predict(frame[[*IMAGED]])) == 80


def test_who_stops_it_before_anything_was_learnt_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails_at(monkeypatch, "linear", Stopped())
    with pytest.raises(Stopped):
        train(tmp_path, frames.records(80))
    assert not (tmp_path / "here" / "engine.json").exists()


def test_a_member_that_cannot_learn_is_told_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = ModelError(code="package_missing", what="no OpenMP here", where="it", todo="Get it.")
    fails_at(monkeypatch, "trees", broken)
    said: list[str] = []
    model = train(tmp_path / "two", frames.records(80), said=said)
    assert board(model)["trees"]["note"] == "could not learn: no OpenMP here"
    assert board(model)["trees"]["out_of_fold"] is None
    assert any("no OpenMP here" in line for line in said)
    alone = refused(lambda: train(tmp_path / "one", frames.records(80), engine(["trees"])))
    assert alone.code == "package_missing"


# -- stored ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["members.joblib", "views.joblib", "engine.json"])
@pytest.mark.parametrize("damage", ["gone", "cut", "another"])
def test_a_model_that_lacks_a_part_is_no_model(
    plain: AutomaticPredictor, folder: Path, tmp_path: Path, name: str, damage: str
) -> None:
    import joblib

    copy = Path(shutil.copytree(folder / "plain" / "there", tmp_path / "copy"))
    file = copy / name
    if damage == "gone":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-20])
    elif name == "engine.json":
        file.write_text(json.dumps({**json.loads(file.read_text()), "format": 99}))
    elif name == "members.joblib":
        joblib.dump({}, file)
    else:
        file.write_bytes(b"no joblib")
    assert refused(lambda: engine().load(copy)).code == "model_unreadable"


def test_a_weight_without_a_member_is_no_model(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder / "plain" / "there", tmp_path / "copy"))
    record = json.loads((copy / "engine.json").read_text())
    name = next(iter(record["members"]))
    record["members"].pop(name)
    (copy / "engine.json").write_text(json.dumps(record))
    assert refused(lambda: engine().load(copy)).code == "model_unreadable"


def test_a_model_that_saw_through_another_backbone_is_refused(
    looking: AutomaticPredictor, folder: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(folder / "looking" / "there", tmp_path / "copy"))
    record = json.loads((copy / "engine.json").read_text())
    assert record["eyes"]
    record["eyes"] = "another-0123456789abcdef-1"
    (copy / "engine.json").write_text(json.dumps(record))
    assert refused(lambda: engine().load(copy)).code == "backbone_differs"


@pytest.mark.parametrize(
    ("hyperparameters", "code"),
    [
        ({"member": ["trees"]}, "hyperparameter_unknown"),
        ({"members": []}, "hyperparameter_invalid"),
        ({"members": "trees"}, "hyperparameter_invalid"),
        ({"members": ["forest"]}, "hyperparameter_invalid"),
        ({"members": [["trees"]]}, "hyperparameter_invalid"),
        ({"folds": 1}, "hyperparameter_invalid"),
        ({"folds": True}, "hyperparameter_invalid"),
        ({"folds": 2.5}, "hyperparameter_invalid"),
        ({"autogluon": 3}, "hyperparameter_invalid"),
    ],
)
def test_hyperparameters_that_mean_nothing_are_refused(
    tmp_path: Path, hyperparameters: dict[str, Any], code: str
) -> None:
    made = AutomaticEngine(hyperparameters=hyperparameters)
    assert refused(lambda: frames.learn(made, tmp_path, frames.records(20))).code == code


def test_neither_autogluon_nor_torch_is_imported_with_the_engine() -> None:
    heavy = ("autogluon", "torch", "sklearn", "lightgbm", "scipy")
    assert imports("mm_assets.engines.automatic.engine", *heavy) == []


# -- the network as a member ----------------------------------------------------------------------


def with_toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another engine in the place of AutoGluon's network, which takes half a minute."""

    def toy(_: Any, seconds: float | None, seed: int) -> Toy:
        return Toy({"centre": 0.0, "slope": 1.0})

    monkeypatch.setattr(session, "autogluon_engine", toy)
    monkeypatch.setattr(automatic, "autogluon_engine", toy)


def test_a_network_that_never_met_a_class_gives_it_no_probability(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its records are those of training alone; a class may be among the tuning records only."""
    with_toy(monkeypatch)
    frame = frames.records(80)
    frame["age"] = frame["price"].fillna(0.0)
    frame.iloc[70:73, frame.columns.get_loc("label")] = "late"
    columns = {"age": "number", "brand": "category"}
    model = train(
        tmp_path, frame, engine(["autogluon"]), columns=columns, problem_type="multiclass"
    )
    said = model.predict(frame[list(columns)])
    assert said.columns.tolist() == model.classes == ["k0", "k1", "late"]
    assert (said["late"] < 1e-3).all()
    assert np.isfinite(said.to_numpy()).all()


def test_a_network_that_helps_gets_its_share_and_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_toy(monkeypatch)  # what it says of the age is right; the linear member can't see the age
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"age": draw.normal(size=150), "price": draw.normal(size=150)})
    frame["label"] = np.where(frame["age"].abs() > 0.7, "k1", "k0")
    frame["age"] = np.where(frame["label"] == "k1", 5.0, -5.0)
    monkeypatch.setattr(session.Views, "of", without_age(session.Views.of))
    made = engine(["linear", "autogluon"], time_limit=60)
    model = train(tmp_path, frame, made, columns={"age": "number", "price": "number"})
    weights = record_of(tmp_path)["weights"]
    assert set(weights) == {"linear", "autogluon"}
    assert weights["autogluon"] > 0.5
    assert sum(weights.values()) == pytest.approx(1)
    asked = frame[["age", "price"]]
    assert set(model.said_by_members(asked)) == set(weights)
    assert (model.predict(asked).idxmax(axis=1) == frame["label"]).all()
    found = made.out_of_fold
    assert found is not None
    # It was asked about the tuning records alone.
    assert np.isfinite(found.to_numpy()).all(axis=1).tolist() == [n >= 120 for n in range(150)]


@pytest.mark.parametrize(("share", "is_filled"), [(0.4, True), (0.6, False)])
def test_where_a_network_helps_a_little_the_others_answer_for_what_it_learnt_from(
    share: float, is_filled: bool
) -> None:
    linear = np.tile([0.8, 0.2], (10, 1))
    network = np.full((10, 2), np.nan)
    network[8:] = [0.3, 0.7]
    own = object.__new__(session.Session)
    own.learnt = {"linear": SimpleNamespace(said=linear)}  # type: ignore[dict-item]
    own.weights = {"linear": 1 - share, "autogluon": share}
    own.autogluon = None, network
    said = own.said_of_all()
    assert said[8:] == pytest.approx((1 - share) * linear[8:] + share * network[8:])
    if is_filled:
        assert said[:8] == pytest.approx(linear[:8])
    else:
        assert np.isnan(said[:8]).all()


def without_age(real: Callable[[Any, str], list[str]]) -> Callable[[Any, str], list[str]]:
    return lambda views, kind: [column for column in real(views, kind) if column != "age"]


def test_autogluon_learns_as_a_member_and_travels(tmp_path: Path) -> None:
    """The real one, which is marked as the other tests that train it."""
    frame = telling(frames.records(60))
    own = {"optim.max_epochs": 1, "model.timm_image.image_size": 32}
    made = engine(["autogluon"], time_limit=30, autogluon=own)
    model = train(tmp_path, frame, made, columns=IMAGED)
    assert list(record_of(tmp_path)["weights"]) == ["autogluon"]
    assert (tmp_path / "there" / "autogluon").is_dir()
    assert not (tmp_path / "there" / "members.joblib").exists()
    said = model.predict(frame[[*IMAGED]])
    alone = model.predict(frame[[*IMAGED]].iloc[[7]])
    assert alone.to_numpy() == pytest.approx(said.iloc[[7]].to_numpy(), abs=1e-6)
    assert said.sum(axis=1).to_numpy() == pytest.approx(1)
    assert made.out_of_fold is not None
    tuning = made.out_of_fold.iloc[48:]
    np.testing.assert_allclose(tuning.to_numpy(), said.iloc[48:].to_numpy(), atol=1e-6)
    assert made.out_of_fold.iloc[:48].isna().all(axis=None)
    shutil.rmtree(tmp_path / "there" / "autogluon")
    assert refused(lambda: made.load(tmp_path / "there")).code == "model_unreadable"


def test_what_was_looked_at_is_learnt_from_however_long_the_look_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first look wakes torch, which on a busy machine takes all that is left of a budget."""
    real, late = eyes.look_at, [0.0]

    def slow(images: Sequence[bytes], backbone: str, identity: str) -> np.ndarray:
        late[0] = 1000.0
        return real(images, backbone, identity)

    monkeypatch.setattr(eyes, "look_at", slow)
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + late[0])
    monkeypatch.setattr(session, "time", clock)
    monkeypatch.setattr(members, "time", clock)
    made = engine(["linear", "linear with image", "autogluon"], time_limit=120)
    made.vectors = None
    frame = imaged(frames.records(60), lambda n: n % 2)
    model = train(tmp_path, frame, made, columns=IMAGED)
    row = {row["name"]: row for row in model.leaderboard}
    assert late == [1000.0]
    assert row["linear with image"]["out_of_fold"] is not None
    assert row["autogluon"]["note"].startswith("not tried")
