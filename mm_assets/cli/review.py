"""`mm review`: show the review queue, write it out for people, take their answers in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

import mm_assets as mm
from mm_assets.cli.errors import leave, speaking_errors
from mm_assets.cli.options import DatasetOption, FormatOption
from mm_assets.contract.ends import PLACES, End, LeftOut
from mm_assets.display.console import Format, bad, good, print_json, print_rows, say, warn
from mm_assets.review.order import Order

StudioOption = Annotated[
    str,
    typer.Option(
        "--label-studio",
        envvar="LABEL_STUDIO_URL",
        help="Its URL; your key is LABEL_STUDIO_API_KEY in the environment.",
    ),
]
ProjectOption = Annotated[
    int | None,
    typer.Option("--project", min=1, help="The project's number; without it this dataset's own."),
]

OrderOption = Annotated[
    Order, typer.Option(help="The most doubtful first, or those whose answers teach most.")
]

BATCH_FIGURES = {  # of a model, and how a terminal says it
    "live": "live, by labels that it did not learn from",
    "kept": "outside review",
    "promise": "promise",
    "held_out": "in training",
}

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
    order: OrderOption = Order.DOUBTFUL,
    form: FormatOption = Format.TABLE,
) -> None:
    """Records that need review and have no known label: with doubts first, then least confident."""
    from mm_assets.review.queue import SHOWN

    with speaking_errors():
        shown = limit if limit or form is not Format.TABLE else 40
        rows = mm.open(dataset).review(shown, order=order, thumbnails=False)
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
    order: OrderOption = Order.DOUBTFUL,
    image_prefix: Annotated[
        str | None,
        typer.Option(help="What stands before an image's name in tasks.json."),
    ] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Write the queue as Label Studio tasks, as a sheet to fill in, and with its images."""
    with speaking_errors():
        written = mm.open(dataset).export_review(
            to, limit=limit, order=order, image_prefix=image_prefix
        )
        _say_lost(written.lost)
        if written.records:
            good(f"{written.records} records, {written.images} images: {to}")
            say("Fill in tasks.csv, or label tasks.json; then: mm review import FILE")
        else:
            say("Nothing needs review.")
        if form is not Format.TABLE:
            row = {"folder": str(to), **asdict(written)}
            print_rows([row], list(row), form)
        leave(End.IN_PART if written.lost else End.USED)


def _say_lost(images: int) -> None:
    if images:
        warn(
            f"{End.IN_PART}: {images} images are not in the lake any more; their records have none"
        )


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
        _taken(ds, *ds.import_review(file), form)


@app.command()
def results(dataset: DatasetOption = None, form: FormatOption = Format.TABLE) -> None:
    """What the answers did: each batch of them beside the model before and the one after it."""
    with speaking_errors():
        rows = mm.open(dataset).review_results()
        if form is not Format.TABLE:
            print_rows(rows, list(rows[0]) if rows else rows.columns, form)
            return
        for row in rows:
            _say_batch(row)
        if not rows:
            say("Nobody answered yet on the page or in Label Studio what a champion said; answers "
                "in files are not counted, for they don't say what people were shown.")  # fmt: skip


def _say_batch(row: Mapping[str, Any]) -> None:
    answers = f"{row['answers']} {'answer' if row['answers'] == 1 else 'answers'}"
    say(f"{answers}, {row['since'][:10]} to {row['until'][:10]}: {row['people']}")
    say(f"the model before ({row['modality']}) was right in {row['as_the_model']} of them")
    for side in ("before", "after"):
        if (version := row[f"version_{side}"]) is None:
            say("  no other model answers since")
            continue
        learnt = row["learnt"]
        was = "" if side == "before" or learnt is None else f", which {learnt} of them went into"
        say(f"  {side}: {version}{was}")
        for name, words in BATCH_FIGURES.items():
            if told := row[f"{name}_{side}"]:
                say(f"    {words}: {told}")


@app.command()
def push(
    label_studio: StudioOption,
    project: ProjectOption = None,
    dataset: DatasetOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N of the queue.")] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Make a task in a running Label Studio of every record of the queue that has none there."""
    with speaking_errors():
        pushed = mm.open(dataset).push_review(label_studio, project=project, limit=limit)
        _say_lost(pushed.lost)
        if form is not Format.TABLE:
            print_rows([pushed.as_dict()], list(pushed.as_dict()), form)
        good(f"{pushed.created} new tasks, {pushed.changed} changed, {pushed.there} there already")
        if pushed.done:
            say(f"{pushed.done} open tasks are of records that do not wait any more")
        say(f"People answer at {pushed.url}; then: mm review pull --label-studio {label_studio}")
        leave(End.IN_PART if pushed.lost else End.USED)


@app.command()
def pull(
    label_studio: StudioOption,
    project: ProjectOption = None,
    dataset: DatasetOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Send what people answered in Label Studio as labels; `mm sync` then takes them in."""
    with speaking_errors():
        ds = mm.open(dataset)
        judged, sent = ds.pull_review(label_studio, project=project)
        if not judged.labels and not judged.refused and not judged.is_all_known:
            _report(judged, None, already_there=False)
            say("Nobody answered yet.")
            if form is not Format.TABLE:
                _print(judged, None, form)
            return
        _taken(ds, judged, sent, form)


def _taken(ds: mm.Dataset, judged: Any, sent: Any, form: Format) -> None:
    """Say what became of answers, and leave with its exit code."""
    where = f"{ds.lake.url}/{sent.key}" if sent else None
    _report(judged, where, sent is not None and sent.already_there)
    _print(judged, where, form)
    if sent is None and not judged.is_all_known:
        bad(f"{End.NOTHING}: no label could be sent")
        leave(End.NOTHING)
    leave(End.IN_PART if judged.refused else End.USED)


def _print(judged: Any, where: str | None, form: Format) -> None:
    refused = [one.as_dict() for one in judged.refused]
    if form is Format.JSON:
        print_json(
            {"sent": where, "labels": len(judged.labels), "left_out": dict(judged.left_out),
             "refused": refused}
        )  # fmt: skip
    elif form is Format.CSV:
        print_rows(refused, ["record_id", "where", "code", "reason", "todo"], form)


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
