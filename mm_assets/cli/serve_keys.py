"""`mm serve-keys`: who may ask the service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import mm_assets as mm
from mm_assets.cli.errors import Commands, speaking_errors
from mm_assets.cli.options import FormatOption
from mm_assets.display.console import Format, good, print_rows, say

app = typer.Typer(cls=Commands, help="API keys of `mm serve`.", no_args_is_help=True)
File = Annotated[
    Path | None,
    typer.Option(envvar="MM_SERVE_KEYS", help="The file of keys. Default: <data>/serve-keys.json."),
]


def file_of_keys(given: Path | None) -> Path:
    """The file that is meant."""
    return given or mm.Settings.from_environment().data_folder / "serve-keys.json"


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    dataset: Annotated[
        list[str] | None,
        typer.Option("--dataset", "-d", help="It may ask only this; repeatable. Default: all."),
    ] = None,
    days: Annotated[float | None, typer.Option(min=0, help="It expires after so many.")] = None,
    promote: Annotated[
        bool, typer.Option("--promote", help="It may promote models and take champions back.")
    ] = False,
    file: File = None,
) -> None:
    """Make a key and print it, this once: only its hash is kept."""
    from mm_assets.serving.keys import add_key

    with speaking_errors():
        path = file_of_keys(file)
        key = add_key(path, name, dataset or None, days, may_promote=promote)
        good(f"noted in {path}; `mm serve` asks for keys from now on. The key, shown this once:")
        print(key)


@app.command("list")
def list_(file: File = None, form: FormatOption = Format.TABLE) -> None:
    """Whose keys there are."""
    from mm_assets.serving.keys import read_keys

    with speaking_errors():
        path = file_of_keys(file)
        rows = [
            {
                "name": one.name,
                "datasets": "all" if one.datasets is None else ", ".join(one.datasets),
                "made": one.made,
                "expires": one.expires or "never",
                "promotes": "yes" if one.may_promote else "",
            }
            for one in (read_keys(path) if path.exists() else [])
        ]
        if rows or form is not Format.TABLE:
            columns = ("name", "datasets", "promotes", "made", "expires")
            print_rows(rows, columns, form, "API keys")
        else:
            say(f"no keys in {path}: the service is for this machine alone")


@app.command()
def remove(
    name: Annotated[str, typer.Argument(help="Whose key it is.")], file: File = None
) -> None:
    """Take a key away; a running service refuses it within a second."""
    from mm_assets.serving.keys import remove_key

    with speaking_errors():
        remove_key(file_of_keys(file), name)
        good(f"the key of {name} is taken away")
