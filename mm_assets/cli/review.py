"""`mm review`: show the review queue, write it out for people, take their answers in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mm_assets.cli.errors import USER_ERROR, speaking_errors
from mm_assets.cli.options import DatasetOption, FormatOption, choose_dataset
from mm_assets.contract.settings import Settings
from mm_assets.display.console import Format, bad, good, print_json, print_rows, say, warn

SHOWN_REFUSED = 20

app = typer.Typer(
    name="review",
    help="What the models are not sure of, to people and back.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.command("list")
def list_(
    dataset: DatasetOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="How many.")] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Records that need review and have no known label, least confident first."""
    from mm_assets.review.queue import SHOWN, review_queue
    from mm_assets.tables.open import open_store

    with speaking_errors():
        settings = Settings.from_environment()
        spec = choose_dataset(settings, dataset)
        shown = limit if limit or form is not Format.TABLE else 40
        items = review_queue(open_store(settings), spec, shown)
        rows = [item.as_row() for item in items]
        columns: tuple[str, ...] = SHOWN
        if form is Format.TABLE:
            for row in rows:
                if row["second"]:
                    row["second"] += f" {row['second_probability']:.2f}"
            asked = ("record_id", "prediction", "confidence", "second", "reasons", "image_file")
            columns = tuple(name for name in asked if any(row[name] for row in rows) or not rows)
        if rows or form is not Format.TABLE:
            print_rows(rows, columns, form, f"{spec.dataset}: to review")
        if not rows:
            say("Nothing needs review.")
        elif limit is None and len(rows) == shown:
            say(f"The first {shown}; --limit N shows more, --format json all.")


@app.command()
def export(
    to: Annotated[Path, typer.Option("--to", help="The folder to write.")],
    dataset: DatasetOption = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the least confident N.")] = None,
    image_prefix: Annotated[
        str | None,
        typer.Option(help="What stands before an image's name in tasks.json."),
    ] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Write the queue as Label Studio tasks, as a sheet to fill in, and with its images."""
    from mm_assets.lake.lake import Lake
    from mm_assets.review.export import IMAGE_PREFIX, export_review
    from mm_assets.tables.open import open_store

    with speaking_errors():
        settings = Settings.from_environment()
        spec = choose_dataset(settings, dataset)
        prefix = IMAGE_PREFIX if image_prefix is None else image_prefix
        written = export_review(
            Lake(settings), open_store(settings), spec, to, limit=limit, image_prefix=prefix
        )
        if written.lost:
            warn(f"{written.lost} images are not in the lake any more; their records have none")
        if written.records:
            good(f"{written.records} records, {written.images} images: {to}")
            say("Fill in tasks.csv, or label tasks.json; then: mm review import FILE")
        else:
            say("Nothing needs review.")
        if form is not Format.TABLE:
            row = {
                "folder": str(to),
                "records": written.records,
                "images": written.images,
                "lost": written.lost,
            }
            print_rows([row], list(row), form)


@app.command("import")
def import_(
    file: Annotated[
        Path, typer.Argument(help="Label Studio's JSON, JSON-MIN or CSV, or a filled-in tasks.csv.")
    ],
    dataset: DatasetOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Check what people answered and send it as labels; `mm sync` then takes them in."""
    from mm_assets.lake.lake import Lake
    from mm_assets.review.answers import KNOWN, judge, send_labels
    from mm_assets.review.queue import review_classes
    from mm_assets.review.read import read_answers
    from mm_assets.tables.open import open_store

    with speaking_errors():
        settings = Settings.from_environment()
        spec = choose_dataset(settings, dataset)
        lake = Lake(settings)
        answers = read_answers(file, spec)
        judged = judge(answers, open_store(settings), spec, review_classes(lake, spec))
        sent = send_labels(lake, spec, judged)
        where = f"{lake.url}/{sent.key}" if sent else None
        _report(judged, where, sent is not None and sent.already_there)
        if form is Format.JSON:
            print_json(
                {"sent": where, "labels": len(judged.labels), "left_out": dict(judged.left_out),
                 "refused": [one.as_dict() for one in judged.refused]}
            )  # fmt: skip
        elif form is Format.CSV:
            columns = ["record_id", "where", "code", "reason", "todo"]
            print_rows([one.as_dict() for one in judged.refused], columns, form)
        if sent is None and not judged.left_out[KNOWN]:
            bad("nothing could be sent")
            raise typer.Exit(USER_ERROR)


def _report(judged: Any, where: str | None, already_there: bool) -> None:
    for one in judged.refused[:SHOWN_REFUSED]:
        row = one.as_dict()
        warn("{where} {record_id}: [{code}] {reason}. {todo}".format(**row))
    if len(judged.refused) > SHOWN_REFUSED:
        warn(f"… and {len(judged.refused) - SHOWN_REFUSED} more: --format json shows all")
    if where:
        count = len(judged.labels)
        words = "there already:" if already_there else "sent to"
        good(f"{count} label{'' if count == 1 else 's'} {words} {where}")
    reasons = ", ".join(f"{n} {reason}" for reason, n in judged.left_out.most_common())
    say(f"{judged.left_out.total()} left out{f' ({reasons})' if reasons else ''}, "
        f"{len(judged.refused)} refused")  # fmt: skip
    if where:
        say("The sensor takes them within seconds; without a daemon run `mm sync`.")
