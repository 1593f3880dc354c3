"""The jobs of the code location, of datasets and of workflows: tell of them, run one.

What belongs here: reading what Dagster knows of a job. What does not: what a workflow's YAML may
say (`workflow.py`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg

from mm_assets.contract.errors import SpecError, UsageError
from mm_assets.contract.settings import Settings
from mm_assets.lake.lake import Lake
from mm_assets.orchestration.run import LOGGER, Outcome, mm_logger, open_instance, outcome_of
from mm_assets.orchestration.scope import WORKER, worker_name
from mm_assets.orchestration.workflow import (
    OTHERWISE,
    choice_of,
    load_definitions,
    newest_figures,
)
from mm_assets.uploads import ledger

Progress = Callable[[str], None]


def list_jobs(settings: Settings) -> list[dict[str, Any]]:
    """Every job: name, steps, each ("upload": a run for one), started_by, choice, description."""
    repository = load_definitions(settings).get_repository_def()
    return [_summary(repository, job) for job in _jobs(repository)]


def describe_job(settings: Settings, name: str) -> dict[str, Any]:
    """As in `list_jobs`, with `steps` in their order: step, depends_on, description.

    Raises SpecError (workflow_unknown).
    """
    definitions = load_definitions(settings)
    repository = definitions.get_repository_def()
    job = _job(repository, name)
    return {**_summary(repository, job), "steps": list(_steps(definitions, job))}


def run_job(
    settings: Settings,
    name: str,
    *,
    upload: str | None = None,
    otherwise: bool = False,
    choose: bool = False,
    progress: Progress = lambda _: None,
    live: Progress = lambda _: None,
    step_done: Progress = lambda _: None,
) -> Outcome:
    """Run a job to its end in this process; what goes wrong inside it is in the outcome.

    upload: its key, or its name in the inbox, for a job that runs for one. otherwise: run what is
    under `otherwise` instead. choose: let the choice decide, as the schedule does. progress
    is given what people should read, live what is going on, step_done each step that is through.
    Raises SpecError (workflow_unknown, workflow_no_choice, workflow_undecided), UsageError.
    """
    if otherwise and choose:
        raise UsageError(code="arguments", what="write --otherwise or --choose, not both")
    with open_instance(settings) as instance:
        loggers = {"mm": mm_logger(progress, live)}
        repository = load_definitions(settings, loggers).get_repository_def()
        branch = _chosen(instance, _job(repository, name), progress) if choose else None
        takes_other = otherwise or branch == OTHERWISE
        job = _job(repository, f"{name}_{OTHERWISE}" if takes_other else name)
        key = _partition(settings, instance, job, upload)
        progress(f"{job.name}{f' for {key}' if key else ''} begins")
        return _run(instance, job, key, step_done)


def _jobs(repository: dg.RepositoryDefinition) -> list[dg.JobDefinition]:
    # Dagster's own job of all assets is no job of anybody's.
    return [job for job in repository.get_all_jobs() if not job.name.startswith("__")]


def _job(repository: dg.RepositoryDefinition, name: str) -> dg.JobDefinition:
    jobs = {job.name: job for job in _jobs(repository)}
    if name not in jobs:
        raise SpecError(
            code="workflow_unknown",
            what=f"there is no job '{name}'",
            where="mm workflow",
            todo=f"Name one of: {', '.join(sorted(jobs))}.",
        )
    return jobs[name]


def _summary(repository: dg.RepositoryDefinition, job: dg.JobDefinition) -> dict[str, Any]:
    choice = choice_of(job)
    return {
        "name": job.name,
        "steps": len(list(job.asset_layer.executable_asset_keys)),
        "each": "upload" if job.partitions_def is not None else "",
        "started_by": ", ".join(_started_by(repository, job.name)),
        "choice": choice.words if choice else "",
        "description": job.description or "",
    }


def _started_by(repository: dg.RepositoryDefinition, name: str) -> Iterator[str]:
    for schedule in repository.schedule_defs:
        if schedule.job_name == name:
            off = "" if schedule.default_status.value == "RUNNING" else ", switched off at first"
            yield f"{schedule.cron_schedule} {schedule.execution_timezone or 'UTC'}{off}"
    for sensor in repository.sensor_defs:
        if name in {target.job_name for target in sensor.targets}:
            yield f"sensor {sensor.name}"


def _steps(definitions: dg.Definitions, job: dg.JobDefinition) -> Iterator[dict[str, str]]:
    graph = definitions.resolve_asset_graph()
    chosen = set(job.asset_layer.executable_asset_keys)
    for key in graph.toposorted_asset_keys:
        if key in chosen:
            node = graph.get(key)
            parents = sorted(parent.to_user_string() for parent in node.parent_keys)
            yield {
                "step": key.to_user_string(),
                "depends_on": ", ".join(parents),
                "description": node.description or "",
            }


def _chosen(instance: dg.DagsterInstance, job: dg.JobDefinition, progress: Progress) -> str:
    """Which branch the choice takes now. Raises SpecError while nobody can tell."""
    choice = choice_of(job)
    if choice is None:
        raise SpecError(
            code="workflow_no_choice",
            what=f"{job.name} has no choice",
            where="--choose",
            todo="Leave --choose out, or add `choice:` to its YAML.",
        )
    branch, why = choice.decide(newest_figures(instance, choice.dataset))
    if branch is None:
        raise SpecError(
            code="workflow_undecided",
            what=why,
            where=job.name,
            todo="Wait until the figure is known, or run it without --choose.",
        )
    progress(why)
    return branch


def _partition(
    settings: Settings, instance: dg.DagsterInstance, job: dg.JobDefinition, upload: str | None
) -> str | None:
    """The upload's key, checked and known to Dagster; None for a job without uploads."""
    if job.partitions_def is None:
        if upload is not None:
            raise UsageError(
                code="arguments",
                what=f"{job.name} does not run for an upload: leave --upload out",
            )
        return None
    if upload is None:
        raise UsageError(
            code="arguments", what=f"{job.name} runs for one upload: write --upload KEY"
        )
    name = getattr(job.partitions_def, "name", None) or ""
    key = ledger.resolve(Lake(settings), name.removesuffix("_uploads"), upload)
    instance.add_dynamic_partitions(name, [key])
    return key


def _run(
    instance: dg.DagsterInstance, job: dg.JobDefinition, upload: str | None, step_done: Progress
) -> Outcome:
    steps = {key.to_python_identifier(): key for key in job.asset_layer.executable_asset_keys}

    @dg.success_hook
    def told(context: dg.HookContext) -> None:
        # A check's step succeeds also where the check fails; that is told at the end.
        if context.op.name in steps:
            step_done(steps[context.op.name].to_user_string())

    result = job.with_hooks({told}).execute_in_process(
        instance=instance,
        raise_on_error=False,
        run_config=LOGGER,
        partition_key=upload,
        tags={WORKER: worker_name(os.getpid())},
    )
    return outcome_of(result, job.name, upload)
