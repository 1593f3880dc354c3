"""Small uploads that wait are handled together: many in one run, each with events of its own.

The job `<d>_uploads` has one step. It takes small uploads through the very functions of the assets
and checks that a run for one upload has, a few at a time, until none waits. What each came to is
told for its own partition. One that does not get through is left to a run of its own, which tries
again, pauses and sets aside; the others never notice.

Dagster's runs over several partitions are no way to this: they take contiguous ranges of keys
only, go through them step by step, so that one upload that breaks a step breaks it for all, and a
check has one result for a whole run.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import dagster as dg
from pydantic import Field

from mm_assets.contract.errors import MMError
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.lake.remembering import RememberingLake
from mm_assets.orchestration.checks.of_asset import ChecksOf, Look
from mm_assets.orchestration.history import held_open, told_at_once
from mm_assets.orchestration.scope import (
    GROUP,
    TABLE_POOL,
    LakeResource,
    Log,
    OneOfSeveral,
    Scope,
)
from mm_assets.orchestration.triggers.runs import finished_of
from mm_assets.registry.pins import CHAMPIONS, generations, pin_text, pinned_champions
from mm_assets.registry.store import ModelStore
from mm_assets.tables.several import ask_together
from mm_assets.tables.store import Store
from mm_assets.uploads import ledger

AT_ONCE = 20  # uploads in a group: the table is held for so many, and lost with a run that dies
# The assets of an upload's run in their order, and checks; made when a run needs them.
Parts = Callable[[], tuple[Sequence[dg.AssetsDefinition], Sequence[ChecksOf]]]
LONGEST = 600.0  # seconds after which a run takes up no more: the next has new code and memory


class TogetherConfig(dg.Config):
    """What a run of small uploads may say."""

    at_most: int = Field(
        default=1_000_000, gt=0, description="Uploads after which the run takes up no more."
    )


def build_job(scope: Scope, parts: Parts) -> dg.JobDefinition:
    """`<dataset>_uploads`."""
    name = f"{scope.dataset}_uploads"

    @dg.op(name=f"{name}_together", out={}, description="Takes small uploads through, in groups.")
    def together(
        context: dg.OpExecutionContext, lake: LakeResource, config: TogetherConfig
    ) -> Iterator[Any]:
        with held_open(context.instance):
            yield from _Together(context, lake, scope, parts).take_through(config.at_most)

    @dg.job(
        name=name,
        executor_def=dg.in_process_executor,
        tags={"mm/dataset": scope.dataset},
        description="Small uploads that wait, many in one run, each from its bytes to predictions.",
    )
    def uploads() -> None:
        together()

    return uploads


@dataclass(frozen=True)
class _Step:
    """An asset of an upload's run as plain functions."""

    key: dg.AssetKey
    work: Callable[..., dg.MaterializeResult[Any]]
    checks: Sequence[tuple[dg.AssetCheckSpec, Look]]
    writes_table: bool


@dataclass(frozen=True)
class _Resource:
    """The resource as the steps of a run see it, which reads the environment once.

    own_lake: of each upload a view of its own, which remembers what its steps wrote.
    store: what a step asks that asks the table together with others.
    """

    own: Settings
    own_lake: Lake
    store: Store

    def settings(self) -> Settings:
        return self.own

    def lake(self) -> Lake:
        return self.own_lake

    def table(self) -> Store:
        return self.store

    def models(self, dataset: str) -> ModelStore:
        return ModelStore(self.own_lake, dataset)


class _SaidLater:
    """What a step says is told with what became of its upload: alone, a line is a transaction."""

    def __init__(self) -> None:
        self._said: list[tuple[str, str]] = []

    def info(self, text: str) -> None:
        self._said.append(("info", text))

    def warning(self, text: str) -> None:
        self._said.append(("warning", text))

    def tell(self, log: Any) -> None:
        for how, text in self._said:
            getattr(log, how)(text)


@dataclass
class _OnItsWay:
    """One upload of a group: what there is to tell of it so far, and why it came no further."""

    context: OneOfSeveral
    resource: _Resource
    events: list[dg.AssetMaterialization | dg.AssetCheckEvaluation] = field(default_factory=list)
    problem: str = ""


