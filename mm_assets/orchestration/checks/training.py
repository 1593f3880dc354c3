"""Checks on the training set and the models: no leak, stable split, better than the baseline, and
what is promised of review and intervals."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from mm_assets.contract.dataset import Modality
from mm_assets.contract.decisions import LOWER_IS_BETTER
from mm_assets.contract.errors import ModelError
from mm_assets.display.cells import written_out
from mm_assets.lake.layout import TRAINING_SET, of_dataset
from mm_assets.orchestration.assets.training import model_name
from mm_assets.orchestration.checks.of_asset import ChecksOf
from mm_assets.orchestration.scope import LakeResource, Scope, check
from mm_assets.uploads.received import read_parquet

NO_TRAINING_SET = "there is no training set yet: run `mm train`"
NO_CHAMPION = "there is no champion yet: run `mm train`"
NO_PROMISE = "the champion was stored without a calibration: run `mm train` for a promise"


def build_checks(scope: Scope) -> list[ChecksOf]:
    """The checks on `<dataset>/training_set` and the models."""
    checks = ChecksOf(scope, "training_set", partitioned=False)

    def training_set(lake: LakeResource) -> Any:
        document = lake.lake().read_json(of_dataset(scope.dataset, TRAINING_SET))
        return document and read_parquet(lake.lake(), document, "training_set.parquet")

    @checks.check(
        "Each record stands in one split, the one that its group decides (its ID, if "
        "it is alone), and so does all that is like it.",
        blocking=True,
    )
    def split_is_stable(lake: LakeResource) -> dg.AssetCheckResult:
        from mm_assets.training.splits import split_of
        from mm_assets.training.training_set import groups_in

        found = training_set(lake)
        if found is None:
            return check(False, NO_TRAINING_SET, warn=True)
        ids, groups, sides = (
            found["record_id"].to_pylist(), groups_in(found), found["split"].to_pylist()
        )  # fmt: skip
        stands = dict(zip(groups, sides, strict=True))
        if scope.spec.time_column is None:
            stands = {group: split_of(group, scope.spec.holdout_share) for group in stands}
        wrong = sum(side != stands[group] for group, side in zip(groups, sides, strict=True))
        twice = len(ids) - len(set(ids))
        return check(
            not wrong and not twice,
            f"{len(ids)} records in {len(stands)} groups, {twice} of them twice, {wrong} in a "
            "wrong split",
        )

    @checks.check("Every record carries a label, and none dominates.")
    def labels_are_there(lake: LakeResource) -> dg.AssetCheckResult:
        import pyarrow.compute as pc

        found = training_set(lake)
        if found is None:
            return check(False, NO_TRAINING_SET, warn=True)
        labels = found["label"]
        missing, classes = labels.null_count, pc.count_distinct(labels).as_py()
        return check(
            not missing and classes > 1,
            f"{len(labels)} records, {missing} without a label, {classes} different labels",
            warn=not missing,
        )

    return [checks, *(_of_model(scope, modality) for modality in scope.spec.modalities)]


def _of_model(scope: Scope, modality: Modality) -> ChecksOf:
    checks = ChecksOf(scope, model_name(modality), partitioned=False)
    _better_than_baseline(checks, modality)
    _promise_reached(checks, modality)
    if scope.spec.is_regression:
        _interval_coverage(checks, modality)
    return checks


def _better_than_baseline(checks: ChecksOf, modality: Modality) -> None:
    scope = checks.scope

    @checks.check(
        "The champion beats the majority class (or the best constant) on held-out "
        "records, its files are those that were promoted, and it decides as the YAML asks."
    )
    def champion_is_sound(lake: LakeResource) -> dg.AssetCheckResult:
        from mm_assets.training.decision import decides_otherwise

        models = lake.models(scope.dataset)
        champion = models.champion(modality)
        if champion is None:
            return check(False, NO_CHAMPION, warn=True)
        try:
            models.fetch(modality, champion.version, manifest_sha256=champion.manifest_sha256)
        except ModelError as error:
            return check(False, str(error))
        manifest = models.manifest(modality, champion.version)
        metric = manifest["metric"]
        score, baseline = manifest["metrics"][metric], manifest["baseline"][metric]
        better = score < baseline if metric in LOWER_IS_BETTER else score > baseline
        said = (
            f"{champion.version}: {metric} {written_out(score)}, baseline {written_out(baseline)}, "
            f"on {manifest['n']} held-out records"
        )
        if other := decides_otherwise(scope.spec, manifest):
            return check(False, f"{said}; {other}", warn=better)
        return check(better, said)


def _promise_reached(checks: ChecksOf, modality: Modality) -> None:
    scope = checks.scope

    @checks.check(
        "What `review` asks for can be promised of the answers that nobody reviews, "
        "and held-out records do not speak against it."
    )
    def promise_reached(lake: LakeResource) -> dg.AssetCheckResult:
        from mm_assets.training.promised import promised, target_is_kept

        manifest = _of_champion(scope, lake, modality)
        if manifest is None:
            return check(True, NO_CHAMPION)
        found = promised(scope.spec, manifest)
        if found is None:
            return check(False, NO_PROMISE, warn=True)
        passed, words = target_is_kept(found)
        return check(passed, words, warn=True)


def _interval_coverage(checks: ChecksOf, modality: Modality) -> None:
    scope = checks.scope

    @checks.check(
        "As many held-out numbers lie from `lower` to `upper` as `interval_level` "
        "says, but for chance."
    )
    def interval_coverage(lake: LakeResource) -> dg.AssetCheckResult:
        from mm_assets.training.promised import coverage_is_kept

        manifest = _of_champion(scope, lake, modality)
        if manifest is None:
            return check(True, NO_CHAMPION)
        passed, words = coverage_is_kept(manifest)
        # A warning, as the target's: the model answers already, and its records go on.
        return check(passed, words, warn=True)


def _of_champion(scope: Scope, lake: LakeResource, modality: Modality) -> Mapping[str, Any] | None:
    """The manifest of the champion; `champion_is_sound` says where one is missing or damaged."""
    models = lake.models(scope.dataset)
    champion = models.champion(modality)
    return models.manifest(modality, champion.version) if champion else None
