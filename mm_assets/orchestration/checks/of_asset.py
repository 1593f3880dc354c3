"""The checks of one asset: a step of Dagster's own for all of them, a result for each.

A step for each check would make most of a run's steps, and most of what a code location loads.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import dagster as dg

from mm_assets.orchestration.scope import LakeResource, Scope

# Looks at one upload (context, lake), or where the asset has no partitions at all that is (lake).
Look = Callable[..., dg.AssetCheckResult]


@dataclass(frozen=True)
class ChecksOf:
    """The checks of `<dataset>/<name>`, in the order in which they are looked at."""

    scope: Scope
    name: str
    partitioned: bool = True
    looks: dict[str, tuple[dg.AssetCheckSpec, Look]] = field(default_factory=dict)

    def check(
        self,
        description: str,
        *,
        name: str | None = None,
        blocking: bool = False,
        wanted: bool = True,
    ) -> Callable[[Look], Look]:
        """Adds the function that it decorates as a check, by its own name if there is no other.

        blocking: what comes after the asset does not run where the check fails with ERROR.
        wanted: False leaves it out.
        """

        def add(look: Look) -> Look:
            spec = dg.AssetCheckSpec(
                name or look.__name__,
                asset=self.scope.key(self.name),
                partitions_def=self.scope.partitions if self.partitioned else None,
                description=description,
                blocking=blocking,
            )
            if wanted:
                self.looks[spec.name] = (spec, look)
            return look

        return add

    def build(self) -> dg.AssetChecksDefinition:
        """One step; any of its checks can be run alone as well."""

        @dg.multi_asset_check(
            name=f"{self.scope.key(self.name).to_python_identifier()}_checks",
            specs=[spec for spec, _ in self.looks.values()],
            can_subset=True,
        )
        def checks(
            context: dg.AssetCheckExecutionContext, lake: LakeResource
        ) -> Iterator[dg.AssetCheckResult]:
            broken: Exception | None = None
            for spec, look in self.looks.values():
                if spec.key not in context.selected_asset_check_keys:
                    continue
                try:
                    yield named(spec, look(context, lake=lake) if self.partitioned else look(lake))
                except Exception as error:  # noqa: BLE001  the others are looked at all the same
                    broken = broken or error
            if broken is not None:
                raise broken

        return checks


def named(spec: dg.AssetCheckSpec, found: dg.AssetCheckResult) -> dg.AssetCheckResult:
    """A result, with the check that it is of."""
    return dg.AssetCheckResult(
        passed=found.passed,
        asset_key=spec.asset_key,
        check_name=spec.name,
        severity=found.severity,
        description=found.description,
        metadata=found.metadata,
    )
