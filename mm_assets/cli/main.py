"""`mm`: upload, sync, train, look at predictions and receipts, draft a YAML, check the set-up.

Commands are thin: they read arguments, call one function, and print. Data goes to stdout, all
else to stderr. Exit codes: 0 good, 1 something failed or was refused, 2 wrong arguments.
"""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from mm_assets.cli import review as cli_review
from mm_assets.cli import workflow as cli_workflow
from mm_assets.cli.errors import USER_ERROR, speaking_errors
from mm_assets.cli.options import DatasetOption, FormatOption, choose_dataset, load_all
from mm_assets.contract.dataset import DatasetSpec
from mm_assets.contract.errors import SpecError
from mm_assets.contract.settings import Settings
from mm_assets.display.console import (
    Format,
    bad,
    byte_progress,
    err,
    good,
    print_json,
    print_rows,
    say,
    warn,
)

if TYPE_CHECKING:
    from mm_assets.orchestration.run import Outcome

app = typer.Typer(
    name="mm",
    help="Uploads in S3 become predictions that people can rely on.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(cli_review.app, name="review")
app.add_typer(cli_workflow.app, name="workflow")


def main() -> None:
    """The entry point of `mm`."""
    # Previews that we chose to use, and noise of libraries, are not news to a user.
    warnings.filterwarnings("ignore")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    app()


@app.command()
def upload(
    path: Annotated[Path, typer.Argument(help="A folder or a .zip with tables and images.")],
    dataset: DatasetOption = None,
    name: Annotated[str | None, typer.Option(help="Another name in the inbox.")] = None,
    strict: Annotated[bool, typer.Option(help="Do not send if anything would be refused.")] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Check a folder or zip locally, send it, and write the marker last. Resumes by itself."""
    from mm_assets.lake.lake import Lake
    from mm_assets.uploads.check import check
    from mm_assets.uploads.send import send

    with speaking_errors():
        settings = Settings.from_environment()
        spec = choose_dataset(settings, dataset)
        with byte_progress("checking") as update:
            report = check(path, spec, update)
        for problem in report.problems[:20]:
            line = f" line {problem.line}" if problem.line else ""
            warn(f"{problem.file}{line}: [{problem.code}] {problem.reason}. {problem.todo}")
        if len(report.problems) > 20:
            warn(f"… and {len(report.problems) - 20} more: {report.problems_by_code}")
        if report.refused:
            raise report.refused
        if strict and report.problems:
            bad(f"not sent: {len(report.problems)} files or rows would be refused (--strict)")
            raise typer.Exit(USER_ERROR)
        lake = Lake(settings)
        with byte_progress("sending") as update:
            sent = send(lake, path, spec.dataset, name, update)
        where = f"{lake.url}/{sent.key}"
        good(f"{where} was there already" if sent.already_there else f"sent to {where}")
        if report.problems:
            say(f"{len(report.problems)} files or rows will be refused; the rest is used.")
        if form is Format.JSON:
            print_json({"sent": where, "check": report.as_dict()})


@app.command()
def sync(dataset: DatasetOption = None, form: FormatOption = Format.TABLE) -> None:
    """Look once for finished uploads and take all of them through to predictions, here."""
    with speaking_errors():
        settings = Settings.from_environment()
        specs = load_all(settings) if dataset is None else [choose_dataset(settings, dataset)]
        outcomes = [(spec, o) for spec in specs for o in _run(settings, spec, "sync")]
        if not outcomes:
            say("No new uploads.")
        _finish(outcomes, form)


@app.command()
def train(dataset: DatasetOption = None, form: FormatOption = Format.TABLE) -> None:
    """Train the models here; what passes its gate is promoted and predicts every upload again."""
    from mm_assets.lake.lake import Lake
    from mm_assets.registry.store import ModelStore

    with speaking_errors():
        settings = Settings.from_environment()
        spec = choose_dataset(settings, dataset)
        outcomes = [(spec, o) for o in _run(settings, spec, "train")]
        models = ModelStore(Lake(settings), spec.dataset)
        for modality in spec.modalities:
            champion = models.champion(modality)
            if champion is None:
                warn(f"{modality}: no champion yet")
                continue
            manifest = models.manifest(modality, champion.version)
            engine, candidates = manifest["engine"]["engine"], manifest.get("candidates", [])
            good(f"{modality}: champion {champion.version} ({engine}): {champion.reason}")
            if len(candidates) > 1:
                metric = manifest["metric"]
                scores = (f"{c['name']} {c['metrics'][metric]:.4g}" for c in candidates)
                say(f"  {metric} of all candidates: {', '.join(scores)}")
        _finish(outcomes, form)


@app.command()
def predictions(
    dataset: DatasetOption = None,
    review: Annotated[bool, typer.Option("--review", help="Only those that need review.")] = False,
    upload: Annotated[str | None, typer.Option(help="Only those of this upload.")] = None,
    record: Annotated[list[str] | None, typer.Option("--id", help="Only these records.")] = None,
    since: Annotated[str | None, typer.Option(help="Only those predicted since (ISO).")] = None,
    limit: Annotated[int | None, typer.Option(min=1)] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Print the predictions table, least confident first."""
    from mm_assets.tables.open import open_store
    from mm_assets.tables.store import COLUMNS, Query

    with speaking_errors():
        settings = Settings.from_environment()
        spec = choose_dataset(settings, dataset)
        shown = limit if limit or form is not Format.TABLE else 40
        query = Query(record, upload, True if review else None, since, shown)
        rows = open_store(settings).read(spec.dataset, query).to_pylist()
        for row in rows:
            row["probabilities"] = json.loads(row["probabilities"] or "null")
        columns: tuple[str, ...] = (*COLUMNS, "image_upload", "label")
        if form is Format.TABLE:
            columns = (
                "record_id", "prediction", "confidence", "needs_review", "modality", "label",
            )  # fmt: skip
        print_rows(rows, columns, form, f"{spec.dataset}: predictions")
        if limit is None and len(rows) == shown:
            say(f"The first {shown}; --limit N shows more, --format json all.")


@app.command()
def uploads(
    dataset: DatasetOption = None,
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 20,
    form: FormatOption = Format.TABLE,
) -> None:
    """Where each upload stands: pending, done, waiting, refused, set aside; newest first."""
    from mm_assets.lake.lake import Lake
    from mm_assets.uploads.ledger import newest_uploads

    with speaking_errors():
        settings = Settings.from_environment()
        spec = choose_dataset(settings, dataset)
        rows = [asdict(one) for one in newest_uploads(Lake(settings), spec.dataset, limit)]
        if form is Format.TABLE:
            for row in rows:
                row["arrived"] = row["arrived"][:19].replace("T", " ")
        columns = ["upload", "name", "arrived", "state", "words"]
        print_rows(rows, columns, form, f"{spec.dataset}: uploads")
        if len(rows) == limit:
            say(f"The newest {limit}; --limit N shows more.")


@app.command()
def retry(
    upload: Annotated[
        str | None, typer.Argument(help="The upload's key, or its name in the inbox.")
    ] = None,
    every: Annotated[
        bool,
        typer.Option("--all", help="All that were set aside, or that Dagster does not know of."),
    ] = False,
    dataset: DatasetOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Take an upload through again that was set aside, or all of them; also after losing Dagster's
    instance."""
    from mm_assets.lake.lake import Lake
    from mm_assets.orchestration.run import open_instance
    from mm_assets.orchestration.scope import Scope
    from mm_assets.orchestration.triggers.runs import retry_all
    from mm_assets.uploads import ledger

    with speaking_errors():
        if every == (upload is not None):
            raise typer.BadParameter("name one upload, or write --all")
        settings = Settings.from_environment()
        spec = choose_dataset(settings, dataset)
        lake = Lake(settings)
        if upload is None:
            with open_instance(settings) as instance:
                again = retry_all(instance, Scope(spec), lake)
        else:
            again = [ledger.resolve(lake, spec.dataset, upload)]
            ledger.retry(lake, spec.dataset, again[0])
        for key in again:
            good(f"{spec.dataset}: {key} is pending again")
        if again:
            say("The sensor takes it within seconds; without a daemon run `mm sync`.")
        else:
            say("Nothing was set aside, and Dagster finished every upload that is known.")
        if form is not Format.TABLE:
            print_rows([{"upload": key} for key in again], ["upload"], form)


@app.command()
def receipt(
    upload: Annotated[str, typer.Argument(help="The upload's key, or its name in the inbox.")],
    dataset: DatasetOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """What came in an upload and what became of every file and row."""
    from mm_assets.lake.lake import Lake
    from mm_assets.predictions.receipt import build_receipt
    from mm_assets.tables.open import open_store

    with speaking_errors():
        settings = Settings.from_environment()
        spec = choose_dataset(settings, dataset)
        document = build_receipt(Lake(settings), open_store(settings), spec, upload)
        if form is Format.JSON:
            print_json(document)
            return
        if form is Format.CSV:
            print_rows(document["files"], ["file", "kind", "fate", "code", "reason", "todo"], form)
            return
        arrived = document["arrived_at"][:19].replace("T", " ")
        say(f"{document['name']} ({document['upload']}), arrived {arrived} UTC")
        if document["refused"]:
            bad("refused: [{code}] {what}. What to do: {todo}".format(**document["refused"]))
        counts = [{"what": key, "number": value} for key, value in document["counts"].items()]
        print_rows(counts, ["what", "number"], form, "Counts")
        unused = [f for f in document["files"] if f["fate"] != "used"]
        if unused:
            columns = ["file", "fate", "code", "reason", "todo"]
            print_rows(unused[:50], columns, form, "Files that are not used")
        if document["rejects"]:
            columns = ["file", "line", "record_id", "code", "reason", "todo"]
            print_rows(document["rejects"][:50], columns, form, "Rejected rows")
        more = max(0, len(unused) - 50) + max(0, len(document["rejects"]) - 50)
        if more:
            say(f"… and {more} more: --format json shows all.")


@app.command()
def init(
    source: Annotated[
        Path, typer.Argument(help="A CSV or TSV with the records, or a folder of images alone.")
    ],
    id_column: Annotated[
        str | None, typer.Option("--id", help="The table's column that holds the ID.")
    ] = None,
    label: Annotated[
        str | None, typer.Option("--label", help="The table's column to predict.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="The folder with the images.")] = None,
    dataset: Annotated[str | None, typer.Option(help="The dataset's name.")] = None,
    force: Annotated[bool, typer.Option(help="Replace a file that is there.")] = False,
) -> None:
    """Draft a dataset's YAML from your own table and images, or from images alone."""
    from mm_assets.drafting.draft import draft_spec
    from mm_assets.drafting.draft_images import draft_images

    with speaking_errors():
        settings = Settings.from_environment()
        if source.is_dir():
            if id_column or label or images:
                raise typer.BadParameter("a folder of images alone takes no --id, --label, "
                                         "--images")  # fmt: skip
            text, notes, name = draft_images(source, dataset)
        elif id_column is None or label is None:
            raise typer.BadParameter("a table needs --id COLUMN and --label COLUMN")
        else:
            text, notes, name = draft_spec(source, images, id_column, label, dataset)
        file = settings.defs_folder / name / "defs.yaml"
        if file.exists() and not force:
            raise SpecError(
                code="spec_exists",
                what=f"the dataset '{name}' has a YAML already",
                where=str(file),
                todo="Choose another name with --dataset, or replace it with --force.",
            )
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        for note in notes:
            say(f"- {note}")
        good(f"wrote {file}; read it through and correct what was guessed wrong")
        say(f"Next: mm upload FOLDER_OR_ZIP --dataset {name}, then mm sync, then mm train.")


@app.command()
def doctor(form: FormatOption = Format.TABLE) -> None:
    """Can it reach the lake, the table and the backbones? What is misconfigured?"""
    from mm_assets.api.doctor import examine

    with speaking_errors():
        findings = examine()
        rows = [finding.as_dict() for finding in findings]
        print_rows(rows, ["what", "good", "found", "todo"], form)
        if not all(finding.good for finding in findings):
            raise typer.Exit(USER_ERROR)


@app.command()
def table(
    create: Annotated[
        bool, typer.Option("--create", help="Make the table, or add what it lacks.")
    ] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """What is the predictions table, what does it lack? Exit code 1 if something must be done."""
    from mm_assets.tables.open import create_table, inspect_table

    with speaking_errors():
        settings = Settings.from_environment()
        if create:
            create_table(settings, say)
        facts = inspect_table(settings)
        rows = [fact.as_dict() for fact in facts]
        print_rows(rows, ["what", "good", "found", "todo"], form, settings.table)
        if not all(fact.good for fact in facts):
            raise typer.Exit(USER_ERROR)


@app.command()
def checks(
    dataset: DatasetOption = None,
    sample: Annotated[
        bool, typer.Option("--sample", help="On a small sample made for it, from upload on.")
    ] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Run every asset check as CI would; exit non-zero if one fails with ERROR."""
    with speaking_errors():
        settings = Settings.from_environment()
        if sample:
            from mm_assets.demo.run import sample_checks

            _finish(sample_checks(settings, settings.data_folder / "checks", report), form)
            return
        specs = load_all(settings) if dataset is None else [choose_dataset(settings, dataset)]
        outcomes = [(spec, o) for spec in specs for o in _run(settings, spec, "check")]
        _finish(outcomes, form)


@app.command()
def demo(
    dataset: Annotated[str, typer.Option("--dataset", "-d", help="Whose demo.")] = "pets",
    folder: Annotated[
        Path | None,
        typer.Option(help="Where it keeps everything. Default: data/demo or data/demo-DATASET."),
    ] = None,
) -> None:
    """Uploads of made data through a local S3 server, sensors and training to predictions."""
    from mm_assets.demo.run import run_demo

    with speaking_errors():
        if not run_demo(Settings.from_environment(), dataset, folder):
            raise typer.Exit(USER_ERROR)


# -- what the commands share ----------------------------------------------------------------------


def _run(settings: Settings, spec: DatasetSpec, work: str) -> list[Outcome]:
    from mm_assets.orchestration.run import Runner, open_instance

    outcomes = []
    with open_instance(settings) as instance, err.status(f"{spec.dataset}: {work} …") as status:
        runner = Runner(spec, instance, say, lambda text: status.update(escape(text)))
        for outcome in getattr(runner, work)():
            outcomes.append(outcome)
            report(spec, outcome)
    return outcomes


def report(spec: DatasetSpec, outcome: Outcome) -> None:
    what = f"{spec.dataset}: {outcome.job}{f' {outcome.upload}' if outcome.upload else ''}"
    if outcome.problem:
        bad(f"{what} failed: {outcome.problem}")
    for words in outcome.failed_checks:
        bad(f"{what}: check failed: {words}")
    for words in outcome.warnings:
        warn(f"{what}: {words}")
    if outcome.is_good:
        good(what)


def _finish(outcomes: list[tuple[DatasetSpec, Any]], form: Format) -> None:
    """Print the outcomes as data if asked to; leave with 1 if one is not good."""
    if form is not Format.TABLE:
        rows = [{"dataset": spec.dataset, **outcome.as_row()} for spec, outcome in outcomes]
        print_rows(rows, list(rows[0]) if rows else [], form)
    failed = [o for _, o in outcomes if not o.is_good]
    if failed:
        bad(f"{len(failed)} of {len(outcomes)} runs failed")
        raise typer.Exit(USER_ERROR)
