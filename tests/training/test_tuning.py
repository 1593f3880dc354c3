"""Tuning: fair, seeded, resumable, and never worse than what the YAML says."""

from __future__ import annotations

import importlib
import io
import json
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mm_assets.contract.dataset import Modality
from mm_assets.contract.engine_spec import EngineSpec, Search
from mm_assets.contract.errors import ModelError
from mm_assets.lake.lake import Lake
from mm_assets.training.tuning import TuningResult, tune
from tests.make import dataset, draw_image

toy: Any = importlib.import_module("tests.engines.toy_engine")  # as make_engine imports it
SEARCH = {
    "centre": {"low": 1, "high": 100},
    "slope": {"low": 0.01, "high": 1.0, "log": True},
    "shape": {"choices": ["soft", "hard"]},
}
YAML = {"centre": 80, "slope": 0.05, "shape": "soft"}


@pytest.fixture(autouse=True)
def _fresh_toy() -> Iterator[None]:
    toy.TRAINED.clear()
    toy.BEFORE_TRAINING.clear()
    yield
    toy.BEFORE_TRAINING.clear()


@pytest.fixture
def lake(folder_settings: Any) -> Lake:
    return Lake(folder_settings)


def engine(
    hyperparameters: dict[str, Any] | None = None, seed: int = 0, **tuning: Any
) -> EngineSpec:
    written = YAML if hyperparameters is None else hyperparameters
    keys = {
        "engine": "tests.engines.toy_engine:Toy",
        "hyperparameters": written,
        "seed": seed,
        "tuning": {"search": SEARCH, "trials": 6, **tuning},
    }
    return EngineSpec.model_validate(keys)


def records(n: int = 60, start: int = 0) -> pd.DataFrame:
    """Dogs are older than 40, with exceptions."""
    age = np.random.default_rng(7).uniform(0, 100, 1000)[start : start + n]
    dog = (age > 40) ^ (np.arange(start, start + n) % 11 == 0)
    return pd.DataFrame({"age": age, "colour": "red", "label": np.where(dog, "dog", "cat")})


