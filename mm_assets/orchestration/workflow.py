"""The Dagster component `Workflow`: several datasets' assets as one job, a schedule, a choice.

Nothing here runs anything: it makes Dagster's own jobs and schedules of a few lines of YAML. The
order of the steps is that of the asset graph. See docs/workflows.md.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import dagster as dg
from dagster._core.definitions.definitions_load_context import (
    DefinitionsLoadContext,
    DefinitionsLoadType,
)
from pydantic import Field, ValidationError

from mm_assets.contract.errors import MMError, SpecError
from mm_assets.contract.settings import Settings, present_settings

# A job's tag with the workflow that it belongs to, and which branch of it the job is.
WORKFLOW = "mm/workflow"
BRANCH = "mm/branch"
CHOICE = "choice"  # the job's metadata with the choice, if there is one
STEPS, OTHERWISE = "steps", "otherwise"
# The part of Dagster's selection syntax that names assets: +key:"a/b", group:"a"+ and so on.
_ASSETS = r'(?P<up>\+?)(key:"?(?P<key>[\w/-]+)"?|group:"?(?P<group>\w+)"?)(?P<down>\+?)'


class Choice(dg.Model, dg.Resolvable):
    """The steps run if a figure of a dataset's monitoring is below (or above) a value."""

    dataset: Annotated[str, Field(description="Whose monitoring is asked.")]
    figure: Annotated[str, Field(description="For example live_accuracy; see monitoring.json.")]
    below: float | None = None
    above: float | None = None

    @property
    def words(self) -> str:
        side = f"below {self.below:g}" if self.below is not None else f"above {self.above:g}"
        return f"{self.figure} of {self.dataset} {side}"

    def decide(self, figures: Mapping[str, float] | None) -> tuple[str | None, str]:
        """STEPS, OTHERWISE or None while nobody can tell, and why.

        figures: those of the newest monitoring, or None if there is none.
        """
        if figures is None:
            return None, f"{self.dataset} has no monitoring yet: run `mm sync` or materialise it"
        value = figures.get(self.figure)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            known = ", ".join(sorted(figures)) or "nothing"
            return None, (
                f"the monitoring of {self.dataset} has no figure {self.figure} yet; it has {known}"
            )
        limit = self.below if self.below is not None else self.above
        assert limit is not None  # noqa: S101  Workflow has seen to it
        holds = value < limit if self.below is not None else value > limit
        words = f"{self.figure} of {self.dataset} is {value:g}"
        return (STEPS if holds else OTHERWISE), f"{words}; the steps are for {self.words}"


