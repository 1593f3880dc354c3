"""`mm workflow`: the jobs of the code location; show one, run one here."""

from __future__ import annotations

from typing import Annotated

import typer

import mm_assets as mm
from mm_assets.cli.errors import leave, speaking_errors
from mm_assets.cli.options import FormatOption
from mm_assets.cli.runs import report
from mm_assets.display.console import (
    Format,
    good,
    print_json,
    print_rows,
    say,
)

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
        jobs = mm.jobs()
        print_rows(jobs, jobs.columns, form, jobs.title)


@app.command()
def show(name: NameArgument, form: FormatOption = Format.TABLE) -> None:
    """The steps of a job in their order, what each depends on, what starts it, its choice."""
    with speaking_errors():
        about = mm.job(name)
        if form is Format.JSON:
            print_json(about)
            return
        say(f"{name}: {about['description']}".rstrip(": "))
        say(f"Started by: {about['started_by'] or 'hand'}")
        if about["choice"]:
            say(f"Choice: {about['choice']}")
        if about["each"]:
            say("One run for each upload: --upload KEY")
        print_rows(about["steps"], ["step", "depends_on", "description"], form)


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
    with speaking_errors():
        outcome = mm.run_job(
            name, upload=upload, otherwise=otherwise, choose=choose, step_done=good
        )
        report(f"{outcome.job}: run {outcome.run_id}", outcome)
        if form is not Format.TABLE:
            row = outcome.as_row()
            print_rows([row], list(row), form)
        leave(outcome.end)
