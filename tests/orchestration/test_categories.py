"""A person who syncs sees which categories no model ever saw, and nothing of mere spellings."""

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
    drop_zip(runner.lake, f"{name}.zip", {"t.csv": csv_table(header, rows)}, "grades")
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