class Workflow(dg.Component, dg.Model, dg.Resolvable):
    """Assets that are materialised together: by hand, on a schedule, by a choice."""

    workflow: Annotated[str, Field(description="The job's name: letters a-z, digits and _.")]
    description: str = ""
    steps: Annotated[
        Sequence[str],
        Field(description='Assets: key:"pets/manifest", group:"pets", with + around it.'),
    ]
    otherwise: Annotated[
        Sequence[str], Field(description="What runs where the choice is against the steps.")
    ] = ()
    choice: Choice | None = None
    schedule: Annotated[str | None, Field(description="A cron line; else started by hand.")] = None
    timezone: Annotated[str, Field(description="Of the schedule, such as Europe/Berlin.")] = "UTC"
    enabled: Annotated[bool, Field(description="false: the schedule begins switched off.")] = True
    retries: Annotated[int, Field(ge=0, description="How often a failed step is tried again.")] = 0
    retry_pause_seconds: Annotated[float, Field(ge=0)] = 30
    tags: Annotated[Mapping[str, str] | None, Field(description="Tags of each run.")] = None

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        where = f"{context.path}/defs.yaml, workflow {self.workflow}"
        self._check(where)
        settings = present_settings()
        if not all(settings.serves(dataset) for dataset in self._datasets()):
            return dg.Definitions()
        branches = {STEPS: self.steps, OTHERWISE: self.otherwise}
        jobs = [self._job(name, lines, where) for name, lines in branches.items() if lines]
        schedules = [self._schedule(job, where) for job in jobs] if self.schedule else []
        return dg.Definitions(jobs=jobs, schedules=schedules)

    def _check(self, where: str) -> None:
        """Raises SpecError for what the schema cannot tell."""
        choice, todo = self.choice, ""
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,59}", self.workflow):
            todo = "Name `workflow` with a-z, 0-9 and _, a letter first."
        elif not self.steps:
            todo = "Name at least one asset in `steps`."
        elif bool(self.otherwise) and choice is None:
            todo = "Say with `choice` when `otherwise` runs, or take it out."
        elif choice is not None and (choice.below is None) == (choice.above is None):
            todo = "Write either `below` or `above` in `choice`."
        if todo:
            raise _invalid("the workflow's YAML does not fit together", where, todo)

    def _datasets(self) -> set[str]:
        """Those that it speaks of."""
        named = {self.choice.dataset} if self.choice else set()
        for line in (*self.steps, *self.otherwise):
            named |= set(re.findall(r'(?:key:|group:)"?([a-z][a-z0-9_]*)', line))
        return named

    def job_name(self, branch: str) -> str:
        return self.workflow if branch == STEPS else f"{self.workflow}_{branch}"

    def _job(self, branch: str, lines: Sequence[str], where: str) -> Any:
        retry = dg.RetryPolicy(max_retries=self.retries, delay=self.retry_pause_seconds)
        named = self._datasets()
        return dg.define_asset_job(
            self.job_name(branch),
            selection=_selection(lines, where),
            description=self._description(branch),
            executor_def=dg.in_process_executor,
            op_retry_policy=retry if self.retries else None,
            metadata={CHOICE: self.choice.model_dump()} if self.choice else None,
            tags={
                **(self.tags or {}),
                WORKFLOW: self.workflow,
                BRANCH: branch,
                **({"mm/dataset": named.pop()} if len(named) == 1 else {}),
            },
        )

    def _description(self, branch: str) -> str:
        if self.choice is None:
            return self.description
        when = self.choice.words if branch == STEPS else f"not {self.choice.words}"
        return f"{self.description} When {when}.".strip()

    def _schedule(self, job: Any, where: str) -> dg.ScheduleDefinition:
        """A schedule for each branch: Dagster's schedules have one job each."""
        branch = job.tags[BRANCH]
        on = dg.DefaultScheduleStatus.RUNNING if self.enabled else dg.DefaultScheduleStatus.STOPPED

        def ask(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
            partitions = context.repository_def.get_job(job.name).partitions_def
            if partitions is not None:
                return dg.SkipReason(
                    f"{job.name} has a partition for each upload, and a schedule names none: use "
                    f"`mm workflow run {self.workflow} --upload KEY`, or a backfill in the UI"
                )
            if self.choice is None:
                return dg.RunRequest()
            # Both branches look at what was there at the same moment, so exactly one runs.
            figures = newest_figures(
                context.instance, self.choice.dataset, context.scheduled_execution_time
            )
            chosen, why = self.choice.decide(figures)
            return dg.RunRequest() if chosen == branch else dg.SkipReason(why)

        try:
            return dg.ScheduleDefinition(
                name=f"{job.name}_schedule",
                job=job,
                cron_schedule=self.schedule,
                execution_timezone=self.timezone,
                execution_fn=ask,
                default_status=on,
                description=job.description,
            )
        except dg.DagsterInvalidDefinitionError as error:
            todo = (
                'Write `schedule` as a cron line such as "0 3 * * *", `timezone` as Europe/Berlin.'
            )
            raise _invalid(str(error), where, todo) from None


def choice_of(job: dg.JobDefinition) -> Choice | None:
    """The choice of a workflow's job, or None."""
    said = job.metadata.get(CHOICE)
    return Choice(**said.value) if said is not None else None  # type: ignore[arg-type]


def newest_figures(
    instance: dg.DagsterInstance, dataset: str, before: datetime | None = None
) -> dict[str, float] | None:
    """The figures of the newest monitoring, or of the newest before a moment; None without one."""
    found = instance.fetch_materializations(
        dg.AssetRecordsFilter(
            asset_key=dg.AssetKey([dataset, "monitoring"]),
            before_timestamp=before.timestamp() if before else None,
        ),
        limit=1,
    ).records
    if not found or found[0].asset_materialization is None:
        return None
    metadata = found[0].asset_materialization.metadata
    numbers = {name: one.value for name, one in metadata.items()}
    return {
        name.replace(" ", "_"): value
        for name, value in numbers.items()
        if isinstance(value, int | float)
    }


def _selection(lines: Sequence[str], where: str) -> dg.AssetSelection:
    """The union of the lines. Raises SpecError that quotes the one that cannot be read.

    Not `AssetSelection.from_string`: its parser cannot be imported beside AutoGluon, which pins an
    older antlr4 (github.com/dagster-io/dagster/issues/27487).
    """
    selection: dg.AssetSelection = dg.AssetSelection.assets()
    for line in lines:
        found = re.fullmatch(_ASSETS, line.strip())
        if found is None:
            raise _invalid(
                f"{line!r} names no assets",
                where,
                "Write 'key:\"pets/training_set\"' or 'group:\"pets\"'; a '+' before it adds all "
                "that it is made from, a '+' behind it all that is made from it.",
            )
        selection |= _named(found)
    return selection


def _named(found: re.Match[str]) -> dg.AssetSelection:
    one: dg.AssetSelection = dg.AssetSelection.groups(found["group"] or "")
    if found["key"]:
        one = dg.AssetSelection.assets(dg.AssetKey(found["key"].split("/")))
    return (one.upstream() if found["up"] else one) | (one.downstream() if found["down"] else one)


def _invalid(what: str, where: str, todo: str) -> SpecError:
    return SpecError(code="workflow_invalid", what=what, where=where, todo=todo)


# -- the code location ----------------------------------------------------------------------------


def load_definitions(
    settings: Settings, loggers: Mapping[str, dg.LoggerDefinition] | None = None
) -> dg.Definitions:
    """Everything below the defs folder with our resources: the code location.

    Raises SpecError in the words of whoever refused the YAML.
    """
    from mm_assets.orchestration.component import resources, shared_sensors

    folder, root = settings.defs_folder.resolve(), settings.root.resolve()
    if not folder.is_dir():
        raise SpecError(
            code="no_dataset",
            what="there is no such folder with datasets and workflows",
            where=str(folder),
            todo="Draft a dataset with `mm init`, change to the project's folder, or correct "
            "MM_ROOT and MM_DEFS.",
        )
    try:
        tree = dg.ComponentTree.from_module(_module_of(folder, root), root)
        # Not `build_defs()`: it also describes the components of every installed package, for which
        # it imports all of dagster-aws.
        found = tree.build_defs(folder)
        # One process a run: AutoGluon takes longer to import than most uploads take to predict.
        shared = dg.Definitions(
            resources=resources(),
            executor=dg.in_process_executor,
            sensors=shared_sensors(settings),
            loggers=loggers,
            component_tree=tree,
        )
        definitions = dg.Definitions.merge(found, shared)
        if DefinitionsLoadContext.get().load_type is not DefinitionsLoadType.RECONSTRUCTION:
            # A run makes one job of what the code server, which started it, has found in order.
            dg.Definitions.validate_loadable(definitions)
    except Exception as error:
        raise _in_words(error, folder) from error
    return definitions


def _module_of(folder: Path, root: Path) -> ModuleType:
    """The defs folder as a module, so that Python files in it, and beside it, can be imported."""
    name = ".".join(folder.relative_to(root).parts) if folder.is_relative_to(root) else folder.name
    module = ModuleType(name)
    module.__file__, module.__path__ = str(folder / "__init__.py"), [str(folder)]
    sys.modules[name] = module
    if str(root) not in sys.path:
        sys.path.append(str(root))
    return module


def _in_words(error: BaseException, folder: Path) -> SpecError:
    """What Dagster wraps around a mistake in a YAML is taken off again."""
    while not isinstance(error, MMError | ValidationError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, MMError):
        return SpecError(code=error.code, what=error.what, where=error.where, todo=error.todo)
    words = str(error)
    if isinstance(error, ValidationError):
        words = "\n  ".join(f"{' '.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
    return SpecError(
        code="definitions_broken",
        what=f"the code location cannot be loaded: {words}",
        where=str(folder),
        todo="Correct what is named here; docs/workflows.md explains every key.",
    )
