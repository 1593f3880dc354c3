"""`mm review`: show the review queue, write it out for people, take their answers in."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

import mm_assets as mm
from mm_assets.cli.errors import leave, speaking_errors
from mm_assets.cli.options import DatasetOption, FormatOption
from mm_assets.contract.ends import PLACES, End, LeftOut
from mm_assets.display.console import Format, bad, good, print_json, print_rows, say, warn

app = typer.Typer(
    name="review",
    help="What the models are not sure of, to people and back.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def review(
    context: typer.Context,
    dataset: DatasetOption = None,
    open_: Annotated[
        bool, typer.Option("--open", help="Open the page for people in a browser.")
    ] = False,
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Where `mm serve` runs, or shall run.")
    ] = 8080,
    demo: Annotated[
        str | None, typer.Option(help="Of what the demo of this dataset left behind.")
    ] = None,
) -> None:
    """What the models are not sure of, to people and back."""
    if context.invoked_subcommand:
        return
    if not open_:
        typer.echo(context.get_help())
        raise typer.Exit(2)
    from mm_assets.cli.review_page import open_page

    with speaking_errors():
        if demo is not None:
            from mm_assets.demo.run import left_behind

            left_behind(mm.Settings.from_environment(), demo)
        open_page(mm.open(dataset or demo).name, port)


@app.command("list")
def list_(
    dataset: DatasetOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="How many.")] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Records that need review and have no known label: with doubts first, then least confident."""
    from mm_assets.review.queue import SHOWN

    with speaking_errors():
        shown = limit if limit or form is not Format.TABLE else 40
        rows = mm.open(dataset).review(shown, thumbnails=False)
        if form is Format.TABLE:
            for row in rows:
                if row["second"]:
                    row["second"] += f" {row['second_probability']:.2f}"
        if rows or form is not Format.TABLE:
            print_rows(rows, rows.columns if form is Format.TABLE else SHOWN, form, rows.title)
        if not rows:
            say("Nothing needs review.")
        elif limit is None and len(rows) == shown:
            say(f"The first {shown}; --limit N shows more, --format json all.")


@app.command()
def export(
    to: Annotated[Path, typer.Option("--to", help="The folder to write.")],
    dataset: DatasetOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N of the queue.")] = None,
    image_prefix: Annotated[
        str | None,
        typer.Option(help="What stands before an image's name in tasks.json."),
    ] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Write the queue as Label Studio tasks, as a sheet to fill in, and with its images."""
    with speaking_errors():
        written = mm.open(dataset).export_review(to, limit=limit, image_prefix=image_prefix)
        lost = f"{written.lost} images are not in the lake any more; their records have none"
        if written.lost:
            warn(f"{End.IN_PART}: {lost}")
        if written.records:
            good(f"{written.records} records, {written.images} images: {to}")
            say("Fill in tasks.csv, or label tasks.json; then: mm review import FILE")
        else:
            say("Nothing needs review.")
        if form is not Format.TABLE:
            row = {"folder": str(to), **asdict(written)}
            print_rows([row], list(row), form)
        leave(End.IN_PART if written.lost else End.USED)


@app.command("import")
def import_(
    file: Annotated[
        Path, typer.Argument(help="Label Studio's JSON, JSON-MIN or CSV, or a filled-in tasks.csv.")
    ],
    dataset: DatasetOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Check what people answered and send it as labels; `mm sync` then takes them in."""
    with speaking_errors():
        ds = mm.open(dataset)
        judged, sent = ds.import_review(file)
        where = f"{ds.lake.url}/{sent.key}" if sent else None
        _report(judged, where, sent is not None and sent.already_there)
        if form is Format.JSON:
            print_json(
                {"sent": where, "labels": len(judged.labels), "left_out": dict(judged.left_out),
                 "refused": [one.as_dict() for one in judged.refused]}
            )  # fmt: skip
        elif form is Format.CSV:
            columns = ["record_id", "where", "code", "reason", "todo"]
            print_rows([one.as_dict() for one in judged.refused], columns, form)
        if sent is None and not judged.is_all_known:
            bad(f"{End.NOTHING}: no label could be sent")
            leave(End.NOTHING)
        leave(End.IN_PART if judged.refused else End.USED)


def _report(judged: Any, where: str | None, already_there: bool) -> None:
    by_code: dict[str, list[Any]] = {}
    for one in judged.refused:
        by_code.setdefault(one.code, []).append(one)
    for code, some in by_code.items():
        places = tuple(f"{one.where} {one.record_id}" for one in some[:PLACES])
        first = some[0].as_dict()
        left = LeftOut(code, "record", len(some), places, first["reason"], first["todo"])
        warn(left.words)
        say(f"  {left.remedy}")
    if any(len(some) > PLACES for some in by_code.values()):
        say("  --format json shows all")
    if where:
        count = len(judged.labels)
        words = "there already:" if already_there else "sent to"
        good(f"{count} label{'' if count == 1 else 's'} {words} {where}")
    reasons = ", ".join(f"{n} {reason}" for reason, n in judged.left_out.most_common())
    say(f"{judged.left_out.total()} left out{f' ({reasons})' if reasons else ''}, "
        f"{len(judged.refused)} refused")  # fmt: skip
    if where:
        say("The sensor takes them within seconds; without a daemon run `mm sync`.")
