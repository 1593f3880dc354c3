"""`mm init`, `doctor`, `table`: the project's own things."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import mm_assets as mm
from mm_assets.cli.errors import FAILED, leave, speaking_errors
from mm_assets.cli.options import FormatOption
from mm_assets.display.console import Format, good, print_rows, say

if TYPE_CHECKING:
    from mm_assets.api.results import Rows
    from mm_assets.contract.dataset import DatasetSpec


def init(
    source: Annotated[
        Path | None,
        typer.Argument(
            help="A table (CSV, Excel, Parquet, JSON …), a folder of one table and images, or of "
            "images alone."
        ),
    ] = None,
    id_column: Annotated[
        str | None,
        typer.Option("--id", help="The column that holds the ID; guessed if it is plain."),
    ] = None,
    label: Annotated[
        str | None, typer.Option("--label", help="The column to predict; guessed if it is plain.")
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="The folder with the images; those beside the table are found."),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="The dataset's name.")] = None,
    template: Annotated[
        str | None,
        typer.Option(help="Copy this instead: pets, vehicles, cancer, blur, houses, …"),
    ] = None,
    encoding: Annotated[
        str, typer.Option(help="Of a table of text; auto finds it, else for example cp1252.")
    ] = "auto",
    force: Annotated[bool, typer.Option(help="Replace a file that is there.")] = False,
) -> None:
    """Draft a dataset's YAML from your own table and images, from images alone, or a template.

    The draft is tried on the first rows and images: exit code 3 if some of them would be refused.
    """
    with speaking_errors():
        ds = mm.draft(
            source, images, id=id_column, label=label, name=dataset, template=template,
            encoding=encoding, replace=force,
        )  # fmt: skip
        todo = "correct what was guessed wrong" if template is None else "change what is not yours"
        good(f"wrote {ds.file}; read it through and {todo}")
        sent = "FOLDER_OR_ARCHIVE"
        if source is not None and images is None:
            sent = _to_send(source, ds.spec)
        say(f"Next: mm upload {sent} --dataset {ds.name}, then mm sync, then mm train.")
        if ds.drafted is not None and ds.drafted.ended is not None:
            leave(ds.drafted.ended.end)


def _to_send(source: Path, spec: DatasetSpec) -> str:
    """What holds all that the draft is of: a table's folder, if images are there."""
    from mm_assets.drafting.image_names import has_images_beside
    from mm_assets.drafting.profile import argument

    beside = spec.has_images and source.is_file() and has_images_beside(source)
    folder = source.parent if beside else source
    return argument(str(folder))


def doctor(form: FormatOption = Format.TABLE) -> None:
    """Can it reach the lake, the table and the backbones? What is misconfigured?"""
    with speaking_errors():
        _print_facts(mm.doctor(), "", form)


def table(
    create: Annotated[
        bool, typer.Option("--create", help="Make the table, or add what it lacks.")
    ] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """What is the predictions table, what does it lack? Exit code 1 if something must be done."""
    with speaking_errors():
        facts = mm.table(create=create)
        _print_facts(facts, facts.title, form)


def _print_facts(facts: Rows, title: str, form: Format) -> None:
    print_rows(facts, facts.columns, form, title)
    if not all(fact["good"] for fact in facts):
        raise typer.Exit(FAILED)