class _Together:
    """One run."""

    def __init__(
        self, context: dg.OpExecutionContext, lake: LakeResource, scope: Scope, parts: Parts
    ) -> None:
        self.context, self.scope = context, scope
        self.lake: Lake = lake.lake()
        self.resource = _Resource(lake.settings(), self.lake, lake.table())
        self.steps = _steps(parts)

    def take_through(self, at_most: int) -> Iterator[Any]:
        """The events of every small upload that waits, until none does."""
        deadline, taken = time.monotonic() + LONGEST, 0
        looked_at: set[str] = set()
        while new := self._waiting(looked_at):
            for start in range(0, len(new), AT_ONCE):
                if time.monotonic() > deadline or taken >= at_most:
                    return
                some = new[start : start + min(AT_ONCE, at_most - taken)]
                looked_at.update(some)
                if small := self._small(some):
                    taken += len(small)
                    yield from self._take_group(small)

    def _waiting(self, looked_at: set[str]) -> list[str]:
        waiting = ledger.pending_uploads(self.lake, self.scope.dataset)
        return [upload for upload in waiting if upload not in looked_at]

    def _small(self, some: list[str]) -> list[str]:
        """Those that are small; what an earlier run finished and did not settle is settled."""
        noted = ledger.read_many_pending(self.lake, self.scope.dataset, some)
        small = [one.source.upload for one in noted if one.is_small]
        done = finished_of(self.context.instance, self.scope, small)
        for upload in done:
            ledger.settle(self.lake, self.scope.dataset, upload)
        return [upload for upload in small if upload not in done]

    def _take_group(self, uploads: list[str]) -> Iterator[Any]:
        """Take a few through side by side, tell what came of each, and settle it.

        Raises MMError if none of several got through: that has another cause than they.
        """
        instance, run_id, dataset = self.context.instance, self.context.run_id, self.scope.dataset
        instance.add_dynamic_partitions(self.scope.partitions.name or "", uploads)
        # Before the champions are looked at: whoever promotes others finds these under way.
        instance.add_run_tags(run_id, {GROUP: ",".join(uploads), CHAMPIONS: ""})
        models = self.resource.models(dataset)
        pinned = generations(models)
        instance.add_run_tags(run_id, {CHAMPIONS: pin_text(pinned)})
        champions = pinned_champions(models, pinned)
        group = [
            _OnItsWay(
                OneOfSeveral(upload, run_id, _SaidLater(), champions),
                replace(self.resource, own_lake=RememberingLake(self.lake)),
            )
            for upload in uploads
        ]
        for step in self.steps:
            self._take_step(step, [one for one in group if not one.problem])
        with told_at_once(instance):
            for one in group:
                one.context.log.tell(self.context.log)
                yield from one.events
                self._say_how_it_went(one)
        self._settle(group)
        instance.add_run_tags(run_id, {GROUP: ""})
        if len(group) > 1 and all(one.problem for one in group):
            raise MMError(
                code="none_got_through",
                what=f"none of {len(group)} uploads got through; the first: {group[0].problem}",
                where=dataset,
                todo="Nothing; each is tried again by itself, the others after a pause.",
            )

    def _take_step(self, step: _Step, group: Sequence[_OnItsWay]) -> None:
        """Take each through a step; those that write the table ask it together."""
        if not step.writes_table:
            for one in group:
                one.problem = _take(step, one, one.resource)
            return

        def taking(one: _OnItsWay) -> Callable[[Store], None]:
            def take(store: Store) -> None:
                one.problem = _take(step, one, replace(one.resource, store=store))

            return take

        store = self.resource.table()
        with store.held():
            ask_together(store, [taking(one) for one in group])

    def _settle(self, group: Sequence[_OnItsWay]) -> None:
        """Take away the notes of those that are through; the others go by themselves."""
        dataset = self.scope.dataset
        through = [one.context.partition_key for one in group if not one.problem]
        noted = ledger.read_many_pending(self.lake, dataset, through)
        small = {pending.source.upload for pending in noted if pending.is_small}
        for one in group:
            upload = one.context.partition_key
            if one.problem:
                ledger.leave_alone(self.lake, dataset, [upload])
            elif upload in small:  # nobody asked for it again meanwhile
                ledger.settle(self.lake, dataset, upload)

    def _say_how_it_went(self, one: _OnItsWay) -> None:
        upload = one.context.partition_key
        if one.problem:
            Log(self.context).warning(f"{upload} is left to a run of its own: {one.problem}")
        else:
            Log(self.context).info(f"{upload} is through")


def _take(step: _Step, one: _OnItsWay, lake: _Resource) -> str:
    """Take one upload through a step and its checks; why it can go no further, or ''."""
    upload = one.context.partition_key
    try:
        result = step.work(one.context, lake=lake)
        one.events.append(
            dg.AssetMaterialization(step.key, metadata=result.metadata, partition=upload)
        )
        lost = []
        for spec, look in step.checks:
            found = look(one.context, lake=lake)
            one.events.append(_evaluation(spec, found, upload))
            if spec.blocking and not found.passed and found.severity is dg.AssetCheckSeverity.ERROR:
                lost.append(f"{spec.name}: {found.description}")
    except MMError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001  whatever it is, its own run meets it again and fails
        return f"{type(error).__name__}: {error}"
    return "; ".join(lost)


def _evaluation(
    spec: dg.AssetCheckSpec, found: dg.AssetCheckResult, upload: str
) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=spec.asset_key,
        check_name=spec.name,
        passed=found.passed,
        metadata=found.metadata,
        severity=found.severity,
        description=found.description,
        blocking=spec.blocking,
        partition=upload,
    )


def _steps(parts: Parts) -> list[_Step]:
    assets, checks = parts()
    found = {one.scope.key(one.name): [*one.looks.values()] for one in checks}
    return [
        _Step(
            key=asset.key,
            work=_function_of(asset),
            checks=found.get(asset.key, []),
            writes_table=TABLE_POOL in asset.op.pools,
        )
        for asset in assets
    ]


def _function_of(definition: dg.AssetsDefinition) -> Callable[..., Any]:
    """The function that was decorated: what is called does not know of Dagster's steps."""
    compute: Any = definition.op.compute_fn
    function: Callable[..., Any] = compute.decorated_fn
    return function
