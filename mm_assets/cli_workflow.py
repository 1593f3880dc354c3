"""`mm workflow`: the jobs of the code location; show one, run one here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from mm_assets.cli_options import FormatOption
from mm_assets.console import (
    USER_ERROR,
    Format,
    bad,
    err,
    good,
    print_json,
    print_rows,
    say,
    speaking_errors,
    warn,
)
from mm_assets.errors import SpecError
from mm_assets.settings import Settings

if TYPE_CHECKING:
    import dagster as dg

app = typer.Typer(
    name="workflow",
    help="Jobs: those of each dataset and those of your own.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
NameArgument = Annotated[str, typer.Argument(help="The job's name; see `mm workflow list`.")]


@app.command("list")
def list_(form: FormatOption = Format.TABLE) -> None:
    """Every job of the code location: its steps, what starts it, what it is for."""
    with speaking_errors():
        repository = _load().get_repository_def()
        rows = [_summary(repository, job) for job in _jobs(repository)]
        print_rows(rows, ["name", "steps", "each", "started_by", "description"], form, "Workflows")


@app.command()
def show(name: NameArgument, form: FormatOption = Format.TABLE) -> None:
    """The steps of a job in their order, what each depends on, what starts it, its choice."""
    with speaking_errors():
        definitions = _load()
        repository = definitions.get_repository_def()
        job = _job(repository, name)
        steps = list(_steps(definitions, job))
        if form is Format.JSON:
            print_json({**_summary(repository, job), "steps": steps})
            return
        about = _summary(repository, job)
        say(f"{name}: {about['description']}".rstrip(": "))
        say(f"Started by: {about['started_by'] or 'hand'}")
        if about["choice"]:
            say(f"Choice: {about['choice']}")
        if about["each"]:
            say("One run for each upload: --upload KEY")
        print_rows(steps, ["step", "depends_on", "description"], form)


@app.command()
def run(
    name: NameArgument,
    upload: Annotated[
        str | None, typer.Option(help="The upload's key, or its name in the inbox.")
    ] = None,
    otherwise: Annotated[
        bool, typer.Option("--otherwise", help="Run what is under `otherwise` instead.")
    ] = False,
    choose: Annotated[
        bool, typer.Option("--choose", help="Let the choice decide, as the schedule does.")
    ] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Run a job to its end, in this process."""
    from mm_assets.run import mm_logger, open_instance
    from mm_assets.workflow import load_definitions

    with speaking_errors():
        if otherwise and choose:
            raise typer.BadParameter("write --otherwise or --choose, not both")
        settings = Settings.from_environment()
        with open_instance(settings) as instance, err.status(name) as status:
            loggers = {"mm": mm_logger(say, lambda text: status.update(escape(text)))}
            repository = load_definitions(settings, loggers).get_repository_def()
            branch = _chosen(instance, _job(repository, name)) if choose else None
            takes_other = otherwise or branch == "otherwise"
            job = _job(repository, f"{name}_otherwise" if takes_other else name)
            key = _partition(settings, instance, job, upload)
            outcome = _run(instance, job, key)
        if form is not Format.TABLE:
            row = outcome.as_row()
            print_rows([row], list(row), form)
        if not outcome.is_good:
            raise typer.Exit(USER_ERROR)


# -- reading the code location --------------------------------------------------------------------


def _load() -> dg.Definitions:
    from mm_assets.workflow import load_definitions

    return load_definitions(Settings.from_environment())


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
    from mm_assets.workflow import choice_of

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


# -- running --------------------------------------------------------------------------------------


def _chosen(instance: dg.DagsterInstance, job: dg.JobDefinition) -> str:
    """Which branch the choice takes now. Raises SpecError while nobody can tell."""
    from mm_assets.workflow import choice_of, newest_figures

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
    say(why)
    return branch


def _partition(
    settings: Settings, instance: dg.DagsterInstance, job: dg.JobDefinition, upload: str | None
) -> str | None:
    """The upload's key, checked and known to Dagster; None for a job without uploads."""
    from mm_assets.lake import Lake
    from mm_assets.triggers import ledger

    if job.partitions_def is None:
        if upload is not None:
            raise typer.BadParameter(f"{job.name} does not run for an upload: leave --upload out")
        return None
    if upload is None:
        raise typer.BadParameter(f"{job.name} runs for one upload: write --upload KEY")
    name = getattr(job.partitions_def, "name", None) or ""
    key = ledger.resolve(Lake(settings), name.removesuffix("_uploads"), upload)
    instance.add_dynamic_partitions(name, [key])
    return key


def _run(instance: dg.DagsterInstance, job: dg.JobDefinition, upload: str | None) -> Any:
    import dagster as dg

    from mm_assets.run import LOGGER, outcome_of
    from mm_assets.scope import WORKER, worker_name

    steps = {key.to_python_identifier(): key for key in job.asset_layer.executable_asset_keys}

    @dg.success_hook
    def told(context: dg.HookContext) -> None:
        # A check's step succeeds also where the check fails; that is told at the end.
        if context.op.name in steps:
            good(steps[context.op.name].to_user_string())

    say(f"{job.name}{f' for {upload}' if upload else ''} begins")
    result = job.with_hooks({told}).execute_in_process(
        instance=instance,
        raise_on_error=False,
        run_config=LOGGER,
        partition_key=upload,
        tags={WORKER: worker_name(os.getpid())},
    )
    outcome = outcome_of(result, job.name, upload)
    if outcome.problem:
        bad(f"{job.name} failed: {outcome.problem}")
    for words in outcome.failed_checks:
        bad(f"check failed: {words}")
    for words in outcome.warnings:
        warn(words)
    if outcome.is_good:
        good(f"{job.name} is done; run {outcome.run_id}")
    return outcome
