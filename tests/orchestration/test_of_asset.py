"""The checks of an asset are one step: each has its own result, and none hides another."""

from typing import Any

import dagster as dg
import pytest

from mm_assets.contract.dataset import DatasetSpec
from mm_assets.orchestration.checks.of_asset import ChecksOf
from mm_assets.orchestration.scope import LakeResource, Scope, check
from mm_assets.orchestration.together import _steps

SCOPE = Scope(
    DatasetSpec.model_validate(
        {"dataset": "pets", "id_column": "id", "label_column": "kind", "columns": {"age": "number"},
         "problem_type": "multiclass"}
    )
)  # fmt: skip


def eggs() -> dg.AssetsDefinition:
    @dg.asset(key=SCOPE.key("eggs"))
    def eggs() -> None: ...

    return eggs


def omelette() -> dg.AssetsDefinition:
    @dg.asset(deps=[SCOPE.key("eggs")])
    def omelette() -> None: ...

    return omelette


def of_eggs(fresh: Any = True) -> ChecksOf:
    """fresh: what the blocking check comes to, or an exception."""
    checks = ChecksOf(SCOPE, "eggs", partitioned=False)

    @checks.check("None is old.", blocking=True)
    def are_fresh(lake: LakeResource) -> dg.AssetCheckResult:  # noqa: ARG001
        if isinstance(fresh, Exception):
            raise fresh
        return check(fresh, "all of them looked at")

    @checks.check("There are three.", name="enough")
    def count(lake: LakeResource) -> dg.AssetCheckResult:  # noqa: ARG001
        return check(True, "three", metadata={"eggs": 3})

    @checks.check("Nobody asks.", wanted=False)
    def of_no_interest(lake: LakeResource) -> dg.AssetCheckResult:
        raise AssertionError(lake)

    return checks


def run(checks: ChecksOf, selection: Any = None) -> tuple[Any, dict[str, tuple[bool, str]]]:
    """The run, and what each check came to."""
    result = dg.materialize(
        [eggs(), checks.build(), omelette()],
        resources={"lake": LakeResource()},
        selection=selection,
        raise_on_error=False,
    )
    found = result.get_asset_check_evaluations()
    return result, {one.check_name: (one.passed, one.description or "") for one in found}


def made(result: dg.ExecuteInProcessResult) -> set[str]:
    return {
        event.step_materialization_data.materialization.asset_key.path[-1]
        for event in result.get_asset_materialization_events()
    }


def test_each_check_has_its_result_from_one_step() -> None:
    result, found = run(of_eggs())
    assert found == {"are_fresh": (True, "all of them looked at"), "enough": (True, "three")}
    assert len([e for e in result.all_events if e.is_step_success]) == 3  # two assets and one more
    assert made(result) == {"eggs", "omelette"}


def test_a_blocking_check_that_fails_holds_back_what_comes_after_and_hides_no_other() -> None:
    result, found = run(of_eggs(fresh=False))
    assert found == {"are_fresh": (False, "all of them looked at"), "enough": (True, "three")}
    assert not result.success
    assert made(result) == {"eggs"}


def test_a_check_that_breaks_fails_the_run_and_hides_no_other() -> None:
    result, found = run(of_eggs(fresh=ValueError("no scales")))
    assert found == {"enough": (True, "three")}
    assert not result.success
    [failure] = [e for e in result.all_events if e.is_step_failure]
    assert "no scales" in str(failure.step_failure_data.error)
    assert made(result) == {"eggs"}


def test_a_check_can_be_run_alone() -> None:
    key = dg.AssetCheckKey(SCOPE.key("eggs"), "enough")
    result, found = run(of_eggs(fresh=ValueError("no scales")), dg.AssetSelection.checks(key))
    assert result.success
    assert found == {"enough": (True, "three")}


@pytest.mark.parametrize("fresh", [True, False])
def test_a_run_of_several_uploads_is_given_the_same_functions(fresh: bool) -> None:
    [step] = _steps(lambda: ([eggs()], [of_eggs(fresh)]))
    found = {spec.name: (spec.blocking, look(LakeResource()).passed) for spec, look in step.checks}
    assert found == {"are_fresh": (True, fresh), "enough": (False, True)}
