"""What Dagster's page of an asset says beside its values: columns, owners, the page for people."""

from __future__ import annotations

import json

import dagster as dg
import pytest
from pydantic import ValidationError

from mm_assets.contract.settings import Settings
from mm_assets.orchestration.component import build_assets, build_checks, build_jobs
from mm_assets.orchestration.scope import LakeResource, Scope
from tests.make import dataset

AGE = {"kind": "number", "description": "Years, as the vet says."}


def specs(**changes: object) -> dict[str, dg.AssetSpec]:
    scope = Scope(dataset(**changes))
    found = [spec for asset in build_assets(scope) for spec in asset.specs]
    return {spec.key.path[1]: spec for spec in found}


def test_columns_of_the_yaml_stand_with_their_meaning_at_every_asset_of_records(
    folder_settings: Settings,
) -> None:
    found = specs(columns={"age": AGE, "colour": {"kind": "category", "required": True}})
    for name in ("manifest", "records_with_image", "records_without_image", "training_set"):
        columns = {one.name: one for one in found[name].metadata["dagster/column_schema"].columns}
        assert (columns["age"].type, columns["age"].description) == ("number", AGE["description"])
        assert columns["age"].constraints.nullable
        assert not columns["colour"].constraints.nullable
    answered = found["predictions"].metadata["dagster/column_schema"].columns
    assert {"record_id", "prediction", "confidence"} <= {one.name for one in answered}


def test_owners_are_those_of_the_yaml_and_nothing_else_is_taken_for_one(
    folder_settings: Settings,
) -> None:
    owners = ["team:shelter", "ana@example.org"]
    assert all(list(spec.owners) == owners for spec in specs(owners=owners).values())
    with pytest.raises(ValidationError, match="neither an e-mail address nor team:name"):
        dataset(owners=["Ana"])


def test_tags_of_the_yaml_are_those_of_runs_that_train_and_of_no_others(
    folder_settings: Settings,
) -> None:
    kinds = {"container_config": {"resources": {"limits": {"nvidia.com/gpu": 1}}}}
    tags = {"ecs/cpu": 16384, "ecs/memory": "122880", "dagster-k8s/config": kinds}
    scope = Scope(dataset(training_tags=tags))
    defs = dg.Definitions(
        assets=build_assets(scope),
        asset_checks=[checks.build() for checks in build_checks(scope)],
        jobs=build_jobs(scope),
        resources={"lake": LakeResource()},
    )
    trains = defs.resolve_job_def("pets_train").tags
    assert (trains["ecs/cpu"], trains["ecs/memory"]) == ("16384", "122880")
    assert json.loads(trains["dagster-k8s/config"]) == kinds
    for other in ("pets_upload", "pets_predict", "pets_monitor", "pets_uploads"):
        assert not tags.keys() & defs.resolve_job_def(other).tags.keys()
    for wrong in ("memory", "mm/dataset", "dagster/partition"):
        with pytest.raises(ValidationError, match=f"'{wrong}' is"):
            dataset(training_tags={wrong: "1"})


def test_each_asset_links_to_its_page_for_people_where_the_address_is_known(
    folder_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not any("http" in spec.description for spec in specs().values())
    monkeypatch.setenv("MM_SERVE_URL", "https://mm.example.org/")
    words = {name: spec.description for name, spec in specs().items()}
    assert words["model_with_image"].endswith("(https://mm.example.org/models/pets)")
    assert words["predictions"].endswith("(https://mm.example.org/review/pets)")
    assert words["raw_uploads"].endswith("(https://mm.example.org/uploads/pets)")
    assert all("[The page for people](https://mm.example.org/" in one for one in words.values())


def test_what_a_column_means_to_people_changes_no_answer() -> None:
    assert (
        dataset(columns={"age": AGE}).fingerprint == dataset(columns={"age": "number"}).fingerprint
    )
