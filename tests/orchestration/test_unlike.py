"""A person who syncs sees what no model ever saw, and nothing of mere spellings."""

from __future__ import annotations

import dagster as dg

from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.orchestration.run import Outcome, Runner
from mm_assets.tables.open import open_store
from tests.make import csv_table, dataset, drop_zip

SPEC = dataset(
    dataset="grades",
    columns={"grade": "category", "size": "number"},
    classes=["odd", "even"],
    image_name=None,
    model_without_image={
        "engine": "rules",
        "hyperparameters": {
            "rules": [{"when": "grade IN ('1', '3')", "then": "odd"}],
            "otherwise": "even",
        },
    },
)


def synced(runner: Runner, name: str, header: tuple[str, ...], rows: list[tuple]) -> Outcome:
    drop_zip(runner.lake, f"{name}.zip", {"t.csv": csv_table(header, rows)}, runner.scope.dataset)
    return next(iter(runner.sync()))


def test_sync_warns_of_categories_that_the_model_never_saw(
    instance: dg.DagsterInstance, folder_settings: Settings
) -> None:
    runner = Runner(SPEC, instance, print)
    truth = [(f"r{n}", str(n % 4 + 1), "1", "even" if n % 2 else "odd") for n in range(100)]
    assert synced(runner, "u", ("id", "grade", "size", "label"), truth).is_good
    assert all(outcome.is_good for outcome in runner.train())
    header = ("id", "grade", "size")
    spelled = synced(runner, "a", header, [("a1", "1.0", "1"), ("a2", "4.0", "1"), ("a3", "", "1")])
    assert spelled.is_good
    assert spelled.warnings == []
    unseen = synced(runner, "b", header, [("b1", "5", "1"), ("b2", "5.0", "1"), ("b3", "3.0", "1")])
    assert unseen.is_good
    [warning] = unseen.warnings
    assert warning == (
        "like_training: column grade: 2 of 3 records have values that the model never saw: "
        "'5' (1), '5.0' (1); it knows '1', '2', '3', '4'"
    )
    rows = open_store(Lake(folder_settings).settings).read("grades").to_pylist()
    said = {row["record_id"]: row["prediction"] for row in rows}
    assert said == {"a1": "odd", "a2": "even", "a3": "even", "b1": "even", "b2": "even",
                    "b3": "odd"}  # fmt: skip


def test_sync_of_an_upload_that_is_mostly_unlike_training_fails_and_names_the_column(
    instance: dg.DagsterInstance, folder_settings: Settings
) -> None:
    learns = {
        "engine": "sklearn",
        "hyperparameters": {"steps": ["sklearn.linear_model.LogisticRegression"]},
    }
    changed = {"dataset": "marks", "model_without_image": learns}
    spec = SPEC.model_validate({**SPEC.model_dump(), **changed})
    runner = Runner(spec, instance, print)
    truth = [(f"r{n}", str(n % 4 + 1), "1", "even" if n % 2 else "odd") for n in range(200)]
    assert synced(runner, "u", ("id", "grade", "size", "label"), truth).is_good
    assert all(outcome.is_good for outcome in runner.train())
    header = ("id", "grade", "size")
    some = [(f"a{n}", "x" if n < 2 else "1", "1") for n in range(20)]
    few = synced(runner, "a", header, some)
    assert few.is_good
    line = "like_training: column grade: 2 of 20 records have values that the model never saw: "
    assert few.warnings == [f"{line}'x' (2); it knows '1', '2', '3', '4'"]
    most = synced(runner, "b", header, [(f"b{n}", "A", "1") for n in range(20)])
    assert not most.is_good
    assert most.failed_checks[0] == (
        "like_training: 20 of 20 records (100.0%) are unlike all that the model learnt from; the "
        "limit is 50.0%. column grade: 20 of 20 records have values that the model never saw: "
        "'A' (20); it knows '1', '2', '3', '4'"
    )
    rows = open_store(Lake(folder_settings).settings).read("marks").to_pylist()
    asked = {row["record_id"] for row in rows if row["doubts"]}
    assert asked == {"a0", "a1", *(f"b{n}" for n in range(20))}
    assert all(row["needs_review"] for row in rows if row["doubts"])
    assert len(rows) == 40  # each is answered nevertheless
