"""`mm upload`, `uploads`, `receipt`, `retry`: what is sent, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

import mm_assets as mm
from mm_assets.api.progress import say_end
from mm_assets.cli.errors import Commands, leave, speaking_errors
from mm_assets.cli.options import DatasetOption, FormatOption
from mm_assets.contract.ends import End, read_ended, worst
from mm_assets.contract.errors import UploadError
from mm_assets.display.console import Format, bad, good, print_json, print_rows, say, warn

app = typer.Typer(cls=Commands)


def upload(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="path",
            help="A folder, an archive (.zip, .tar.gz, .7z …) or a table. Of several each is an "
            "upload of its own.",
        ),
    ],
    dataset: DatasetOption = None,
    name: Annotated[str | None, typer.Option(help="Another name in the inbox.")] = None,
    strict: Annotated[bool, typer.Option(help="Do not send if anything would be refused.")] = False,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Send it even if nothing of it would be used.")
    ] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Check a folder, archive or table, send it, and write the marker last. Resumes by itself."""
    with speaking_errors():
        ds = mm.open(dataset)
        _refuse_pieces(paths, name)
        ends = []
        for path in paths:
            try:
                ends.append(_upload_one(ds, path, name, strict=strict, anyway=anyway, form=form))
            except UploadError as error:
                bad(str(error))
                ends.append(End.NOTHING)
        leave(worst(ends))


def _refuse_pieces(paths: Sequence[Path], name: str | None) -> None:
    """Several paths are several uploads: no name fits them all, and images belong together."""
    from mm_assets.drafting.image_names import is_image_name

    if len(paths) == 1:
        return
    if name is not None:
        raise typer.BadParameter("--name is for one upload: send them one by one")
    images = [path for path in paths if is_image_name(path.name) and path.is_file()]
    if images:
        raise typer.BadParameter(
            f"each of these {len(paths):,} would be an upload of its own, also "
            f"{images[0].name}: give the folder that holds them"
        )


def _upload_one(
    ds: mm.Dataset, path: Path, name: str | None, *, strict: bool, anyway: bool, form: Format
) -> End:
    done = ds.upload(path, name=name, strict=strict, anyway=anyway)
    there = done.sent.already_there
    alone = ds.spec.has_images and path.is_file() and done.sent.kind == "folder"
    if alone and _without_images(path):
        say(f"only {path.name} was sent, not the images beside it: give the folder to send all")
    told = {End.USED: good, End.NOTHING: bad}.get(done.end, warn)
    sent = f"{done.where} was there already" if there else f"sent to {done.where}"
    told(f"{sent}: {done.end}" if done.words else sent)
    if form is Format.JSON:
        print_json({"sent": done.where, "check": done.report.as_dict()})
    return done.end


def _without_images(table: Path) -> bool:
    from mm_assets.drafting.image_names import has_images_beside, is_image_name

    return not is_image_name(table.name) and has_images_beside(table)


@app.callback(invoke_without_command=True)
def uploads(
    context: typer.Context,
    dataset: DatasetOption = None,
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 20,
    form: FormatOption = Format.TABLE,
) -> None:
    """Where each upload stands: pending, done, waiting, empty, refused, set aside, withdrawn;
    newest first."""
    if context.invoked_subcommand:
        return
    with speaking_errors():
        rows = mm.open(dataset).uploads(limit)
        if form is Format.TABLE:
            for row in rows:
                row["arrived"] = row["arrived"][:19].replace("T", " ")
        print_rows(rows, rows.columns, form, rows.title)
        if len(rows) == limit:
            say(f"The newest {limit}; --limit N shows more.")


@app.command()
def withdraw(
    upload: Annotated[str, typer.Argument(help="The upload's key, or its name in the inbox.")],
    reason: Annotated[str, typer.Option(help="Why, in a line; it is kept.")] = "",
    dataset: DatasetOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Take a whole upload back for good: the end is as if it had never come."""
    with speaking_errors():
        ds = mm.open(dataset)
        done = ds.withdraw(upload, reason)
        if form is not Format.TABLE:
            print_json(asdict(done))
            return
        before = "" if done.is_new else "nothing new: "
        good(f"{ds.name}: {before}{done.upload}: {done.words}")
        said = f"{done.records:,} record{'s' * (done.records != 1)}"
        say(f"It spoke of {said}; {done.answers:,} without an answer now.")
        if done.learnt_by:
            warn(f"Learnt since, with some of these records: {', '.join(done.learnt_by)}. "
                 "They stay champions; `mm train` learns as if it had never come.")  # fmt: skip
        if not done.is_done:
            say("What it had pushed aside comes back with the sensor; without a daemon: `mm sync`.")


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
    with speaking_errors():
        if every == (upload is not None):
            raise typer.BadParameter("name one upload, or write --all")
        ds = mm.open(dataset)
        again = ds.retry(upload)
        for key in again:
            good(f"{ds.name}: {key} is pending again")
        if again:
            say("The sensor takes it within seconds; without a daemon run `mm sync`.")
        else:
            say("Nothing was set aside, and Dagster finished every upload that is known.")
        if form is not Format.TABLE:
            print_rows([{"upload": key} for key in again], ["upload"], form)


def restore(dataset: DatasetOption = None, form: FormatOption = Format.TABLE) -> None:
    """Make the predictions table anew from the lake alone, after it was lost: every upload is taken
    through again."""
    with speaking_errors():
        ds = mm.open(dataset)
        again = ds.restore()
        say(f"{ds.name}: {len(again):,} uploads are pending again")
        if again:
            say("The sensor takes them one after the other; without a daemon run `mm sync`.")
        if form is not Format.TABLE:
            print_rows([{"upload": key} for key in again], ["upload"], form)


def receipt(
    upload: Annotated[str, typer.Argument(help="The upload's key, or its name in the inbox.")],
    dataset: DatasetOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """What came in an upload and what became of every file and row."""
    with speaking_errors():
        document = mm.open(dataset).receipt(upload)
        if form is Format.JSON:
            print_json(document)
            return
        if form is Format.CSV:
            print_rows(document["files"], ["file", "kind", "fate", "code", "reason", "todo"], form)
            return
        arrived = document["arrived_at"][:19].replace("T", " ")
        say(f"{document['name']} ({document['upload']}), arrived {arrived} UTC")
        say_end(read_ended(document))
        counts = document.counts()
        print_rows(counts, counts.columns, form, "Counts")
        if tables := document.tables():
            print_rows(tables, tables.columns, form, tables.title)
        for words in (*document["first_of_several"], *document["nearly"], *document["unlike"]):
            warn(words)
        if left_out := document.left_out():
            print_rows(left_out, left_out.columns, form, left_out.title)
            say("--format json names each file and each row.")
