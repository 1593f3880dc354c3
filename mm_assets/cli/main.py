"""`mm`: upload, sync, train, look at predictions and receipts, draft a YAML, check the set-up."""

from __future__ import annotations

import os
import warnings

import typer

from mm_assets.cli import (
    answers,
    dev,
    models,
    project,
    review,
    runs,
    serve,
    serve_keys,
    uploads,
    workflow,
)
from mm_assets.cli.errors import Commands

app = typer.Typer(
    name="mm",
    cls=Commands,
    help="Uploads in S3 become predictions that people can rely on.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
COMMANDS = (
    uploads.upload, runs.sync, runs.train, answers.predictions, uploads.retry, uploads.restore,
    uploads.receipt, project.init, project.doctor, project.table, runs.checks, runs.demo, dev.dev,
    serve.serve,
)  # fmt: skip
for command in COMMANDS:
    app.command()(command)
app.add_typer(uploads.app, name="uploads")
app.add_typer(models.app, name="models")
app.add_typer(review.app, name="review")
app.add_typer(serve_keys.app, name="serve-keys")
app.add_typer(workflow.app, name="workflow")


def main() -> None:
    """The entry point of `mm`."""
    # Previews that we chose to use, and noise of libraries, are not news to a user.
    warnings.filterwarnings("ignore")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    app()