def parts(n: int = 60) -> dict[str, Any]:
    frames = {"training": records(n), "tuning": records(n // 2, start=500)}
    ids = {name: [f"{name}-{i}" for i in range(len(frame))] for name, frame in frames.items()}
    return {"parts": frames, "groups": ids}


def run(
    lake: Lake,
    chosen: EngineSpec,
    lines: list[str] | None = None,
    modality: Modality = Modality.WITHOUT_IMAGE,
    fingerprint: str = "f1",
    given: dict[str, Any] | None = None,
    **spec: Any,
) -> TuningResult:
    told: list[str] = [] if lines is None else lines
    return tune(
        lake, dataset(**spec), modality, chosen, **(given or parts()),
        training_fingerprint=fingerprint, progress=told.append,
    )  # fmt: skip


def refusal(*arguments: Any, **keywords: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        run(*arguments, **keywords)
    return caught.value


def tried(result: TuningResult) -> list[dict[str, Any]]:
    """Each trial without how long it took."""
    return result.trials.drop_columns(["seconds"]).to_pylist()


# -- what is found --------------------------------------------------------------------------------


def test_the_best_trial_beats_the_yaml_and_its_hyperparameters_are_laid_over_the_yaml(
    lake: Lake,
) -> None:
    chosen = engine({**YAML, "fails_above": 1000}, trials=25)
    result = run(lake, chosen)
    rows = result.trials.to_pylist()
    assert [rows[0][name] for name in YAML] == list(YAML.values())
    assert result.value == min(row["value"] for row in rows) < rows[0]["value"]
    best = rows[result.best - 1]
    assert result.hyperparameters == {**{name: best[name] for name in YAML}, "fails_above": 1000}
    assert 20 < result.hyperparameters["centre"] < 60
    assert isinstance(result.hyperparameters["centre"], int)
    assert (result.metric, result.n_done, result.n_failed) == ("log_loss", 25, 0)


def test_the_first_trial_is_the_yaml_itself_also_where_it_lies_outside_the_search_space(
    lake: Lake,
) -> None:
    written = {"slope": 7.0}  # beyond the range, and two of three are the engine's own defaults
    result = run(lake, engine(written, trials=14))
    assert toy.TRAINED[0]["options"] == {**toy.KNOWN, "slope": 7.0}
    first = result.trials.to_pylist()[0]
    assert (first["slope"], first["centre"], first["shape"]) == (7.0, None, None)
    assert result.n_done == 14


@pytest.mark.parametrize(
    ("metric", "better"), [("accuracy", max), ("macro_f1", max), ("log_loss", min)]
)
def test_the_metric_of_the_dataset_decides_in_its_own_direction(
    lake: Lake, metric: str, better: Any
) -> None:
    result = run(lake, engine(trials=12), metric=metric)
    values = result.trials["value"].to_pylist()
    assert len(set(values)) > 1
    assert (result.metric, result.value) == (metric, better(values))
    assert result.best == values.index(better(values)) + 1


def test_a_regression_is_tuned_by_its_mean_absolute_error(lake: Lake) -> None:
    given = parts()
    for frame in given["parts"].values():
        frame["label"] = frame["age"] * 0.3
    result = run(lake, engine(trials=15), problem_type="regression", classes=None, given=given)
    assert result.metric == "mean_absolute_error"
    assert result.value == min(result.trials["value"].to_pylist())
    assert 0.15 < result.hyperparameters["slope"] < 0.6


def test_what_was_tried_already_is_not_trained_again(lake: Lake) -> None:
    small = {"shape": {"choices": ["soft", "hard"]}}
    result = run(lake, engine(search=small, trials=9))
    assert (result.n_done, len(toy.TRAINED)) == (9, 2)
    reasons = result.trials["reason"].to_pylist()
    assert sum("the same as trial" in (reason or "") for reason in reasons) == 7


# -- who judges -----------------------------------------------------------------------------------


def test_held_out_records_are_refused(lake: Lake) -> None:
    given = parts()
    for of_all in given.values():
        of_all["holdout"] = of_all["tuning"]
    error = refusal(lake, engine(), given=given)
    assert error.code == "tuning_sees_holdout"
    assert not toy.TRAINED


def test_without_folds_training_records_teach_and_tuning_records_judge(lake: Lake) -> None:
    given = parts()
    run(lake, engine(trials=2), given=given)
    for training in toy.TRAINED:
        assert training["training"]["age"].tolist() == given["parts"]["training"]["age"].tolist()
        assert training["tuning"]["age"].tolist() == given["parts"]["tuning"]["age"].tolist()


def fold_of_each(trainings: list[dict[str, Any]]) -> dict[float, int]:
    """By its age: in which training a record was not seen, that is, in which it was judged."""
    seen = [{*t["training"]["age"], *t["tuning"]["age"]} for t in trainings]
    everybody = set.union(*seen)
    unseen = {age: [n for n, ages in enumerate(seen) if age not in ages] for age in everybody}
    assert all(len(numbers) == 1 for numbers in unseen.values())
    return {age: numbers[0] for age, numbers in unseen.items()}


def test_with_folds_each_record_judges_once_and_stays_in_its_fold_when_more_come(
    lake: Lake,
) -> None:
    few, many = parts(60), parts(200)
    run(lake, engine(trials=1, folds=4), given=few)
    before = fold_of_each(toy.TRAINED)
    assert len(before) == 90
    for training in toy.TRAINED:
        shared = {*training["training"]["age"]} & {*training["tuning"]["age"]}
        assert not shared, "what stops the training early is not learnt from"
        assert len(training["tuning"]) > 0
    toy.TRAINED.clear()
    run(lake, engine(trials=1, folds=4), given=many, fingerprint="f2")
    after = fold_of_each(toy.TRAINED)
    assert len(after) == 300
    assert {age: after[age] for age in before} == before


def test_a_model_for_images_is_judged_on_records_that_have_one(lake: Lake) -> None:
    given = parts()
    for frame in given["parts"].values():
        frame["image"] = [draw_image(i) if i % 2 else None for i in range(len(frame))]
    # The toy engine refuses to predict a record without an image.
    result = run(lake, engine(trials=2), modality=Modality.WITH_IMAGE, given=given)
    assert result.n_done == 2
    assert toy.TRAINED[0]["training"]["image"].isna().any()


def test_a_metric_that_the_judging_records_do_not_yield_is_said_at_once(lake: Lake) -> None:
    given = parts()
    given["parts"]["tuning"]["label"] = "dog"
    error = refusal(lake, engine(), metric="roc_auc", given=given)
    assert error.code == "tuning_not_judged"
    assert "roc_auc" in error.what
    assert len(toy.TRAINED) == 1


def test_an_empty_part_is_said_before_anything_is_trained(lake: Lake) -> None:
    given = parts(4)
    given["parts"]["tuning"] = given["parts"]["tuning"].iloc[:0]
    given["groups"]["tuning"] = []
    for folds in (1, 10):
        assert refusal(lake, engine(folds=folds), given=given).code == "tuning_not_judged"
    assert not toy.TRAINED


# -- seeds, budgets, interruptions ----------------------------------------------------------------


def test_a_study_that_was_cut_off_goes_on_exactly_as_one_that_ran_through(
    lake: Lake, tmp_path: Any
) -> None:
    chosen = engine({**YAML, "fails_above": 80}, trials=18, seed=3)
    whole = run(Lake(lake.settings.model_copy(update={"lake": str(tmp_path / "other")})), chosen)
    assert whole.n_failed > 0
    for cut in (5, 8, 99):

        def stop(until: int = cut) -> None:
            if len(toy.TRAINED) == until:
                raise KeyboardInterrupt

        toy.TRAINED.clear()
        toy.BEFORE_TRAINING[:] = [stop]
        try:
            resumed = run(lake, chosen)
        except KeyboardInterrupt:
            assert cut != 99
    assert tried(resumed) == tried(whole)
    assert resumed.to_json() == whole.to_json()
    assert resumed.pictures == whole.pictures


def test_another_seed_tries_other_hyperparameters(lake: Lake) -> None:
    assert tried(run(lake, engine(seed=1))) != tried(run(lake, engine(seed=2)))


def test_a_larger_budget_continues_the_same_study(lake: Lake) -> None:
    small = run(lake, engine(trials=4))
    lines: list[str] = []
    large = run(lake, engine(trials=7, seconds=900), lines)
    assert len(toy.TRAINED) == 7
    assert tried(large)[:4] == tried(small)
    assert large.study == small.study
    assert lines[0] == "going on after 4 trials that were made before"


def test_other_records_columns_or_hyperparameters_are_another_study(lake: Lake) -> None:
    studies = [
        run(lake, engine(trials=1)).study,
        run(lake, engine(trials=1), fingerprint="f2").study,
        run(lake, engine(trials=1), columns={"age": "number"}).study,
        run(lake, engine(trials=1, folds=2)).study,
        run(lake, engine(trials=1), metric="accuracy").study,
        run(lake, engine({**YAML, "centre": 79}, trials=1)).study,
    ]
    assert len(set(studies)) == len(studies) == sum(1 for _ in lake.list("datasets/pets/tuning/"))


def test_the_time_that_trials_took_is_a_budget_too_and_one_trial_always_runs(lake: Lake) -> None:
    assert run(lake, engine(seconds=1e-9)).n_done == 1
    assert run(lake, engine(seconds=1e-9)).n_done == 1
    assert run(lake, engine(seconds=900)).n_done == 6


def test_two_that_tune_at_the_same_moment_make_one_study(lake: Lake) -> None:
    together = threading.Barrier(2)
    chosen, found = engine(trials=5), []
    toy.BEFORE_TRAINING.append(lambda: together.wait(20))
    workers = [threading.Thread(target=lambda: found.append(run(lake, chosen))) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(toy.TRAINED) == 10
    assert found[0].trials.equals(found[1].trials)
    assert found[0].to_json() == found[1].to_json()
    assert sum(1 for _ in lake.list("datasets/pets/tuning/")) == 5


# -- what goes wrong ------------------------------------------------------------------------------


def test_a_trial_that_fails_is_kept_with_its_reason_and_the_study_goes_on(lake: Lake) -> None:
    lines: list[str] = []
    result = run(lake, engine({**YAML, "fails_above": 75}, trials=12), lines)
    rows = result.trials.to_pylist()
    failed = [row for row in rows if row["state"] == "failed"]
    assert rows[0] in failed, "the YAML's own centre is 80"
    assert all("[toy_broke] centre" in row["reason"] for row in failed)
    assert all(row["value"] is None and row["centre"] > 75 for row in failed)
    assert (result.n_failed, result.n_done) == (len(failed), 12 - len(failed))
    assert lines[0] == (
        "trial 1 of 12: failed: [toy_broke] centre 80 is too high, "
        "centre 80, slope 0.05, shape soft, as the YAML has it"
    )


def test_if_all_trials_fail_it_says_the_first_reason_and_the_next_try_begins_anew(
    lake: Lake,
) -> None:
    broken = engine({**YAML, "fails_above": 0}, trials=3)
    for times in (1, 2):
        error = refusal(lake, broken)
        assert error.code == "tuning_failed"
        assert "all 3 trials failed" in error.what
        assert "centre 80 is too high" in error.what
        assert len(toy.TRAINED) == 3 * times


def test_a_search_space_that_does_not_fit_the_engine_stops_at_once_and_is_named(
    lake: Lake,
) -> None:
    search = {"max_depth": {"low": 2, "high": 8}, **SEARCH}
    error = refusal(lake, engine(search=search, trials=500))
    assert error.code == "search_space_unfit"
    assert "'max_depth'" in error.what
    assert error.where == "pets/model_without_image, tuning.search: max_depth"
    assert len(toy.TRAINED) == 1


def test_a_mistake_in_the_yaml_outside_the_search_space_is_not_blamed_on_it(lake: Lake) -> None:
    assert refusal(lake, engine({"max_depth": 3})).code == "hyperparameter_unknown"


def test_a_missing_class_is_no_failed_trial(lake: Lake) -> None:
    chosen = engine().model_copy(update={"engine": "tests.engines.toy_engine:Nothing"})
    assert refusal(lake, chosen).code == "engine_missing"
    assert not [*lake.list("datasets/pets/tuning/")]


def test_without_optuna_it_says_what_to_install(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    error = refusal(lake, engine())
    assert error.code == "package_missing"
    assert "mm-assets[tuning]" in error.todo


# -- what is told ---------------------------------------------------------------------------------


def test_each_trial_tells_one_line_and_nothing_else_is_printed(
    lake: Lake, capfd: pytest.CaptureFixture[str]
) -> None:
    lines: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = run(lake, engine(trials=12), lines)
    assert len(lines) == 12
    rows = result.trials.to_pylist()
    best = min(row["value"] for row in rows[:3])
    assert lines[2].startswith(f"trial 3 of 12: log loss {rows[2]['value']:.4g} (best {best:.4g})")
    assert lines[2].count(f"centre {rows[2]['centre']:g}") == 1
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")


def test_the_manifest_keeps_the_study_in_plain_json(lake: Lake) -> None:
    result = run(lake, engine(trials=5, folds=2))
    kept = json.loads(json.dumps(result.to_json()))
    assert kept["hyperparameters"] == result.hyperparameters
    assert (kept["trials"], kept["failed_trials"], kept["folds"]) == (5, 0, 2)
    assert kept["search"]["centre"] == {"low": 1, "high": 100}
    assert kept["search"]["shape"] == {"choices": ["soft", "hard"]}


def test_the_table_has_a_column_for_each_hyperparameter(lake: Lake) -> None:
    table = run(lake, engine(trials=3)).trials
    assert {field.name: str(field.type) for field in table.schema} == {
        "number": "int64", "state": "string", "value": "double", "seconds": "double",
        "centre": "double", "slope": "double", "shape": "string", "reason": "string",
    }  # fmt: skip


def test_the_pictures_are_drawn_where_there_is_something_to_show(lake: Lake) -> None:
    few, many = run(lake, engine(trials=3)), run(lake, engine(trials=12))
    one = run(lake, engine(search={"centre": SEARCH["centre"]}, trials=5))
    flat = {"age": "number"}
    assert set(few.pictures) == set(one.pictures) == {"tuning history"}
    assert set(many.pictures) == {"tuning history", "hyperparameter importance"}
    for png in many.pictures.values():
        assert Image.open(io.BytesIO(png)).format == "PNG"
    # A search that changes nothing has no importance to show.
    search = {"fails_above": {"low": 200, "high": 300}, "shape": {"choices": ["soft", "SOFT"]}}
    same = run(lake, engine(search=search, trials=8), columns=flat)
    assert len(set(same.trials["value"].to_pylist())) == 1
    assert set(same.pictures) == {"tuning history"}


# -- the engines of ours --------------------------------------------------------------------------

OF_OURS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "gradient_boosting": (
        {"n_estimators": 30},
        {"max_depth": {"low": 1, "high": 4}, "learning_rate": {"low": 0.01, "high": 0.5}},
    ),
    "sklearn": (
        {"steps": ["sklearn.linear_model.LogisticRegression"]},
        {"logisticregression__C": {"low": 0.001, "high": 10.0, "log": True}},
    ),
    "rules": (
        {"rules": [{"when": "age > threshold", "then": "dog"}], "otherwise": "cat",
         "threshold": 90},
        {"threshold": {"low": 0, "high": 99}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OF_OURS)
def test_each_engine_of_ours_is_tuned(lake: Lake, name: str) -> None:
    written, search = OF_OURS[name]
    chosen = EngineSpec.model_validate(
        {"engine": name, "hyperparameters": written, "tuning": {"search": search, "trials": 5}}
    )
    result = run(lake, chosen)
    assert (result.n_done, result.n_failed) == (5, 0)
    values = result.trials["value"].to_pylist()
    assert result.value == min(values) < max(values)
    assert result.hyperparameters.keys() == written.keys() | search.keys()
    misspelt = {"max_depht": {"low": 1, "high": 4}, **search}
    unfit = chosen.tuning.model_copy(  # type: ignore[union-attr]
        update={"search": {key: Search.model_validate(one) for key, one in misspelt.items()}}
    )
    error = refusal(lake, chosen.model_copy(update={"tuning": unfit}))
    assert error.code == "search_space_unfit"
    assert error.where.endswith("search: max_depht")
